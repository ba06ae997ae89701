"""The same data, the same numbers: SciPy's and Evidently's, to 1e-9."""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from llmguard.kernels import drift

random = np.random.default_rng(0)
NUMBERS = {
    "normal": (random.normal(size=1_000), random.normal(0.2, 1.1, 800)),
    "same sizes": (random.exponential(size=500), random.exponential(1.2, 500)),
    "ties": (np.round(random.normal(size=700), 1), np.round(random.normal(0.3, 1, 900), 1)),
    "long": (random.normal(size=12_000), random.normal(0.02, 1, 11_000)),
    "many": (random.normal(size=30_000), random.normal(1.0, 1, 25_000)),
    "apart": (random.normal(size=300), random.normal(50.0, 1, 200)),
    "narrow": (np.full(50, 3.0) + np.arange(50) * 1e-6, np.full(40, 3.0) + np.arange(40) * 2e-6),
}
CATEGORIES = {
    "few": (random.integers(0, 4, 500), random.integers(0, 4, 400)),
    "a new one": (random.integers(0, 6, 500), random.integers(0, 7, 400)),
    "one gone": (random.integers(0, 7, 20_000), random.integers(1, 7, 3_000)),
    "rare": (np.r_[np.zeros(30_000, int), 1], np.r_[np.zeros(2_000, int), 1, 1, 2]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_samples_are_as_scipy_sees_them(name: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    a, b = NUMBERS[name]
    expected, found = stats.ks_2samp(a, b), drift.ks(a, b)
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert found.pvalue == pytest.approx(expected.pvalue, abs=1e-9)
    assert drift.wasserstein(a, b) == pytest.approx(stats.wasserstein_distance(a, b), rel=1e-9)
    assert drift.energy(a, b) == pytest.approx(stats.energy_distance(a, b), rel=1e-9)


@pytest.mark.parametrize("name", [*NUMBERS, *CATEGORIES])
def test_counts_are_as_scipy_sees_them(name: str) -> None:
    stats = pytest.importorskip("scipy.stats")
    distance = pytest.importorskip("scipy.spatial.distance")
    first, second = drift.paired_counts(*(NUMBERS | CATEGORIES)[name])
    first, second = first[(first + second) > 0], second[(first + second) > 0]
    for base in (2, np.e, 10):
        assert drift.jensen_shannon(first, second, base=base) == pytest.approx(
            distance.jensenshannon(first, second, base), abs=1e-9
        )
    expected, found = stats.chi2_contingency([first, second], correction=False), drift.chi_square(first, second)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
    assert found.pvalue == pytest.approx(expected.pvalue, abs=1e-9)
    if first.all():
        expected, found = (
            stats.chisquare(second, first * (second.sum() / first.sum())),
            drift.chi_square_fit(first, second),
        )
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
        assert found.pvalue == pytest.approx(expected.pvalue, abs=1e-9)


@pytest.fixture(scope="module")
def evidently() -> Iterator[SimpleNamespace]:
    pytest.importorskip("evidently")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("DO_NOT_TRACK", "1")
        warnings.simplefilter("ignore")
        import pandas as pd
        from evidently.legacy.calculations import stattests
        from evidently.legacy.core import ColumnType

        def score(test: str, kind: str, first: np.ndarray, second: np.ndarray) -> float:
            chosen = getattr(stattests, test)
            return chosen(pd.Series(first), pd.Series(second), ColumnType(kind), 0.1).drift_score

        yield SimpleNamespace(score=score)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_as_evidently_sees_them(evidently: SimpleNamespace, name: str) -> None:
    a, b = NUMBERS[name]
    counts = drift.paired_counts(a, b)
    found = {
        "psi_stat_test": drift.psi(*counts),
        "jensenshannon_stat_test": drift.jensen_shannon(*counts),
        "ks_stat_test": drift.ks(a, b).pvalue,
        "wasserstein_stat_test": drift.wasserstein_normed(a, b),
    }
    for test, value in found.items():
        assert value == pytest.approx(evidently.score(test, "num", a, b), rel=1e-9, abs=1e-9), test


@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_are_as_evidently_sees_them(evidently: SimpleNamespace, name: str) -> None:
    a, b = CATEGORIES[name]
    counts = drift.paired_counts(a, b)
    found = {"psi_stat_test": drift.psi(*counts), "jensenshannon_stat_test": drift.jensen_shannon(*counts)}
    with np.errstate(divide="ignore"):
        for test, value in (found | {"chi_stat_test": drift.chi_square_fit(*counts).pvalue}).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                expected = evidently.score(test, "cat", a, b)
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9), test
