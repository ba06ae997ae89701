"""Calls to an upstream by a transport of httpx that the caller gave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from llmguard.integrations import links
from llmguard.integrations.headers import Headers
from llmguard.integrations.served import UpstreamError


class HttpxLink:
    """A transport of httpx, without the client around it.

    Args:
        httpx: the package.
        transport: of it, async.
        origin: scheme, host and port of the upstream.
        timeout: seconds by what is waited for, as httpx has it.
    """

    def __init__(self, httpx: Any, transport: Any, origin: str, timeout: Mapping[str, float]) -> None:
        self._httpx = httpx
        self._transport = transport
        self._url = httpx.URL(origin)
        self._timeout = dict(timeout)

        class Body(httpx.AsyncByteStream):  # type: ignore[misc]
            def __init__(self, pieces: AsyncIterator[bytes]) -> None:
                self._pieces = pieces

            def __aiter__(self) -> AsyncIterator[bytes]:
                return self._pieces

        self._body = Body

    async def ask(self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]) -> _Answer:
        """See `links.Link`."""
        httpx = self._httpx
        stream = httpx.ByteStream(body) if isinstance(body, bytes) else self._body(body)
        extensions = {"timeout": self._timeout, "target": target}
        request = httpx.Request(method, self._url, headers=list(headers), stream=stream, extensions=extensions)
        try:
            response = await self._transport.handle_async_request(request)
            if response.status_code in links.ANSWERS:
                return _Answer(httpx, response)
            await response.stream.aclose()
        except httpx.LocalProtocolError:
            raise links.unsendable() from None
        except (httpx.TransportError, OSError) as error:
            raise _failure(httpx, error) from None
        raise links.broken()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


class _Answer:
    """See `links.Answer`."""

    def __init__(self, httpx: Any, response: Any) -> None:
        self._httpx = httpx
        self._stream = response.stream
        self._pieces: AsyncIterator[bytes] = aiter(response.stream)
        self.status: int = response.status_code
        self.headers: Headers = [(key.lower(), value) for key, value in response.headers.raw]

    async def piece(self) -> bytes:
        """See `links.Answer`."""
        try:
            async for piece in self._pieces:
                if piece:
                    return piece
        except (self._httpx.TransportError, OSError) as error:
            raise _failure(self._httpx, error) from None
        return b""

    async def close(self) -> None:
        """See `links.Answer`."""
        await self._stream.aclose()


def _failure(httpx: Any, error: BaseException) -> UpstreamError:
    if isinstance(error, httpx.PoolTimeout):
        return links.busy()
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return links.late()
    return links.unreachable() if isinstance(error, httpx.ConnectError) else links.broken()
