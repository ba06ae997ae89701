"""One HTTP call of a wire format, sans-I/O: what the transport, the middleware and the proxy have in common.

A call goes: `HttpGuard.open` with method and path, `HttpCall.request` with the whole body, `HttpCall.begin` with the
head of the response, then `HttpCall.whole` with its body, or a stream that is fed. What can't be read is refused: there
is no way around that is spelt, compressed or cut in some other way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal

from llmguard.asking import Asking
from llmguard.calls import Checks
from llmguard.dialects import framing, registry
from llmguard.dialects.kserve import INFER
from llmguard.dialects.wire import Dialect, Framing
from llmguard.errors import ConfigurationError, DialectError, RouteError
from llmguard.guard import Guard
from llmguard.integrations.encodings import BodyTooLargeError, UnknownEncodingError, decoded
from llmguard.integrations.exchange import Cleared, Exchange, Steps
from llmguard.integrations.exchange_stream import ExchangeStream
from llmguard.integrations.headers import (
    JSON,
    Headers,
    encoding,
    has_body,
    json_length,
    named,
    of_answer,
    of_request,
)
from llmguard.integrations.replies import FINAL, Forward, Reply, blocked_of, refused, written
from llmguard.types import Decision, Stage, Text
from llmguard.waiting import Waits

__all__ = ["LIMIT", "Fallback", "Forward", "HttpCall", "HttpGuard", "Reply", "Unmatched", "blocked_of", "refused"]

Unmatched = Literal["refuse", "pass"]
Fallback = Callable[[Decision], Any]
"""Plain or async; see `asking.Asking`."""
Answering = Generator[Waits, None, "Forward | Reply"]
"""What yields all that has to be waited for, and returns what is to be done."""

#: Bytes of a body, decompressed.
LIMIT = 32 * 1024 * 1024
CODE = "content_filter"
# Of the codes of errors those that say that nobody knows what a body says.
_UNREAD = frozenset({"body", "encoding", "size"})
_STOPPED = "Stopped by the content policy."
# Where a server that decodes a path before it takes it apart would see its end.
_CUT = re.compile("%(?:3F|23)", re.IGNORECASE)
#: Requests without texts that applications make beside their calls, passed on as they are.
_HARMLESS = re.compile(
    r"(?:GET|HEAD) /(?:(?:v1/)?models(?:/[\w.:@-]+)?|v1beta/models(?:/[\w.:@-]+)?|api/(?:tags|version|ps)|healthz?|"
    r"readyz?|livez?|version|info|ping|metrics|v2|v2/health/(?:live|ready)|"
    r"v2/models/[\w.-]+(?:/versions/[\w.-]+)?(?:/(?:ready|config))?)?"
)
_TYPES = {
    Framing.SSE: b"text/event-stream; charset=utf-8",
    Framing.NDJSON: b"application/x-ndjson",
    Framing.AWS: b"application/vnd.amazon.eventstream",
    Framing.ARRAY: b"application/json",
}


class HttpGuard:
    """A guard for HTTP calls.

    Args:
        guard: whose policy decides.
        dialects: names of the wire formats that are let through; all by default.
        unmatched: what happens to requests and answers in none of them: ``refuse``, or ``pass`` as they are. What is
            spelt so that readers may differ is refused either way.
        limit: bytes of a body, decompressed.
        fallback: called with the decision where the policy says ``on_block: fallback``; gives a text, or
            a body as JSON. On an event loop an async one is awaited, and a plain one runs on a thread.

    Raises:
        ConfigurationError: there is no such dialect, or the policy needs a fallback and none is given.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        dialects: Iterable[str] | None = None,
        unmatched: Unmatched = "refuse",
        limit: int = LIMIT,
        fallback: Fallback | None = None,
    ) -> None:
        if unmatched not in ("refuse", "pass"):
            raise ConfigurationError(f"unmatched must be 'refuse' or 'pass', not {unmatched!r}")
        if not isinstance(limit, int) or limit < 1:
            raise ConfigurationError(f"limit must be a number of bytes, not {limit!r}")
        if guard.policy.falls_back and fallback is None:
            raise ConfigurationError(f"the policy {guard.policy.name!r} calls a fallback on a block: give one")
        self.guard = guard
        self.unmatched = unmatched
        self.limit = limit
        self.fallback = fallback
        self._among = None if dialects is None else tuple(registry.get(name) for name in dialects)
        # Nearly every call has one of these paths, whose every part is as it stands there.
        self._plain = {
            way: (found, registry.framing(found.dialect, found.route))
            for way, found in registry.plain(self._among).items()
            if not found.route.array
        }

    def open(self, method: str, path: str, query: str = "", headers: Headers = ()) -> HttpCall | Reply | None:
        """A call whose texts are guarded, a refusal, or None for what is passed on as it is.

        Args:
            method: of HTTP.
            path: as it came over the wire, without the query.
            query: likewise.
            headers: of the request, names in small letters.
        """
        plain = self._plain.get((method, path))
        if plain is not None:
            return HttpCall(self, *plain)
        if _CUT.search(path) is not None:
            return self.refused(400, "the path is spelt so that servers may read it in different ways", "path")
        try:
            found = registry.find(method, path, self._among)
            if found is not None:
                kind = registry.framing(found.dialect, found.route, query)
                return HttpCall(self, found, kind)
        except RouteError as error:
            return self.refused(400, str(error), "path")
        harmless = method == "OPTIONS" or _HARMLESS.fullmatch(f"{method} {path}") is not None
        if harmless and (self.unmatched == "refuse" or not has_body(headers)):
            return None
        if self.unmatched == "pass":
            self.guard.unguarded("route", passed=True)
            return None
        return self.refused(404, "no guarded wire format has this route", "route")

    def refused(self, status: int, problem: str, code: str) -> Reply:
        """A refusal in no format's own words, counted."""
        self.guard.unguarded(code, passed=False)
        return refused(status, problem, code)

    def guards(self, path: str) -> bool:
        """Whether requests of some method to this path are guarded, or refused for its spelling."""
        try:
            return _CUT.search(path) is not None or any(
                [registry.find(method, path, self._among) is not None for method in ("POST", "GET")]
            )
        except RouteError:
            return True


class HttpCall:
    """One call.

    Args:
        http: whose settings hold.
        found: the dialect and the route.
        kind: the framing of the response, if it is a stream.

    Attributes:
        exchange: the call in its wire format.
        stream: the response, once it has begun as a stream.
    """

    def __init__(self, http: HttpGuard, found: registry.Match, kind: Framing | None) -> None:
        self._http = http
        self._kind = kind
        self._streams = found.route.stream
        self.dialect: Dialect = found.dialect
        self._checks: Checks | None = http.guard.call_scope()
        policy = http.guard.policy
        self._reply = policy.reply
        self._retries = policy.retries
        self._fallback = http.fallback if policy.falls_back else None
        self.exchange = Exchange(found.dialect, found.segments, self._checks, http.guard.vault, self._reply or "")
        self.stream: ExchangeStream | None = None
        self._status, self._headers = 200, list[tuple[bytes, bytes]]()
        self._asked: Headers = ()

    def request(self, headers: Headers, body: bytes) -> Answering:
        """The request as it may go on, or the answer in its place.

        Args:
            headers: names in small letters.
            body: all of it, as it came.
        """
        try:
            plain = decoded(body, encoding(headers), self._http.limit)
            length = json_length(headers)
            if length is not None and self.dialect is not INFER:
                return self.error(415, "binary tensors are not read here: ask for JSON (binary_data=False)", "body")
            cleared = yield from self._read(plain, length)
        except BodyTooLargeError as error:
            return self.error(413, str(error), "size")
        except UnknownEncodingError as error:
            return self.error(415, str(error), "encoding")
        except DialectError as error:
            return self.error(400, str(error), "body")
        if cleared.blocked is not None:
            return (yield from self._stopped(cleared.blocked))
        self._asked = headers
        return Forward(of_request(headers, cleared.data, cleared.length), cleared.data)

    def _read(self, plain: bytes, length: int | None) -> Steps[Cleared]:
        try:
            return (yield from self.exchange.request(plain, length))
        except DialectError:
            if self._http.unmatched != "pass":
                raise
            # In no format that is known here, but a server may make something of it: no way around.
            cleared = yield from self.exchange.unread(plain, answer=False)
            self._http.guard.unguarded("body", passed=True, dialect=self.dialect.name)
            return cleared

    def begin(self, status: int, headers: Headers) -> ExchangeStream | None:
        """Take the head of the response: a stream that is to be fed, or None where `whole` wants all of the body."""
        self._status, self._headers, self.stream = status, list(headers), None
        asked = self._streams if self._streams is not None else self.exchange.asked.stream
        expected = self._kind if asked and status < 400 else None
        kind = framing.choose(named(headers, b"content-type").decode("latin-1"), expected)
        if kind is None or encoding(headers):
            return None
        self.stream = ExchangeStream(self.exchange, kind, min(self._http.limit, framing.LIMIT))
        self.stream.patient = self.patient
        self.stream.fallback = self._fallback
        return self.stream

    @property
    def stream_headers(self) -> list[tuple[bytes, bytes]]:
        """The head of a streamed response as it may go to the caller."""
        return of_answer(self._headers, self._status, None)

    def whole(self, body: bytes) -> Answering:
        """The response as it may go to the caller, or the request that is to be made in its place.

        Args:
            body: all of it, as it came.
        """
        try:
            plain = decoded(body, encoding(self._headers), self._http.limit)
            if not plain.strip():
                return Reply(self._status, of_answer(self._headers, self._status, plain), plain)
            cleared = yield from self._cleared(plain)
        except (DialectError, BodyTooLargeError, UnknownEncodingError) as error:
            return self.error(502, f"the answer can't be read: {error}", "body")
        if cleared.blocked is not None:
            return (yield from self.stopped(cleared.blocked))
        headers = of_answer(self._headers, self._status, cleared.data, cleared.length)
        return Reply(self._status, headers, cleared.data)

    def _cleared(self, plain: bytes) -> Steps[Cleared]:
        kind = named(self._headers, b"content-type").partition(b";")[0].strip().lower()
        passes = self._http.unmatched == "pass"
        page = kind.startswith(b"text/") and kind != b"text/event-stream" and (passes or self._status >= 300)
        if page and not _is_json(plain):
            # The page of a server in between, also beside a redirect: no format has it, but its reader reads it.
            check = self.exchange.checks.start(Stage.OUTPUT, [Text(plain.decode("utf-8", "replace"))])
            if check.pending:
                yield check
            decision = check.finish()[0]
            blocked = decision if decision.blocked else None
            return Cleared(decision.texts[0].encode("utf-8", "surrogatepass"), blocked)
        stream = framing.choose(kind.decode("latin-1"), None)
        if stream is not None:
            # A compressed stream, which came in one piece.
            own = ExchangeStream(self.exchange, stream, min(self._http.limit, framing.LIMIT))
            out = (yield from own.feed(plain)) + (yield from own.close())
            if own.broken is not None:
                self._unread_answer(passed=False)
            return Cleared(out, own.blocked)
        try:
            return (yield from self.exchange.response(plain, json_length(self._headers)))
        except DialectError:
            if not (passes or page):
                raise
        cleared = yield from self.exchange.unread(plain, answer=True)
        if not page:
            self._unread_answer(passed=True)
        return cleared

    def _unread_answer(self, *, passed: bool) -> None:
        self._http.guard.unguarded("answer", passed=passed, dialect=self.dialect.name)

    @property
    def patient(self) -> bool:
        """Whether a block may lead to another answer, as long as nothing of this one went out."""
        return bool(self._retries) or self._fallback is not None

    def again(self, decision: Decision) -> Forward | None:
        """The request once more, where the policy says so and nothing has gone out."""
        if not self._retries or (body := self.exchange.again(decision)) is None:
            return None
        self._retries -= 1
        return Forward(of_request(self._asked, body), body)

    def stopped(self, decision: Decision) -> Answering:
        """What is to be done about an answer that is blocked, as long as nothing of it went out."""
        return self.again(decision) or (yield from self._stopped(decision))

    def _stopped(self, decision: Decision) -> Generator[Waits, None, Reply]:
        """What the caller gets in place of an answer, as the policy says."""
        exchange, text = self.exchange, self._reply
        if self._fallback is not None:
            asking = Asking(self._fallback, decision)
            yield asking
            if not isinstance(asking.answer, str):
                return Reply(200, [JSON, FINAL], written(asking.answer), decision)
            text = asking.answer
        if text is None:
            body = self.dialect.error(_STOPPED, CODE, exchange.sent)
            return Reply(400, [JSON, FINAL], json.dumps(body).encode(), decision)
        asked = self._streams if self._streams is not None else exchange.asked.stream
        if asked and self._kind is not None:
            encoder = framing.encoder(self._kind)
            frames = self.dialect.ending([], text, exchange.sent)
            data = b"".join([encoder.encode(frame) for frame in frames]) + encoder.end()
            return Reply(200, [(b"content-type", _TYPES[self._kind])], data, decision)
        body = self.dialect.refusal(exchange.asked, text, exchange.sent)
        return Reply(self.dialect.status(exchange.asked), [JSON], json.dumps(body).encode(), decision)

    def error(self, status: int, problem: str, code: str) -> Reply:
        """An error in the format's own words; counted where it is one of reading."""
        if code in _UNREAD:
            reason = code if status < 500 else "answer"
            self._http.guard.unguarded(reason, passed=False, dialect=self.dialect.name)
        body = self.dialect.error(problem, f"llmguard_{code}", self.exchange.sent)
        return Reply(status, [JSON, FINAL], json.dumps(body).encode())

    def close(self) -> None:
        """End the call: what was left half read is told as abandoned, values of this call are forgotten."""
        stream, self.stream = self.stream, None
        if stream is not None:
            if stream.broken is not None:
                self._unread_answer(passed=False)
            stream.abandon()
        checks, self._checks = self._checks, None
        if checks is not None:
            checks.close()


def _is_json(page: bytes) -> bool:
    """Whether a client may read it as JSON, whatever it is said to be: escapes would hide what its strings say."""
    try:
        return isinstance(json.loads(page), (dict, list))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False
    except (ValueError, RecursionError):
        return True  # other readers get further
