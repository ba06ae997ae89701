"""Calls to an upstream by aiohttp's connections, with what its client would add or take away turned off."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncIterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from llmguard.integrations import links
from llmguard.integrations.headers import Headers, named
from llmguard.integrations.patience import Patience
from llmguard.integrations.served import UpstreamError

if TYPE_CHECKING:
    import ssl

    from llmguard.integrations.upstream import Limits

#: Bytes of one header of an answer, and how many there may be, those behind a chunked body included.
HEADER = 1 << 16
HEADERS = 1000
_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
# Of a body that is sent at once; of a larger one, pieces of that size.
_PIECE = 1 << 18
# How often a connection may turn out to be none that can be used.
_TRIES = 4
_LENGTH = re.compile(rb"[0-9]{1,18}")
# Aiohttp asks a tunnel for another place than the target.
_METHOD = re.compile(r"(?!(?i:connect)\Z)[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# It would leave out what follows a #.
_TARGET = re.compile(rb"/[!\"$-~]*")


class AiohttpLink:
    """Connections to one server; each event loop has its own.

    Args:
        aiohttp: the package.
        origin: scheme, host and port of the server.
        tls: how its name is proved; None for plain HTTP.
        limits: of time and connections.
    """

    def __init__(self, aiohttp: Any, origin: str, tls: ssl.SSLContext | None, limits: Limits) -> None:
        self._aiohttp = aiohttp
        self._tls = tls
        self._limits = limits
        self._owns: dict[asyncio.AbstractEventLoop, tuple[Any, asyncio.Semaphore]] = {}

        class UnusableError(aiohttp.ClientError):  # type: ignore[misc]
            """Nothing has been sent over the connection, and it is none to be used."""

        class Request(aiohttp.ClientRequest):  # type: ignore[misc]
            async def send(self, conn: Any) -> Any:
                # What a server says before it is asked would be taken for the answer.
                if conn.protocol.should_close:
                    raise UnusableError
                return await super().send(conn)

        class Connector(aiohttp.TCPConnector):  # type: ignore[misc]
            async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
                async with Patience(limits.connect):
                    return await super()._create_connection(*args, **kwargs)

        self._unusable, self._request, self._connector = UnusableError, Request, Connector

        server = importlib.import_module("yarl").URL(origin, encoded=True)
        # All of a target is given as the path: what is taken apart loses a ? that nothing follows.
        self._url = lru_cache(256)(partial(server.with_path, encoded=True))

    async def ask(self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]) -> _Answer:
        """See `links.Link`; a header that is no UTF-8 can't be sent."""
        if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
            raise links.unsendable()
        try:
            said = _text(headers, len(body) if isinstance(body, bytes) else None)
        except ValueError:
            raise links.unsendable() from None
        given: bytes | _Given
        if isinstance(body, bytes):
            given = body if len(body) <= _PIECE else _Given(_cut(body), headers)
        else:
            given = _Given(body, headers)
        session, free = self._own()
        if free.locked():
            await self._waited(free)
        else:
            await free.acquire()
        try:
            response = await self._response(session, method, self._url(target.decode()), said, given)
        except BaseException:
            free.release()
            raise
        return _Answer(self, response, free, given)

    async def _response(
        self, session: Any, method: str, url: Any, headers: list[tuple[str, str]], given: bytes | _Given
    ) -> Any:
        how = {"allow_redirects": False, "ssl": self._tls or True}
        for _ in range(_TRIES):
            try:
                response = await session.request(method, url, headers=headers, data=given or None, **how)
            except self._unusable:
                continue
            except self._aiohttp.ClientConnectorError:
                raise links.unreachable() from None  # one for a certificate that does not fit is a ValueError, too
            except (ValueError, TypeError):
                raise links.unsendable() from None
            except Exception as error:  # noqa: BLE001 - what is none of aiohttp's goes on
                raise self.failure(error, given) from None
            if response.status in links.ANSWERS:
                return response
            response.close()  # none of HTTP, or a switch to another protocol, which nobody has asked for
            break
        raise links.broken()

    def _own(self) -> tuple[Any, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        own = self._owns.get(loop)
        if own is None:
            for other in [other for other in self._owns if other.is_closed()]:
                del self._owns[other]
            own = self._owns[loop] = self._session(), asyncio.Semaphore(self._limits.connections)
        return own

    def _session(self) -> Any:
        aiohttp, limits = self._aiohttp, self._limits
        return aiohttp.ClientSession(
            auto_decompress=False,
            connector=self._connector(limit=0, keepalive_timeout=limits.idle),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=HEADER,
            max_headers=HEADERS,
            max_line_size=HEADER,
            request_class=self._request,
            skip_auto_headers=_ADDED,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=limits.read),
        )

    async def _waited(self, free: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._limits.pool):
                await free.acquire()
        except TimeoutError:
            raise links.busy() from None

    def failure(self, error: Exception, given: bytes | _Given) -> UpstreamError:
        """What the caller gets for an error of aiohttp's; others are raised."""
        if isinstance(given, _Given) and given.error is not None:
            return given.error
        aiohttp = self._aiohttp
        if isinstance(error, TimeoutError):
            return links.late()
        if isinstance(error, aiohttp.ClientConnectorError):
            return links.unreachable()
        if isinstance(error, (aiohttp.ClientError, OSError)):
            return links.broken()
        raise error

    async def close(self) -> None:
        """See `links.Link`; those of this event loop."""
        own = self._owns.pop(asyncio.get_running_loop(), None)
        if own is not None:
            await own[0].close()


class _Given:
    """A body that comes piece by piece, and what went wrong with it, which aiohttp does not tell."""

    def __init__(self, pieces: AsyncIterator[bytes], headers: Headers) -> None:
        told = named(headers, b"content-length")
        self._pieces = pieces
        self._left = int(told) if told else None
        self._begun = False
        self.error: UpstreamError | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            if self._begun:  # aiohttp tries again, and what is left would be another body
                raise links.broken()  # noqa: TRY301 - as if whoever gives the pieces had said so
            self._begun = True
            async for piece in self._pieces:
                if self._left is not None:
                    self._left -= len(piece)
                yield piece
            if self._left:
                raise links.unsendable()  # noqa: TRY301 - as if whoever gives the pieces had said so
        except UpstreamError as error:
            self.error = error
            raise
        except Exception:
            self.error = links.unsendable()
            raise


class _Answer:
    """See `links.Answer`."""

    __slots__ = ("_free", "_given", "_link", "_response", "headers", "status")

    def __init__(self, link: AiohttpLink, response: Any, free: asyncio.Semaphore, given: bytes | _Given) -> None:
        self._link = link
        self._response = response
        self._free: asyncio.Semaphore | None = free
        self._given = given
        self.status: int = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.raw_headers]

    async def piece(self) -> bytes:
        """See `links.Answer`."""
        try:
            data: bytes = await self._response.content.readany()
        except Exception as error:  # noqa: BLE001 - what is none of aiohttp's goes on
            raise self._link.failure(error, self._given) from None
        return data

    async def close(self) -> None:
        """See `links.Answer`."""
        free, self._free = self._free, None
        if free is None:
            return
        try:
            # Not read to its end: what is left would be the beginning of the next answer.
            if self._response.content.at_eof():
                self._response.release()
            else:
                self._response.close()
        finally:
            free.release()


async def _cut(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def _text(headers: Headers, size: int | None) -> list[tuple[str, str]]:
    """Headers as aiohttp takes them, which says itself that a body is chunked."""
    said = []
    told = False
    for name, value in headers:
        if name == b"content-length":
            # Of two lengths servers may heed either: what is body for one is the next request for another.
            if told or _LENGTH.fullmatch(value) is None or size not in (None, int(value)):
                raise ValueError(name)
            told = True
        if name != b"transfer-encoding":
            said.append((name.decode(), value.decode()))
    return said
