"""A real Alertmanager, as Debian has it, that tells a receiver of the test."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_server import needed

_CONFIG = """
route:
  receiver: test
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: test
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


class AlertmanagerServer:
    """An Alertmanager that runs."""

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    def alerts(self, *conditions: str) -> list[dict[str, Any]]:
        """What fires there and fulfils all of the conditions."""
        answer = self._client.get(f"{self.url}/api/v2/alerts", params={"filter": list(conditions)})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    def post(self, *labels: dict[str, str]) -> None:
        """Have alerts with these labels fire."""
        answer = self._client.post(f"{self.url}/api/v2/alerts", json=[{"labels": one} for one in labels])
        assert answer.status_code == 200, answer.text

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._client.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def alertmanager(receiver: str, folder: Path, more: str = "") -> Iterator[AlertmanagerServer]:
    """Run one that forwards to this URL, with more in its configuration; its data and its log are in the folder."""
    program = needed("prometheus-alertmanager")
    config = folder / "alertmanager.yml"
    config.write_text(_CONFIG.format(url=receiver) + more)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        program,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    log = folder / "alertmanager.log"
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=out) as process,
    ):
        try:
            server = AlertmanagerServer(f"http://127.0.0.1:{port}", client)
            end = time.monotonic() + 30.0
            while not server.ready():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            process.wait(30)
