"""One guarded call of an ASGI application: its request is read and cleared, its answer cleared as it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from llmguard.errors import LlmGuardError
from llmguard.integrations.headers import Headers, named
from llmguard.integrations.http import Forward, HttpCall, Reply
from llmguard.operation import Operation
from llmguard.waiting import adrive

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Begun = Callable[[HttpCall, Scope], Operation]

_UNESCAPED = "/:@!$&'()*+,;=~"
# What may be said beside the answer; none of it is needed, and some of it would hold texts.
_BESIDE = frozenset({"http.response.trailers", "http.response.push", "http.response.early_hint", "http.response.debug"})


class UpstreamError(LlmGuardError):
    """Raised by an application that asks another server in vain; the caller gets an error in the format's own words.

    Attributes:
        status: of HTTP.
        code: what went wrong, in one word.
    """

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _OverError(OSError):
    """What an application gets that speaks on after its answer was stopped, as it would if the client had left."""


class Served:
    """One guarded call.

    Args:
        app: that answers.
        call: in its wire format.
        limit: bytes of a body.
        scope: of the call, as ASGI has it.
        receive: likewise.
        send: likewise.
        begun: begins to tell of the call of the model, for those who make it; gets the scope that the application will.
    """

    def __init__(
        self,
        app: App,
        call: HttpCall,
        limit: int,
        scope: Scope,
        receive: Receive,
        send: Send,
        begun: Begun | None = None,
    ) -> None:
        self._app = app
        self._call = call
        self._limit = limit
        self._scope = scope
        self._receive_more = receive
        self._send_out = send
        self._begun = begun
        self._told: Operation | None = None
        self._started = False
        self._over = False
        self._ended = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._result: Forward | None = None

    async def run(self, headers: Headers) -> None:
        """Read the request, have it answered, and answer."""
        body = await self._body(headers)
        if body is None:
            return
        result: Any = body
        if isinstance(body, bytes):
            result = await adrive(self._call.request(headers, body))
        while isinstance(result, Forward):
            result = await self._asked(result)
        if result is not None:
            await answer(self._send_out, result, () if isinstance(body, bytes) else closing(self._scope))

    async def _body(self, headers: Headers) -> bytes | Reply | None:
        """The body; or a refusal of one that is too large, before all of it came; None when the client has left."""
        pieces: list[bytes] = []
        size, more = 0, True
        told = named(headers, b"content-length")
        if told.isdigit() and int(told[:20]) > self._limit:
            return self._too_large(413)
        while more:
            message = await self._receive_more()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._limit:
                return self._too_large(413)
            pieces.append(piece)
            more = message.get("more_body", False)
        return b"".join(pieces)

    def _too_large(self, status: int) -> Reply:
        return self._call.error(status, f"the body has more than {self._limit} bytes", "size")

    async def _asked(self, forward: Forward) -> Reply | Forward | None:
        """Have the application answer: None when that has gone out, or can't go on."""
        self._over, self._ended, self._result, self._pieces, self._size = False, False, None, [], 0
        # Extensions let an application send files and trailers past us; it is offered none of them.
        offered = {key: value for key, value in (self._scope.get("extensions") or {}).items() if key == "tls"}
        scope = {**self._scope, "headers": forward.headers, "extensions": offered}
        self._status = 0
        told = self._told = self._begun(self._call, scope) if self._begun is not None else None
        try:
            await self._app(scope, replayed(forward.body, self._receive), self._send)
        except BaseException as error:  # noqa: BLE001 - `_failed` raises what is not ours
            if told is not None and not self._over:
                told.end(error=error.code if isinstance(error, UpstreamError) else error)
            return self._failed(error)
        finally:
            if told is not None:
                if not self._ended and not self._over:
                    told.abandon()  # the client has left, and so there is no whole answer
                told.end(self._call.exchange.answered, status=self._status)
        return self._result

    def _failed(self, error: BaseException) -> Reply | Forward | None:
        """What follows from what the application raised."""
        if isinstance(error, UpstreamError):
            if not self._started:
                return self._call.error(error.status, str(error), error.code)
            # Half an answer is none: ending without its end is what breaks the connection off.
            if self._call.stream is not None:
                self._call.stream.abandon(error)
        elif not isinstance(error, Exception) or not self._over:
            # What an application makes of an answer that was cut short is no error of its own; all else is.
            raise error
        return self._result

    async def _receive(self) -> Message:
        return {"type": "http.disconnect"} if self._over else await self._receive_more()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._over:
            raise _OverError("the answer has been stopped")
        if kind == "http.response.start":
            self._status = message["status"]
            headers = [(bytes(key).lower(), bytes(value)) for key, value in message.get("headers", ())]
            stream = self._call.begin(self._status, headers)
            if stream is not None and self._told is not None:
                stream.heard = self._told.heard
            if stream is not None and not self._call.patient:
                await self._start()
        elif kind == "http.response.body":
            data, more = message.get("body", b""), message.get("more_body", False)
            self._ended = not more
            await (self._whole if self._call.stream is None else self._streamed)(data, more)
        elif kind not in _BESIDE:
            raise RuntimeError(f"{kind} can't be guarded: send the answer as http.response.body")

    async def _whole(self, data: bytes, more: bool) -> None:
        self._size += len(data)
        self._pieces.append(data)
        result: Reply | Forward | None = None
        if self._size > self._limit:
            result = self._too_large(502)
        elif not more:
            if self._told is not None:
                self._told.stop()
            result = await adrive(self._call.whole(b"".join(self._pieces)))
        if result is not None:
            await self._take(result)
            if more:
                self._stop()

    async def _streamed(self, data: bytes, more: bool) -> None:
        stream = self._call.stream
        if stream is None:
            raise RuntimeError("the answer has no beginning")
        if data and self._told is not None:
            self._told.chunk()
        out = await adrive(stream.feed(data)) if data else b""
        if not more and stream.blocked is None and stream.broken is None:
            out += await adrive(stream.close())
        stopped = stream.blocked is not None or stream.broken is not None
        if stream.blocked is not None and not self._started:
            await self._take(await adrive(self._call.stopped(stream.blocked)))
        elif out or stopped or not more:
            if not self._started:
                await self._start()
            await self._send_out({"type": "http.response.body", "body": out, "more_body": more and not stopped})
        if stopped and more:
            self._stop()

    async def _start(self) -> None:
        self._started = True
        headers = self._call.stream_headers
        await self._send_out({"type": "http.response.start", "status": self._status, "headers": headers})

    async def _take(self, result: Reply | Forward) -> None:
        """Answer, or have the application asked once more."""
        if isinstance(result, Forward):
            self._result = result
        else:
            self._started = True
            await answer(self._send_out, result)

    def _stop(self) -> None:
        """End the application's answer: it has nothing more to say."""
        self._over = True
        raise _OverError("the answer has been stopped")


def path_of(scope: Scope) -> str:
    """The path below the application's root, as it came over the wire, or as the application will see it."""
    path, raw = scope["path"], scope.get("raw_path")
    spelt = raw.decode("latin-1").partition("?")[0] if raw else ""
    if not raw or (spelt != path and unquote(spelt) != path):
        # Somebody before us has rewritten the path, and the application goes by that.
        spelt = quote(path, safe=_UNESCAPED)
    root = quote(scope.get("root_path") or "", safe=_UNESCAPED).rstrip("/")
    return spelt[len(root) :] if root and spelt.startswith(f"{root}/") else spelt


async def answer(send: Send, reply: Reply, beside: Headers = ()) -> None:
    """Send a whole answer."""
    headers = list(reply.headers)
    if reply.status not in (204, 304) and not named(headers, b"content-length"):
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": [*headers, *beside]})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})


def replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body, then what else comes."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def closing(scope: Scope) -> Headers:
    """What ends a connection whose request was not read to its end."""
    return ((b"connection", b"close"),) if scope.get("http_version", "1.1").startswith("1") else ()
