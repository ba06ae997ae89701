"""The order of events of one guarded call, sans-I/O: generators that yield what they wait for, pull or hand out.

`whole` is for answers that come in one piece, `events` for streams. What else they yield are checks to be waited for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from llmguard.asking import Asking
from llmguard.dialects import strict
from llmguard.dialects.wire import Frame, Framing
from llmguard.errors import Blocked, DialectError
from llmguard.integrations.clients.json_view import merged, view
from llmguard.integrations.exchange import Cleared, Exchange
from llmguard.integrations.exchange_stream import PATIENCE, ExchangeStream
from llmguard.operation import IDLE, Operation
from llmguard.types import Decision

if TYPE_CHECKING:
    from llmguard.integrations.clients.values import Way


class Send(NamedTuple):
    """Make the call, within `making`; it is answered with the answer, or with nothing where that is a stream."""

    body: dict[str, Any]
    told: Operation = IDLE

    @contextmanager
    def making(self) -> Iterator[None]:
        """The call is being made."""
        with self.told.current():
            try:
                yield
            except BaseException as error:
                self.told.end(error=error)
                raise


class Pull(NamedTuple):
    """Ask the source for its next event; it is answered with that, or with `END`."""


class Emit(NamedTuple):
    """Hand an event to the reader."""

    event: Any


class Leave(NamedTuple):
    """Close the source: nothing more is read of it."""


END = object()
Steps = Generator[Any, Any, Any]


class _Call:
    """What whole answers and streams have in common.

    Args:
        way: how it is guarded.
        exchange: its request and answer.
        body: the request as it came.

    Attributes:
        tells: whether the call is told to telemetry, which is for those who make it.
        patient: whether a block may lead to another answer, as long as nothing of this one was handed out.
        reply: what the policy says in place of an answer; None where it does not.
    """

    def __init__(self, way: Way, exchange: Exchange, body: Mapping[str, Any]) -> None:
        self.way = way
        self.exchange = exchange
        self._body = dict(body)
        policy = way.guard.policy
        self._retries = policy.retries
        self.reply = policy.reply
        self.fallback = way.fallback if policy.falls_back else None
        self.patient = self._retries > 0 or policy.falls_back
        self.tells = True
        exchange.reply = self.reply or ""

    def request(self) -> Generator[Any, Any, tuple[dict[str, Any], Decision | None]]:
        """The request as it may go on, and the decision that stops it."""
        try:
            data = view(self._body)
            cleared = yield from self.exchange.request(data)
        except (DialectError, TypeError):
            self.unread("body")
            raise
        if cleared.blocked is not None or cleared.data is data:
            return self._body, cleared.blocked
        return self._written(cleared.data), None

    def response(self, answer: Any) -> Generator[Any, Any, tuple[bytes, Cleared]]:
        """An answer as JSON, and as it may go to the caller."""
        try:
            data = view(self.way.read(answer))
            return data, (yield from self.exchange.response(data))
        except (DialectError, TypeError):
            self.unread("answer")
            raise

    def unread(self, reason: str) -> None:
        """Count a request or an answer that can't be read."""
        self.way.guard.unguarded(reason, passed=False, dialect=self.way.dialect.name)

    def again(self, decision: Decision) -> dict[str, Any] | None:
        """The request once more, or None."""
        if not self._retries or (data := self.exchange.again(decision)) is None:
            return None
        self._retries -= 1
        self.patient = self._retries > 0
        return self._written(data)

    def _written(self, data: bytes) -> dict[str, Any]:
        body: dict[str, Any] = merged(self._body, self.exchange.sent, _parsed(data))
        return body

    def said(self, decision: Decision) -> Generator[Any, Any, tuple[str | None, Any]]:
        """What is said in place of an answer: a text, or None and the answer itself.

        Raises:
            Blocked: nothing is.
        """
        if self.reply is not None:
            return self.reply, None
        if self.fallback is None:
            raise Blocked(decision)
        asking = Asking(self.fallback, decision)
        yield asking
        made = asking.answer
        return (made, None) if isinstance(made, str) else (None, made)


def whole(way: Way, body: Mapping[str, Any]) -> Steps:
    """A call whose answer comes in one piece; returns what the caller gets.

    Raises:
        Blocked: the policy stops the call.
        DialectError: the request or the answer is not in the wire format.
        TypeError: something in them has no JSON.
    """
    with way.guard.call_scope() as checks:
        exchange = Exchange(way.dialect, way.segments, checks, way.guard.vault)
        own = _Call(way, exchange, body)
        asked, blocked = yield from own.request()
        while blocked is None:
            told = way.operation(exchange.asked)
            try:
                answer = yield Send(asked, told)
                told.stop()
                data, cleared = yield from own.response(answer)
            except BaseException as error:
                told.end(error=error)
                raise
            told.end(exchange.answered)
            if cleared.blocked is None:
                if cleared.data is data:
                    return answer
                return way.build(merged(answer, _parsed(data), _parsed(cleared.data)))
            if (more := own.again(cleared.blocked)) is None:
                blocked = cleared.blocked
            else:
                asked = more
        text, made = yield from own.said(blocked)
        if text is None:
            return made
        if way.dialect.status(exchange.asked) >= 400:
            raise Blocked(blocked)  # the format has no place for words
        return way.build(way.dialect.refusal(exchange.asked, text, exchange.sent))


def events(way: Way, body: Mapping[str, Any]) -> Steps:
    """A call whose answer is a stream of events; errors as of `whole`.

    Returns the decision that ended it, where something was said in place of the rest; else None.
    """
    with way.guard.call_scope() as checks:
        own = _Call(way, Exchange(way.dialect, way.segments, checks, way.guard.vault), body)
        asked, blocked = yield from own.request()
        while blocked is None:
            reader = _Reader(own)
            blocked = yield from reader.read(asked)
            if blocked is None:
                return None
            if not reader.going and (more := own.again(blocked)) is not None:
                asked, blocked = more, None
            elif own.reply is not None:
                yield from _emitted(reader.ending)
                return blocked
            else:
                yield from _stopped(own, blocked, reader)
                return blocked
        yield from _stopped(own, blocked)
        return blocked


def answered(way: Way, exchange: Exchange) -> Steps:
    """The stream that answers a request which was cleared elsewhere, and is not made again; errors as of `whole`."""
    own = _Call(way, exchange, {})
    own.patient = own.tells = False
    reader = _Reader(own)
    blocked = yield from reader.read({})
    if blocked is not None and own.reply is not None:
        yield from _emitted(reader.ending)
    elif blocked is not None:
        yield from _stopped(own, blocked, reader)


def _stopped(own: _Call, blocked: Decision, reader: _Reader | None = None) -> Steps:
    """What the reader of a stream gets in place of it, or of the rest."""
    text, made = yield from own.said(blocked)
    if text is not None and reader is not None and reader.going:
        made = reader.saying(text)
    elif text is not None:
        frames = own.exchange.dialect.ending([], text, own.exchange.sent)
        made = [own.way.build(frame.data) for frame in frames if isinstance(frame.data, dict)]
    yield from _emitted(made if hasattr(made, "__iter__") and not isinstance(made, Mapping) else [made])


def _emitted(made: Iterable[Any]) -> Steps:
    for event in made:
        yield Emit(event)


class _Reader:
    """One answer that comes as a stream.

    Args:
        call: that it answers.

    Attributes:
        going: whether anything of the answer was handed out.
        ending: the events that end it, where it is blocked.
    """

    def __init__(self, call: _Call) -> None:
        self._call = call
        self._stream = ExchangeStream(call.exchange, Framing.NDJSON)
        self._early: list[Any] = []
        self._waiting = 0
        self.going = False
        self.ending: list[Any] = []

    def read(self, asked: dict[str, Any]) -> Generator[Any, Any, Decision | None]:
        """Make the call and read to its end; the decision where that blocks."""
        call = self._call
        told = call.way.operation(call.exchange.asked, streaming=True) if call.tells else IDLE
        stream = self._stream
        stream.heard = told.heard
        try:
            yield Send(asked, told)
            while (event := (yield Pull())) is not END:
                told.chunk()
                line = view(self._call.way.read(event)) + b"\n"
                out = yield from stream.feed(line)
                written = [event] if out == line else self._written(event, line, out)
                if stream.blocked is not None:
                    break
                yield from self._handed(written, out)
                if stream.broken is not None:
                    self._call.unread("answer")
                    raise DialectError(str(stream.broken))  # noqa: TRY301 - the handler below is for whatever goes wrong
            else:
                told.stop()
                out = yield from stream.close()
                written = self._written(None, b"", out)
            if stream.blocked is not None:
                self.ending = [*self._early, *written]
                yield Leave()
                told.abandon()
                return stream.blocked
            told.end()
            for one in (*self._early, *written):
                yield Emit(one)
        except BaseException as error:
            stream.abandon(error if isinstance(error, Exception) else None)
            told.end(error=error)
            raise
        return None

    def _handed(self, events: list[Any], out: bytes) -> Generator[Any, Any, None]:
        """Hand events out; while there may be another answer, not before one says something, or too many wait."""
        self._early += events
        self._waiting += len(out)
        if self.going or not self._call.patient or self._waiting >= PATIENCE or self._speaks(out):
            self.going = True
            self._stream.worded = self._call.fallback is None  # which is asked for the last words
            early, self._early = self._early, []
            for one in early:
                yield Emit(one)

    def saying(self, text: str) -> list[Any]:
        """The events that end what was handed out, where a fallback says a text."""
        return self._written(None, b"", self._stream.last_words(text))

    def _speaks(self, out: bytes) -> bool:
        said = [
            self._call.exchange.dialect.event(Frame(_parsed(one))) for one in out.splitlines() if one.startswith(b"{")
        ]
        return any([one.parts or one.repeats or any([delta.content for delta in one.deltas]) for one in said])

    def _written(self, event: Any, line: bytes, out: bytes) -> list[Any]:
        """The events of some lines, of the client's own type; copies of earlier ones may come before its own."""
        values = [_parsed(one) for one in out.splitlines() if one.startswith(b"{")]
        build = self._call.way.build
        if len(values) == 1 and line:
            return [build(merged(event, _parsed(line), values[0]))]
        return [build(value) for value in values]


def _parsed(data: bytes) -> Any:
    return strict.parse(data, surrogates=True)
