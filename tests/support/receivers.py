"""A real HTTP server on 127.0.0.1 that answers as it is told, and keeps what it was sent."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

#: What it does with a connection once a request was read.
Answer = Callable[["Receiver", Any], None]


class Seen(NamedTuple):
    """A request."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """One connection after the other, each with one request.

    Args:
        *answers: bytes to send, or what to do; the last is used again and again.
        tls: to speak TLS with.
        reads: whether a request is read before the answer.
    """

    def __init__(self, *answers: bytes | Answer, tls: ssl.SSLContext | None = None, reads: bool = True) -> None:
        self.seen: list[Seen] = []
        self.stopping = threading.Event()
        self._answers = list(answers) or [status(200)]
        self._tls = tls
        self._reads = reads
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        """By its address."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        self._thread.join(10.0)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection:
                if self.stopping.is_set():
                    return
                connection.settimeout(10.0)
                with contextlib.suppress(OSError):
                    self._answer(connection)

    def _answer(self, connection: Any) -> None:
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection:
            if self._reads:
                self.seen.append(_request(connection))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if callable(answer):
                answer(self, connection)
            else:
                connection.sendall(answer)


def _request(connection: Any) -> Seen:
    with connection.makefile("rb") as lines:
        line = lines.readline().decode().strip()
        headers = {}
        while (header := lines.readline().decode("latin-1").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        return Seen(line, headers, lines.read(int(headers.get("content-length", "0"))))


def status(code: int, body: bytes = b"ok", **headers: str) -> bytes:
    """An answer with this status."""
    told = {"Content-Length": str(len(body)), **{key.replace("_", "-"): value for key, value in headers.items()}}
    lines = [f"HTTP/1.1 {code} Whatever", *(f"{key}: {value}" for key, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def hang(receiver: Receiver, _: Any) -> None:
    """Say nothing, for as long as the server lives."""
    receiver.stopping.wait(30.0)


def trickle(head: bytes) -> Answer:
    """Send this, then one byte after the other without an end."""

    def answer(receiver: Receiver, connection: Any) -> None:
        connection.sendall(head)
        while not receiver.stopping.wait(0.01):
            connection.sendall(b"x")

    return answer


def flood(head: bytes) -> Answer:
    """Send this, then as much as the other side takes."""

    def answer(receiver: Receiver, connection: Any) -> None:
        connection.sendall(head)
        while not receiver.stopping.is_set():
            connection.sendall(b"x" * 65536)

    return answer
