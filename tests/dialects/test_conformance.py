"""What every dialect must do, on the samples of its wire format and on what a sender with bad intent makes of them."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from dialect_samples import (
    CANARIES,
    CANARY,
    FOLDER,
    HOSTILE,
    frames,
    load,
    places,
    recased,
    replaced,
    samples,
    unseen,
    wire,
)

from llmguard.dialects import edit, pointer, registry, strict
from llmguard.dialects.wire import Body, Dialect, Event, Frame, Framing
from llmguard.errors import DialectError

DIALECTS = {dialect.name: dialect for dialect in registry.dialects()}
TEXT = 'Sorry, that can\'t be said: "x" \\ é😀'

each = pytest.mark.parametrize("name", DIALECTS)


def test_every_dialect_has_samples_and_every_sample_a_dialect() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(DIALECTS)


@each
def test_what_it_says_of_itself(name: str) -> None:
    dialect, sample = DIALECTS[name], load(name)
    assert sample["dialect"] == name
    assert re.fullmatch(r"[a-z]+(\.[a-z_]+)?", name)
    assert re.fullmatch(r"[a-z0-9._]+", dialect.provider)
    assert re.fullmatch(r"[a-z_]+", dialect.operation)
    assert dialect.framing is None or isinstance(dialect.framing, Framing)
    assert dialect.routes
    assert sample["requests"]
    assert bool(dialect.framing) == bool(sample.get("streams"))


@each
def test_requests(name: str) -> None:
    for sample in load(name)["requests"]:
        method, path = sample["route"].split(" ", 1)
        found = registry.match(method, path)
        assert found is not None, path
        dialect, segments = found
        assert dialect is DIALECTS[name]
        _check_body(sample["body"], lambda body, d=dialect, s=segments: d.request(body, s), name)


@each
def test_responses(name: str) -> None:
    for sample in load(name).get("responses", []):
        said = _check_body(sample["body"], DIALECTS[name].response, name)
        assert said.error == "" or said.parts


@each
def test_errors(name: str) -> None:
    for sample in load(name).get("errors", []):
        assert _check_body(sample["body"], DIALECTS[name].response, name).error


@each
def test_streams(name: str) -> None:
    sample = load(name)
    for stream in sample.get("streams", []):
        events = [_check_event(frame, DIALECTS[name], sample) for frame in frames(stream)]
        lasts = [event.last for event in events]
        assert lasts == [False] * (len(events) - 1) + [sample.get("last", True)]


@each
def test_channels(name: str) -> None:
    """A channel stays what it is, what is said again is what was said, and nothing is said after its end."""
    for stream in load(name).get("streams", []):
        texts: dict[str, str] = {}
        kinds: dict[str, Any] = {}
        before: list[Event] = []
        for frame in frames(stream):
            event = DIALECTS[name].event(frame)
            for delta in event.deltas:
                assert delta.channel
                assert not delta.channel.endswith("/")
                assert not any([earlier.closes(delta.channel) for earlier in before])
                kind = (delta.stage, delta.role, delta.json)
                assert kinds.setdefault(delta.channel, kind) == kind
                texts[delta.channel] = texts.get(delta.channel, "") + delta.content
            for repeat in event.repeats:
                assert pointer.get(frame.data, repeat.path) == repeat.content == texts.get(repeat.channel, "")
                kind = (repeat.stage, repeat.role, repeat.json)
                assert kinds.get(repeat.channel, kind) == kind
            before.append(event)
        for channel, kind in kinds.items():
            if kind[2] and texts[channel]:
                strict.parse(texts[channel].encode())


@each
def test_what_ends_a_channel_ends_no_other(name: str) -> None:
    for stream in load(name).get("streams", []):
        events = [DIALECTS[name].event(frame) for frame in frames(stream)]
        channels = {piece.channel for event in events for piece in [*event.deltas, *event.repeats]}
        for event in events:
            prefixes = tuple([end for end in event.ends if end.endswith("/")])
            ended = {channel for channel in channels if channel in event.ends or channel.startswith(prefixes)}
            assert {channel for channel in channels if event.closes(channel)} == (channels if event.last else ended)


@each
def test_a_refusal_is_read_as_one(name: str) -> None:
    dialect, sample = DIALECTS[name], load(name)
    for request in sample["requests"]:
        segments = registry.match(*request["route"].split(" ", 1))
        assert segments is not None
        asked = dialect.request(request["body"], segments[1])
        words = sample.get("refusal", "text") == "text"
        assert dialect.status(asked) == (200 if words and not _wants_no_answer(name, asked) else 400)
        for sent in (None, request["body"]):
            said = dialect.response(strict.parse(json.dumps(dialect.refusal(asked, TEXT, sent)).encode()))
            assert [part.content for part in said.parts].count(TEXT) >= 1
            assert not said.uncovered
            assert not said.spoken
            assert words or said.error
            if sample.get("filtered"):
                assert set(said.finish) & set(sample["filtered"])


def _wants_no_answer(name: str, asked: Body) -> bool:
    return name == "mcp" and not asked.id


@each
@pytest.mark.parametrize("text", [TEXT, ""])
def test_a_stream_can_be_ended_anywhere(name: str, text: str) -> None:
    dialect, sample = DIALECTS[name], load(name)
    for stream in sample.get("streams", []):
        whole = frames(stream)
        for length in range(len(whole) + 1):
            _check_ending(dialect, sample, whole[:length], text)


@each
def test_an_error_of_ours_is_read_as_one(name: str) -> None:
    body = strict.parse(json.dumps(DIALECTS[name].error("the request is too long", "too_long")).encode())
    said = DIALECTS[name].response(body)
    assert said.error
    assert "the request is too long" in [part.content for part in said.parts]


@each
def test_unknown_members_change_nothing_else(name: str) -> None:
    for _, body, read in samples(name):
        if isinstance(body, dict):
            more = {**body, "x_unknown": 1, "x_null": None}
            assert read(more) == read(body)


@each
@pytest.mark.parametrize("body", [*HOSTILE, "text", [1], {"messages": "x"}, {"error": []}, {"inputs": {}}], ids=repr)
def test_what_is_no_body_is_an_error_of_ours(name: str, body: Any) -> None:
    dialect = DIALECTS[name]
    for read in (lambda: dialect.request(body, {}), lambda: dialect.response(body), lambda: dialect.event(Frame(body))):
        with contextlib.suppress(DialectError):
            read()
    with pytest.raises(DialectError):
        dialect.request([1, 2], {})


@each
def test_other_values_anywhere_are_read_or_an_error_of_ours(name: str) -> None:
    for _, body, read in samples(name):
        for place in places(body):
            for value in HOSTILE:
                with contextlib.suppress(DialectError):
                    read(replaced(body, place, value))


@each
def test_a_text_in_another_shape_is_seen_or_uncovered_or_an_error_of_ours(name: str) -> None:
    structural = load(name).get("structural", [])
    for what, body, read in samples(name):
        for place, own in _above(read(body)).items():
            for value in CANARIES if own else CANARIES[:2]:
                other = replaced(body, place, value)
                with contextlib.suppress(DialectError):
                    lost = [at for at in unseen(other, read(other), structural) if pointer.get(other, at) == CANARY]
                    assert not lost, f"{what}: {place}: {value}"


@each
def test_a_text_of_a_request_under_a_key_in_another_case_is_seen_or_uncovered_or_an_error_of_ours(name: str) -> None:
    structural = load(name).get("structural", [])
    for what, body, read in samples(name):
        texts = {part.path.partition("#")[0] for part in read(body).parts}
        for place, spelt, other in recased(body) if what == "request" else ():
            below = {spelt + text[len(place) :] for text in texts if text == place or text.startswith(f"{place}/")}
            with contextlib.suppress(DialectError):
                assert not below.intersection(unseen(other, read(other), structural)), spelt


def _above(said: Body | Event) -> dict[str, bool]:
    """The places of texts (True) and of what holds them (False)."""
    paths = [part.path for part in said.parts]
    if isinstance(said, Event):
        paths += [piece.path for piece in [*said.deltas, *said.repeats]]
    found = {path.partition("#")[0]: True for path in paths}
    for path in list(found):
        place = path.rpartition("/")[0]
        while place:
            found.setdefault(place, False)
            place = place.rpartition("/")[0]
    return found


def _check_body(body: Any, read: Callable[[Any], Body], name: str) -> Body:
    before = copy.deepcopy(body)
    said = read(body)
    assert body == before
    assert unseen(body, said, load(name).get("structural", [])) == []
    texts = {part.path: part.content for part in said.parts}
    assert len(texts) == len(said.parts)
    assert len({put.path for put in said.spoken}) == len(said.spoken)
    _check_places(body, texts, said.uncovered)
    again = read(_marked(body, texts))
    assert {part.path: part.content for part in again.parts} == _markers(texts)
    return said


def _check_event(frame: Frame, dialect: Dialect, sample: Any) -> Event:
    before = copy.deepcopy(frame.data)
    said = dialect.event(frame)
    assert frame.data == before
    if isinstance(frame.data, str):
        assert not said.parts + said.deltas + said.repeats
        return said
    assert unseen(frame.data, said, sample.get("structural", [])) == []
    pieces = [*said.parts, *said.deltas]
    texts = {piece.path: piece.content for piece in pieces}
    repeated = {repeat.path: pointer.get(frame.data, repeat.path) for repeat in said.repeats}
    assert len(texts) + len(repeated) == len(pieces) + len(said.repeats)
    assert not texts.keys() & repeated.keys()
    _check_places(frame.data, texts, said.uncovered)
    again = dialect.event(Frame(_marked(frame.data, {**texts, **repeated}), frame.name))
    assert {piece.path for piece in [*again.parts, *again.deltas]} == texts.keys()
    assert {repeat.path for repeat in again.repeats} == repeated.keys()
    return said


def _check_places(body: Any, texts: dict[str, str], uncovered: tuple[str, ...]) -> None:
    for place, content in texts.items():
        assert pointer.said(body, place) == content
    for place in uncovered:
        pointer.get(body, place)


def _markers(texts: dict[str, str]) -> dict[str, str]:
    return {place: f'[marker {index} "é\\]' for index, place in enumerate(texts)}


def _marked(body: Any, texts: dict[str, str]) -> Any:
    return strict.parse(edit.rewrite(wire(body), _markers(texts)))


def _check_ending(dialect: Dialect, sample: Any, seen: list[Frame], text: str) -> None:
    before = [dialect.event(frame) for frame in seen]
    made = dialect.ending(seen, text)
    events = [dialect.event(Frame(strict.parse(json.dumps(frame.data).encode()), frame.name)) for frame in made]
    if any([event.last or event.finish or event.ends for event in before]):
        return  # there may be nothing left to end
    for request in [sample["requests"][0]["body"], sample["requests"][-1]["body"]]:
        again = [
            dialect.event(Frame(strict.parse(wire(one.data)), one.name)) for one in dialect.ending(seen, text, request)
        ]
        assert [event.last for event in again] == [event.last for event in events][: len(again)]
        assert not (text and again) or text in [
            piece.content for event in again for piece in [*event.deltas, *event.parts]
        ]
    assert events
    assert events[-1].last == sample.get("last", True) or events[-1].error
    assert not any([event.last for event in events[:-1]])
    said = [piece.content for event in events for piece in [*event.deltas, *event.parts]]
    if text:
        assert text in said
    if sample.get("filtered"):
        assert {reason for event in events for reason in event.finish} & set(sample["filtered"])
