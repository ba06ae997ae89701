"""A small HTTP server on a real socket that answers as a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Served:
    """What was asked.

    Attributes:
        url: of the server.
        asked: path and body of each request, in order.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, Any]] = []


@contextmanager
def serving(answer: Callable[[str, Any], Any]) -> Iterator[Served]:
    """Serve until the block is left.

    Args:
        answer: from the path and the body, parsed, of a request: a JSON value; an iterator of values and strings for a
            stream of server-sent events; or bytes, with or without headers. What is no JSON comes as bytes.
    """
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = _parsed(raw)
            served.asked.append((self.path, body))
            made = answer(self.path, body)
            if isinstance(made, Iterator):
                self._stream(made)
            elif isinstance(made, tuple):
                self._whole(*made)
            else:
                self._whole(made if isinstance(made, bytes) else json.dumps(made).encode(), {})

        def _whole(self, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, events: Iterator[Any]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for event in events:
                    data = event if isinstance(event, str) else json.dumps(event)
                    self.wfile.write(f"data: {data}\n\n".encode())
                    self.wfile.flush()
            except OSError:
                return  # the client has gone
            finally:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw
