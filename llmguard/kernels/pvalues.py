"""How surprising a statistic is: p-values of the two-sample tests, and their control when many are read at once."""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.errors import MissingExtraError

#: Sizes up to which the p-value of Kolmogorov-Smirnov's two-sample test is exact, as SciPy chooses.
EXACT = 10_000


def ks_pvalue(statistic: float, first: int, second: int) -> float:
    """The two-sided p-value of Kolmogorov-Smirnov's two-sample statistic.

    Exact while neither sample has more than 10,000 values, then that of one sample of ``first * second / (first +
    second)`` values: what ``scipy.stats.ks_2samp`` gives by default. Ties make it too high, never too low.

    Args:
        statistic: in [0, 1].
        first: values in one sample, at least 1.
        second: values in the other, at least 1.

    Raises:
        TypeError: an argument is no number, or a size no whole one.
        ValueError: an argument is out of range.
        MissingExtraError: numba is not installed.
    """
    d = number("statistic", statistic)
    m, n = whole("first", first), whole("second", second)
    if not 0.0 <= d <= 1.0:
        raise ValueError(f"the statistic of Kolmogorov-Smirnov lies in [0, 1], not {d}")
    jit = compiled()
    if max(m, n) > EXACT:
        return float(jit.kolmogorov(max(1, round(m * n / (m + n))), d))
    common = math.gcd(m, n)
    gap = round(d * (m // common) * n)
    if not gap:
        return 1.0
    # Massart's bound with Wei and Dudley's constant: below every double there is nothing left to count.
    if 2.0 * d * d * m * n / (m + n) > 750.0:
        return 0.0
    return float(jit.equal_sizes(n, gap) if m == n else jit.two_samples(m, n, gap * common))


def chi_square_pvalue(statistic: float, degrees: int) -> float:
    """The probability that a chi-square variable is at least so high: Q(degrees / 2, statistic / 2).

    Args:
        statistic: at least 0; infinity gives 0.
        degrees: of freedom, at least 1.

    Raises:
        TypeError: an argument is no number, or the degrees no whole one.
        ValueError: an argument is out of range.
        MissingExtraError: numba is not installed.
    """
    value = number("statistic", statistic)
    freedom = whole("degrees", degrees)
    if not value >= 0.0:
        raise ValueError(f"the statistic of chi-square is at least 0, not {value}")
    return float(compiled().upper_gamma(freedom / 2.0, value / 2.0))


def holm(pvalues: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted so that the chance of any false alarm among all stays below the level they are compared with.

    The step-down method of Holm ("A Simple Sequentially Rejective Multiple Test Procedure", 1979), which holds
    however the tests depend on each other.

    Args:
        pvalues: [tests], each in [0, 1]; may be empty.

    Raises:
        TypeError: they are no numbers.
        ValueError: one is NaN or outside [0, 1], or they are not in one row.
    """
    values = _pvalues(pvalues)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return _placed(raised, order)


def benjamini_hochberg(pvalues: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted so that of the alarms at most a share as high as the level is expected to be false.

    The step-up method of Benjamini and Hochberg ("Controlling the False Discovery Rate", 1995), which holds for
    tests that are independent or positively dependent.

    Args:
        pvalues: [tests], each in [0, 1]; may be empty.

    Raises:
        TypeError: they are no numbers.
        ValueError: one is NaN or outside [0, 1], or they are not in one row.
    """
    values = _pvalues(pvalues)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * (len(values) / np.arange(1, len(values) + 1))
    return _placed(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _pvalues(pvalues: ArrayLike) -> NDArray[np.float64]:
    try:
        values = np.asarray(pvalues, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError("p-values must be numbers in one row") from error
    if values.ndim != 1:
        raise ValueError(f"p-values must be in one row, not of shape {values.shape}")
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError("p-values lie in [0, 1]; at least one is outside, or NaN")
    return values


def _placed(adjusted: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.float64]:
    placed = np.empty_like(adjusted)
    placed[order] = np.minimum(adjusted, 1.0)
    return placed


def number(name: str, value: Any) -> float:
    """A real number as a float; ``name`` is what the error calls it."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    return float(value)


def whole(name: str, value: Any) -> int:
    """A whole number from 1 on; ``name`` is what the error calls it."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return int(value)


@cache
def compiled() -> ModuleType:
    """The kernels, which compile at their import."""
    try:
        from llmguard.kernels import pvalues_jit
    except ImportError as error:
        raise MissingExtraError("p-values", "numba", "kernels") from error
    return pvalues_jit
