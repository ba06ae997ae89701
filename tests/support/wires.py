"""HTTP byte by byte: a server that says what it is told to, a client that sends what it is told to, a proxy between."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from asgi_calls import served

from llmguard import Guard
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Limits, Upstream

SECONDS = 60.0
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"

Says = Callable[[socket.socket], None]


class Wire:
    """Answers each request, on whatever connection, with the next of some bytes; the last ones are said again.

    Args:
        answers: bytes, or what says them by itself.
        close: whether each connection ends with its first answer.
        tls: for a server of https.
        host: an address where it listens.

    Attributes:
        heard: the requests, head and body as they came; of one that broke off what had come.
        connections: that were made.
        gone: set once a connection has ended.
    """

    def __init__(
        self,
        *answers: bytes | Says,
        close: bool = False,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.answers = list(answers)
        self.close = close
        self.heard: list[bytes] = []
        self.connections = 0
        self.gone = threading.Event()
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"

    def __enter__(self) -> Wire:
        self._start(self._accepting)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def hang_up(self) -> None:
        """End all connections, as a server does that is started anew."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _start(self, what: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accepting(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serving, connection)

    def _serving(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError), connection:
            connection.settimeout(SECONDS)
            self.connections += 1
            own = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
            with self._lock:
                self._open.add(own)
            try:
                self._answering(own)
            finally:
                with self._lock:
                    self._open.discard(own)
                own.close()
        self.gone.set()

    def _answering(self, connection: socket.socket) -> None:
        while request := read_request(connection):
            with self._lock:
                self.heard.append(request)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, bytes):
                connection.sendall(answer)
            else:
                answer(connection)
            if self.close:
                return


def read_request(connection: socket.socket) -> bytes:
    """A request as it comes; what had come of one that broke off."""
    data = b""
    while not _whole(data):
        piece = connection.recv(1 << 16)
        if not piece:
            break
        data += piece
    return data


def read_head(connection: socket.socket) -> bytes:
    """What comes up to an empty line, and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data and (piece := connection.recv(1 << 16)):
        data += piece
    return data


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    lines = head.lower()
    if b"\r\ntransfer-encoding:" in lines:
        return body.endswith(b"0\r\n\r\n")
    length = lines.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
    return len(body) >= int(length or 0)


def rejected(connection: socket.socket) -> None:
    """End a connection by a reset, as a server does that has died."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextlib.contextmanager
def proxy(url: str, limits: Limits | None = None, *, guard: Guard | None = None, **options: Any) -> Iterator[str]:
    """The URL of a proxy before a server; what is in no known format passes."""
    own = guard or Guard({"name": "p", "rules": []})
    with served(Proxy(Upstream(url, limits), own, unmatched="pass"), **options) as (at, _):
        yield at


@contextlib.contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to a server, for a client's bytes."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        yield connection


def said(connection: socket.socket) -> bytes:
    """All that comes until the other side ends the connection, by whatever means."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def sent(url: str, *pieces: bytes) -> bytes:
    """What comes back on a connection of its own for some bytes; the last request should ask for its end.

    One that is answered before all of it was sent may end with a reset, which takes the answer along.
    """
    with connected(url) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                connection.sendall(piece)
        return said(connection)


def get(target: bytes = b"/other", *headers: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    """A request, the last one on its connection."""
    lines = [method + b" " + target + b" HTTP/1.1", b"host: x", b"connection: close", *headers]
    if body:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def parts(answer: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers with names in small letters, and body of an answer; a chunked one's chunks are joined."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = [line.partition(b":") for line in lines]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if headers.get(b"transfer-encoding") == b"chunked":
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size, 16)
            if not count:
                return int(first.split()[1]), headers, whole
            whole, rest = whole + rest[:count], rest[count + 2 :]
        headers[b"x-broken-off"] = b"1"
        body = whole
    return int(first.split()[1]), headers, body
