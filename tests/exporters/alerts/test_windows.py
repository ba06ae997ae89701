"""Sliding windows against lists of all that was ever added."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.exporters.alerts.windows import PARTS, Window, quantile

BOUNDS = (0.1, 0.5, 1.0, 2.5)
STEPS = st.lists(st.tuples(st.integers(0, 400), st.sampled_from([0.05, 0.1, 0.3, 1.0, 2.0, 7.0])), max_size=60)


def parts(at: float, seconds: float) -> int:
    return math.ceil(at / (seconds / PARTS))


def naive(added: list[tuple[float, float]], at: float, seconds: float) -> list[float]:
    newest = parts(at, seconds)
    return [value for when, value in added if newest - PARTS < parts(when, seconds) <= newest]


@given(STEPS, st.sampled_from([60.0, 300.0, 7.0, 3600.0]), st.integers(0, 500))
def test_sums_are_those_of_a_list(steps: list[tuple[int, float]], seconds: float, later: int) -> None:
    window, added, now = Window(seconds), [], 1_000.0
    for wait, value in steps:
        now += wait
        window.add(now, value)
        added.append((now, value))
        assert window.sums(now)[0] == pytest.approx(sum(naive(added, now, seconds)))
    assert window.sums(now + later)[0] == pytest.approx(sum(naive(added, now + later, seconds)))


@given(st.lists(st.tuples(st.integers(-400, 400), st.floats(0, 10)), max_size=60))
def test_what_comes_late_counts_where_it_belongs(steps: list[tuple[int, float]]) -> None:
    window, added, newest = Window(300.0), [], 2_000
    for late, value in steps:
        at = 2_000 + late
        newest = max(newest, at)
        window.add(at, value)
        added.append((float(at), value))
    assert window.sums(newest)[0] == pytest.approx(sum(naive(added, newest, 300.0)))


@given(STEPS)
def test_buckets_are_those_of_a_list(steps: list[tuple[int, float]]) -> None:
    window, added, now = Window(60.0, BOUNDS), [], 0.0
    for wait, value in steps:
        now += wait / 10
        window.add(now, value)
        added.append((now, value))
    lows, highs = (-math.inf, *BOUNDS), (*BOUNDS, math.inf)
    inside = naive(added, now, 60.0)
    expected = [sum(low < value <= high for value in inside) for low, high in zip(lows, highs, strict=True)]
    assert window.sums(now) == expected


def test_at_the_end_of_a_part_a_window_is_as_long_as_it_says() -> None:
    window = Window(300.0)
    for at in (1000, 1001, 1005, 1300):
        window.add(at, 1.0)
    assert window.sums(1300)[0] == 3  # after 1000, up to 1300
    assert window.sums(1301)[0] == 1  # after 1005
    assert window.sums(1595)[0] == 1
    assert window.sums(1600)[0] == 0


def test_what_is_no_number_is_left_out() -> None:
    window = Window(60.0)
    for value in (math.nan, math.inf, -math.inf, 1e308, 2.0):
        window.add(10.0, value)
    assert window.sums(10.0) == [2.0]


def test_a_trace_of_what_came_last() -> None:
    window = Window(60.0)
    window.add(1.0, 1.0, "a")
    window.add(2.0, 1.0)
    assert window.trace == "a"


@given(
    st.lists(st.integers(0, 50), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1),
    st.floats(0.01, 0.99),
)
def test_a_quantile_lies_in_the_bucket_of_its_rank(counts: list[int], share: float) -> None:
    found = quantile(share, counts, BOUNDS)
    if not sum(counts):
        assert math.isnan(found)
        return
    spread = sorted(index for index, count in enumerate(counts) for _ in range(count))
    bucket = spread[math.ceil(share * len(spread) - 1e-9) - 1]
    if bucket == len(BOUNDS):
        assert found == BOUNDS[-1]
    else:
        assert (0.0, *BOUNDS)[bucket] <= found <= BOUNDS[bucket]


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ([10, 0, 0, 0, 0], 0.5, 0.05),
        ([0, 4, 4, 0, 0], 0.75, 0.75),
        ([0, 0, 0, 0, 3], 0.5, 2.5),
        ([1, 0, 0, 1, 0], 0.95, 2.35),
    ],
)
def test_a_quantile_by_hand(counts: list[int], share: float, value: float) -> None:
    assert quantile(share, counts, BOUNDS) == pytest.approx(value)
