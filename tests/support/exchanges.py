"""Exchanges in every wire format, made from its samples: bodies and streams with texts of the test's own in them."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dialect_samples import frames, load, wire
from fakes import Pieces

from llmguard import Finding, Guard, detector
from llmguard.dialects import carry, edit, framing, pointer, registry, strict
from llmguard.dialects.wire import Dialect, Event, Frame, Framing
from llmguard.errors import DialectError
from llmguard.integrations.exchange import Exchange
from llmguard.integrations.exchange_stream import ExchangeStream
from llmguard.types import Stage
from llmguard.waiting import drive

DIALECTS = {dialect.name: dialect for dialect in registry.dialects()}
STREAMING = {name: dialect for name, dialect in DIALECTS.items() if dialect.framing is not None}

PIECE, LONG = "abc", "abbbc"


@detector("shout", categories=["SHOUT"], scope="sentence", inline=True)
def shout(text: str) -> list[Finding]:
    """Sentences that hold an X and a W, as a whole."""
    return [Finding("SHOUT", 1.0)] if "X" in text and "W" in text else []


@detector("owl", categories=["OWL"], scope="document", inline=True)
def owl(text: str) -> list[Finding]:
    """Three owls anywhere."""
    return [Finding("OWL", 1.0)] if text.count("\U0001f989") >= 3 else []


_REDACT = {"detector": "pieces", "action": "redact"}
_BLOCK = {"detector": "pieces", "categories": ["LONG"], "action": "block"}
POLICIES: dict[str, dict[str, Any]] = {
    "redact": {"rules": [_REDACT]},
    "block": {"rules": [_BLOCK, _REDACT]},
    "sentence": {"rules": [{"detector": "shout", "action": "block"}, _REDACT]},
    "document": {"rules": [{"detector": "owl", "action": "block"}, _REDACT]},
    "windowed": {"rules": [{**_BLOCK, "stream": "windowed"}, {**_REDACT, "stream": "windowed"}]},
    "observe": {"rules": [{**_BLOCK, "stream": "observe"}, {**_REDACT, "stream": "observe"}]},
    "flag": {"rules": [{**_REDACT, "action": "flag"}]},
    "shadow": {"rules": [_BLOCK, _REDACT], "mode": "shadow"},
}


def guard_of(policy: str, **options: Any) -> Guard:
    """A guard with one of the policies."""
    return Guard({"name": "p", **POLICIES[policy]}, detectors=[Pieces(), shout, owl], **options)


@contextlib.contextmanager
def exchange(guard: Guard, dialect: Dialect, request: int = 0, reply: str = "") -> Iterator[tuple[Exchange, Any]]:
    """An exchange of a dialect, not begun, and the body of one of its sample requests."""
    sample = load(dialect.name)["requests"][request]
    found = registry.match(*sample["route"].split(" ", 1))
    assert found is not None
    with guard.call_scope() as checks:
        yield Exchange(dialect, found[1], checks, guard.vault, reply), sample["body"]


def bodies(dialect: Dialect, kind: str) -> list[Any]:
    """The sample's responses or errors."""
    return [sample["body"] for sample in load(dialect.name).get(kind, [])]


def streams(dialect: Dialect) -> list[list[Frame]]:
    """The events of the sample's streams."""
    return [frames(stream) for stream in load(dialect.name).get("streams", [])]


Cut = Callable[[str, int], list[str]]


def evenly(text: str, pieces: int) -> list[str]:
    """The text in so many pieces."""
    at = [len(text) * number // pieces for number in range(pieces + 1)]
    return [text[a:b] for a, b in itertools.pairwise(at)]


def spoken(
    dialect: Dialect, whole: Sequence[Frame], text: Callable[[str, bool], str], cut: Cut = evenly, times: int = 1
) -> tuple[list[Frame], dict[str, str]]:
    """A sample's stream with other texts, which come in more pieces; and what its channels say that say anything.

    Args:
        dialect: of the stream.
        whole: its events.
        text: what a channel is to say, by its name and whether it is JSON.
        cut: of a text, into a number of pieces.
        times: how many events stand for each that says a piece.
    """
    longer = [frame for frame in whole for frame in _times(dialect, frame, times)]
    pieces: dict[str, Iterator[str]] = {}
    said: dict[str, str] = {}
    counts: dict[str, int] = {}
    kinds: dict[str, bool] = {}
    for frame in longer:
        for delta in dialect.event(frame).deltas:
            counts[delta.channel] = counts.get(delta.channel, 0) + 1
            kinds[delta.channel] = delta.json
    for channel, count in counts.items():
        said[channel] = text(channel, kinds[channel])
        pieces[channel] = iter(cut(said[channel], count))
    made: list[Frame] = []
    so_far = dict.fromkeys(said, "")
    for frame in longer:
        event = dialect.event(frame)
        edits = {delta.path: next(pieces[delta.channel]) for delta in event.deltas}
        for delta in event.deltas:
            so_far[delta.channel] += edits[delta.path]
        edits |= {repeat.path: so_far.get(repeat.channel, repeat.content) for repeat in event.repeats}
        made.append(_edited(frame, edits))
    return [_numbered(dialect, frame, place) for place, frame in enumerate(made)], {c: t for c, t in said.items() if t}


def _times(dialect: Dialect, frame: Frame, times: int) -> list[Frame]:
    event = dialect.event(frame)
    made = [frame]
    more = dialect.more if isinstance(dialect, carry.Continues) else carry.more
    for delta in {delta.channel: delta for delta in event.deltas if not event.closes(delta.channel)}.values():
        others = {other.path: "" for other in event.deltas if other is not delta}
        blank = Frame(strict.parse(edit.rewrite(wire(frame.data), others, event.spoken)), frame.name)
        made += [more(blank, delta, "") for _ in range(times - 1)]
    return made


def _edited(frame: Frame, edits: Mapping[str, str]) -> Frame:
    return Frame(strict.parse(edit.rewrite(wire(frame.data), edits)), frame.name) if edits else frame


def _numbered(dialect: Dialect, frame: Frame, place: int) -> Frame:
    numbered = dialect.event(frame).numbered
    if numbered is None:
        return frame
    put = numbered.shifted(place + 1 - numbered.number)
    return Frame(strict.parse(edit.rewrite(wire(frame.data), {}, [put])), frame.name)


def encoded(kind: Framing, whole: Sequence[Frame]) -> bytes:
    """The stream's bytes."""
    encoder = framing.encoder(kind)
    return b"".join([encoder.encode(frame) for frame in whole]) + encoder.end()


def fed(stream: ExchangeStream, data: bytes, places: Sequence[int] = ()) -> bytes:
    """What goes out of a stream whose bytes come cut at some places."""
    at = sorted({0, len(data), *[place % (len(data) + 1) for place in places]})
    out = [drive(stream.feed(data[a:b])) for a, b in itertools.pairwise(at)]
    return b"".join([*out, drive(stream.close())])


class Heard:
    """What a reader of the dialect hears in a stream's bytes; reading fails where it can't."""

    def __init__(self, dialect: Dialect, kind: Framing, data: bytes) -> None:
        decoder = framing.decoder(kind)
        raws = [*decoder.feed(data), *decoder.close()]
        assert not [raw for raw in raws if raw.error is not None or (raw.incomplete and raw.raw)]
        self.frames = [raw.frame for raw in raws if raw.frame is not None]
        self.events: list[Event] = [dialect.event(frame) for frame in self.frames]
        self.texts: dict[str, str] = {}
        self.parts: list[str] = []
        numbers: list[int] = []
        for event in self.events:
            for delta in event.deltas:
                self.texts[delta.channel] = self.texts.get(delta.channel, "") + delta.content
            for repeat in event.repeats:
                assert repeat.content == self.texts.get(repeat.channel, repeat.content)
            self.parts += [part.content for part in event.parts]
            numbers += [event.numbered.number] if event.numbered is not None else []
        assert all([first < second for first, second in itertools.pairwise(numbers)])
        self.texts = {channel: text for channel, text in self.texts.items() if text}
        self.finish = [reason for event in self.events for reason in event.finish]


def wanted(guard: Guard, text: str, *, json_: bool, stage: Stage, conversation: str) -> str | None:
    """What a check of the whole text lets out of it, restored; None where it blocks."""
    if not text:
        return ""
    try:
        leaves = pointer.leaves(text) if json_ else None
    except DialectError:
        leaves = None
    if leaves is None:
        decision = guard.check(text, stage=stage)
        return None if decision.blocked else guard.vault.restore(conversation, decision.text)
    edits = {}
    for place, content in leaves:
        new = wanted(guard, content, json_=False, stage=stage, conversation=conversation)
        if new is None:
            return None
        if new != content:
            edits[place] = new
    return edit.rewrite(text.encode(), edits).decode() if edits else text


def alike(text: str) -> str:
    """The text with all placeholders alike: which number one has depends on what was seen before."""
    return re.sub(r"<(PIECE|LONG|SHOUT)_\d+>", r"<\1>", text)


def arguments(text: str) -> str:
    """JSON that says a text."""
    return json.dumps({"to": text, "n": [text, 1]})
