"""How far two samples of numbers are apart: statistics that look at the values themselves."""

from __future__ import annotations

import math
from functools import cache
from threading import Thread
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels import drift_input, pvalues
from llmguard.kernels.drift_counts import Comparison

#: Values from which the radix sort is faster than NumPy's.
RADIX = 2_000
#: Values of each sample from which two threads sort them, about a millisecond each.
PARALLEL = 50_000


def ks(first: ArrayLike, second: ArrayLike) -> Comparison:
    """Kolmogorov-Smirnov's two-sample test: the highest gap between the two distribution functions, two-sided.

    What ``scipy.stats.ks_2samp`` gives by default. See `pvalues.ks_pvalue` for where the p-value is exact.

    Args:
        first: numbers without NaN, infinity among them is as good as any; at least one.
        second: likewise.

    Raises:
        TypeError: they are no real numbers.
        ValueError: none, or NaN among them.
        MissingExtraError: numba is not installed.
    """
    a, b = _ordered(drift_input.sample("first", first), drift_input.sample("second", second))
    statistic = compiled().highest_gap(a, b, 0, a.size, 0, b.size) / (a.size * b.size)
    return Comparison(statistic, pvalues.ks_pvalue(statistic, a.size, b.size))


def wasserstein(first: ArrayLike, second: ArrayLike) -> float:
    """The Wasserstein-1 distance: how far the values of one must be moved in the mean to become the other.

    The integral of the gap between the distribution functions, as ``scipy.stats.wasserstein_distance``.

    Args:
        first: finite numbers; at least one.
        second: likewise.

    Returns:
        In the unit of the values.

    Raises:
        TypeError: they are no real numbers.
        ValueError: none, or NaN or infinity among them.
        MissingExtraError: numba is not installed.
    """
    return float(_areas(first, second)[0])


def wasserstein_normed(reference: ArrayLike, current: ArrayLike) -> float:
    """`wasserstein` in standard deviations of the reference, but of at least 0.001, as Evidently has it.

    Args:
        reference: finite numbers; at least one.
        current: likewise.

    Raises:
        TypeError: they are no real numbers.
        ValueError: none, or NaN or infinity among them.
        MissingExtraError: numba is not installed.
    """
    known = drift_input.sample("reference", reference, finite=True)
    return wasserstein(known, current) / max(float(np.std(known)), 0.001)


def energy(first: ArrayLike, second: ArrayLike) -> float:
    """The energy distance: the root of twice the integral of the squared gap between the distribution functions.

    Székely's (2002), as ``scipy.stats.energy_distance``.

    Args:
        first: finite numbers; at least one.
        second: likewise.

    Returns:
        In the unit of the values' root.

    Raises:
        TypeError: they are no real numbers.
        ValueError: none, or NaN or infinity among them.
        MissingExtraError: numba is not installed.
    """
    return math.sqrt(2.0 * _areas(first, second)[1])


def _areas(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    ordered = _ordered(
        drift_input.sample("first", first, finite=True), drift_input.sample("second", second, finite=True)
    )
    found: tuple[float, float] = compiled().areas(*ordered)
    return found


def _ordered(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both in order: copies."""
    one, two = np.empty_like(first), np.empty_like(second)
    if min(first.size, second.size) < PARALLEL:
        _sort(first, one)
        _sort(second, two)
        return one, two
    other = Thread(target=_sort, args=(first, one))
    other.start()
    _sort(second, two)
    other.join()
    return one, two


def _sort(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    if values.size < RADIX:
        out[:] = np.sort(values)
        return
    compiled().sort(values, np.empty(values.size, np.uint64), np.empty(values.size, np.uint64), out)


@cache
def compiled() -> ModuleType:
    """The kernels, which compile at their import."""
    try:
        from llmguard.kernels import drift_samples_jit
    except ImportError as error:
        raise MissingExtraError("drift statistics", "numba", "kernels") from error
    return drift_samples_jit
