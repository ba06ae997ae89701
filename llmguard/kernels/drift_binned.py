"""Statistics of samples where only their histograms are left: near those of the values, and by how much is known."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from llmguard.kernels import drift_counts, drift_input, pvalues
from llmguard.kernels.drift_counts import Comparison


def ks_binned(first: ArrayLike, second: ArrayLike) -> Comparison:
    """Kolmogorov-Smirnov's test where only histograms are left: the highest gap of the cumulated counts at an edge.

    Never above that of the values, and below it by no more than the largest share of a bin; so the p-value is never
    too low.

    Args:
        first: counts, one a bin in the order of the values (what `histogram` returns).
        second: counts of the same bins.

    Raises:
        TypeError: they are no numbers.
        ValueError: counts below zero, all zero, not finite, or of different bins.
        MissingExtraError: numba is not installed.
    """
    one, two = drift_input.counts(first, second)
    drift_input.check(one, two)
    highest = min(1.0, drift_counts.compiled().cumulated(one, two, np.zeros(one.size - 1))[0])
    sizes = [max(1, round(float(counts.sum()))) for counts in (one, two)]
    return Comparison(highest, pvalues.ks_pvalue(highest, *sizes))


def wasserstein_binned(first: ArrayLike, second: ArrayLike, edges: ArrayLike) -> float:
    """The Wasserstein-1 distance of two histograms, each bin's values taken to stand in its middle.

    Off by at most the width of the widest bin, while no value is below the first edge or above the last: those are
    taken to stand on it.

    Args:
        first: counts of `histogram`.
        second: counts of the same bins.
        edges: theirs, one fewer than counts.

    Returns:
        In the unit of the edges.

    Raises:
        TypeError: they are no numbers.
        ValueError: counts below zero, all zero, not finite, or not of these edges.
        MissingExtraError: numba is not installed.
    """
    return float(_cumulated(first, second, edges)[1])


def energy_binned(first: ArrayLike, second: ArrayLike, edges: ArrayLike) -> float:
    """The energy distance of two histograms, each bin's values taken to stand in its middle.

    Args:
        first: counts of `histogram`.
        second: counts of the same bins.
        edges: theirs, one fewer than counts.

    Returns:
        In the unit of the edges' root.

    Raises:
        TypeError: they are no numbers.
        ValueError: counts below zero, all zero, not finite, or not of these edges.
        MissingExtraError: numba is not installed.
    """
    return math.sqrt(2.0 * _cumulated(first, second, edges)[2])


def _cumulated(first: ArrayLike, second: ArrayLike, edges: ArrayLike) -> tuple[float, float, float]:
    one, two = drift_input.counts(first, second)
    drift_input.check(one, two)
    bounds = drift_input.edges(edges)
    if one.size != bounds.size + 1:
        raise ValueError(
            f"{bounds.size} edges make {bounds.size + 1} counts (with those below and above), not {one.size}"
        )
    middles = (bounds[1:] + bounds[:-1]) / 2
    places = np.concatenate((bounds[:1], middles, bounds[-1:]))
    gaps: tuple[float, float, float] = drift_counts.compiled().cumulated(one, two, np.diff(places))
    return gaps
