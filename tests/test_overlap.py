import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.errors import DetectorError
from llmguard.overlap import resolve
from llmguard.types import Action, Finding

LENGTH = 12


def finding(category: str, span: tuple[int, int] | None, score: float = 1.0, action: Action = Action.REDACT) -> Finding:
    return Finding(category, score, span, action=action)


def brief(found: list[Finding]) -> list[tuple[str, tuple[int, int] | None]]:
    return [(each.category, each.span) for each in found]


@pytest.mark.parametrize(
    ("findings", "settled"),
    [
        ([], []),
        ([finding("B", (5, 9)), finding("A", (0, 4))], [("A", (0, 4)), ("B", (5, 9))]),
        # neighbours don't overlap
        ([finding("A", (0, 4)), finding("B", (4, 9))], [("A", (0, 4)), ("B", (4, 9))]),
        # the score decides, then the length, then the place, then the name
        ([finding("A", (0, 9), 0.5), finding("B", (2, 4), 0.9)], [("B", (0, 9))]),
        ([finding("A", (0, 4)), finding("B", (2, 9))], [("B", (0, 9))]),
        ([finding("B", (0, 4)), finding("A", (2, 6))], [("B", (0, 6))]),
        ([finding("B", (0, 4)), finding("A", (0, 4))], [("A", (0, 4))]),
        # a chain is one
        ([finding("A", (0, 4)), finding("B", (3, 7), 0.9), finding("C", (6, 9), 0.8)], [("A", (0, 9))]),
        # the stronger action decides first, and the weaker one keeps what is beside it
        (
            [finding("A", (0, 9), 1.0, Action.REDACT), finding("B", (3, 5), 0.1, Action.BLOCK)],
            [("A", (0, 3)), ("B", (3, 5)), ("A", (5, 9))],
        ),
        (
            [finding("A", (2, 6), 0.5), finding("B", (0, 9), 1.0, Action.FLAG)],
            [("B", (0, 2)), ("A", (2, 6)), ("B", (6, 9))],
        ),
        ([finding("A", (2, 6), 0.5), finding("B", (3, 5), 1.0, Action.FLAG)], [("A", (2, 6))]),
        # nothing is covered by an empty span, all by none
        ([finding("A", (3, 3))], []),
        ([finding("A", None)], [("A", (0, LENGTH))]),
        ([finding("A", None, 0.5), finding("B", (3, 5), 0.9)], [("B", (0, LENGTH))]),
    ],
)
def test_overlaps_are_settled(findings: list[Finding], settled: list[tuple[str, tuple[int, int]]]) -> None:
    assert brief(resolve(findings, LENGTH)) == settled
    assert brief(resolve(findings[::-1], LENGTH)) == settled


def test_a_text_of_unknown_length_ends_at_the_largest_index() -> None:
    assert brief(resolve([finding("A", None)])) == [("A", (0, sys.maxsize))]


def test_an_empty_text_has_nothing_to_settle() -> None:
    assert resolve([finding("A", None)], 0) == []


@pytest.mark.parametrize("span", [(-1, 2), (0, LENGTH + 1), (5, 4)])
def test_a_span_outside_the_text_is_an_error_that_names_the_detector(span: tuple[int, int]) -> None:
    with pytest.raises(DetectorError, match=r"'pii'.*outside"):
        resolve([Finding("A", span=span, detector="pii", action=Action.REDACT)], LENGTH)


spans = st.one_of(st.none(), st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(lambda s: (min(s), max(s))))
findings_of_any_kind = st.lists(
    st.builds(finding, st.sampled_from("ABC"), spans, st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from(list(Action))),
    max_size=8,
)


@settings(deadline=None)
@given(findings_of_any_kind, st.randoms())
def test_every_code_point_gets_the_strongest_action_that_covers_it(
    findings: list[Finding], chance: random.Random
) -> None:
    settled = resolve(findings, LENGTH)
    wanted: list[Action | None] = [None] * LENGTH
    for each in findings:
        start, end = each.span or (0, LENGTH)
        for at in range(start, end):
            before = wanted[at]
            wanted[at] = each.action if before is None else max(before, each.action, key=lambda a: a.severity)
    got: list[Action | None] = [None] * LENGTH
    last = 0
    for each in settled:
        assert each.span is not None
        start, end = each.span
        assert last <= start < end
        last = end
        got[start:end] = [each.action] * (end - start)
    assert got == wanted
    chance.shuffle(findings)
    assert resolve(findings, LENGTH) == settled


def test_a_hundred_thousand_overlapping_findings_are_settled() -> None:
    chain = [finding("A", (at, at + 2)) for at in range(100_000)]
    flags = [finding("B", (3 * at, 3 * at + 2), action=Action.FLAG) for at in range(100_000)]
    settled = resolve(chain + flags)
    assert settled[0] == finding("A", (0, 100_001))
    # none of the flags sticks out, and the first one beside the chain is the one at 100,002
    assert settled[1:] == flags[33_334:]
