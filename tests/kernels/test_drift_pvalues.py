import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.kernels import drift, pvalues

_spec = importlib.util.spec_from_file_location("naive_drift", Path(__file__).with_name("naive_drift.py"))
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 5), (3, 4), (4, 6), (5, 5), (2, 8), (6, 6)])
def test_small_samples_are_counted_out(m: int, n: int) -> None:
    for gap in range(m * n + 1):
        statistic = gap / (m * n)
        if any(gap == abs(i * n - j * m) for i in range(m + 1) for j in range(n + 1)):
            expected = naive.ks_exact(statistic, m, n)
            assert pvalues.ks_pvalue(statistic, m, n) == pytest.approx(expected, abs=1e-12)
            assert pvalues.ks_pvalue(statistic, n, m) == pytest.approx(expected, abs=1e-12)


def test_special_functions_are_scipys() -> None:
    special = pytest.importorskip("scipy.special")
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for _ in range(600):
        degrees = int(10 ** random.uniform(0, 5))
        value = (
            degrees * 10 ** random.uniform(-1, 1) if random.random() < 0.5 else degrees + random.normal() * degrees**0.5
        )
        value = max(0.0, value)
        found = pvalues.chi_square_pvalue(value, degrees)
        assert found == pytest.approx(special.chdtrc(degrees, value), rel=1e-8, abs=1e-13)
    # Sizes as great as these make SciPy sum up for seconds where the statistic is high: one of those is enough.
    for size in [1, 2, 3, 10, 50, 140, 141, 500, 5_000, 50_000, 100_001]:
        for scaled in (0.3, 0.5, 0.7, 0.85, 1.0, 1.4, 1.6, 2.1, 3.0):
            statistic = min(1.0, scaled / size**0.5)
            expected = stats.kstwo.sf(statistic, size)
            assert pvalues.compiled().kolmogorov(size, statistic) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 1.0]), max_size=20))
def test_control_of_many_tests_is_that_of_the_papers(values: list[float]) -> None:
    assert drift.holm(values).tolist() == pytest.approx(naive.holm(values), abs=1e-12)
    found = drift.benjamini_hochberg(values)
    assert found.tolist() == pytest.approx(naive.benjamini_hochberg(values), abs=1e-12)
    assert (found <= drift.holm(values) + 1e-12).all()
    assert (found >= np.array(values)).all()


def test_false_discoveries_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).uniform(size=100) ** 3
    assert drift.benjamini_hochberg(values) == pytest.approx(stats.false_discovery_control(values), abs=1e-12)


def test_high_statistics_leave_nothing() -> None:
    assert pvalues.ks_pvalue(1.0, 10_000, 9_999) == 0.0
    assert pvalues.ks_pvalue(0.0, 3, 4) == 1.0
    assert pvalues.ks_pvalue(1.0, 10**9, 10**9) == 0.0
    assert 0.0 < pvalues.ks_pvalue(0.001, 10**7, 10**6) < 1.0
    assert pvalues.chi_square_pvalue(math.inf, 3) == 0.0
    assert pvalues.chi_square_pvalue(0.0, 3) == 1.0
    assert drift.chi_square_fit([0, 5], [3, 5]) == drift.Comparison(math.inf, 0.0)
    assert drift.chi_square([7], [3]) == drift.Comparison(0.0, 1.0)


def test_p_values_of_the_same_source_are_even() -> None:
    random = np.random.default_rng(0)
    found = np.sort([drift.ks(random.normal(size=300), random.normal(size=290)).pvalue for _ in range(300)])
    assert np.abs(found - np.arange(1, 301) / 300).max() < 0.12


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1.1, 3, 3), ValueError, "lies in"),
        ((math.nan, 3, 3), ValueError, "lies in"),
        ((0.1, 0, 3), ValueError, "first must be at least 1"),
        ((0.1, 3, 2.5), TypeError, "second must be a whole number"),
        (("0.1", 3, 3), TypeError, "statistic must be a number"),
        ((True, 3, 3), TypeError, "statistic must be a number"),
    ],
)
def test_what_has_no_p_value_is_refused(arguments: tuple[float, int, int], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        pvalues.ks_pvalue(*arguments)


def test_what_is_no_chi_square_is_refused() -> None:
    for statistic in (-1.0, math.nan):
        with pytest.raises(ValueError, match="at least 0"):
            pvalues.chi_square_pvalue(statistic, 2)
    with pytest.raises(ValueError, match="degrees"):
        pvalues.chi_square_pvalue(1.0, 0)


@pytest.mark.parametrize("wrong", [[1.1], [-0.1], [math.nan], [[0.1]]])
def test_what_are_no_p_values_is_refused(wrong: list[float]) -> None:
    for control in (drift.holm, drift.benjamini_hochberg):
        with pytest.raises(ValueError, match="p-values"):
            control(wrong)
        with pytest.raises(TypeError, match="p-values"):
            control([None, "a"])
