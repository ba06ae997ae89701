"""What every wire format comes down to: texts with their places, in whole bodies and in events of a stream.

A dialect reads; it never writes. Every text is a string at a place in the JSON, so writing cleared texts back is the
same for all of them (`edit.py`), and what a dialect does not know stays as it came, byte for byte.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llmguard.types import Role, Stage

Json = Any
"""A parsed JSON value."""


class Framing(enum.StrEnum):
    """How the events of a stream are told apart on the wire."""

    SSE = "sse"
    NDJSON = "ndjson"
    AWS = "aws-event-stream"
    ARRAY = "json-array"


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a body.

    Attributes:
        stage: when it is looked at.
        role: who it comes from.
        path: JSON pointer (RFC 6901) of the string. Where a string is JSON itself, as a tool call's arguments, each
            string in it is a part of its own, and a second pointer follows behind a ``#``: ``…/arguments#/to``. In what
            tools are told and say, a number or a key may be a text, too: see `pointer.texts`.
        content: the text; hidden from ``repr``.
    """

    stage: Stage
    role: Role
    path: str = field(repr=False)
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the provider counted; None where it does not say.

    Attributes:
        input: of the request, cached ones included.
        output: of the answer, reasoning included.
        cached: of the input, those that came from a cache.
        reasoning: of the output, those that were not shown.
        further: whether those of the output are of one event of a stream alone, to be added to what came before.
    """

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    further: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """A value to be written as it is at a place, by `edit.rewrite`.

    Attributes:
        path: JSON pointer of the value that it replaces, of whatever kind.
        json: the new value, as JSON.
    """

    path: str = field(repr=False)
    json: str = "null"


@dataclass(frozen=True, slots=True)
class Body:
    """What a request or a response says.

    Attributes:
        parts: its texts, in the order of the body.
        uncovered: pointers of what no text detector reads: images, audio, files, token ids, encrypted reasoning.
        spoken: what says texts of this body once more in another form: log probabilities, token ids, speech. Whoever
            changes or takes away any text of the body writes these in its place, which the format's clients accept.
        model: that is asked for, or that answered.
        stream: whether a request asks for a stream.
        id: of the response.
        finish: the provider's finish reasons, one a choice where it says them.
        usage: tokens.
        error: the provider's error code or type; "" for none.
    """

    parts: tuple[Part, ...] = ()
    uncovered: tuple[str, ...] = field(default=(), repr=False)
    spoken: tuple[Put, ...] = ()
    model: str = ""
    stream: bool = False
    id: str = ""
    finish: tuple[str, ...] = ()
    usage: Usage | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a text in one event of a stream.

    Attributes:
        channel: which text it is a piece of, as long as the stream lasts: ``0/content``, ``0/tool/1/arguments``.
        stage: likewise of the text.
        role: likewise.
        path: JSON pointer of the string in this event.
        content: the piece; hidden from ``repr``.
        json: whether the channel's text, put together, is JSON (a tool call's arguments), so that the strings in it are
            guarded one by one.
    """

    channel: str
    stage: Stage
    role: Role
    path: str = field(repr=False)
    content: str = field(repr=False)
    json: bool = False


@dataclass(frozen=True, slots=True)
class Repeat:
    """A string in an event that says a channel's text, or all of it up to here, once more.

    If it is what the channel's pieces came to, what went out of them is written here. If it differs, or the channel
    never opened, it is a text of its own and guarded by itself: as one text, or string by string where it is JSON.

    Its attributes are those of `Delta`; ``content`` is all of the string.
    """

    channel: str
    stage: Stage
    role: Role
    path: str = field(repr=False)
    content: str = field(repr=False)
    json: bool = False


@dataclass(frozen=True, slots=True)
class Numbered:
    """The number of an event in its stream, where events are counted; numbers only grow.

    Attributes:
        path: JSON pointer of the number.
        number: that.
    """

    path: str
    number: int

    def shifted(self, by: int) -> Put:
        """Its number after ``by`` events were added before it, or taken away (negative)."""
        return Put(self.path, str(self.number + by))


@dataclass(frozen=True, slots=True)
class Event:
    """What one event of a stream says.

    Attributes:
        deltas: pieces of texts.
        repeats: whole texts of channels said again.
        parts: texts that come whole in this event and in no channel.
        ends: channels whose texts end with this event; what was held back of them goes out before it. A name that ends
            with a slash, as no channel's own does, ends every channel that begins with it: see `closes`.
        uncovered: as in `Body`.
        spoken: as in `Body`; they go unless every piece in this event goes out with it as it came.
        numbered: its number, where the format counts events.
        model: as in `Body`.
        id: of the response.
        finish: finish reasons that this event says.
        usage: tokens, where it says them.
        error: the provider's error code; "" for none.
        last: whether nothing of this response follows. Formats without a last event end with the response's body.
    """

    deltas: tuple[Delta, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    parts: tuple[Part, ...] = ()
    ends: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = field(default=(), repr=False)
    spoken: tuple[Put, ...] = ()
    numbered: Numbered | None = None
    model: str = ""
    id: str = ""
    finish: tuple[str, ...] = ()
    usage: Usage | None = None
    error: str = ""
    last: bool = False

    def closes(self, channel: str) -> bool:
        """Whether the channel says nothing more after this event."""
        return self.last or any([channel == end or (end[-1:] == "/" and channel.startswith(end)) for end in self.ends])


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it stands on the wire.

    Attributes:
        data: its payload: parsed JSON, or a string where it is none (``[DONE]``).
        name: the event's name where the framing has one.
    """

    data: Json = field(repr=False)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests of a dialect arrive.

    Attributes:
        method: of HTTP.
        path: with ``{name}`` for one segment.
        stream: whether its answers always stream (True), never (False), or as the body asks (None).
        array: whether its streams are one JSON array, unless the query says ``alt=sse``; see `registry.framing`.
    """

    method: str
    path: str
    stream: bool | None = None
    array: bool = False


class Dialect(Protocol):
    """One wire format. Methods are pure; bodies are parsed JSON and are never changed.

    Attributes:
        name: as in a policy's or a proxy's configuration: ``openai.chat``.
        provider: OpenTelemetry's ``gen_ai.provider.name``.
        operation: OpenTelemetry's ``gen_ai.operation.name``.
        routes: where its requests arrive.
        framing: of its streams; None when it has none.
    """

    name: str
    provider: str
    operation: str
    routes: tuple[Route, ...]
    framing: Framing | None

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request; ``path`` holds the named segments of its route (the model, in some).

        Raises:
            DialectError: it is no request of this dialect.
        """
        ...

    def response(self, body: Json) -> Body:
        """The texts of a response that is no stream, an error's too.

        Raises:
            DialectError: it is no response of this dialect.
        """
        ...

    def event(self, frame: Frame) -> Event:
        """What one event of a stream says. Stateless: channels are named by what stands in the event.

        Raises:
            DialectError: it is no event of this dialect.
        """
        ...

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """A whole response, well formed, in place of the provider's: it says ``text`` and that content was filtered.

        ``sent`` is the request as it came.
        """
        ...

    def status(self, request: Body) -> int:
        """HTTP's status of a `refusal`: 200 where it is an answer, 400 where the format has no place for words."""
        ...

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """The events that end a stream after ``seen``, well formed.

        They say ``text``, or nothing when it is empty, and then the finish reason for filtered content.

        Args:
            seen: what went out, with the numbers that the reader saw; pieces of a text may be put together.
            text: what is said last.
            request: the request as it came; it has ids, names and a model that a short stream has not said yet.
        """
        ...

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body, as the provider writes it; ``request`` as in `ending`. Its status is the caller's choice."""
        ...
