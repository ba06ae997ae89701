"""Sums and distributions of what lies in a sliding window, in memory that does not grow."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence

#: A window is cut into so many equal parts, aligned at 1970; it slides from one to the next.
PARTS = 60
_MOST = 1e300


class Window:
    """What was added within the last seconds: one sum, or how many values fell into each bucket.

    A part holds what came after its begin and up to its end. The window ends with the part that is not over, so it is
    up to one part shorter than it says, and exactly as long when it is read at the end of a part.

    Args:
        seconds: its length.
        bounds: upper ends of buckets, which belong to them; what is more than the last has one more. A sum without.

    Attributes:
        trace: of what was added last, or "".
    """

    __slots__ = ("_bounds", "_last", "_size", "_sums", "_width", "trace")

    def __init__(self, seconds: float, bounds: Sequence[float] = ()) -> None:
        self._width = seconds / PARTS
        self._bounds = bounds
        self._size = len(bounds) + 1
        self._sums = array("d", bytes(8 * PARTS * self._size))
        self._last = -PARTS
        self.trace = ""

    def add(self, at: float, value: float, trace: str = "") -> None:
        """Add a value; what is no finite number, or older than the window, is left out.

        Args:
            at: when, in seconds since 1970.
            value: that is added to the sum, or counted.
            trace: id of the trace that it comes from, or "".
        """
        if not -_MOST < value < _MOST:
            return
        part = math.ceil(at / self._width)
        if part > self._last:
            self._advance(part)
        elif part <= self._last - PARTS:
            return
        if self._size == 1:
            self._sums[part % PARTS] += value
        else:
            self._sums[part % PARTS * self._size + bisect_left(self._bounds, value)] += 1.0
        if trace:
            self.trace = trace

    def sums(self, at: float) -> list[float]:
        """The sum, or for each bucket how many, of the window that ends then; no later one must have been added."""
        self._advance(math.ceil(at / self._width))
        if self._size == 1:
            return [math.fsum(self._sums)]
        return [math.fsum(self._sums[bucket :: self._size]) for bucket in range(self._size)]

    def _advance(self, part: int) -> None:
        for gone in range(max(self._last + 1, part - PARTS + 1), part + 1):
            start = gone % PARTS * self._size
            self._sums[start : start + self._size] = array("d", bytes(8 * self._size))
        self._last = max(self._last, part)


def quantile(share: float, counts: Sequence[float], bounds: Sequence[float]) -> float:
    """The value that a share of all values do not exceed, as ``histogram_quantile`` of Prometheus estimates it.

    Within a bucket values count as evenly spread, from 0 in the first; beyond the last bound it is the last bound.

    Args:
        share: in (0, 1).
        counts: of each bucket, one more than there are bounds.
        bounds: upper ends, rising, the first above 0.

    Returns:
        NaN where there are no values.
    """
    total = math.fsum(counts)
    if total <= 0.0:
        return math.nan
    rank, below = share * total, 0.0
    for index, bound in enumerate(bounds):
        if below + counts[index] >= rank:
            start = bounds[index - 1] if index else 0.0
            return start + (bound - start) * ((rank - below) / counts[index])
        below += counts[index]
    return bounds[-1]
