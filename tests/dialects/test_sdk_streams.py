"""What a stream says in pieces, it says again under the same channel: for every event that a package has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sdk_routes import PACKAGES, installed
from sdk_shapes import examples, marked

from llmguard.dialects import registry
from llmguard.dialects.wire import Event, Frame

responses = pytest.importorskip("openai.types.responses")
anthropic = pytest.importorskip("anthropic.types.beta")

RESPONSES = registry.get("openai.responses")
MESSAGES = registry.get("anthropic.messages")


@pytest.fixture(autouse=True)
def known_versions() -> None:
    for package in ("openai", "anthropic"):
        if installed(package) != PACKAGES[package]:
            pytest.skip(f"needs {package} {PACKAGES[package]}")


def read(data: Any) -> Event:
    return RESPONSES.event(Frame(data, data["type"]))


def items() -> Iterator[Any]:
    """Every item that a response may put out, as its first one."""
    for made in examples(responses.ResponseOutputItem):
        yield marked(made, "what {} says here")[0]


def test_an_item_says_the_same_channels_when_it_opens_when_it_ends_and_at_the_end_of_all() -> None:
    kinds = set()
    for item in items():
        opened = read({"type": "response.output_item.added", "output_index": 0, "item": item})
        ended = read({"type": "response.output_item.done", "output_index": 0, "item": item})
        last = read({"type": "response.completed", "response": {"id": "r", "output": [item]}})
        said = {(piece.channel, piece.content, piece.stage, piece.role, piece.json) for piece in opened.deltas}
        for again in (ended, last):
            assert said == {(one.channel, one.content, one.stage, one.role, one.json) for one in again.repeats}
            assert all([again.closes(channel) for channel, *_ in said])
        whole = [part.content for part in opened.parts]
        assert [part.content for part in ended.parts] == [part.content for part in last.parts] == whole
        assert opened.uncovered == ended.uncovered
        assert len(opened.uncovered) == len(last.uncovered)
        kinds |= {item["type"]} if said else set()
    assert len(kinds) >= 8


def test_pieces_of_a_text_belong_to_a_channel_that_an_item_says_again() -> None:
    said = {
        repeat.channel
        for item in items()
        for repeat in read({"type": "response.completed", "response": {"output": [item]}}).repeats
    }
    stems = set()
    for made in examples(responses.ResponseStreamEvent):
        if not made["type"].endswith(".delta") or made["type"].startswith("response.audio"):
            continue
        data, leaves = marked({**made, **{key: 0 for key in made if key.endswith("_index")}}, "what {} says here")
        event = read(data)
        texts = {text for text, leaf in leaves.items() if leaf.key in ("delta", "stdout", "stderr")}
        assert {delta.content for delta in event.deltas} == texts, made["type"]
        assert {delta.channel for delta in event.deltas} <= said, made["type"]
        stems.add(made["type"].removesuffix(".delta"))
    assert len(stems) >= 9


def test_the_end_of_a_text_says_it_again_under_the_channel_of_its_pieces_and_closes_that() -> None:
    by_type: dict[str, Event] = {}
    for made in examples(responses.ResponseStreamEvent):
        if made["type"].endswith((".delta", ".done")) and "response" not in made:
            first = {**made, **{key: 0 for key in made if key.endswith("_index")}}
            by_type.setdefault(made["type"], read(marked(first, "what {} says")[0]))
    for name, event in by_type.items():
        done = by_type.get(f"{name.removesuffix('.delta')}.done")
        if name.endswith(".delta") and done is not None:
            for delta in event.deltas:
                assert done.closes(delta.channel), name
            again = {(repeat.channel, repeat.stage, repeat.json) for repeat in done.repeats}
            assert again >= {(delta.channel, delta.stage, delta.json) for delta in event.deltas if done.repeats}, name


def test_pieces_of_a_block_belong_to_the_channels_that_its_start_and_its_stop_name() -> None:
    opened, pieces = set(), set()
    for made in examples(anthropic.BetaRawMessageStreamEvent):
        data = marked(made, "what {} says here")[0]
        event = MESSAGES.event(Frame(data, data["type"]))
        if data["type"] == "content_block_start":
            opened |= {delta.channel for delta in event.deltas}
        elif data["type"] == "content_block_delta":
            assert event.deltas or event.parts or event.uncovered or data["delta"]["type"] == "signature_delta"
            pieces |= {delta.channel for delta in event.deltas}
    stop = MESSAGES.event(Frame({"type": "content_block_stop", "index": 7}, "content_block_stop"))
    assert opened | {"7/input"} == pieces
    assert all([stop.closes(channel) for channel in pieces])
