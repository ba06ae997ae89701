"""The demo runs, with its stand-in and against a server that speaks OpenAI's protocol."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer


def run(example: str = "demo", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, f"examples/{example}.py"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "220", "PYTHONIOENCODING": "utf-8", **environment},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_monitors_tells_of_drift_and_of_a_group() -> None:
    printed = run("monitors")
    assert "input.length has drifted" in printed
    assert "nationality.migrant" in printed


def test_twenty_exchanges_with_the_stand_in() -> None:
    printed = run(OPENAI_BASE_URL="", OPENAI_API_KEY="")
    assert "20 exchanges: {'answered': 13, 'blocked': 7}" in printed
    for seen in (
        "<EMAIL_ADDRESS_1>",
        "<CREDIT_CARD_1>",
        "<AWS_ACCESS_KEY_1>",
        "token_stats/LOOP",
        "unicode/TAG_CHARACTER",
    ):
        assert seen in printed
    assert "I have noted anna.schmidt@example.com" in printed  # restored
    assert "root.admin@internal.example.org" not in printed  # the model's own leak is not
    for section in ("Twenty exchanges", "One span tree", "llmguard.guard context", "Metrics", "llmguard.decisions"):
        assert section in printed


def test_with_a_base_url_it_calls_that_model_and_sends_it_only_cleared_text() -> None:
    bodies = []

    class Model(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            answer = json.dumps({"choices": [{"message": {"content": "A plain answer."}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        printed = run(OPENAI_BASE_URL=f"http://127.0.0.1:{server.server_port}/v1", OPENAI_API_KEY="unused")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert "A plain answer." in printed
    assert {path for path, _ in bodies} == {"/v1/chat/completions"}
    sent = "".join(body for _, body in bodies)
    for original in ("anna.schmidt", "4111 1111", "219-09-9999", "AKIA"):
        assert original not in sent
    assert "EMAIL_ADDRESS_1" in sent
