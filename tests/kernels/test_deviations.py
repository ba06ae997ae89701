"""The test of a window against its reference: equal to its naive twin, and never too sure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmguard.kernels.deviations import deviations, p_value

PANES, BINS = 4, 3


def naive(
    reference: NDArray[np.int64], ring: NDArray[np.int64], newest: int, ordered: NDArray[np.bool_]
) -> list[float]:
    out = []
    for feature, known in enumerate(reference):
        worst = 0.0
        for size in (1, 2, 4):
            rows = [ring[(newest - back) % len(ring)] for back in range(size)]
            window = sum(row[feature * BINS : (feature + 1) * BINS] for row in rows)
            for cut in range(BINS):
                chosen = [at for at in range(BINS) if (at <= cut if ordered[feature] else at == cut)]
                worst = max(worst, one_cut(known[chosen].sum(), known.sum(), window[chosen].sum(), window.sum()))
        out.append(math.sqrt(worst))
    return out


def one_cut(k0: float, n0: float, k1: float, n1: float) -> float:
    if not n0 or not n1 or abs(k1 - n1 * k0 / n0) <= 1:
        return 0.0
    k1 -= 1 if k1 > n1 * k0 / n0 else -1

    def log_likelihood(k: float, n: float, share: float) -> float:
        return (k * math.log(share) if k else 0.0) + ((n - k) * math.log(1 - share) if n > k else 0.0)

    both = (k0 + k1) / (n0 + n1)
    apart = log_likelihood(k1, n1, k1 / n1) + log_likelihood(k0, n0, k0 / n0)
    return max(0.0, 2 * (apart - log_likelihood(k1, n1, both) - log_likelihood(k0, n0, both)))


@given(st.data())
def test_it_is_the_likelihood_ratio_of_the_worst_cut_and_window(data: st.DataObject) -> None:
    features = data.draw(st.integers(1, 3))
    counts = st.integers(0, 40)
    reference = np.array(data.draw(st.lists(counts, min_size=features * BINS, max_size=features * BINS)))
    ring = np.array(
        [data.draw(st.lists(counts, min_size=features * BINS, max_size=features * BINS)) for _ in range(PANES)]
    )
    ordered = np.array(data.draw(st.lists(st.booleans(), min_size=features, max_size=features)))
    newest = data.draw(st.integers(0, PANES - 1))
    reference = reference.reshape(features, BINS)
    found = deviations(reference, ring, newest, ordered)
    np.testing.assert_allclose(found, naive(reference, ring, newest, ordered), atol=1e-5)


def test_what_is_the_same_has_no_deviation() -> None:
    same = np.array([[50, 30, 20]])
    assert deviations(same, np.tile(same, (PANES, 1)), 0, np.array([True])).tolist() == [0.0]


def test_nothing_to_compare_says_nothing() -> None:
    empty = np.zeros((1, BINS), np.int64)
    some = np.array([[5, 5, 5]])
    assert deviations(empty, np.tile(some, (PANES, 1)), 0, np.array([True])).tolist() == [0.0]
    assert deviations(some, np.zeros((PANES, BINS), np.int64), 0, np.array([True])).tolist() == [0.0]


@pytest.mark.parametrize("share", [0.002, 0.05, 0.4])
def test_a_p_value_is_no_smaller_than_it_may_be(share: float) -> None:
    """Of 20,000 windows without drift no more than the level are rejected, for rare values as for frequent ones."""
    rng = np.random.default_rng(1)
    level, runs = 0.01, 20_000
    hits = 0
    k0, k1 = rng.binomial(2000, share, runs), rng.binomial(64, share, runs)
    for first, second in zip(k0.tolist(), k1.tolist(), strict=True):
        ring = np.zeros((1, BINS), np.int64)
        ring[0] = 64 - second, second, 0
        worst = deviations(np.array([[2000 - first, first, 0]]), ring, 0, np.array([True]))[0]
        hits += p_value(float(worst), 1) <= level
    assert hits <= runs * level * 1.1


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="don't fit"):
        deviations(np.ones((1, 3), np.int64), np.ones((2, 4), np.int64), 0, np.array([True]))
    with pytest.raises(ValueError, match="no pane 2"):
        deviations(np.ones((1, 3), np.int64), np.ones((2, 3), np.int64), 2, np.array([True]))


def test_more_tries_make_less_sure() -> None:
    assert p_value(5.0, 100) == pytest.approx(100 * p_value(5.0, 1))
    assert p_value(0.1, 100) == 1.0
