"""Streams of hostile texts under policies of everything: what goes out, when they end, what is held, what it costs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmguard import Action, Blocked, Finding, Guard, Scope, Text
from llmguard.detectors import pii_live
from llmguard.detectors.keywords import KeywordsDetector
from llmguard.detectors.pii import PiiDetector
from llmguard.types import Detector

SLOW = [HealthCheck.too_slow]
#: Texts that keep something under way, in question or in view for ever.
UNITS = [
    "a@",
    "4111 1111 ",
    "7",
    "QUJDREVG",
    "([{<",
    "1 ",
    ". ",
    "'\"",
    "a=",
    "ab:",
    "http://a/",
    "1.",
    "\u05d0\u200f ",
    "\u202e",
    "\u0301",
]
UNITS += ["-----BEGIN ", "password = '", "eyJ", "secret ", "a\u0430 ", "\U0001f3f4\U000e0067", "never, no. "]
GROWING = sorted(set(hostile.VARIANTS) - hostile.WHOLE)


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    """What is made once takes no example's time."""
    for name, ways in hostile.VARIANTS.items():
        for variant in range(len(ways)):
            hostile.made(name, variant)


@settings(max_examples=100, suppress_health_check=SLOW)
@given(
    rules=hostile.rules(),
    variant=st.integers(0, 2),
    text=hostile.texts,
    places=hostile.cuts,
    stage=st.sampled_from(["output", "output", "input"]),
)
def test_a_stream_says_what_a_check_says(
    rules: list[dict], variant: int, text: str, places: list[int], stage: str
) -> None:
    one = hostile.case(rules, variant)
    hostile.compare(one, text, places, stage=stage)
    one.close()


@settings(max_examples=60, suppress_health_check=SLOW)
@given(rules=hostile.rules(modes=("strict",)), variant=st.integers(0, 2), text=hostile.talk, places=hostile.cuts)
def test_and_what_placeholders_stand_for(rules: list[dict], variant: int, text: str, places: list[int]) -> None:
    one = hostile.case(rules, variant)
    with one.guard.conversation("c"):
        one.guard.check("mail bob@example.com or eve@example.com, phrase", stage="input")
        one.guard.check(text, stage="output")  # gives out the numbers
        hostile.compare(one._replace(oracle=one.guard), text, places, conversation="c")
    one.close()


@settings(max_examples=80, suppress_health_check=SLOW)
@given(
    rules=hostile.rules(modes=("windowed", "windowed", "strict", "observe")),
    variant=st.integers(0, 2),
    text=hostile.texts,
    first=hostile.cuts,
    second=hostile.cuts,
    window=st.sampled_from([1, 2, 3, 5, 32]),
)
def test_windows_decide_alike_however_a_text_is_cut(
    rules: list[dict], variant: int, text: str, first: list[int], second: list[int], window: int
) -> None:
    one = hostile.case(rules, variant, window)
    want = one.oracle.check(text, stage="output")
    got, other = (hostile.streamed(one.guard, hostile.pieces(text, places)) for places in (first, second))
    assert got.blocked == other.blocked
    if not got.blocked:
        assert not want.blocked
        assert (got.out, got.decision.text) == (other.out, other.out)
        taken = {(f.detector, f.category, f.span) for f in got.decision.findings if f.action is Action.REDACT}
        assert {(f.detector, f.category, f.span) for f in want.findings if f.action is Action.REDACT} <= taken
    one.close()


@settings(max_examples=200)
@given(text=st.text("abcx", max_size=40), phrases=st.lists(st.text("abcx", min_size=1, max_size=6), min_size=1))
def test_what_is_held_back_begins_a_phrase(text: str, phrases: list[str]) -> None:
    detector = KeywordsDetector(deny=phrases, word_boundaries=False)
    rules = [{"detector": "keywords", "action": "redact", "redaction": {"method": "mask", "mask_char": "#"}}]
    with Guard({"name": "p", "rules": rules}, detectors=[detector]) as guard:
        stream, out = guard.stream(), 0
        for number, char in enumerate(text, 1):
            out += len(stream.feed(char))
            came = text[:number]
            # A hit may grow from where the held part begins: it ends with it, or a hit that is there reaches into one.
            begun = {size for phrase in phrases for size in range(1, len(phrase) + 1) if came.endswith(phrase[:size])}
            assert out == number or any([_reaches(came, number - size, phrases, out) for size in begun])


def _reaches(came: str, place: int, phrases: list[str], start: int) -> bool:
    """Whether a place is that of a hit under way, or in a hit, or a chain of hits, from ``start`` on."""
    if place <= start:
        return place == start
    hits = [(at, at + len(p)) for p in phrases for at in range(start, len(came)) if came.startswith(p, at)]
    return any([first < place < last and _reaches(came, first, phrases, start) for first, last in hits])


@pytest.fixture(scope="module")
def default():
    with Guard() as made:
        made.warm()
        yield made


def test_in_prose_the_default_policy_holds_a_word_back(default: Guard) -> None:
    words = "Nobody in the harbour had seen the old keeper since the storm, and yet at nine each night the lamp was lit"
    stream, out, held = default.stream(), 0, []
    for number, char in enumerate(f"{words}. " * 8, 1):
        out += len(stream.feed(char))
        held.append(number - out)
    assert max(held) <= len("harbour")
    assert sum(held) < 3 * len(held)


class Counting:
    """A detector, and how many code points it was asked to look at."""

    def __init__(self, inner: Detector) -> None:
        self.inner, self.work = inner, 0
        self.name, self.version, self.scope = inner.name, inner.version, inner.scope
        self.categories, self.inline = inner.categories, inner.inline

    def detect(self, texts: Sequence[Text]) -> Sequence[Sequence[Finding]]:
        self.work += sum([len(text.content) for text in texts])
        return self.inner.detect(texts)

    def settled(self, text: str) -> int:
        self.work += len(text)
        return self.inner.settled(text)  # type: ignore[attr-defined]

    def context(self, text: str, start: int) -> int:
        self.work += len(text)
        return self.inner.context(text, start)  # type: ignore[attr-defined]


def looked_at(inner: Detector, pieces: Sequence[str], *others: dict) -> float:
    """Code points that a detector looks at for each that comes."""
    counting = Counting(inner)
    rules = [{"detector": inner.name, "action": "redact", "threshold": 0.0}, *others]
    with Guard({"name": "p", "deadline_ms": 60_000.0, "rules": rules}, detectors=[counting]) as guard:
        stream = guard.stream()
        try:
            for piece in pieces:
                stream.feed(piece)
            stream.close()
        except Blocked:
            pytest.fail("a rule that redacts blocked")
    return counting.work / sum(map(len, pieces))


@pytest.mark.parametrize("name", GROWING)
def test_what_a_chunk_costs_is_bounded_whatever_is_under_way(name: str) -> None:
    for unit in UNITS:
        text = (unit * 1_200)[:1_200]
        assert looked_at(hostile.made(name, 0), list(text)) < 3 * 1_024, repr(unit)
        assert looked_at(hostile.made(name, 0), [(unit * 20_000)[:20_000]]) <= 4, repr(unit)


class Pinned:
    """Finds nothing, is sure of everything, and needs all that came before."""

    name, version, scope, categories, inline = "pinned", "1", Scope.SPAN, frozenset({"NEVER"}), True

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        return [[] for _ in texts]

    def settled(self, text: str) -> int:
        return len(text)

    def context(self, text: str, start: int) -> int:
        return 0


class Unsure(Pinned):
    """Is never sure."""

    name = "unsure"

    def settled(self, text: str) -> int:
        return 0


@pytest.mark.parametrize("inner", [Pinned(), Unsure()], ids=["pinned", "unsure"])
def test_a_long_stream_costs_no_more_a_chunk_than_a_short_one(inner: Detector) -> None:
    short, long = (looked_at(inner, ["x"] * size) for size in (20_000, 200_000))
    assert long < 1.5 * short
    assert long < 4 * 1_024


def test_a_chain_of_matches_is_not_followed_to_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    start = pii_live.UnderWay.start

    def counted(self: pii_live.UnderWay, proxy: bytes) -> int:
        nonlocal looked
        looked += len(proxy)
        return start(self, proxy)

    monkeypatch.setattr(pii_live.UnderWay, "start", counted)
    detector = PiiDetector(entities=["EMAIL_ADDRESS"])
    text = "a@" * 10_000
    assert detector.context(text, len(text)) == 0
    assert looked < 80 * len(text)


def test_a_chain_of_phrases_costs_a_search_each() -> None:
    detector = KeywordsDetector(deny=["ss"], word_boundaries=False)
    counted = 0

    def seen(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal counted
        if event == "c_call" and isinstance(getattr(called, "__self__", None), np.ndarray):
            counted += len(called.__self__) if called.__name__ != "searchsorted" else 1

    text = "\u00df" * 2_000
    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        assert detector.context(text, len(text)) == 0
    finally:
        sys.setprofile(before)
    assert counted < 40 * len(text)
