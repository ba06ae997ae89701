"""A streamed response in a wire format: events come in, bytes cut anywhere, and go out as far as they are cleared.

Each event goes out with what may go out of its texts by then; what was held back goes out with a later event of the
same text, or in one of our own before the text ends. So ids, roles, reasons and counts stay where they were. The
arguments of a tool call, which nobody can use before they are whole, are looked at when they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llmguard.asking import Asking
from llmguard.dialects import carry, edit, framing, pointer, strict
from llmguard.dialects.framing import Raw
from llmguard.dialects.framing_sse import SseDecoder, piece
from llmguard.dialects.template import Template, template
from llmguard.dialects.wire import Event, Frame, Framing
from llmguard.errors import Blocked, DialectError
from llmguard.integrations.exchange import Exchange, Steps
from llmguard.integrations.exchange_aside import quiet
from llmguard.integrations.exchange_sent import Sent
from llmguard.integrations.exchange_texts import Channel, StreamTexts
from llmguard.integrations.replies import written
from llmguard.types import Decision, Stage

#: Events that are taken for what others may be like, as long as none is; and those that are remembered.
_TEMPLATES = 8
_TEMPLATES_AT_A_TIME = 4
#: Bytes that wait for the first piece of a text, at most.
PATIENCE = 1 << 18


class ExchangeStream:
    """The response of an exchange, when it is a stream.

    It ends in one of four ways. Its source ends: what was held back goes out after its check. A text is blocked, or
    something comes that can't be read: it ends as the format ends filtered answers, and `blocked` or `broken` says why.
    Its source breaks off within an event: as in the first, without that event, and `broken` says so.

    Args:
        exchange: whose request has been cleared.
        kind: the stream's framing.
        limit: bytes of one event.

    Attributes:
        blocked: the decision that ended the stream, or None; the source should be closed then.
        broken: why the stream could not be read on, or None; likewise.
        finish: finish reasons.
        model: that answered.
        id: of the response.
        heard: told each event as it came; None for nobody.
        fallback: asked for what stands in for the rest of a stream that is blocked after it has said something: a text,
            an event, or several; None where there is none.
        worded: whether a stream that is blocked or broken ends in the format's words; False where the reader is told
            by an error.
        patient: whether nothing goes out before a piece of a text does, so that a stream that is blocked by then can be
            asked for again, or answered in another way; False as soon as something has gone out.
    """

    def __init__(self, exchange: Exchange, kind: Framing, limit: int = framing.LIMIT) -> None:
        self._exchange = exchange
        self._kind = kind
        self._decoder = framing.decoder(kind, limit)
        self._templates = _TEMPLATES
        self._encoder = framing.encoder(kind)
        self._texts = StreamTexts(exchange)
        self._sent = Sent()
        self._shift = 0
        self._told = 0
        self._last = False
        self._noted: Event | None = None
        self._over = False
        self.heard: Callable[[Event], None] | None = None
        self.fallback: Callable[[Decision], Any] | None = None
        self.worded = True
        self.patient = False
        self._waiting = bytearray()
        self._said_something = False
        self.blocked: Decision | None = None
        self.broken: DialectError | None = None
        self.finish: list[str] = []
        self.model = ""
        self.id = ""

    def feed(self, data: bytes) -> Steps[bytes]:
        """What goes out after some more bytes of the stream."""
        out: list[bytes] = []
        for raw in () if self._over else self._decoder.feed(data):
            yield from self._step(raw, out)
        return self._outgoing(out)

    def close(self) -> Steps[bytes]:
        """What goes out at the end of the source."""
        out: list[bytes] = []
        for raw in [] if self._over else self._decoder.close():
            whole = self._completed(raw)
            if whole.incomplete:
                self.broken = whole.error or DialectError("the stream ended within an event")
            else:
                yield from self._step(whole, out)
        if not self._over:
            try:
                yield from self._rests(Event(last=True), out)
            except Blocked as stop:
                out.append((yield from self._stopped(stop.decision)))
            except DialectError as error:
                out.append(self._broke(error))
            else:
                self._over = True
                out.append(self._encoder.end())
                self._texts.finish()
        return self._outgoing(out)

    @property
    def untold(self) -> Decision | None:
        """The decision that ended the stream before anything of it went out, where it was patient; else None."""
        return self.blocked if self.patient else None

    def _outgoing(self, out: list[bytes]) -> bytes:
        """What goes out now; with patience, nothing before a text does."""
        data = b"".join(out)
        if not self.patient:
            return data
        self._waiting += data
        if self.blocked is not None and not self._said_something:
            return b""
        if not (self._said_something or self._over) and len(self._waiting) < PATIENCE:
            return b""
        self.patient = False
        data, self._waiting = bytes(self._waiting), bytearray()
        return data

    def abandon(self, error: BaseException | None = None) -> None:
        """The reader has gone, or the source broke off and nothing of what is held back is wanted."""
        self._texts.abandon(error)

    def _completed(self, raw: Raw) -> Raw:
        """The last event of a stream that did not end it by an empty line: some readers take it all the same."""
        if not raw.incomplete or raw.error is not None or self._kind is not Framing.SSE:
            return raw
        pieces = framing.decoder(Framing.SSE).feed(raw.raw + b"\n\n")
        events = [piece for piece in pieces if piece.frame is not None]
        return events[0] if len(events) == 1 and events[0] is pieces[0] else raw

    def _step(self, raw: Raw, out: list[bytes]) -> Steps[None]:
        if self._over:
            return
        try:
            if raw.like is None or self._last:
                yield from self._raw(raw, out)
            else:
                yield from self._alike(raw.raw, *raw.like, out)
        except Blocked as stop:
            out.append((yield from self._stopped(stop.decision)))
        except DialectError as error:
            out.append(self._broke(error))

    def _raw(self, raw: Raw, out: list[bytes]) -> Steps[None]:
        if raw.like is not None:
            raw = piece(raw.raw)
        if raw.error is not None:
            raise raw.error
        if raw.incomplete:
            raise DialectError("the stream ended within an event")
        if self._kind is Framing.SSE:
            raw = quiet(raw)
        if raw.frame is None:
            out.append(self._encoder.kept(raw))
            return
        event = self._exchange.dialect.event(raw.frame)
        self._note(event)
        edits = yield from self._edits(event, out)
        out.append(self._written(raw, raw.frame, event, edits))
        for delta in event.deltas:
            self._texts.channel(delta.channel).last = raw, event, delta
        if event.last:
            self._texts.finish()
        elif self._templates and event.deltas:
            self._learn(raw, event)

    def _learn(self, raw: Raw, event: Event) -> None:
        """Take an event for what others may be like; not for ever, where none ever is."""
        if not isinstance(self._decoder, SseDecoder) or (made := template(raw, event)) is None:
            return
        self._templates -= 1
        known = self._decoder.like if self._templates else ()
        self._decoder.like = (made, *known[: _TEMPLATES_AT_A_TIME - 1]) if self._templates else ()

    def _alike(self, data: bytes, known: Template, text: str, out: list[bytes]) -> Steps[None]:
        """An event that differs from one that was read in its piece of text alone."""
        self._templates = _TEMPLATES
        if self._noted is not known.event:
            self._note(known.event)
        new = yield from self._texts.piece(known.delta, text)
        if new:
            self._said_something = True
        if new != text:
            data = known.saying(new)
        self._texts.channel(known.delta.channel).last = known.said
        self._sent.more(known, data)
        out.append(data)

    def _edits(self, event: Event, out: list[bytes]) -> Steps[dict[str, str]]:
        """The texts of an event that go out otherwise than they came. What ends with it goes out before it."""
        edits: dict[str, str] = {}
        texts = self._texts
        final = {delta.channel: delta for delta in event.deltas}
        for delta in event.deltas:
            new = yield from texts.piece(delta)
            if delta is final[delta.channel] and event.closes(delta.channel):
                new += yield from texts.end(delta.channel)
            if new:
                self._said_something = True
            if new != delta.content:
                edits[delta.path] = new
        yield from self._rests(event, out)
        for repeat in event.repeats:
            new = yield from texts.repeated(repeat)
            if new:
                self._said_something = True
            if new != repeat.content:
                edits[repeat.path] = new
        if event.parts:
            self._said_something = True
            edits |= yield from texts.parts(event.parts)
        return edits

    def _rests(self, event: Event, out: list[bytes]) -> Steps[None]:
        """Events of our own with what was held back of the texts that end with this one, and have no piece in it."""
        for name in self._texts.ending(event):
            rest = yield from self._texts.end(name)
            if rest:
                self._said_something = True
                out.append(self._carried(self._texts.channel(name), rest))

    def _carried(self, channel: Channel, text: str) -> bytes:
        frame, event = self._more(channel, text)
        if event.numbered is not None:
            self._shift += 1
            self._told += 1
            holder, _, key = event.numbered.path.rpartition("/")
            pointer.get(frame.data, holder)[key] = self._told
        self._sent.latest(frame, [delta.path for delta in self._exchange.dialect.event(frame).deltas])
        return self._encoder.encode(frame)

    def _more(self, channel: Channel, text: str) -> tuple[Frame, Event]:
        """One more event of a text, made after the latest one that had a piece of it."""
        if channel.last is None:
            raise DialectError("a text has ended before it began")
        raw, event, own = channel.last
        paths = [piece.path for piece in event.deltas if piece is not own]
        paths += [repeat.path for repeat in event.repeats] + [part.path for part in event.parts]
        edits = dict.fromkeys([path for path in paths if not _is_inner(path)], "")
        data = strict.parse(edit.rewrite(raw.payload, edits, event.spoken), surrogates=True)
        frame = Frame(data, raw.frame.name if raw.frame is not None else "")
        dialect = self._exchange.dialect
        made = dialect.more if isinstance(dialect, carry.Continues) else carry.more
        return made(frame, own, text), event

    def _written(self, raw: Raw, frame: Frame, event: Event, edits: Mapping[str, str]) -> bytes:
        puts = list(event.spoken) if edits else []
        if event.numbered is not None:
            self._told = event.numbered.number + self._shift
            puts += [event.numbered.shifted(self._shift)] if self._shift else []
        if not edits and not puts:
            self._sent.add(raw.payload, frame, event, changed=False)
            return self._encoder.kept(raw)
        if len(edits) == 1 and not puts:
            payload = edit.swap(raw.payload, *next(iter(edits.items())))
        else:
            payload = edit.rewrite(raw.payload, edits, puts)
        self._sent.add(payload, frame, event, changed=True)
        return self._encoder.rewritten(raw, payload)

    def _note(self, event: Event) -> None:
        self._noted = event
        if self.heard is not None:
            self.heard(event)
        if self._last and any([delta.content for delta in event.deltas]):
            raise DialectError("the stream goes on after its end")
        self._last = self._last or event.last
        self.model = self._texts.model = event.model or self.model
        self.id = event.id or self.id
        self.finish += event.finish
        self._texts.uncovered(event.uncovered)

    def _stopped(self, decision: Decision) -> Steps[bytes]:
        """The end that the format has for filtered content, with what the policy says in place of the rest."""
        self.blocked = decision
        self._texts.abandon()
        if self.fallback is None or (self.patient and not self._said_something):
            return self._last_words(self._exchange.reply)
        self._over = True
        asking = Asking(self.fallback, decision)
        yield asking
        made = asking.answer
        if isinstance(made, str):
            return self._last_words(made)
        events = made if isinstance(made, Iterable) and not isinstance(made, Mapping) else [made]
        frames = [Frame(json.loads(written(event))) for event in events]
        return b"".join([self._encoder.encode(frame) for frame in frames]) + self._encoder.end()

    def _broke(self, error: DialectError) -> bytes:
        """What can't be read can't be let through: the stream ends here."""
        self.broken = error
        self._texts.abandon(error)
        return self._last_words("")

    def _last_words(self, text: str) -> bytes:
        self._over = True
        return self.last_words(text) if self.worded else b""

    def last_words(self, text: str) -> bytes:
        """The end that the format has for filtered content, which says a text: for a stream that was not `worded`."""
        try:
            said = self._said()
        except DialectError:
            said = []  # what can't be said again is not: the stream ends all the same
        frames = self._exchange.dialect.ending([*said, *self._sent.frames()], text, self._exchange.sent)
        return b"".join([self._encoder.encode(frame) for frame in frames]) + self._encoder.end()

    def _said(self) -> list[Frame]:
        """What went out of each text, in one event each, for endings that say it again."""
        texts = [(channel, channel.out.getvalue()) for channel in self._texts.channels()]
        return [
            self._more(channel, text)[0]
            for channel, text in texts
            if text and channel.last is not None and channel.stage is Stage.OUTPUT
        ]


def _is_inner(path: str) -> bool:
    """Whether a text stands in a string, or is a key; neither stands beside another text."""
    return "#" in path or path.endswith(pointer.KEY)
