"""Intervals and tests against SciPy's, published examples, and their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.fairness_statistics import (
    Sample,
    fisher,
    mean_interval,
    newcombe,
    p_value,
    quantile,
    ratio_interval,
    welch,
    wilson,
)

Z = quantile(0.95)
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def rate(k: int, n: int) -> Sample:
    return Sample(n, k, k)


def of(values: list[float]) -> Sample:
    return Sample(len(values), sum(values), sum(value * value for value in values))


@given(counts, st.sampled_from([0.8, 0.95, 0.999]))
def test_wilson_is_scipys(count: tuple[int, int], confidence: float) -> None:
    from scipy.stats import binomtest

    k, n = count
    theirs = binomtest(k, n).proportion_ci(confidence, "wilson")
    assert wilson(k / n, n, quantile(confidence)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_newcombe_is_that_of_the_published_example() -> None:
    # Newcombe 1998, table II, contrast (a), method 10.
    low, high = newcombe(rate(56, 70), rate(48, 80), Z)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_nothing_counted_says_nothing() -> None:
    assert wilson(math.nan, 0, Z) == (0.0, 1.0)
    assert math.isnan(of([]).mean)
    assert math.isnan(of([3.0]).variance)


@given(counts, counts)
def test_the_interval_of_a_difference_turns_round_with_it(one: tuple[int, int], other: tuple[int, int]) -> None:
    low, high = newcombe(rate(*one), rate(*other), Z)
    assert newcombe(rate(*other), rate(*one), Z) == pytest.approx((-high, -low), abs=1e-12)
    assert -1 - 1e-12 <= low <= one[0] / one[1] - other[0] / other[1] <= high <= 1 + 1e-12


@given(counts, counts)
def test_the_ratio_is_scipys(one: tuple[int, int], other: tuple[int, int]) -> None:
    from scipy.stats.contingency import relative_risk

    found = ratio_interval(rate(*one), rate(*other), Z, rates=True)
    if not (one[0] and other[0]):
        assert found is None
        return
    theirs = relative_risk(one[0], one[1], other[0], other[1]).confidence_interval(0.95)
    assert found == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@given(counts, counts)
def test_fisher_is_scipys(one: tuple[int, int], other: tuple[int, int]) -> None:
    from scipy.stats import fisher_exact

    (k, n), (j, m) = one, other
    theirs = fisher_exact([[k, n - k], [j, m - j]]).pvalue
    assert fisher(k, n, j, m) == pytest.approx(theirs, rel=1e-6, abs=1e-12)


@given(st.integers(20, 300), st.integers(20, 300), st.floats(0.3, 0.7), st.floats(0.3, 0.7))
def test_rates_of_large_groups_are_tested_by_the_chi_square(n: int, m: int, p: float, q: float) -> None:
    from scipy.stats import chi2_contingency

    k, j = round(n * p), round(m * q)
    theirs = chi2_contingency([[k, n - k], [j, m - j]], correction=False).pvalue
    assert p_value(rate(k, n), rate(j, m), rates=True) == pytest.approx(theirs, abs=1e-9)


def test_small_counts_are_tested_exactly() -> None:
    assert p_value(rate(5, 100), rate(100, 10_000), rates=True) == fisher(5, 100, 100, 10_000)
    assert p_value(rate(0, 100), rate(0, 10_000), rates=True) == 1.0


def test_means_are_compared_as_welch_does_it() -> None:
    from scipy.stats import norm, ttest_ind

    rng = np.random.default_rng(5)
    one, other = rng.gamma(2, 50, 400).tolist(), rng.gamma(2, 58, 700).tolist()
    theirs = ttest_ind(one, other, equal_var=False)
    assert p_value(of(one), of(other), rates=False) == pytest.approx(2 * norm.sf(abs(theirs.statistic)), rel=1e-9)
    assert p_value(of(one), of(other), rates=False) == pytest.approx(theirs.pvalue, rel=0.1)
    interval = theirs.confidence_interval(0.95)
    assert welch(of(one), of(other), Z) == pytest.approx((interval.low, interval.high), rel=0.02)
    spread = Z * np.std(one, ddof=1) / math.sqrt(400)
    assert mean_interval(of(one), Z) == pytest.approx((np.mean(one) - spread, np.mean(one) + spread))


def test_means_that_never_vary_are_the_same_or_not() -> None:
    assert p_value(of([2.0] * 9), of([2.0] * 9), rates=False) == 1.0
    assert p_value(of([2.0] * 9), of([3.0] * 9), rates=False) == 0.0
