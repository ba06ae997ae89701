"""What the statistics of drift accept: a row of numbers, or a row of counts, and clear words about anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

REFERENCE = "the reference's counts"
CURRENT = "the current counts"


def sample(name: str, values: ArrayLike, *, finite: bool = False) -> NDArray[np.float64]:
    """A sample as float64 in one contiguous row; not copied where it already is that.

    Args:
        name: what an error calls it.
        values: numbers without NaN; at least one.
        finite: whether infinity is refused too.

    Raises:
        TypeError: they are no real numbers.
        ValueError: none, NaN among them, infinity where that is refused, or more than one dimension.
    """
    row = _row(name, values)
    if not row.size:
        raise ValueError(f"{name} is empty: a sample has at least one value")
    missing = int(np.count_nonzero(np.isnan(row)))
    if missing:
        raise ValueError(f"{name} holds {missing} NaN among {row.size} values: leave them out, or count them apart")
    if finite and not np.isfinite(row).all():
        raise ValueError(
            f"{name} holds infinite values, between which there is no distance: leave them out or clip them"
        )
    return row


def counts(expected: ArrayLike, observed: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts (or weights) of the same bins as float64, of a reference and of what is compared with it; see `check`.

    Raises:
        TypeError: one of them are no real numbers.
        ValueError: they are not in one row each, or of different bins.
    """
    first, second = _row(REFERENCE, expected), _row(CURRENT, observed)
    same(first, second)
    return first, second


def check(first: NDArray[Any], second: NDArray[Any]) -> None:
    """Refuses counts, in one row or in many, that no shares can be taken of.

    Raises:
        ValueError: there are none, one is below zero, NaN or infinite, or a row's are all zero (or sum up to less than
            1e-150 or more than a float holds).
    """
    for name, values in ((REFERENCE, first), (CURRENT, second)):
        if not values.size:
            raise ValueError(f"{name}: no bins")
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"{name} must be finite and not below zero")
        with np.errstate(over="ignore"):
            totals = values.sum(axis=-1, dtype=np.float64)
        if not ((totals >= 1e-150) & (totals < np.inf)).all():
            raise ValueError(f"{name} are all zero, or sum up to no size that shares can be taken of")


def same(first: NDArray[Any], second: NDArray[Any]) -> None:
    """Refuses counts of different bins.

    Raises:
        ValueError: they are of different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"counts of different bins: {first.shape} and {second.shape}; use the same edges for both")


def edges(values: ArrayLike) -> NDArray[np.float64]:
    """Edges of bins as float64: at least two, rising, finite.

    Raises:
        TypeError: they are no real numbers.
        ValueError: they are too few, not rising or not finite.
    """
    row = _row("edges", values)
    if row.size < 2:
        raise ValueError(f"a histogram has at least two edges, not {row.size}")
    if not np.isfinite(row).all() or not (np.diff(row) > 0).all():
        raise ValueError("edges must be finite and rise from each to the next")
    return row


def _row(name: str, values: ArrayLike) -> NDArray[np.float64]:
    row = reals(name, values)
    if row.ndim != 1:
        raise ValueError(f"{name} must be in one row, not of shape {row.shape}")
    return row


def reals(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Any array of real numbers, contiguous and as float64.

    Raises:
        TypeError: it is none: text, objects, dates and complex numbers are not turned into numbers.
        ValueError: nested rows of different lengths.
    """
    if isinstance(values, np.ndarray):
        array: NDArray[Any] = values
    else:
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} must be numbers in rows of one length") from error
    if array.size and array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers, not {array.dtype}")
    return np.ascontiguousarray(array, np.float64) if array.ndim else np.asarray(array, np.float64)
