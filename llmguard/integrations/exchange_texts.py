"""The texts of a streamed response while they grow: what of each piece may go out, and what a text came to."""

from __future__ import annotations

from collections.abc import Sequence

from llmguard.checks import About
from llmguard.dialects import edit, pointer
from llmguard.dialects.framing import Raw
from llmguard.dialects.wire import Delta, Event, Part, Repeat
from llmguard.errors import Blocked
from llmguard.gathered import Gathered
from llmguard.integrations.exchange import ANSWER_ORDER, Exchange, Steps
from llmguard.streaming import StreamCheck
from llmguard.types import Decision, Role, Stage, Text

#: Places of a stream that nobody reads; each counts once, and no more than these.
_UNCOVERED = 1_000


class Channel:
    """One text of the stream.

    Args:
        first: its first piece.
        name: of the text in the check.

    Attributes:
        name: see above.
        stage: when it is looked at.
        role: who it comes from.
        path: where its first piece stood.
        json: whether it is JSON.
        came: all of it, where it is looked at in one piece.
        out: what went out of it.
        last: the latest event that held a piece of it, with that piece.
        done: whether it has ended.
    """

    __slots__ = ("came", "done", "json", "last", "name", "out", "path", "role", "stage")

    def __init__(self, first: Delta, name: str) -> None:
        self.name = name
        self.stage = first.stage
        self.role = first.role
        self.path = first.path
        self.json = first.json
        # Nobody can use the arguments of a call before they are whole, and JSON has no texts before it is.
        self.came = Gathered() if first.json or first.stage is not Stage.OUTPUT else None
        self.out = Gathered()
        self.last: tuple[Raw, Event, Delta] | None = None
        self.done = False


class StreamTexts:
    """All of them, under one decision, but for those of tool calls, which have one each.

    Methods are generators that yield what has to be waited for. They raise `Blocked` where nothing more may go out.

    Args:
        exchange: that the response belongs to.

    Attributes:
        model: that answers, once the stream has said it.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._channels: dict[str, Channel] = {}
        self._open: dict[str, Channel] = {}
        self._check: StreamCheck | None = None
        self._opened = 0
        self._uncovered: set[str] = set()
        self.model = ""

    def channels(self) -> list[Channel]:
        """Those that were opened, in their order."""
        return list(self._channels.values())

    def channel(self, name: str) -> Channel:
        """One that was opened; the latest of that name."""
        return self._channels[name]

    def ending(self, event: Event) -> list[str]:
        """The names of those that end with an event."""
        if not (event.ends or event.last):
            return []
        return [name for name in self._open if event.closes(name)]

    def uncovered(self, places: Sequence[str]) -> None:
        """Take note of what no detector reads."""
        if places and len(self._uncovered) < _UNCOVERED:
            self._uncovered.update(places)

    def piece(self, delta: Delta, content: str | None = None) -> Steps[str]:
        """What goes out after one more piece of a text.

        Args:
            delta: the piece, or one like it.
            content: what the piece says, where it is another one.

        Raises:
            Blocked: nothing more may.
        """
        check = self._growing()
        channel = self._open.get(delta.channel)
        if channel is None:
            # A name that comes again after its end is a text of its own.
            self._opened += 1
            channel = Channel(delta, f"{delta.channel}\0{self._opened}")
            self._channels[delta.channel] = self._open[delta.channel] = channel
        if content is None:
            content = delta.content
        if channel.came is None:
            out = yield from check.feed(content, channel.name, delta.role, delta.path)
            self._stop_if_blocked(check)
        else:
            channel.came.write(content)
            out = "" if check.enforced else content
        channel.out.write(out)
        return out

    def end(self, name: str) -> Steps[str]:
        """The rest of a text that ends.

        Raises:
            Blocked: it may not go out.
        """
        check, channel = self._growing(), self._open.pop(name)
        channel.done = True
        if channel.came is None:
            out = yield from check.end(channel.name)
            self._stop_if_blocked(check)
        elif check.enforced:
            out = yield from self._whole(channel, channel.came.getvalue())
        else:
            out = ""
            yield from self._seen(channel, channel.came.getvalue())
        channel.out.write(out)
        return out

    def repeated(self, repeat: Repeat) -> Steps[str]:
        """A text that is said again, as it went out; one that is new is looked at by itself.

        Raises:
            Blocked: it may not go out.
        """
        channel = self._channels.get(repeat.channel)
        if channel is not None and self._came(channel) == repeat.content:
            return channel.out.getvalue()
        return (yield from self._whole(repeat, repeat.content))

    def parts(self, parts: Sequence[Part]) -> Steps[dict[str, str]]:
        """Texts that come whole: those that change, by their places.

        Raises:
            Blocked: one may not go out.
        """
        edits: dict[str, str] = {}
        for stage in ANSWER_ORDER:
            own = [part for part in parts if part.stage is stage]
            if own:
                edits |= yield from self._checked(own, "")
        return edits

    def finish(self) -> None:
        """Tell the decision."""
        if self._check is not None or self._uncovered:
            self._decide(self._growing())

    def abandon(self, error: BaseException | None = None) -> None:
        """There will be none."""
        if self._check is not None:
            self._check.abandon(error)

    def _growing(self) -> StreamCheck:
        if self._check is None:
            about = About(self._model(), 0, self._exchange.documents)
            self._check = self._exchange.checks.stream(Stage.OUTPUT, about)
        return self._check

    def _model(self) -> str:
        return self.model or self._exchange.asked.model

    def _stop_if_blocked(self, check: StreamCheck) -> None:
        if check.blocked:
            raise Blocked(self._decide(check))

    def _decide(self, check: StreamCheck) -> Decision:
        check.about = check.about._replace(model=self._model(), uncovered=len(self._uncovered))
        return check.finish()

    def _came(self, channel: Channel) -> str:
        return self._growing().came(channel.name) if channel.came is None else channel.came.getvalue()

    def _whole(self, said: Channel | Repeat, content: str) -> Steps[str]:
        """A text that is looked at in one piece, or text by text where it is JSON."""
        texts = _texts(said, content)
        edits = (yield from self._checked(texts, said.path)) if texts else {}
        if not edits:
            return content
        if "" in edits:
            return edits[""]
        inner = {place.removeprefix("#"): text for place, text in edits.items()}
        return edit.rewrite(content.encode("utf-8", "surrogatepass"), inner).decode("utf-8", "surrogatepass")

    def _seen(self, channel: Channel, content: str) -> Steps[None]:
        """A text that has gone out already, because the policy only watches."""
        texts = _texts(channel, content)
        if texts:
            yield from self._decided(texts, channel.path)

    def _checked(self, parts: Sequence[Part], path: str) -> Steps[dict[str, str]]:
        """The texts that change, by their places, placeholders restored."""
        decision = yield from self._decided(parts, path)
        if decision.blocked:
            raise Blocked(decision)
        stage = parts[0].stage
        new = [self._exchange.restored(stage, text) for text in decision.texts]
        return {part.path: text for part, text in zip(parts, new, strict=True) if text != part.content}

    def _decided(self, parts: Sequence[Part], path: str) -> Steps[Decision]:
        texts = [Text(part.content, part.role, path + part.path) for part in parts]
        check = self._exchange.checks.start(parts[0].stage, texts, About(self._model(), answered=True))
        if check.pending:
            yield check
        return check.finish()[0]


def _texts(said: Channel | Repeat, content: str) -> list[Part]:
    """The texts in a text: itself, or those in its JSON."""
    stage: Stage = said.stage
    role: Role = said.role
    if not content:
        return []
    inner = pointer.embedded(content, "") if said.json else [("", content)]
    return [Part(stage, role, place, text) for place, text in inner]
