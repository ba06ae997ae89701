"""A reverse proxy that guards: an application in any language is guarded by another base URL."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from opentelemetry import context, propagate

from llmguard.exporters.prometheus import Scrape
from llmguard.guard import Guard
from llmguard.integrations.asgi import GuardMiddleware
from llmguard.integrations.headers import Headers, named, without
from llmguard.integrations.http import HttpCall, Reply, refused
from llmguard.integrations.served import Message, Receive, Scope, Send, UpstreamError, answer
from llmguard.integrations.upstream import Upstream
from llmguard.integrations.upstream_metrics import added
from llmguard.operation import Operation

Pick = Callable[[Scope], Upstream]
"""The upstream for a request."""

_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
_TRACE = frozenset({b"traceparent", b"tracestate", b"baggage"})
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
# Where the scope of a call holds the upstream that was picked for it.
_PICKED = "llmguard.upstream"
_METRICS_LIMIT = 4 * 1024 * 1024
# A probe that comes more often gets what the last one got: nobody can have the upstream asked without end.
_PROBED_S = 1.0
_PROBE_TIMEOUT_S = 2.0


class Proxy:
    """An ASGI application: guards calls, and has them answered by an upstream.

    Besides it answers itself: ``/healthz`` (it runs), ``/readyz`` (the upstream answers), ``/metrics``.

    Args:
        upstream: that answers; of several the one whose health and figures ours are about.
        guard: whose policy decides; closed when the server stops, as are the upstreams.
        pick: the upstream for a request, where there are several; asked once for each time that a request goes on.
        metrics: our figures for an ``Accept`` header, as `Prometheus.scrape`; None where they are collected in another
            way.
        health: path of the upstream that tells whether it is ready; any status below 500 will do.
        upstream_metrics: path of the upstream's own figures; "" for none.
        at_end: called when the server has stopped and the guard is closed: what sends the last telemetry.
        options: of `GuardMiddleware`.
    """

    def __init__(
        self,
        upstream: Upstream,
        guard: Guard,
        *,
        pick: Pick | None = None,
        metrics: Callable[[str], Scrape] | None = None,
        health: str = "/health",
        upstream_metrics: str = "/metrics",
        at_end: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        self.upstream = upstream
        self.guard = guard
        self._pick: Pick = pick or (lambda _: upstream)
        self._asked = {upstream}
        self._metrics = metrics
        self._health = health
        self._upstream_metrics = upstream_metrics
        self._at_end = at_end
        self._guarded = GuardMiddleware(self._ask, guard, begun=self._begun, sockets=False, **options)
        self._own = {"/healthz": self._alive, "/readyz": self._ready, "/metrics": self._figures}
        self._probed = -_PROBED_S
        self._probe = Reply(503, [_TEXT], b"not asked yet\n")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The names of callers are ours: they may be nobody else's business.
        headers = without(scope["headers"], self._guarded.callers.headers)
        where: Upstream = scope.pop(_PICKED, None) or self._picked(scope)
        await where({**scope, "headers": headers}, receive, send)

    def _picked(self, scope: Scope) -> Upstream:
        where = self._pick(scope)
        self._asked.add(where)
        return where

    def _begun(self, call: HttpCall, scope: Scope) -> Operation:
        where = scope[_PICKED] = self._picked(scope)
        return self.guard.operation(call.dialect, call.exchange.asked, where.address, where.port)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(key.lower(), value) for key, value in scope["headers"]]
        given = named(headers, b"x-request-id")
        id_ = given if _ID.fullmatch(given) else secrets.token_hex(16).encode()
        started = False

        async def tell(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _marked(message["headers"], id_)}
            await send(message)

        own = self._own.get(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
        if own is not None:
            await answer(tell, await own(named(headers, b"accept").decode("latin-1")))
            return
        headers = [*without(headers, {b"x-request-id"}), (b"x-request-id", id_)]
        try:
            with _traced(headers):
                await self._guarded({**scope, "headers": headers}, receive, tell)
        except UpstreamError as error:
            # Of a call in no wire format. Once it has begun, ending without its end breaks the connection off.
            if not started:
                await answer(tell, refused(error.status, str(error), error.code))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        async with AsyncExitStack() as ending:
            if self._at_end is not None:
                ending.push_async_callback(asyncio.to_thread, self._at_end)
            ending.callback(self.guard.close)
            for upstream in self._asked:
                ending.push_async_callback(upstream.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _alive(self, _: str) -> Reply:
        return Reply(200, [_TEXT], b"ok\n")

    async def _ready(self, _: str) -> Reply:
        now = time.monotonic()
        if now - self._probed >= _PROBED_S:
            self._probed = now
            try:
                status, _answer = await self.upstream.fetched(self._health, _METRICS_LIMIT, _PROBE_TIMEOUT_S)
            except UpstreamError as error:
                self._probe = Reply(503, [_TEXT], f"{error}\n".encode())
            else:
                text = b"ok\n" if status < 500 else b"the upstream is not ready\n"
                self._probe = Reply(200 if status < 500 else 503, [_TEXT], text)
        return self._probe

    async def _figures(self, accept: str) -> Reply:
        if self._metrics is None:
            return refused(404, "no metrics here: pip install 'llmguard[otel]'", "metrics")
        try:
            own = await asyncio.to_thread(self._metrics, accept)
        except OSError:
            return refused(500, "what the workers tell each other can't be read or written", "metrics")
        status, theirs = 404, b""
        try:
            if self._upstream_metrics:
                status, theirs = await self.upstream.fetched(self._upstream_metrics, _METRICS_LIMIT, _PROBE_TIMEOUT_S)
        except UpstreamError:
            status = 502
        kind = [(b"content-type", own.content_type.encode()), (b"vary", b"accept")]
        return Reply(200, kind, added(own, theirs) if status == 200 else own.body)


@contextmanager
def _traced(headers: Headers) -> Generator[None, None, None]:
    """The guard's spans stand in the caller's trace, beside the spans of the upstream, which gets the same headers."""
    if not named(headers, b"traceparent"):
        yield
        return
    carrier = {key.decode("latin-1"): value.decode("latin-1") for key, value in headers if key in _TRACE}
    token = context.attach(propagate.extract(carrier))
    try:
        yield
    finally:
        context.detach(token)


def _marked(headers: list[tuple[bytes, bytes]], id_: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with the request's id; the upstream's own goes by another name."""
    theirs = named(headers, b"x-request-id")
    kept = [(key, value) for key, value in headers if key not in (b"x-request-id", b"x-upstream-request-id")]
    if theirs and theirs != id_:
        kept.append((b"x-upstream-request-id", theirs))
    kept.append((b"x-request-id", id_))
    return kept
