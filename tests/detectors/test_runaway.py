"""The runaway detector: the very place at which a text has become a loop, in a check and in the middle of a stream."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard import Blocked, Guard
from llmguard.detectors.growth import check_growth
from llmguard.detectors.runaway import RunawayDetector
from llmguard.errors import ConfigurationError
from llmguard.testing import check_detector
from llmguard.types import Text

PROSE = (
    "The harbour was quiet when the last ferry came in, and nobody on the quay looked up. Marta counted the "
    "crates twice, wrote the number on her sleeve, and went to find the harbour master. He was asleep behind "
    "a newspaper from the week before; the kettle beside him had boiled dry. She turned off the stove, opened "
    "a window, and read the tide table on the wall until he woke. It said that high water would come at four. "
)
UNIT = "I am sorry, I can't say that. "
BLOCKS = {"name": "loops", "rules": [{"detector": "runaway", "action": "block"}]}


def spans(text: str, **options: int) -> list[tuple[int, int] | None]:
    (found,) = RunawayDetector(**options).detect([Text(text)])
    assert all((finding.category, finding.score) == ("RUNAWAY", 1.0) for finding in found)
    return [finding.span for finding in found]


def twin(text: str, length: int, repeats: int, longest: int) -> list[tuple[int, int]]:
    """For each place the runs of agreement with what stands a period before; forgotten once they prove a loop."""
    found: list[tuple[int, int]] = []
    runs = dict.fromkeys(range(1, longest + 1), 0)
    base = 0
    for place, character in enumerate(text):
        for period in runs:
            agrees = place - period >= base and text[place - period] == character
            runs[period] = runs[period] + 1 if agrees else 0
        proven = [period for period, run in runs.items() if run + period >= max(length, repeats * period)]
        if proven:
            found.append((place + 1 - proven[0], place + 1))
            runs = dict.fromkeys(runs, 0)
            base = place + 1
    return found


units = st.text("ab \u4e00", min_size=1, max_size=40) | st.sampled_from(["a" * 30 + "b", PROSE[:70], "x"])
parts = st.lists(st.tuples(units, st.integers(1, 320)) | st.tuples(st.just(PROSE), st.just(1)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=25)
@given(parts, st.integers(4, 6), st.sampled_from([20, 60]))
def test_it_finds_what_its_twin_finds(made: list[tuple[str, int]], repeats: int, longest: int) -> None:
    text = "".join((unit * times)[:400] for unit, times in made)
    assert spans(text, repeats=repeats, longest=longest) == twin(text, 240, repeats, longest)


@settings(deadline=None, max_examples=15)
@given(parts)
def test_what_is_settled_stays_whatever_follows(made: list[tuple[str, int]]) -> None:
    text = "".join((unit * times)[:500] for unit, times in made)
    check_growth(RunawayDetector(longest=60), text, [text[:60], UNIT * 8, "ab" * 150])


@pytest.mark.parametrize(
    "text", ["", "a" * 239, PROSE, PROSE * 3, UNIT * 7, "-" * 78 + "\n" + PROSE, "\n".join(map(str, range(300)))]
)
def test_ordinary_texts_are_left_alone(text: str) -> None:
    assert spans(text) == []


@pytest.mark.parametrize("before", ["", PROSE + "#", "Well:"])
@pytest.mark.parametrize(
    ("unit", "need"), [("a", 240), ("ab", 240), (UNIT, 240), (PROSE, 4 * len(PROSE)), ("\ud800é", 240)]
)
def test_the_finding_is_the_repetition_that_completes_the_loop(before: str, unit: str, need: int) -> None:
    end = len(before) + need
    assert spans(before + unit * (1 + need // len(unit)))[:1] == [(end - len(unit), end)]


def test_a_unit_that_is_too_long_is_no_loop() -> None:
    assert spans(PROSE * 5, longest=len(PROSE) - 1) == []
    assert len(spans(PROSE * 5, longest=len(PROSE))) == 1


def test_an_endless_loop_is_told_again_and_again() -> None:
    assert [end for _, end in filter(None, spans("ha " * 1_000))] == list(range(240, 3_001, 240))


@pytest.mark.parametrize("cut", [1, 3, 7, 50])
def test_a_stream_is_blocked_as_soon_as_the_loop_is_certain(cut: int) -> None:
    before = PROSE + "#"
    generation = before + UNIT * 1_000
    certain = len(before) + 240
    out = []
    came = 0
    with Guard(BLOCKS, detectors=[RunawayDetector()]) as guard, guard.stream() as stream:
        try:
            for place in range(0, len(generation), cut):
                came += len(generation[place : place + cut])
                out.append(stream.feed(generation[place : place + cut]))
        except Blocked:
            pass
        assert stream.decision is not None
        assert [finding.span for finding in stream.decision.findings] == [(certain - len(UNIT), certain)]
    assert certain <= came < certain + cut
    # Nothing is held back before, and nothing of the repetition that completes the loop goes out, counted by the
    # longest period that it has.
    assert generation[: certain - len(UNIT)].startswith("".join(out))
    assert len("".join(out)) >= certain - 2 * len(UNIT) - cut


def test_a_stream_without_a_loop_is_not_held_back_at_all() -> None:
    with Guard(BLOCKS, detectors=[RunawayDetector()]) as guard, guard.stream() as stream:
        assert [stream.feed(word) for word in PROSE.split(" ")] == PROSE.split(" ")
        assert stream.close() == ""


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_that_redacts_gives_what_a_check_gives(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice([PROSE, UNIT, "ab"]) * draw.randrange(1, 200) for _ in range(3))[:6_000]
    policy = {"name": "loops", "rules": [{"detector": "runaway", "action": "redact", "redaction": "mask"}]}
    with Guard(policy, detectors=[RunawayDetector(longest=400)]) as guard, guard.stream() as stream:
        out = []
        place = 0
        while place < len(text):
            step = draw.randrange(1, 90)
            out.append(stream.feed(text[place : place + step]))
            place += step
        out.append(stream.close())
        assert "".join(out) == guard.check(text, stage="output").text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 239}, "runaway: length must be a whole number from 240 to 1048576"),
        ({"repeats": 3}, "runaway: repeats must be a whole number from 4 to 64"),
        ({"longest": 1_025}, "runaway: longest must be a whole number from 1 to 1024"),
        ({"longest": True}, "runaway: longest must be a whole number"),
        ({"repeats": 4.0}, "runaway: repeats must be a whole number"),
    ],
)
def test_wrong_options_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        RunawayDetector(**options)


def test_keeps_the_promises_of_a_detector() -> None:
    check_detector(RunawayDetector(), texts=["a" * 1_000, UNIT * 50, PROSE + UNIT * 20, "é" * 300])
