"""Drift: statistics of samples and histograms against NumPy, SciPy and Evidently; detectors of change, a value."""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.timing import row
from llmguard.kernels import change, drift

PAIRS, BINS = 1_000, 50_000
DISTINCT = 20
ROWS, COLUMNS = 10_000, 5
LONG = 1_000_000


def fastest(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest call of each, taken in turn after one that does not count."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def numpy_psi(expected: np.ndarray, observed: np.ndarray) -> float:
    p, q = expected / expected.sum(), observed / observed.sum()
    p, q = np.where(p > 0, p, 1e-6), np.where(q > 0, q, 1e-6)
    return float(np.sum((p - q) * np.log(p / q)))


def numpy_jensen_shannon(expected: np.ndarray, observed: np.ndarray) -> float:
    p, q = expected / expected.sum(), observed / observed.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(p > 0, p * np.log(p / middle), 0.0)
        right = np.where(q > 0, q * np.log(q / middle), 0.0)
    return float(np.sqrt(max(0.0, (left.sum() + right.sum()) / 2)))


def histograms() -> bool:
    random = np.random.default_rng(0)
    # A thousand different pairs would be 800 MB: twenty, each taken fifty times over, lie as far beyond the cache.
    first, second = (random.poisson(rate, (DISTINCT, BINS)) for rate in (3.0, 3.2))
    times = PAIRS // DISTINCT
    numpys = {"psi": numpy_psi, "jensen_shannon": numpy_jensen_shannon}
    ours = {"psi": drift.psi_rows, "jensen_shannon": drift.jensen_shannon_rows}
    held = True
    for name, peer in numpys.items():
        took = fastest(
            {
                "ours": lambda name=name: [ours[name](first, second) for _ in range(times)],
                "numpy": lambda peer=peer: [
                    peer(*pair) for _ in range(times) for pair in zip(first, second, strict=True)
                ],
            },
            3,
        )
        ratio = took["numpy"] / took["ours"]
        held &= row(
            f"{name}, {PAIRS:,} pairs of {BINS:,} bins",
            f"{took['ours'] * 1e3:.1f} ms",
            f"NumPy {took['numpy'] * 1e3:.0f} ms: {ratio:.1f} times",
            ">= 5",
            holds=ratio >= 5,
        )
    return held


def long_samples() -> bool:
    from scipy import stats

    random = np.random.default_rng(0)
    a, b = random.normal(size=LONG), random.normal(0.001, 1.0, LONG)
    took = fastest({"ours": lambda: drift.ks(a, b), "scipy": lambda: stats.ks_2samp(a, b)}, 3)
    ratio = took["scipy"] / took["ours"]
    held = row(
        "Kolmogorov-Smirnov, a million against a million",
        f"{took['ours'] * 1e3:.1f} ms",
        f"SciPy {took['scipy'] * 1e3:.0f} ms: {ratio:.1f} times",
        ">= 2",
        holds=ratio >= 2,
    )
    took = fastest({"ours": lambda: drift.wasserstein(a, b), "scipy": lambda: stats.wasserstein_distance(a, b)}, 3)
    row("Wasserstein, the same", f"{took['ours'] * 1e3:.1f} ms", f"SciPy {took['scipy'] / took['ours']:.1f} times")
    return held


def five(first: np.ndarray, second: np.ndarray) -> list[float]:
    counts = drift.paired_counts(first, second)
    return [
        drift.psi(*counts),
        drift.jensen_shannon(*counts),
        drift.chi_square(*counts).pvalue,
        drift.ks(first, second).pvalue,
        drift.wasserstein_normed(first, second),
    ]


def preset() -> bool:
    if importlib.util.find_spec("evidently") is None:
        return row("five statistics, 10,000 rows by 5 columns", "", "Evidently is not installed")
    os.environ["DO_NOT_TRACK"] = "1"
    warnings.simplefilter("ignore")
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    random = np.random.default_rng(0)
    first, second = random.normal(size=(ROWS, COLUMNS)), random.normal(0.05, 1.0, (ROWS, COLUMNS))
    names = list("abcde")
    frames = [pd.DataFrame(values, columns=names) for values in (second, first)]
    took = fastest(
        {
            "ours": lambda: [five(*pair) for pair in zip(first.T, second.T, strict=True)],
            "evidently": lambda: Report([DataDriftPreset()]).run(*frames),
        },
        5,
    )
    ratio = took["evidently"] / took["ours"]
    return row(
        "five statistics, 10,000 rows by 5 columns",
        f"{took['ours'] * 1e3:.2f} ms",
        f"Evidently's preset {took['evidently'] * 1e3:.0f} ms: {ratio:.0f} times",
        ">= 50",
        holds=ratio >= 50,
    )


def detectors() -> None:
    values = np.random.default_rng(0).uniform(size=100_000)
    listed = values[:1_000].tolist()
    for kind in (change.Adwin, change.Cusum, change.Ddm, change.PageHinkley):
        detector = kind()
        took = fastest(
            {
                "one": lambda detector=detector: [detector.update(value) for value in listed],
                "many": lambda detector=detector: detector.update_many(values),
            },
            3,
        )
        row(
            f"{kind.__name__}, a value",
            f"{took['one'] * 1e3:.2f} us",
            f"in bulk {took['many'] / values.size * 1e9:.1f} ns",
        )


def false_alarms() -> None:
    values = np.random.default_rng(0).normal(size=LONG)
    shares = (values - values.min()) / (values.max() - values.min())
    failed = (np.random.default_rng(0).uniform(size=LONG) < 0.1).astype(np.float64)
    for name, detector, watched in (
        ("Cusum()", change.Cusum(), values),
        ("Cusum(threshold=10)", change.Cusum(threshold=10.0), values),
        ("PageHinkley()", change.PageHinkley(), values),
        ("PageHinkley(delta=0.05)", change.PageHinkley(delta=0.05), values),
        ("PageHinkley(), scaled to [0, 1]", change.PageHinkley(), shares),
        ("Adwin(), scaled to [0, 1]", change.Adwin(), shares),
        ("Ddm(), a rate of 0.1", change.Ddm(), failed),
    ):
        row(f"{name}, false alarms in a million", str(len(detector.update_many(watched))))


def main() -> bool:
    held = histograms()
    held &= long_samples()
    held &= preset()
    detectors()
    false_alarms()
    return held


if __name__ == "__main__":
    main()
