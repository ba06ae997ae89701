"""ASGI applications called in process, and served on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

JSON = ((b"content-type", b"application/json"),)


@dataclass
class Answer:
    """What an application answered."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    whole: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def scope_of(method: str, target: str, headers: Iterable[tuple[bytes, bytes]] = JSON, **more: Any) -> dict[str, Any]:
    """A scope as uvicorn makes it."""
    from urllib.parse import unquote

    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        **more,
    }


async def call(
    app: Any,
    method: str,
    target: str,
    body: bytes | Sequence[bytes] = b"",
    headers: Iterable[tuple[bytes, bytes]] = JSON,
    on_send: Callable[[Any], None] | None = None,
    **more: Any,
) -> Answer:
    """One request, its body in those pieces; the client stays until it is answered."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    answer, done = Answer(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if on_send is not None:
            on_send(message)
        if message["type"] == "http.response.start":
            assert not answer.status, "an answer begins once"
            answer.status, answer.headers = message["status"], list(message.get("headers", ()))
        else:
            assert message["type"] == "http.response.body"
            assert answer.status
            assert not answer.whole, "nothing follows the end"
            answer.pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                answer.whole = True
                done.set()

    try:
        await app(scope_of(method, target, headers, **more), receive, send)
    finally:
        done.set()
    return answer


class Model:
    """An ASGI application that answers what it is told to, and keeps what it was asked."""

    def __init__(self, *pieces: bytes, status: int = 200, kind: bytes = b"application/json") -> None:
        self.pieces: Sequence[bytes] = pieces
        self.status = status
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", kind)]
        self.asked: list[bytes] = []
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.asked.append(body)
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.contextmanager
def served(app: Any, **options: Any) -> Iterator[tuple[str, Any]]:
    """The URL of an application under uvicorn, and the server; on a thread of its own."""
    import uvicorn

    own = {"log_level": "critical", "server_header": False, "proxy_headers": False}
    config = uvicorn.Config(app, host="127.0.0.1", port=0, **{**own, **options})
    server = uvicorn.Server(config)
    begun = threading.Event()
    startup = server.startup

    async def told(*args: Any, **kwargs: Any) -> None:
        await startup(*args, **kwargs)
        begun.set()

    server.startup = told  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert begun.wait(60)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


async def pieces_of(stream: AsyncIterator[bytes]) -> bytes:
    """All of a stream."""
    return b"".join([piece async for piece in stream])
