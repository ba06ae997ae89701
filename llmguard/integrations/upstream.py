"""An ASGI application that has its answers from another server: the far half of the proxy.

Requests go over bare connections, without a client around them, which would keep one caller's cookies for the next,
follow redirects and heed the environment's proxies.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.integrations import hops, links
from llmguard.integrations.headers import Headers, named
from llmguard.integrations.link_aiohttp import AiohttpLink
from llmguard.integrations.link_httpx import HttpxLink
from llmguard.integrations.links import Link
from llmguard.integrations.served import Receive, Scope, Send, UpstreamError, path_of

# A path of this server, as browsers read it too: they take a backslash for a slash, and leave out tabs.
_LOCAL = re.compile(rb"/(?![/\\])[!-~]*")
# What lives shorter is not worth a task that waits for its client to leave.
_SOON_S = 0.05
_HOST = re.compile(rb"[!-~]+")
_PATH = re.compile(r"(?:/[\w.~!$&'()*+,;=:@%-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a call may take, and how many there may be.

    Attributes:
        connect: seconds until a connection stands.
        read: seconds between two pieces of an answer; also the wait for the first one.
        total: seconds for all of a call, streams included.
        pool: seconds to wait for a free connection.
        connections: at a time.
        idle: seconds that an unused connection is kept; less than the upstream keeps it.
    """

    connect: float = 5.0
    read: float = 300.0
    total: float = 900.0
    pool: float = 10.0
    connections: int = 1000
    idle: float = 4.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"{name} must be more than nothing, not {value!r}")
        if not isinstance(self.connections, int):
            raise ConfigurationError(f"connections must be a whole number, not {self.connections!r}")


class Upstream:
    """A server that answers.

    Args:
        url: of the server: scheme, host, port and, where it has one, the prefix of its paths.
        limits: of time and connections.
        transport: of httpx, which takes the place of connections of our own.

    Raises:
        ConfigurationError: the URL is none of a server.
        MissingExtraError: httpx is not installed.
    """

    def __init__(self, url: str, limits: Limits | None = None, transport: Any = None) -> None:
        try:
            parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
            address, port = parts.hostname, parts.port
            self._host = parts.netloc.encode("ascii" if parts.netloc.isascii() else "idna")
        except (ValueError, TypeError, AttributeError):
            raise ConfigurationError(
                "an upstream's URL looks like http://host:8000, and this one can't be read"
            ) from None
        if "@" in parts.netloc:
            raise ConfigurationError("an upstream's URL holds no password: let clients send theirs")
        shown = _HOST.fullmatch(self._host) is not None
        if parts.scheme not in ("http", "https") or not address or not shown or parts.query or parts.fragment:
            raise ConfigurationError(f"an upstream's URL looks like http://host:8000, not {url!r}")
        self.prefix = parts.path.rstrip("/")
        if _PATH.fullmatch(self.prefix) is None:
            raise ConfigurationError("the path of the upstream's URL is spelt so that servers may read it differently")
        self.limits = limits or Limits()
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.address, self.port = address, port
        own = re.escape(self.origin.encode()), re.escape(self.prefix.encode())
        self._below = re.compile(rb"(?:%s)?%s(?=[/?]|\Z)" % own)
        self._link = _link(parts.scheme == "https", self.origin, self.limits, transport)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, handed on; as long as its client stays.

        Raises:
            UpstreamError: the upstream can't be reached, is too slow, or breaks off.
        """
        headers = [(key.lower(), value) for key, value in scope["headers"]]
        if not hops.well_formed(headers):
            raise UpstreamError(400, "a header of the request is malformed", "headers")
        body, leaving = _Incoming(receive), False
        watching: asyncio.Task[None] | None = None

        async def watched() -> None:
            nonlocal leaving
            await body.left()
            leaving = True
            if not deadline.expired():  # from then on the call is being stopped, and it can't be asked for again
                deadline.reschedule(0)

        def watch() -> None:
            nonlocal watching
            watching = loop.create_task(watched())

        loop = asyncio.get_running_loop()
        watch_later: asyncio.TimerHandle | None = None
        try:
            async with asyncio.timeout(self.limits.total) as deadline:
                if await body.begun():
                    watch_later = loop.call_later(_SOON_S, watch)
                    await self._handed_on(scope, headers, body, send)
        except TimeoutError:
            if not leaving:
                raise links.late() from None
        finally:
            if watch_later is not None:
                watch_later.cancel()
            if watching is not None:
                watching.cancel()

    async def _handed_on(self, scope: Scope, headers: Headers, body: _Incoming, send: Send) -> None:
        client = scope.get("client")
        sent = hops.asked(headers, self._host, client[0] if client else "", scope.get("scheme", "http"))
        if not named(sent, b"content-length"):
            if not body.whole:
                sent.append((b"transfer-encoding", b"chunked"))
            elif body.first:
                sent.append((b"content-length", str(len(body.first)).encode()))
        given = body.first if body.whole else body.pieces()
        got = await self._link.ask(scope["method"], self._target(scope), sent, given)
        try:
            answered = self._answered(got.status, got.headers)
            await send({"type": "http.response.start", "status": got.status, "headers": answered})
            while piece := await got.piece():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            await got.close()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _target(self, scope: Scope) -> bytes:
        path, query = path_of(scope), scope.get("query_string", b"")
        if not path.startswith("/"):
            raise links.unsendable()
        return (self.prefix + path).encode("latin-1") + (b"?" + query if query else b"")

    def _answered(self, status: int, headers: Headers) -> list[tuple[bytes, bytes]]:
        kept = hops.answered(headers, status)
        if not hops.well_formed(kept):
            raise UpstreamError(502, "a header of the upstream's answer is malformed", "headers")
        if not hops.bare(headers):
            raise links.broken()
        places = [value for key, value in kept if key == b"location"]
        if not places:
            return kept
        # A redirect that names the upstream would lead its client around us.
        path = self._here(places[0])
        if len(places) == 1 and _LOCAL.fullmatch(path) is not None:
            return [(key, path if key == b"location" else value) for key, value in kept]
        raise UpstreamError(502, f"the upstream redirects to another server (status {status})", "redirect")

    def _here(self, place: bytes) -> bytes:
        """Where a redirect leads to on our side; ``b""`` if it is not to what we stand before."""
        said = self._below.match(place)
        if said is None or not (said.end() or place.startswith(b"/")):
            return b""
        path = place[said.end() :]
        return path if path.startswith(b"/") else b"/" + path

    async def fetched(self, path: str, limit: int, seconds: float) -> tuple[int, bytes]:
        """The status and at most ``limit`` bytes of what stands at a path.

        Raises:
            UpstreamError: it can't be had.
        """
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(seconds):
                headers = [(b"host", self._host), (b"accept", b"*/*")]
                got = await self._link.ask("GET", (self.prefix + path).encode(), headers, b"")
                try:
                    while piece := await got.piece():
                        pieces.append(piece)
                        limit -= len(piece)
                        if limit < 0:
                            raise UpstreamError(502, "the upstream says too much", "size")
                finally:
                    await got.close()
        except TimeoutError:
            raise links.late() from None
        return got.status, b"".join(pieces)

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()


class _Incoming:
    """The body of a request as it comes in, piece by piece, and no faster than it is read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.first = b""
        self.whole = False
        self._ended = asyncio.Event()

    async def begun(self) -> bool:
        """Wait for the first piece; False when the client has left before."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return False
        self.first = message.get("body", b"")
        self.whole = not message.get("more_body", False)
        if self.whole:
            self._ended.set()
        return True

    async def left(self) -> None:
        """Wait until the client leaves, once its request has been read."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def pieces(self) -> AsyncIterator[bytes]:
        """The pieces that are not empty."""
        if self.first:
            yield self.first
        more = not self.whole
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise UpstreamError(400, "the client has left", "gone")
            if piece := message.get("body", b""):
                yield piece
            more = message.get("more_body", False)
        self._ended.set()


def _link(tls: bool, origin: str, limits: Limits, transport: Any) -> Link:
    """The connections to a server: aiohttp's, or a transport of httpx that was given."""
    if transport is not None:
        httpx = _needed("httpx")
        timeout = {"connect": limits.connect, "read": limits.read, "write": limits.read, "pool": limits.pool}
        return HttpxLink(httpx, transport, origin, timeout)
    return AiohttpLink(_needed("aiohttp"), origin, ssl.create_default_context() if tls else None, limits)


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingExtraError("the proxy", package, "proxy") from None
