"""Histograms whose bins don't depend on the data, so that those of all workers and machines add up exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import ConfigurationError

# Bins of the logarithmic layout: 32 to each doubling, so none is wider than 3.2 % of its value, from a millionth
# (a microsecond, a token's price) to two thousand million. The idea is that of HdrHistogram: a bin is the exponent
# and the first bits of the mantissa, read off the number's own bits.
_MANTISSA_BITS = 5
_SHIFT = 52 - _MANTISSA_BITS
_SMALLEST, _LARGEST = 2.0**-20, 2.0**31
_FIRST = int(np.float64(_SMALLEST).view(np.int64) >> _SHIFT)
_STEPS = int(np.float64(_LARGEST).view(np.int64) >> _SHIFT) - _FIRST
_LINEAR_BINS = 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a number falls.

    Attributes:
        kind: ``log`` from 0 up, ``signed`` for both signs, ``linear`` from ``low`` to ``high``, or ``category``, whose
            numbers are places in a list of names.
        low: of a linear one.
        high: likewise.
    """

    kind: str
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("log", "signed", "linear", "category"):
            raise ConfigurationError(f"there is no layout {self.kind!r} of bins: use log, signed, linear or category")
        if self.kind == "linear" and not (
            math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high
        ):
            raise ConfigurationError(
                f"a feature's range must go from a number to a greater one, not {self.low} to {self.high}"
            )

    @property
    def size(self) -> int:
        """How many bins; a category's grow with its names, from this."""
        return {"log": _STEPS + 2, "signed": 2 * _STEPS + 3, "linear": _LINEAR_BINS + 2, "category": 1}[self.kind]

    def places(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """The bin of each number, all of which are finite, shape [n]."""
        if self.kind == "category":
            return values.astype(np.int64)
        if self.kind == "linear":
            scaled = (values - self.low) * (_LINEAR_BINS / (self.high - self.low))
            # The last bin holds its upper end, so that a score of 1 is inside the range.
            inside = np.minimum(scaled, _LINEAR_BINS - 1) + 1
            placed = np.where(values < self.low, 0, np.where(values > self.high, _LINEAR_BINS + 1, inside))
            return placed.astype(np.int64)
        sizes = np.abs(values) if self.kind == "signed" else np.maximum(values, 0.0)
        steps = (np.maximum(sizes, _SMALLEST / 2).view(np.int64) >> _SHIFT) - (_FIRST - 1)
        steps = np.minimum(np.maximum(steps, 0), _STEPS + 1)
        if self.kind == "signed":
            steps = np.where(values < 0, -steps, steps) + (_STEPS + 1)
        bins: NDArray[np.int64] = steps
        return bins

    def edges(self) -> NDArray[np.float64]:
        """Where one bin ends and the next begins, shape [size - 1]; a category has none."""
        if self.kind == "linear":
            return np.linspace(self.low, self.high, _LINEAR_BINS + 1)
        above = (np.arange(_FIRST, _FIRST + _STEPS + 1, dtype=np.int64) << _SHIFT).view(np.float64)
        return above if self.kind == "log" else np.concatenate((-above[::-1], above))


def coarse(layout: Layout, counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Few bins that hold about the same share of a reference each: for each fine bin the coarse one, shape [size].

    Args:
        layout: of the fine bins.
        counts: of the reference, shape [size].
        most: how many coarse bins, at least 3. Of a category each frequent name has one of its own, and bin 0 the rest.
    """
    if layout.kind == "category":
        mapped = np.zeros(len(counts), np.int64)
        frequent = [place for place in np.argsort(-counts, kind="stable")[: most - 1] if counts[place]]
        mapped[frequent] = np.arange(1, len(frequent) + 1)
        return mapped
    filled = np.flatnonzero(counts)
    if not len(filled):
        return np.zeros(len(counts), np.int64)
    groups = most - 2
    share = int(counts.sum()) / groups
    last_of: list[int] = []
    held = before = 0
    for at in filled:
        # A value that is frequent stands alone.
        if held and held + counts[at] / 2 > share and len(last_of) < groups - 1:
            last_of.append(before)
            held = 0
        held += int(counts[at])
        before = int(at)
    # A group reaches from behind the last value of the one below it to its own last value; what is lower or higher than
    # all that occurred is news, and has a bin of its own.
    borders = np.array([int(filled[0]) - 1, *last_of, int(filled[-1])])
    return np.searchsorted(borders, np.arange(len(counts)), side="left")
