"""A middleware for ASGI applications that serve a model: what comes in and goes out is guarded, streams as they come.

Pure ASGI: it works with every framework and server, and knows none of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from llmguard.guard import Guard
from llmguard.integrations.callers import Callers
from llmguard.integrations.headers import STEERING, Headers, without
from llmguard.integrations.http import LIMIT, Fallback, HttpGuard, Reply, Unmatched
from llmguard.integrations.served import App, Begun, Receive, Scope, Send, Served, answer, closing, path_of, replayed

_BODY = frozenset({b"content-length", b"transfer-encoding", b"content-encoding", b"content-type"})


class GuardMiddleware:
    """Guards the calls that an application answers.

    Args:
        app: that answers.
        guard: whose policy decides.
        dialects: names of the wire formats that are let through; all by default.
        unmatched: what happens to requests and answers in none of them: ``refuse``, or ``pass`` as they are.
        limit: bytes of a body, decompressed.
        fallback: called with the decision where the policy says ``on_block: fallback``; gives a text, or
            a body as JSON.
        conversation: the request's header that names its conversation; see `Callers`, also for the next two.
        prompt: the one that names the prompt template that its texts came from.
        tenant: the one that names on whose behalf it is made.
        begun: begins to tell of the call of the model, where the application is what makes it; the proxy's is.
        sockets: whether the application answers websockets; the proxy doesn't.

    Raises:
        ConfigurationError: as `HttpGuard` and `Callers`.
    """

    def __init__(
        self,
        app: App,
        guard: Guard,
        *,
        dialects: Iterable[str] | None = None,
        unmatched: Unmatched = "refuse",
        limit: int = LIMIT,
        fallback: Fallback | None = None,
        conversation: str | None = None,
        prompt: str | None = None,
        tenant: str | None = None,
        begun: Begun | None = None,
        sockets: bool = True,
    ) -> None:
        self.app = app
        self._sockets = sockets
        self._begun = begun
        self.http = HttpGuard(guard, dialects=dialects, unmatched=unmatched, limit=limit, fallback=fallback)
        self.callers = Callers(guard, conversation=conversation, prompt=prompt, tenant=tenant)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(key.lower(), value) for key, value in scope["headers"]]
        query = scope.get("query_string", b"").decode("latin-1")
        with self.callers.scopes(headers):
            call = self.http.open(scope["method"], path_of(scope), query, headers)
            if isinstance(call, Reply):
                await answer(send, call, closing(scope))
            elif call is None:
                await self._passed(scope, headers, receive, send)
            else:
                try:
                    await Served(self.app, call, self.http.limit, scope, receive, send, self._begun).run(headers)
                finally:
                    call.close()

    async def _passed(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """A request that is not guarded; where others are refused, it comes without a body that nobody looked at."""
        bare = self.http.unmatched == "refuse"
        plain = without(headers, STEERING | _BODY if bare else STEERING)
        await self.app({**scope, "headers": plain}, replayed(b"", receive) if bare else receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        passed = self._sockets and self.http.unmatched == "pass" and not self.http.guards(path_of(scope))
        self.http.guard.unguarded("socket", passed=passed)
        if passed:
            await self.app(scope, receive, send)
        else:
            await receive()
            reason = "llmguard: websockets are not guarded here"
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
