"""What every dialect must say so that a caller can write: what to take out, texts in arguments, numbers of events."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from dialect_samples import frames, load, places, replaced, samples, wire

from llmguard.dialects import edit, pointer, registry, strict
from llmguard.dialects.wire import Body, Event, Frame
from llmguard.types import Stage

DIALECTS = {dialect.name: dialect for dialect in registry.dialects()}
ECHOES = {
    *("logprobs", "logprobsResult", "token_ids", "prompt_token_ids", "prompt_logprobs", "tokens", "top_tokens"),
    *("prefill", "completion_probabilities", "probs", "output_ids"),
}
HELD = ("arguments", "args", "input", "structuredContent")

each = pytest.mark.parametrize("name", DIALECTS)


@each
def test_what_says_a_text_again_is_spoken(name: str) -> None:
    for what, body, read in samples(name):
        if what in ("responses", "event"):
            paths = [put.path for put in read(body).spoken]
            for place in places(body):
                if place.rpartition("/")[2] in ECHOES and isinstance(pointer.get(body, place), (list, dict, str)):
                    covered = [path for path in paths if place == path or place.startswith(f"{path}/")]
                    assert covered or not pointer.get(body, place), place


@each
def test_what_is_spoken_can_be_taken_out_and_leaves_all_else(name: str) -> None:
    for _, body, read in samples(name):
        said = read(body)
        data = wire(body)
        assert edit.rewrite(data, {}, said.spoken) == data or said.spoken
        quiet = strict.parse(edit.rewrite(data, {}, said.spoken))
        for put in said.spoken:
            assert not [text for _, text in pointer.strings(pointer.get(quiet, put.path)) if text]
            body = replaced(body, put.path, strict.parse(put.json.encode()))
        assert quiet == body
        after = read(quiet)
        assert _texts(after) == _texts(said)
        assert (after.finish, after.id) == (said.finish, said.id)
        assert set(after.uncovered) <= set(said.uncovered)


@each
def test_texts_and_what_says_them_again_are_rewritten_at_once(name: str) -> None:
    for _, body, read in samples(name):
        said = read(body)
        edits = {part.path: f"<{index}>" for index, part in enumerate(said.parts)}
        after = read(strict.parse(edit.rewrite(wire(body), edits, said.spoken)))
        assert {part.content for part in after.parts} == set(edits.values())


@each
def test_numbers_and_keys_in_what_tools_are_told_are_texts(name: str) -> None:
    for _, body, read in samples(name):
        for holder, inner in _held(body, read(body)):
            members = {**inner, "bob@example.com": {"pay to": 4111111111111111}, "n": [12345, 1234567.5, True, -123456]}
            other = replaced(body, holder, json.dumps(members) if inner is not pointer.get(body, holder) else members)
            seam = "#" if isinstance(pointer.get(other, holder), str) else ""
            said = {part.path: part.content for part in read(other).parts if part.path.startswith(holder)}
            found = {
                f"{holder}{seam}/bob@example.com~3": "bob@example.com",
                f"{holder}{seam}/bob@example.com/pay to~3": "pay to",
                f"{holder}{seam}/bob@example.com/pay to": "4111111111111111",
                f"{holder}{seam}/n/1": "1234567.5",
                f"{holder}{seam}/n/3": "-123456",
            }
            assert {path: said.get(path) for path in found} == found
            assert not {f"{holder}{seam}/n/0", f"{holder}{seam}/n/2", f"{holder}{seam}/n~3"} & said.keys()
            edits = {path: f"[{index}]" for index, path in enumerate(found)}
            new = strict.parse(edit.rewrite(wire(other), edits))
            after = pointer.get(new, f"{holder}{seam}")
            assert after == {**inner, "[0]": {"[1]": "[2]"}, "n": [12345, "[3]", True, "[4]"]}
            assert set(edits.values()) <= {part.content for part in read(new).parts}


def test_there_are_such_arguments() -> None:
    with_arguments = {name for name in DIALECTS for _, body, read in samples(name) if list(_held(body, read(body)))}
    wordy = {
        "openai.chat",
        "openai.responses",
        "anthropic.messages",
        "gemini",
        "bedrock.converse",
        "ollama.chat",
        "mcp",
    }
    assert wordy <= with_arguments


@each
def test_numbers_of_events_only_grow_and_can_be_shifted(name: str) -> None:
    dialect = DIALECTS[name]
    for stream in load(name).get("streams", []):
        whole = frames(stream)
        for cut in range(len(whole)):
            out = [*whole[:cut], *dialect.ending(whole[:cut], "No.")]
            counted = [said.numbered.number for said in map(dialect.event, out) if said.numbered is not None]
            assert all(first < second for first, second in itertools.pairwise(counted))
        for frame in whole:
            numbered = dialect.event(frame).numbered
            if numbered is not None:
                assert pointer.get(frame.data, numbered.path) == numbered.number
                moved = strict.parse(edit.rewrite(wire(frame.data), {}, [numbered.shifted(3)]))
                after = dialect.event(Frame(moved, frame.name)).numbered
                assert after is not None
                assert after.number == numbered.number + 3


def test_the_formats_that_count_their_events() -> None:
    counted = {
        name
        for name, dialect in DIALECTS.items()
        for stream in load(name).get("streams", [])
        if all([dialect.event(frame).numbered for frame in frames(stream) if frame.data != "[DONE]"])
    }
    assert "openai.responses" in counted


@pytest.mark.parametrize(
    "name",
    ["openai.chat", "openai.completions", "openai.responses", "anthropic.messages", "ollama.chat", "ollama.generate"],
)
def test_a_stream_that_ends_before_it_began_names_the_model_that_was_asked_for(name: str) -> None:
    dialect = DIALECTS[name]
    for request, model in (({"model": "m-7"}, "m-7"), ({"model": 7}, ""), ({}, ""), ([], ""), (None, "")):
        models = {dialect.event(frame).model for frame in dialect.ending([], "No.", request)}
        assert models - {""} == {model} - {""}


def _texts(said: Body | Event) -> list[tuple[str, str]]:
    pieces: list[Any] = [*said.parts]
    if isinstance(said, Event):
        pieces += [*said.deltas, *said.repeats]
    return [(piece.path, piece.content) for piece in pieces]


def _held(body: Any, said: Body | Event) -> Iterator[tuple[str, Any]]:
    """Places of what a tool is told or says, with the object there, or in the JSON of the string there."""
    texts = [part.path for part in said.parts if part.stage in (Stage.TOOL_CALL, Stage.TOOL_RESULT)]
    for place in dict.fromkeys([path.partition("#")[0] for path in texts if "#" in path]):
        inner = strict.parse(pointer.get(body, place).encode())
        if isinstance(inner, dict):
            yield place, inner
    above = {path[: path.rindex(f"/{key}/") + len(key) + 1] for path in texts for key in HELD if f"/{key}/" in path}
    for place in places(body):
        inner = pointer.get(body, place)
        if place in above and isinstance(inner, dict):
            yield place, inner
