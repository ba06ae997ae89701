"""A streamed response in a wire format: events come in, bytes cut anywhere, and go out as far as they are cleared.

Each event goes out with what may go out of its texts by then; what was held back goes out with a later event of the
same text, or in a copy of one before the text ends. So ids, roles, reasons and counts stay where they were. The
arguments of a tool call, which nobody can use before they are whole, are looked at when they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmguard.checks import About
from llmguard.dialects import edit, framing, pointer, strict
from llmguard.dialects.framing import Raw
from llmguard.dialects.wire import Delta, Event, Frame, Framing, Part, Put, Repeat, Usage
from llmguard.errors import DialectError
from llmguard.integrations.exchange import Exchange, Steps
from llmguard.streaming import StreamCheck
from llmguard.types import Decision, Role, Stage, Text


@dataclass(slots=True)
class _Channel:
    """One text of the stream.

    Attributes:
        stage: when it is looked at.
        role: who it comes from.
        path: where its first piece stood.
        json: whether it is JSON, and held back until it is whole.
        came: its pieces, of JSON.
        out: what went out of it.
        last: an event that held a piece of it alone, to be copied for what is held back; and where the piece stood.
        done: whether it has ended.
        name: among the texts of the check.
    """

    stage: Stage
    role: Role
    path: str
    json: bool
    name: str
    came: list[str] = field(default_factory=list)
    out: list[str] = field(default_factory=list)
    last: tuple[Raw, Event, Delta] | None = None
    done: bool = False


class ExchangeStream:
    """The response of an exchange, when it is a stream.

    Args:
        exchange: whose request has been cleared.
        kind: the stream's framing.
        limit: bytes of one event.

    Attributes:
        blocked: the decision that ended the stream, or None; the source should be closed then.
        broken: why the stream could not be read on, or None; likewise.
        usage: tokens, where the stream said them.
        finish: finish reasons.
        model: that answered.
        id: of the response.
    """

    def __init__(self, exchange: Exchange, kind: Framing, limit: int = framing.LIMIT) -> None:
        self._exchange = exchange
        self._decoder = framing.decoder(kind, limit)
        self._encoder = framing.encoder(kind)
        self._channels: dict[str, _Channel] = {}
        self._check: StreamCheck | None = None
        self._seen: list[Frame] = []
        self._named: set[str] = set()
        self._latest: tuple[bytes, str] | None = None
        self._opened = 0
        self._shift = 0
        self._told = 0
        self._uncovered = 0
        self._over = False
        self.blocked: Decision | None = None
        self.broken: DialectError | None = None
        self.usage: Usage | None = None
        self.finish: list[str] = []
        self.model = ""
        self.id = ""

    def feed(self, data: bytes) -> Steps[bytes]:
        """What goes out after some more bytes of the stream."""
        if self._over:
            return b""
        return (yield from self._all(self._decoder.feed(data)))

    def close(self) -> Steps[bytes]:
        """What goes out at the end of the source."""
        if self._over:
            return b""
        out = [(yield from self._all(self._decoder.close()))]
        if not self._over:
            out.append((yield from self._ended(Event(last=True))))
            if not self._over:
                self._over = True
                out.append(self._encoder.end())
                self._finish()
        return b"".join(out)

    def abandon(self, error: BaseException | None = None) -> None:
        """The reader has gone, or the source broke off."""
        if self._check is not None:
            self._check.abandon(error)

    def _all(self, raws: list[Raw]) -> Steps[bytes]:
        out: list[bytes] = []
        for raw in raws:
            if self._over:
                break
            if raw.error is not None or raw.incomplete:
                out.append(self._broke(raw.error or DialectError("the stream ended within an event")))
            elif raw.frame is None:
                out.append(self._encoder.kept(raw))
            else:
                try:
                    event = self._exchange.dialect.event(raw.frame)
                except DialectError as error:
                    out.append(self._broke(error))
                else:
                    out.append((yield from self._event(raw, raw.frame, event)))
        return b"".join(out)

    def _event(self, raw: Raw, frame: Frame, event: Event) -> Steps[bytes]:
        self._note(event)
        edits: dict[str, str] = {}
        before: list[bytes] = []
        whole = True
        for delta in event.deltas:
            out = yield from self._piece(delta)
            if event.closes(delta.channel) and delta is _last_of(event, delta.channel):
                out += yield from self._end(delta.channel)
            if self._stopped():
                return b"".join(before) + self._ending()
            self._channels[delta.channel].out.append(out)
            if out != delta.content:
                edits[delta.path] = out
                whole = False
        spoken = {delta.channel for delta in event.deltas}
        before.append((yield from self._ended(event, spoken)))
        if self._over:
            return b"".join(before)
        for repeat in event.repeats:
            new = yield from self._repeated(repeat)
            if new is None:
                return b"".join(before) + self._ending()
            if new != repeat.content:
                edits[repeat.path] = new
                whole = False
        if event.parts:
            cleared = yield from self._parts(event.parts)
            if cleared is None:
                return b"".join(before) + self._ending()
            edits |= cleared
            whole = whole and not cleared
        puts = [] if whole else list(event.spoken)
        if event.numbered is not None and self._shift:
            puts.append(event.numbered.shifted(self._shift))
        for delta in event.deltas:
            self._channels[delta.channel].last = raw, event, delta
        before.append(self._written(raw, frame, event, edits, puts))
        if event.last:
            self._finish()
        return b"".join(before)

    def _written(self, raw: Raw, frame: Frame, event: Event, edits: Mapping[str, str], puts: list[Put]) -> bytes:
        payload = edit.rewrite(raw.payload, edits, puts) if edits or puts else raw.payload
        self._remember(payload, frame, event)
        if event.numbered is not None:
            self._told = event.numbered.number + self._shift
        return self._encoder.kept(raw) if payload is raw.payload else self._encoder.rewritten(raw, payload)

    def _remember(self, payload: bytes, frame: Frame, event: Event) -> None:
        """Keep what an ending of our own must know: how the stream began, what was opened, what was closed."""
        new = [delta.channel for delta in event.deltas if delta.channel not in self._named]
        self._named.update(new)
        if new or not event.deltas:
            self._seen.append(_sent(payload, frame.name))
            self._latest = None
        else:
            self._latest = payload, frame.name

    def _piece(self, delta: Delta) -> Steps[str]:
        channel = self._channels.get(delta.channel)
        if channel is None or channel.done:
            # A name that comes again after its end is a text of its own.
            self._opened += 1
            name = f"{delta.channel}\0{self._opened}"
            channel = _Channel(delta.stage, delta.role, delta.path, delta.json, name)
            self._channels[delta.channel] = channel
        if channel.json or channel.stage is not Stage.OUTPUT:
            channel.came.append(delta.content)
            return ""
        out = yield from self._texts().feed(delta.content, channel.name, delta.role, delta.path)
        return out

    def _end(self, name: str) -> Steps[str]:
        """The rest of a text that ends."""
        channel = self._channels[name]
        channel.done = True
        if not channel.json and channel.stage is Stage.OUTPUT:
            return (yield from self._texts().end(channel.name))
        return (yield from self._whole("".join(channel.came), channel.stage, channel.role, channel.path, channel.json))

    def _whole(self, content: str, stage: Stage, role: Role, path: str, json: bool) -> Steps[str]:
        """A text that is looked at in one piece, or string by string where it is JSON; "" where it blocks."""
        if not content:
            return ""
        inner = pointer.embedded(content, "") if json else [("", content)]
        cleared = yield from self._checked([Part(stage, role, place, text) for place, text in inner], path)
        if cleared is None or not cleared:
            return "" if cleared is None else content
        if inner[0][0] == "":
            return cleared[""]
        edits = {place.removeprefix("#"): text for place, text in cleared.items()}
        return edit.rewrite(content.encode("utf-8", "surrogatepass"), edits).decode("utf-8", "surrogatepass")

    def _ended(self, event: Event, spoken: frozenset[str] | set[str] = frozenset()) -> Steps[bytes]:
        """Copies of earlier events with what was held back of the texts that end with this one."""
        out: list[bytes] = []
        for name, channel in self._channels.items():
            if channel.done or name in spoken or not event.closes(name):
                continue
            rest = yield from self._end(name)
            if self._stopped():
                return b"".join(out) + self._ending()
            if rest and channel.last is not None:
                channel.out.append(rest)
                out.append(self._copied(channel.last, rest))
        return b"".join(out)

    def _copied(self, last: tuple[Raw, Event, Delta], rest: str) -> bytes:
        raw, event, own = last
        edits = {delta.path: "" for delta in event.deltas} | {repeat.path: "" for repeat in event.repeats}
        edits |= {part.path: "" for part in event.parts} | {own.path: rest}
        puts = list(event.spoken)
        if event.numbered is not None:
            self._shift += 1
            self._told += 1
            puts.append(event.numbered.shifted(self._told - event.numbered.number))
        payload = edit.rewrite(raw.payload, edits, puts)
        self._latest = payload, raw.frame.name if raw.frame is not None else ""
        return self._encoder.rewritten(raw, payload)

    def _repeated(self, repeat: Repeat) -> Steps[str | None]:
        channel = self._channels.get(repeat.channel)
        if channel is not None and self._came(channel) == repeat.content:
            return "".join(channel.out)
        text = yield from self._whole(repeat.content, repeat.stage, repeat.role, repeat.path, repeat.json)
        if self.blocked is not None:
            return None
        return text

    def _came(self, channel: _Channel) -> str:
        if channel.json or channel.stage is not Stage.OUTPUT:
            return "".join(channel.came)
        return self._texts().came(channel.name)

    def _parts(self, parts: tuple[Part, ...]) -> Steps[dict[str, str] | None]:
        edits: dict[str, str] = {}
        for stage in dict.fromkeys(part.stage for part in parts):
            cleared = yield from self._checked([part for part in parts if part.stage is stage], "")
            if cleared is None:
                return None
            edits |= cleared
        return edits

    def _checked(self, parts: list[Part], path: str) -> Steps[dict[str, str] | None]:
        """The texts that change, by place, placeholders restored; None where they block."""
        exchange, stage = self._exchange, parts[0].stage
        about = About(self.model or exchange.asked.model)
        texts = [Text(part.content, part.role, path + part.path) for part in parts]
        check = exchange.checks.start(stage, texts, about)
        if check.pending:
            yield check
        decision = check.finish()[0]
        if decision.blocked:
            self.blocked = decision
            return None
        new = [exchange.restored(stage, text) for text in decision.texts]
        return {part.path: text for part, text in zip(parts, new, strict=True) if text != part.content}

    def _texts(self) -> StreamCheck:
        if self._check is None:
            about = About(self.model or self._exchange.asked.model, 0, self._exchange.documents)
            self._check = self._exchange.checks.stream(Stage.OUTPUT, about)
        return self._check

    def _note(self, event: Event) -> None:
        self.model = event.model or self.model
        self.id = event.id or self.id
        self.usage = event.usage or self.usage
        self.finish += event.finish
        self._uncovered += len(event.uncovered)

    def _stopped(self) -> bool:
        if self.blocked is None and self._check is not None and self._check.blocked:
            self.blocked = self._check.finish()
        return self.blocked is not None

    def _ending(self) -> bytes:
        """The end that the format has for filtered content."""
        self._finish()
        return self._last_words(self._exchange.reply)

    def _last_words(self, text: str) -> bytes:
        self._over = True
        seen = [*self._seen, _sent(*self._latest)] if self._latest is not None else self._seen
        frames = self._exchange.dialect.ending(seen, text, self._exchange.sent)
        return b"".join([self._encoder.encode(frame) for frame in frames]) + self._encoder.end()

    def _broke(self, error: DialectError) -> bytes:
        """What can't be read can't be let through: the stream ends here."""
        self.broken = error
        self.abandon(error)
        return self._last_words("")

    def _finish(self) -> None:
        if self._uncovered or self._check is not None:
            check = self._texts()
            check.about = check.about._replace(model=self.model or check.about.model, uncovered=self._uncovered)
            check.finish()


def _sent(payload: bytes, name: str) -> Frame:
    """An event as it went out."""
    try:
        return Frame(strict.parse(payload, surrogates=True), name)
    except DialectError:
        return Frame(payload.decode("utf-8", "replace"), name)  # no JSON, as ``[DONE]``


def _last_of(event: Event, channel: str) -> Delta:
    return next(delta for delta in reversed(event.deltas) if delta.channel == channel)
