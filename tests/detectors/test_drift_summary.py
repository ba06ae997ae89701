"""Histograms, moments and sketches of a feature's values."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.drift_bins import Layout, coarse
from llmguard.detectors.drift_summary import Summary
from llmguard.errors import ConfigurationError

LAYOUTS = [Layout("log"), Layout("signed"), Layout("linear", -5.0, 5.0)]
NUMBERS = st.floats(-1e12, 1e12, allow_nan=False)


def summary(layout: Layout, values: list[float], *, fine: bool = False) -> Summary:
    made = Summary(layout, fine=fine)
    row = np.array(values, np.float64)
    if len(row):
        made.add(row, layout.places(row))
    return made


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@given(values=st.lists(NUMBERS, min_size=1, max_size=60))
def test_bins_are_in_the_order_of_the_values(layout: Layout, values: list[float]) -> None:
    places = layout.places(np.sort(np.array(values)))
    assert (np.diff(places) >= 0).all()
    assert places.min() >= 0
    assert places.max() < layout.size


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@given(value=NUMBERS)
def test_a_value_lies_between_the_edges_of_its_bin(layout: Layout, value: float) -> None:
    place = int(layout.places(np.array([value]))[0])
    edges = np.concatenate(([-math.inf], layout.edges(), [math.inf]))
    assert len(edges) == layout.size + 1
    slack = 1e-9 * max(1.0, abs(value))
    assert edges[place] - slack <= (max(value, 0.0) if layout.kind == "log" else value) <= edges[place + 1] + slack


def test_a_bin_of_numbers_is_no_wider_than_a_thirtieth_of_its_value() -> None:
    edges = Layout("log").edges()
    assert (np.diff(edges) / edges[:-1]).max() <= 1 / 30


@given(
    st.sampled_from(LAYOUTS),
    st.lists(st.lists(st.floats(-1e6, 1e6), max_size=30), min_size=1, max_size=5),
    st.randoms(),
)
def test_merging_in_any_order_is_exact(layout: Layout, parts: list[list[float]], random: object) -> None:
    whole = summary(layout, [value for part in parts for value in part])
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    merged = Summary(layout)
    for part in shuffled:
        merged.merge(summary(layout, part))
    assert (merged.counts == whole.counts).all()
    assert merged.n == whole.n
    if whole.n:
        assert merged.mean == whole.mean
        assert merged.std == whole.std
        assert (merged.minimum, merged.maximum) == (whole.minimum, whole.maximum)


@given(st.lists(st.floats(-1000, 1000), min_size=1, max_size=50), st.booleans())
def test_moments_are_those_of_the_values(values: list[float], fine: bool) -> None:
    made = summary(Layout("signed"), values, fine=fine)
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    std = math.sqrt(sum((value - mean) ** 2 for value in exact) / len(exact))
    assert made.mean == pytest.approx(float(mean), abs=2e-6)
    assert made.std == pytest.approx(std, abs=2e-6)


def test_moments_of_many_large_values_do_not_overflow() -> None:
    made = summary(Layout("log"), [2.0**30] * 10_000)
    assert made.mean == 2.0**30
    assert made.std == 0.0


def test_quantiles_are_within_a_hundredth_also_when_merged() -> None:
    rng = np.random.default_rng(0)
    merged = Summary(Layout("log"))
    values = rng.lognormal(0, 1, 100_000)
    for part in np.split(values, 10):
        merged.merge(summary(Layout("log"), part.tolist()))
    ranks = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    found = np.searchsorted(np.sort(values), merged.quantiles(ranks)) / len(values)
    assert np.abs(found - ranks).max() < 0.01


def test_names_of_two_machines_are_put_together_by_name() -> None:
    category = Layout("category")
    first, second = Summary(category, ["other", "de", "en"]), Summary(category, ["other", "en", "fr"])
    for made, places in ((first, [1, 1, 2]), (second, [0, 1, 2, 2, 2])):
        made.add(np.array(places, np.float64), np.array(places))
    first.merge(second)
    assert first.named() == {"other": 1, "de": 2, "en": 2, "fr": 3}


def test_other_bins_do_not_merge() -> None:
    with pytest.raises(ConfigurationError, match="different bins"):
        Summary(Layout("log")).merge(Summary(Layout("signed")))


@given(st.lists(st.integers(0, 50), min_size=5, max_size=200).filter(any))
def test_coarse_bins_keep_the_order_and_give_news_a_bin_of_its_own(counts: list[int]) -> None:
    mapped = coarse(Layout("log"), np.array(counts), 8)
    assert (np.diff(mapped) >= 0).all()
    assert mapped.max() < 8
    filled = np.flatnonzero(counts)
    assert all(mapped[: filled[0]] < mapped[filled[0]])
    assert all(mapped[filled[-1] + 1 :] > mapped[filled[-1]])


def test_a_frequent_value_stands_alone() -> None:
    counts = np.ones(101, np.int64)
    counts[50] = 1000
    mapped = coarse(Layout("log"), counts, 8)
    assert (mapped == mapped[50]).sum() <= 2 or mapped[49] != mapped[50]
    assert mapped[51] != mapped[50]


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_must_be_one(low: float, high: float) -> None:
    with pytest.raises(ConfigurationError, match="range"):
        Layout("linear", low, high)
