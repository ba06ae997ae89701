import importlib.util
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.kernels import drift

_spec = importlib.util.spec_from_file_location("naive_drift", Path(__file__).with_name("naive_drift.py"))
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

finite = st.floats(-1e6, 1e6)
samples = st.lists(finite, min_size=1, max_size=40) | st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40)
histograms = st.integers(1, 30).flatmap(
    lambda bins: st.tuples(*[st.lists(st.integers(0, 10**6), min_size=bins, max_size=bins).filter(any)] * 2)
)
SAMPLES = {
    "one": [1.0],
    "constant": [2.0] * 50,
    "two values": [0.0, 1.0] * 20,
    "signed zero": [0.0, -0.0, 0.0, -1.0],
    "tiny": [5e-324, -5e-324, 2.2e-308],
    "huge": [1e200, -1e200, 1e199],
    "normal": np.random.default_rng(0).normal(size=300).tolist(),
    "rounded": np.round(np.random.default_rng(1).normal(size=200), 1).tolist(),
}


@pytest.mark.parametrize("second", SAMPLES)
@pytest.mark.parametrize("first", SAMPLES)
def test_statistics_of_samples_are_those_of_their_definitions(first: str, second: str) -> None:
    a, b = SAMPLES[first], SAMPLES[second]
    assert drift.ks(a, b).statistic == pytest.approx(naive.ks(a, b), abs=1e-12)
    scale = max(map(abs, [*a, *b]))
    assert drift.wasserstein(a, b) == pytest.approx(naive.wasserstein(a, b), rel=1e-9, abs=1e-12 * scale)
    assert drift.energy(a, b) ** 2 == pytest.approx(naive.energy(a, b) ** 2, rel=1e-9, abs=1e-12 * scale)


@given(samples, samples)
def test_statistics_of_any_samples(a: list[float], b: list[float]) -> None:
    found = drift.ks(a, b)
    assert found.statistic == pytest.approx(naive.ks(a, b), abs=1e-12)
    assert 0.0 <= found.pvalue <= 1.0
    assert drift.ks(b, a) == found
    assert drift.wasserstein(a, b) == pytest.approx(naive.wasserstein(a, b), rel=1e-9, abs=1e-6)
    assert drift.energy(a, b) ** 2 == pytest.approx(naive.energy(a, b) ** 2, rel=1e-6, abs=1e-4)


@given(histograms)
def test_statistics_of_any_counts(pair: tuple[list[int], list[int]]) -> None:
    first, second = pair
    assert drift.psi(first, second) == pytest.approx(naive.psi(first, second), rel=1e-9, abs=1e-12)
    assert drift.psi(first, second, floor=0.01) == pytest.approx(naive.psi(first, second, 0.01), rel=1e-9, abs=1e-12)
    assert drift.jensen_shannon(first, second) == pytest.approx(naive.jensen_shannon(first, second), abs=1e-7)
    assert drift.jensen_shannon(first, second, base=2) <= 1.0 + 1e-12
    assert drift.chi_square(first, second).statistic == pytest.approx(
        naive.chi_square(first, second), rel=1e-9, abs=1e-9
    )


@given(histograms)
def test_the_same_counts_are_not_apart(pair: tuple[list[int], list[int]]) -> None:
    counts = pair[0]
    assert drift.psi(counts, np.array(counts) * 3) == pytest.approx(0.0, abs=1e-12)
    assert drift.jensen_shannon(counts, counts) == 0.0
    assert drift.chi_square(counts, counts) == drift.Comparison(0.0, 1.0)
    assert drift.chi_square_fit(counts, counts).statistic == 0.0
    assert drift.ks_binned(counts, counts).pvalue == 1.0


@given(
    st.lists(finite | st.sampled_from([0.0, 1.0, 2.0, math.inf, -math.inf]), max_size=50),
    st.lists(finite, max_size=50),
    st.sets(st.floats(-100, 100) | st.sampled_from([0.0, 1.0, 2.0]), min_size=2, max_size=20).map(sorted),
)
def test_histograms_merge_to_that_of_all(first: list[float], second: list[float], edges: list[float]) -> None:
    one, two = drift.histogram(first, edges), drift.histogram(second, edges)
    assert one.dtype == np.int64
    assert one.tolist() == naive.histogram(first, edges)
    assert (one + two).tolist() == drift.histogram(first + second, edges).tolist()
    inside = [value for value in first if edges[0] <= value <= edges[-1]]
    assert one[1:-1].tolist() == np.histogram(inside, edges)[0].tolist()


@given(samples, samples)
def test_binned_statistics_are_bounds(a: list[float], b: list[float]) -> None:
    edges = np.linspace(-1e6, 1e6, 41)
    first, second = drift.histogram(a, edges), drift.histogram(b, edges)
    whole, binned = drift.ks(a, b), drift.ks_binned(first, second)
    assert binned.statistic <= whole.statistic + 1e-12
    assert binned.pvalue >= whole.pvalue - 1e-12
    assert drift.wasserstein_binned(first, second, edges) == pytest.approx(drift.wasserstein(a, b), abs=5e4)
    stood = [np.repeat(np.r_[-1e6, (edges[1:] + edges[:-1]) / 2, 1e6], counts) for counts in (first, second)]
    assert drift.wasserstein_binned(first, second, edges) == pytest.approx(drift.wasserstein(*stood), abs=1e-6)
    assert drift.energy_binned(first, second, edges) == pytest.approx(drift.energy(*stood), abs=1e-6)


def test_long_samples_are_sorted_by_threads_to_the_same() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=60_000), np.round(random.normal(size=70_000), 2)
    a[:3] = 0.0, -0.0, 5e-324
    ordered = [np.sort(values) for values in (a, b)]
    places = np.concatenate(ordered)
    ranks = [np.searchsorted(values, places, "right") / values.size for values in ordered]
    assert drift.ks(a, b).statistic == pytest.approx(np.abs(ranks[0] - ranks[1]).max(), abs=1e-15)
    assert drift.wasserstein(a, b) == drift.wasserstein(*ordered)
    infinite = np.concatenate((a, [math.inf, -math.inf] * 10))
    assert drift.ks(infinite, a).statistic == pytest.approx(10 / infinite.size, abs=1e-12)


def test_rows_are_as_pairs_one_by_one() -> None:
    random = np.random.default_rng(0)
    first, second = random.poisson(1.0, (7, 50_000)), random.poisson(1.1, (7, 50_000))
    expected = [drift.psi(*pair) for pair in zip(first, second, strict=True)]
    assert drift.psi_rows(first, second).tolist() == pytest.approx(expected, abs=1e-12)
    expected = [drift.jensen_shannon(*pair, base=2) for pair in zip(first, second, strict=True)]
    for kind in (np.int64, np.int32, np.float64, np.uint8):
        assert drift.jensen_shannon_rows(first.astype(kind), second, base=2).tolist() == pytest.approx(
            expected, abs=1e-12
        )
    assert (
        drift.psi_rows(first[:, ::2], second[:, ::2]).tolist()
        == drift.psi_rows(first[:, ::2].copy(), second[:, ::2].copy()).tolist()
    )
    assert drift.psi_rows(np.ones((0, 3)), np.ones((0, 3))).size == 0


def test_arrays_of_any_layout_are_taken() -> None:
    values = np.arange(40.0)
    frozen = values.copy()
    frozen.setflags(write=False)
    expected = drift.ks(values[::2].copy(), values[1::3].copy())
    assert drift.ks(values[::2], values[1::3]) == expected
    assert drift.ks(frozen[::2], values[1::3].astype(">f8")) == expected
    assert drift.ks(values[::-2].astype(np.int16), values[1::3].astype(np.float32)).statistic <= 1.0
    assert drift.ks(frozen, frozen).pvalue == 1.0
    assert values.tolist() == list(range(40))


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ([], ValueError, "empty"),
        ([1.0, math.nan], ValueError, "1 NaN among 2"),
        ([[1.0], [2.0]], ValueError, "in one row"),
        (3.0, ValueError, "in one row"),
        (["secret"], TypeError, "real numbers"),
        ([None], TypeError, "real numbers"),
        ([1j], TypeError, "real numbers"),
        (np.array(["2026-01-01"], "datetime64[D]"), TypeError, "real numbers"),
        ([[1.0], [2.0, 3.0]], ValueError, "one length"),
    ],
)
def test_what_is_no_sample_is_refused(wrong: object, error: type[Exception], says: str) -> None:
    for statistic in (drift.ks, drift.wasserstein, drift.energy, drift.wasserstein_normed, drift.paired_counts):
        for pair in ((wrong, [1.0]), ([1.0], wrong)):
            with pytest.raises(error, match=says) as caught:
                statistic(*pair)
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("statistic", [drift.wasserstein, drift.energy, drift.wasserstein_normed, drift.paired_counts])
def test_there_is_no_distance_to_infinity(statistic: object) -> None:
    with pytest.raises(ValueError, match="infinite"):
        statistic([1.0, math.inf], [1.0])


@pytest.mark.parametrize(
    "wrong", [[], [-1, 2], [0, 0], [math.nan, 1], [math.inf, 1], [1e-200, 0], [1.7e308, 1.7e308], [[1, 2]], [1, 2, 3]]
)
def test_what_are_no_counts_is_refused(wrong: list[float]) -> None:
    one = [drift.psi, drift.jensen_shannon, drift.chi_square, drift.chi_square_fit, drift.ks_binned]
    for statistic in [*one, lambda a, b: drift.wasserstein_binned(a, b, [0.0])]:
        for pair in ((wrong, [1, 2]), ([1, 2], wrong)):
            with pytest.raises(ValueError, match=r"count|bins|edges|row"):
                statistic(*pair)
    for statistic in (drift.psi_rows, drift.jensen_shannon_rows):
        with pytest.raises(ValueError, match=r"count|bins|row"):
            statistic([wrong, wrong], [[1, 2], [1, 2]])


def test_options_out_of_range_are_refused() -> None:
    for floor in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="floor"):
            drift.psi([1], [1], floor=floor)
    for base in (1.0, 0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="base"):
            drift.jensen_shannon([1], [1], base=base)
    with pytest.raises(TypeError, match="floor must be a number, not str"):
        drift.psi([1], [1], floor="0.1")
    for edges in ([1.0], [1.0, 1.0], [2.0, 1.0], [0.0, math.inf], [0.0, math.nan]):
        with pytest.raises(ValueError, match="edges"):
            drift.histogram([1.0], edges)
    with pytest.raises(ValueError, match="3 edges make 4 counts"):
        drift.wasserstein_binned([1, 2, 3], [1, 2, 3], [0.0, 1.0, 2.0])


def test_shares_of_next_to_nothing_are_as_none() -> None:
    assert drift.psi([1e-320, 1.0], [0.0, 1.0]) == pytest.approx(0.0, abs=1e-12)
    assert math.isfinite(drift.psi([1e-100, 1.0], [1.0, 1e-100]))
    assert drift.jensen_shannon([1e-320, 1.0], [1.0, 0.0]) == pytest.approx(math.sqrt(math.log(2)))


def test_threads_share_nothing() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=60_000), random.normal(size=60_000)
    counts = random.poisson(3.0, (6, 50_000))
    expected = (drift.ks(a, b), drift.psi_rows(counts, counts[::-1]).tolist())
    found: list[object] = []
    workers = [
        threading.Thread(target=lambda: found.append((drift.ks(a, b), drift.psi_rows(counts, counts[::-1]).tolist())))
        for _ in range(6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert found == [expected] * 6


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, env=here)


def test_the_kernels_say_the_same_with_the_jit_off() -> None:
    program = """
import numpy as np, naive_drift as naive
from llmguard.kernels import change, drift, drift_samples, pvalues
from numba import config
assert config.DISABLE_JIT
random = np.random.default_rng(0)
a, b = random.normal(size=80), np.round(random.normal(size=60), 1)
drift_samples.RADIX = 1
assert abs(drift.ks(a, b).statistic - naive.ks(a.tolist(), b.tolist())) < 1e-12
assert abs(drift.wasserstein(a, b) - naive.wasserstein(a.tolist(), b.tolist())) < 1e-9
edges = [-2.0, -1.0, 0.0, 0.5, 2.0]
x, y = drift.histogram(a, edges), drift.histogram(b, edges)
assert x.tolist() == naive.histogram(a.tolist(), edges)
assert abs(drift.psi(x, y) - naive.psi(x.tolist(), y.tolist())) < 1e-12
assert abs(drift.jensen_shannon(x, y) - naive.jensen_shannon(x.tolist(), y.tolist())) < 1e-12
assert abs(pvalues.ks_pvalue(2 / 3, 3, 4) - naive.ks_exact(2 / 3, 3, 4)) < 1e-12
assert abs(pvalues.ks_pvalue(0.6, 5, 5) - naive.ks_exact(0.6, 5, 5)) < 1e-12
values = np.concatenate((random.normal(size=100), random.normal(3, 1, 100)))
assert change.Cusum(warm_up=20).update_many(values).tolist() == naive.cusum(values.tolist(), 0.5, 8.0, 20)
unit = values / 12 + 0.5
assert change.Adwin().update_many(unit).tolist() == naive.adwin(unit.tolist(), 0.002, 32, 5, 5)
print("same")
"""
    done = run(program, NUMBA_DISABLE_JIT="1")
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


def test_without_numba_the_extra_is_named() -> None:
    program = """
import sys
sys.modules["numba"] = None
from llmguard.errors import MissingExtraError
from llmguard.kernels import change, drift
for call in (
    lambda: drift.psi([1], [1]),
    lambda: drift.ks([1], [1]),
    lambda: drift.chi_square([1, 2], [1, 2]),
    change.Adwin,
    change.Ddm,
):
    try:
        call()
    except MissingExtraError as error:
        print(error.package, error.extra)
"""
    done = run(program)
    assert (done.returncode, done.stdout) == (0, "numba kernels\n" * 5), done.stderr


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=2, max_size=12),
    st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=3), min_size=2, max_size=12),
    st.booleans(),
)
def test_discrepancy_is_that_of_its_definition(
    first: list[list[float]], second: list[list[float]], biased: bool
) -> None:
    found = drift.mmd(first, second, bandwidth=2.0, biased=biased)
    assert found.squared == pytest.approx(naive.mmd(first, second, 2.0, biased=biased), abs=1e-9)
    dealt = drift.mmd(first, second, bandwidth=2.0, biased=biased, permutations=19)
    assert dealt.squared == pytest.approx(found.squared, abs=1e-9)
    assert dealt.pvalue in [place / 20 for place in range(1, 21)]


def test_discrepancy_tells_sources_apart_and_keeps_its_level() -> None:
    random = np.random.default_rng(0)
    same = [
        drift.mmd(random.normal(size=(30, 8)), random.normal(size=(25, 8)), permutations=99).pvalue for _ in range(60)
    ]
    assert sum(pvalue <= 0.1 for pvalue in same) <= 14
    x, y = random.normal(size=(400, 8)), random.normal(0.5, 1.0, (400, 8))
    assert drift.mmd(x, y, permutations=99).pvalue == 0.01
    assert drift.mmd_linear(x, y).pvalue < 0.01
    linear = [drift.mmd_linear(random.normal(size=(200, 4)), random.normal(size=(210, 4))).pvalue for _ in range(60)]
    assert sum(pvalue <= 0.1 for pvalue in linear) <= 14


def test_discrepancy_of_blocks_and_of_seeds() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(100.0, 1.0, (1500, 4)), random.normal(100.0, 1.0, (1100, 4))
    whole = drift.mmd(x, y)
    assert whole.squared == pytest.approx(drift.mmd(x, y, permutations=3, bandwidth=whole.bandwidth).squared, abs=1e-12)
    assert drift.mmd(x, y) == whole
    assert drift.mmd(x, y, seed=1).bandwidth == pytest.approx(whole.bandwidth, rel=0.1)
    assert drift.mmd(np.ones((5, 2)), np.ones((4, 2)), permutations=9).pvalue == 1.0
    assert drift.mmd_linear(np.ones((5, 2)), np.ones((4, 2))).pvalue == 1.0


@pytest.mark.parametrize(
    ("first", "options", "error", "says"),
    [
        (np.ones((1, 2)), {}, ValueError, "at least two vectors"),
        (np.ones(4), {}, ValueError, "at least two vectors"),
        (np.ones((3, 0)), {}, ValueError, "at least two vectors"),
        (np.ones((3, 5)), {}, ValueError, "different dimensions"),
        (np.full((3, 2), math.nan), {}, ValueError, "NaN"),
        (np.full((3, 2), 1e200), {}, ValueError, "1e100"),
        (np.ones((3, 2)), {"bandwidth": 0.0}, ValueError, "bandwidth"),
        (np.ones((3, 2)), {"bandwidth": "1"}, TypeError, "bandwidth"),
        (np.ones((3, 2)), {"permutations": -1}, ValueError, "permutations"),
        (np.ones((3, 2)), {"permutations": True}, TypeError, "permutations"),
        (np.ones((3, 2)), {"seed": -1}, ValueError, "seed"),
        (np.ones((10_001, 2)), {"permutations": 1}, ValueError, "at most 10000"),
    ],
)
def test_what_are_no_vectors_is_refused(
    first: object, options: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        drift.mmd(first, np.ones((4, 2)), **options)


def test_the_linear_discrepancy_wants_four() -> None:
    with pytest.raises(ValueError, match="at least four"):
        drift.mmd_linear(np.ones((3, 2)), np.ones((9, 2)))
