"""How far two histograms of the same bins are apart.

Counts are plain arrays, one number a bin. Histograms of the same edges merge exactly: by ``+``.
"""

from __future__ import annotations

import math
from functools import cache
from threading import Thread
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels import drift_input, pvalues

#: Bins from which rows are computed by two threads, about half a millisecond.
PARALLEL = 250_000


class Comparison(NamedTuple):
    """What a test says.

    Attributes:
        statistic: how far apart; what that means is the test's.
        pvalue: the chance of a statistic at least as high if both come from the same source.
    """

    statistic: float
    pvalue: float


def histogram(values: ArrayLike, edges: ArrayLike) -> NDArray[np.int64]:
    """How many values are below the first edge, in each bin, and above the last edge.

    A bin holds its lower edge and not its upper one; the last holds both: ``histogram(...)[1:-1]`` is
    ``numpy.histogram``'s. Counts of the same edges merge by ``+``, to the histogram of all the values.

    Args:
        values: numbers without NaN; may be empty.
        edges: at least two, rising, finite.

    Returns:
        int64 [edges + 1].

    Raises:
        TypeError: values or edges are no real numbers.
        ValueError: NaN among the values, or edges that don't rise.
        MissingExtraError: numba is not installed.
    """
    bounds = drift_input.edges(edges)
    row = drift_input.reals("values", values).reshape(-1)
    if row.size:
        row = drift_input.sample("values", row)
    out = np.zeros(bounds.size + 1, np.int64)
    compiled().histogram(row, bounds, out)
    return out


def psi(expected: ArrayLike, observed: ArrayLike, *, floor: float | None = None) -> float:
    """The population stability index: the sum of (p - q) log(p / q) over the bins' shares p and q.

    Of credit scoring (Siddiqi, "Credit Risk Scorecards", 2006), where 0.1 counts as a small change and 0.25 as a
    large one; it is Jeffreys' divergence. For windows of a few hundred values add a half to every count first, or
    empty bins rule.

    Args:
        expected: counts of the reference, one a bin; weights are as good.
        observed: counts of the same bins.
        floor: the share that stands for an empty bin. None takes what Evidently 0.7 does: 0.0001, or a millionth of the
            smallest share where that is 0.0001 or less.

    Raises:
        TypeError: an argument is no number or holds none.
        ValueError: counts below zero, all zero, not finite, or of different bins; a floor outside (0, 1).
        MissingExtraError: numba is not installed.
    """
    first, second = drift_input.counts(expected, observed)
    return _sound(compiled().psi(first, second, share_of_none(floor)), first, second)


def psi_rows(expected: ArrayLike, observed: ArrayLike, *, floor: float | None = None) -> NDArray[np.float64]:
    """`psi` of each pair of rows: [pairs, bins] and [pairs, bins] give [pairs]; large ones by two threads.

    Raises:
        TypeError: as `psi`.
        ValueError: as `psi`, or they are not rows of the same number.
        MissingExtraError: numba is not installed.
    """
    first, second = _rows(expected, observed)
    return _each(compiled().psi_rows, first, second, share_of_none(floor))


def jensen_shannon(expected: ArrayLike, observed: ArrayLike, *, base: float = math.e) -> float:
    """The Jensen-Shannon distance: the root of the divergence, as SciPy's and Evidently's.

    The divergence is the mean of the Kullback-Leibler divergences of both from their middle (Lin, "Divergence
    Measures Based on the Shannon Entropy", 1991): its square. A distance: it is symmetric, obeys the triangle
    inequality and needs no floor for empty bins.

    Args:
        expected: counts of the reference, one a bin; weights are as good.
        observed: counts of the same bins.
        base: of the logarithm: with e it lies in [0, 0.8326], with 2 in [0, 1].

    Raises:
        TypeError: an argument is no number or holds none.
        ValueError: counts below zero, all zero, not finite, or of different bins; a base of 1 or less.
        MissingExtraError: numba is not installed.
    """
    unit = unit_of(base)
    first, second = drift_input.counts(expected, observed)
    return math.sqrt(_sound(compiled().jensen_shannon(first, second), first, second) / unit)


def jensen_shannon_rows(expected: ArrayLike, observed: ArrayLike, *, base: float = math.e) -> NDArray[np.float64]:
    """`jensen_shannon` of each pair of rows: [pairs, bins] and [pairs, bins] give [pairs]; large ones by two threads.

    Raises:
        TypeError: as `jensen_shannon`.
        ValueError: as `jensen_shannon`, or they are not rows of the same number.
        MissingExtraError: numba is not installed.
    """
    unit = unit_of(base)
    first, second = _rows(expected, observed)
    return np.sqrt(_each(compiled().jensen_shannon_rows, first, second) / unit)


def chi_square(first: ArrayLike, second: ArrayLike) -> Comparison:
    """Pearson's chi-square test that two histograms of counts come from the same source.

    What ``scipy.stats.chi2_contingency([first, second], correction=False)`` gives. Bins that are empty in both don't
    count; the approximation wants about five values a bin.

    Args:
        first: counts, one a bin.
        second: counts of the same bins.

    Raises:
        TypeError: they are no numbers.
        ValueError: counts below zero, all zero, not finite, or of different bins.
        MissingExtraError: numba is not installed.
    """
    one, two = drift_input.counts(first, second)
    drift_input.check(one, two)
    both = one + two
    filled = both > 0
    one, two, both = one[filled], two[filled], both[filled]
    n, m = one.sum(), two.sum()
    # The usual sum over both rows of (observed - expected)^2 / expected, brought to one term a bin.
    return _tested(float(np.sum((m * one - n * two) ** 2 / both) / (n * m)), both.size)


def chi_square_fit(expected: ArrayLike, observed: ArrayLike) -> Comparison:
    """Pearson's chi-square test that counts follow the shares of a reference, which is taken as known exactly.

    What Evidently's ``chisquare`` gives, and SciPy's with the reference scaled to the same total. A reference of no
    more values than what is compared with it is not exact: `chi_square` is the test of two samples. A value in a bin
    where the reference has none makes the statistic infinite.

    Args:
        expected: counts of the reference, one a bin.
        observed: counts of the same bins.

    Raises:
        TypeError: they are no numbers.
        ValueError: counts below zero, all zero, not finite, or of different bins.
        MissingExtraError: numba is not installed.
    """
    reference, current = drift_input.counts(expected, observed)
    drift_input.check(reference, current)
    filled = (reference > 0) | (current > 0)
    reference, current = reference[filled], current[filled]
    if not reference.all():
        return Comparison(math.inf, 0.0)
    due = reference * (current.sum() / reference.sum())
    return _tested(float(np.sum((current - due) ** 2 / due)), due.size)


def _tested(statistic: float, bins: int) -> Comparison:
    return Comparison(statistic, pvalues.chi_square_pvalue(statistic, bins - 1) if bins > 1 else 1.0)


def _sound(value: float, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """What a kernel said; where it found no counts to take shares of, the error that says why."""
    if math.isnan(value):
        drift_input.check(first, second)
    return float(value)


def _rows(expected: ArrayLike, observed: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Counts in rows, both as int64 or both as float64."""
    first, second = _table(drift_input.REFERENCE, expected), _table(drift_input.CURRENT, observed)
    drift_input.same(first, second)
    if first.dtype != second.dtype:
        first, second = first.astype(np.float64), second.astype(np.float64)
    return first, second


def _table(name: str, values: ArrayLike) -> NDArray[Any]:
    whole = isinstance(values, np.ndarray) and values.dtype == np.int64
    table = np.ascontiguousarray(values) if whole else drift_input.reals(name, values)
    if table.ndim != 2:
        raise ValueError(f"{name} must be rows [pairs, bins], not of shape {table.shape}")
    return table


def _each(rows: Any, first: NDArray[Any], second: NDArray[Any], *options: float) -> NDArray[np.float64]:
    out = np.empty(len(first))
    half = len(out) // 2 if first.size >= PARALLEL else 0
    other = Thread(target=rows, args=(first[:half], second[:half], *options, out[:half]))
    if half:
        other.start()
    rows(first[half:], second[half:], *options, out[half:])
    if half:
        other.join()
    if np.isnan(out).any():
        drift_input.check(first, second)
    return out


def share_of_none(floor: float | None) -> float:
    """The ``floor`` of `psi` as the kernels take it: 0 for None.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside (0, 1).
    """
    if floor is None:
        return 0.0
    value = pvalues.number("floor", floor)
    if not 0.0 < value < 1.0:
        raise ValueError(f"floor is a share between 0 and 1, not {value}")
    return value


def unit_of(base: float) -> float:
    """The natural logarithm of the base of a logarithm.

    Raises:
        TypeError: it is no number.
        ValueError: it is 1 or less, or not finite.
    """
    value = pvalues.number("base", base)
    if not 1.0 < value < math.inf:
        raise ValueError(f"the base of a logarithm must be above 1 and finite, not {value}")
    return math.log(value)


@cache
def compiled() -> ModuleType:
    """The kernels, which compile at their import."""
    try:
        from llmguard.kernels import drift_counts_jit
    except ImportError as error:
        raise MissingExtraError("drift statistics", "numba", "kernels") from error
    return drift_counts_jit
