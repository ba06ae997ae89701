"""A stand-in for a model server, which says what it was told: ``python model.py HOST PORT``. Standard library only."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Chat completions, whole and as a stream."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Whether it runs."""
        self._send(200 if self.path == "/health" else 404, {"ok": True})

    def do_POST(self) -> None:
        """Answer; fail where the text asks for that."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = str(asked["messages"][-1]["content"])
        if "overload" in said:
            self._send(503, {"error": {"message": "busy", "type": "server_error", "code": "overloaded"}})
        elif asked.get("stream"):
            self._stream(asked["model"], said)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            self._send(200, {**_head(asked["model"], ""), "choices": [choice], "usage": _usage(said)})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, model: str, said: str) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for word in said.split():
            choice = {"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}
            self._event({**_head(model, ".chunk"), "choices": [choice]})
            time.sleep(0.02)
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self._event({**_head(model, ".chunk"), "choices": [last], "usage": _usage(said)})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, body: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: the lines would hold nothing of use."""


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "c1", "object": f"chat.completion{kind}", "created": int(time.time()), "model": model}


def _usage(said: str) -> dict[str, int]:
    words = len(said.split())
    return {"prompt_tokens": words, "completion_tokens": words, "total_tokens": 2 * words}


if __name__ == "__main__":
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
