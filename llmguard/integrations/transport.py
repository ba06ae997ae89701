"""Guards an HTTP client at its transport: whatever a client sends and is answered goes through the guard.

So nothing that a client of a model offers is overlooked: its streams, its raw responses, its retries and what its next
version adds all come down to requests. It works with clients of httpx and of httpx2, which have the same face.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from llmguard.errors import Blocked, ConfigurationError, DialectError
from llmguard.integrations.exchange_stream import ExchangeStream
from llmguard.integrations.headers import Headers, has_body, named
from llmguard.integrations.http import Forward, HttpCall, HttpGuard, Reply, blocked_of
from llmguard.integrations.transport_bodies import ajoined, joined, streams
from llmguard.operation import Operation
from llmguard.waiting import adrive, drive

#: Where a response keeps the `Blocked` that it is there for.
BLOCKED = "llmguard.blocked"
Route = Callable[[str], str]
"""From the path of a request to the one that the wire formats' routes have."""


def guarded(client: Any, http: HttpGuard, route: Route = str, *, raises: bool = False) -> Any:
    """A client like another one, on the same connections, whose requests and answers are guarded.

    Args:
        client: of httpx or httpx2, sync or async. It stays as it is, and open: closing either closes both.
        http: what guards them.
        route: see `Route`.
        raises: whether a call that is blocked raises `Blocked`; otherwise it is answered by an error response, for
            clients that would take what a transport raises for a connection that failed, and try again.

    Raises:
        ConfigurationError: it is no such client.
    """
    kind = _kind(client)
    library = sys.modules[kind.__module__.partition(".")[0]]
    make = AsyncGuardTransport if hasattr(client, "aclose") else GuardTransport
    new = kind.__new__(kind)
    new.__dict__.update(client.__dict__)

    def wrapped(transport: Any) -> Any:
        return transport if transport is None else make(transport, http, route, library, client, raises)

    new._transport = wrapped(client._transport)  # noqa: SLF001 - neither library has a public way to it
    new._mounts = {pattern: wrapped(one) for pattern, one in client._mounts.items()}  # noqa: SLF001 - likewise
    return new


def _kind(client: Any) -> Any:
    for kind in type(client).__mro__:
        if kind.__module__.partition(".")[0] in ("httpx", "httpx2") and kind.__name__ in ("Client", "AsyncClient"):
            return kind
    raise ConfigurationError(f"{type(client).__module__}.{type(client).__qualname__} is no client of httpx")


class _Edge:
    """What both transports do alike.

    Args:
        inner: the transport that does the work.
        http: what guards it.
        route: see `Route`.
        library: httpx or httpx2.
        owner: the client that the transport was taken from; kept, since some close their connections when they go.
        raises: see `guarded`.
    """

    def __init__(self, inner: Any, http: HttpGuard, route: Route, library: Any, owner: Any, raises: bool) -> None:
        self._inner = inner
        self._http = http
        self._route = route
        self._library = library
        self._owner = owner
        self._client = type(owner).__module__.partition(".")[0]
        self._raises = raises

    def _opened(self, request: Any, headers: Headers) -> HttpCall | Reply | None:
        if request.url.scheme not in ("http", "https") or named(headers, b"upgrade"):
            return self._http.refused(400, "connections that stay open in both directions are not guarded", "socket")
        path, _, query = request.url.raw_path.decode("latin-1").partition("?")
        call = self._http.open(request.method, self._route(path), query, headers)
        if call is None and self._http.unmatched == "refuse" and has_body(headers):
            return self._http.refused(400, "a request in no wire format that is read has a body", "body")
        return call

    def _request(self, request: Any, forward: Forward) -> Any:
        # A stream, since a body would be read once more and headers be looked for that are there.
        return self._library.Request(
            request.method,
            request.url,
            headers=forward.headers,
            stream=self._library.ByteStream(forward.body),
            extensions=request.extensions,
        )

    def _operation(self, request: Any, call: HttpCall) -> Operation:
        url = request.url
        return self._http.guard.operation(call.dialect, call.exchange.asked, url.host, url.port, client=self._client)

    def _response(self, request: Any, reply: Reply) -> Any:
        blocked = blocked_of(reply)
        if blocked is not None and self._raises:
            raise blocked
        headers, status = reply.headers, reply.status
        if status not in (204, 304) and not named(headers, b"content-length"):
            headers = [*headers, (b"content-length", b"%d" % len(reply.body))]
        return self._library.Response(
            status,
            headers=headers,
            stream=self._library.ByteStream(reply.body),
            request=request,
            extensions={} if blocked is None else {BLOCKED: blocked},
        )

    def _streamed(self, request: Any, response: Any, call: HttpCall, body: Any) -> Any:
        return self._library.Response(
            response.status_code,
            headers=call.stream_headers,
            stream=body,
            request=request,
            extensions=response.extensions,
        )

    @property
    def _worded(self) -> bool:
        """Whether a stream that is blocked says so in the format's words, and not by an error."""
        policy = self._http.guard.policy
        return policy.reply is not None or policy.falls_back

    @staticmethod
    def _over(stream: ExchangeStream) -> bool:
        """Whether a stream was stopped; raises why, where nothing else says it."""
        if stream.blocked is None and stream.broken is None:
            return False
        if stream.worded or stream.untold is not None:
            return True
        if stream.blocked is not None:
            raise Blocked(stream.blocked)
        raise DialectError(str(stream.broken)) from stream.broken


class GuardTransport(_Edge):
    """A transport for a sync client."""

    def handle_request(self, request: Any) -> Any:
        """Send a request as it may go on, and give its response as it may come back."""
        headers = _headers(request.headers)
        call = self._opened(request, headers)
        if call is None:
            return self._inner.handle_request(request)
        if isinstance(call, Reply):
            return self._response(request, call)
        told: Operation | None = None
        try:
            result: Any = drive(call.request(headers, request.read()))
            while isinstance(result, Forward):
                told = self._operation(request, call)
                with told.current():
                    response = self._inner.handle_request(self._request(request, result))
                stream = call.begin(response.status_code, _headers(response.headers))
                if stream is not None:
                    stream.heard, stream.worded = told.heard, self._worded
                    pieces = self._pieces(response, call, stream, told)
                    first = next(pieces, b"") if stream.patient else b""
                    if stream.untold is not None:
                        told.end(status=response.status_code)
                        result = drive(call.stopped(stream.untold))
                        continue
                    body = streams(self._library)[0](first, pieces, response.stream, call, told)
                    return self._streamed(request, response, call, body)
                try:
                    with told.current():
                        data = joined(response.stream, self._http.limit)
                finally:
                    response.stream.close()
                told.stop()
                result = drive(call.whole(data))
                told.end(call.exchange.answered, status=response.status_code)
        except BaseException as error:
            if told is not None:
                told.end(error=error)
            call.close()
            raise
        call.close()
        return self._response(request, result)

    def _pieces(self, response: Any, call: HttpCall, stream: ExchangeStream, told: Operation) -> Iterator[bytes]:
        try:
            try:
                for data in response.stream:
                    told.chunk()
                    if out := drive(stream.feed(data)):
                        yield out
                    if self._over(stream):
                        return
            except self._library.TransportError:
                # The source broke off: what came is checked and goes out, then the caller is told.
                if out := drive(stream.close()):
                    yield out
                raise
            told.stop()
            if out := drive(stream.close()):
                yield out
            if not self._over(stream):
                told.end(status=response.status_code)
        except BaseException as error:
            told.end(error=error)
            raise
        finally:
            response.stream.close()
            if stream.untold is None:
                call.close()

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def __enter__(self) -> GuardTransport:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)


class AsyncGuardTransport(_Edge):
    """A transport for an async client."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request as it may go on, and give its response as it may come back."""
        headers = _headers(request.headers)
        call = self._opened(request, headers)
        if call is None:
            return await self._inner.handle_async_request(request)
        if isinstance(call, Reply):
            return self._response(request, call)
        told: Operation | None = None
        try:
            result: Any = await adrive(call.request(headers, await request.aread()))
            while isinstance(result, Forward):
                told = self._operation(request, call)
                with told.current():
                    response = await self._inner.handle_async_request(self._request(request, result))
                stream = call.begin(response.status_code, _headers(response.headers))
                if stream is not None:
                    stream.heard, stream.worded = told.heard, self._worded
                    pieces = self._pieces(response, call, stream, told)
                    first = await anext(pieces, b"") if stream.patient else b""
                    if stream.untold is not None:
                        told.end(status=response.status_code)
                        result = await adrive(call.stopped(stream.untold))
                        continue
                    body = streams(self._library)[1](first, pieces, response.stream, call, told)
                    return self._streamed(request, response, call, body)
                try:
                    with told.current():
                        data = await ajoined(response.stream, self._http.limit)
                finally:
                    await response.stream.aclose()
                told.stop()
                result = await adrive(call.whole(data))
                told.end(call.exchange.answered, status=response.status_code)
        except BaseException as error:
            if told is not None:
                told.end(error=error)
            call.close()
            raise
        call.close()
        return self._response(request, result)

    async def _pieces(
        self, response: Any, call: HttpCall, stream: ExchangeStream, told: Operation
    ) -> AsyncIterator[bytes]:
        try:
            try:
                async for data in response.stream:
                    told.chunk()
                    if out := await adrive(stream.feed(data)):
                        yield out
                    if self._over(stream):
                        return
            except self._library.TransportError:
                if out := await adrive(stream.close()):
                    yield out
                raise
            told.stop()
            if out := await adrive(stream.close()):
                yield out
            if not self._over(stream):
                told.end(status=response.status_code)
        except BaseException as error:
            told.end(error=error)
            raise
        finally:
            await response.stream.aclose()
            if stream.untold is None:
                call.close()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def __aenter__(self) -> AsyncGuardTransport:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)


def _headers(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(key.lower(), value) for key, value in headers.raw]
