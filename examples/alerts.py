"""A guard that tells a webhook when it blocks more than it should, and when that is over. No network but this machine.

pip install 'llmguard[standard]'
python examples/alerts.py
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from llmguard import Guard

# The windows and waits are those of an example; in earnest they are minutes.
POLICY = """
name: shop
version: "3"
rules:
  - {detector: keywords, stage: input, action: block}
detectors:
  keywords: {deny: [project heron]}
alerts:
  outbox: %(folder)s/alerts.sqlite
  every_s: 0.2
  group_wait_s: 0.5
  group_interval_s: 1
  rules:
    - alert: ManyBlocks
      kind: ratio
      of: {stage: input, action: block}
      among: {stage: input}
      above: 0.25
      at_least: 4
      window_s: 2
      severity: critical
      summary: More than a quarter of the inputs are blocked
      runbook: https://example.com/runbooks/many-blocks
    - {alert: Quiet, kind: absence, of: {stage: output}, window_s: 3600}
  sinks:
    hook:
      kind: webhook
      url: http://127.0.0.1:%(port)s/alerts
      secret: env:HOOK_SECRET
      allow: [127.0.0.1]              # an address that is not public has to be named
"""


class Receiver(BaseHTTPRequestHandler):
    """Prints what it is told. A real one verifies the signature, as any library of Standard Webhooks does."""

    over = threading.Event()

    def do_POST(self) -> None:
        """Take one message."""
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        signed = "signed" if self.headers["webhook-signature"] else "not signed"
        for alert in told["data"]["alerts"]:
            said = alert["annotations"]
            print(f"{alert['alertname']} is {alert['status']} ({alert['severity']}, {signed})")
            print(f"  {said['summary']}: {float(said['value']):.0%} in {said['window']}, policy {said['policy']}")
        if told["data"]["status"] == "resolved":
            self.over.set()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def main() -> None:
    """Ask some questions that the policy blocks, and wait until the receiver knows that it is over."""
    os.environ["HOOK_SECRET"] = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policy.yaml")
        policy.write_text(POLICY % {"folder": folder, "port": server.server_port}, encoding="utf-8")
        with Guard(policy) as guard:
            for question in ("When do you open?", "When does project heron begin?", "What is project heron?", "Hello!"):
                print(f"{guard.check(question).action:6} {question}")
            Receiver.over.wait(60)
    server.shutdown()


if __name__ == "__main__":
    main()
