"""Whether one of many spans covers a place: asked many times, at the cost of a search each."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable


class Covered:
    """Spans, in any order.

    Args:
        spans: half-open; they may overlap.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(spans)
        self._starts = [start for start, _ in ordered]
        self._ends = list(itertools.accumulate([end for _, end in ordered], max))

    def covers(self, start: int, end: int) -> bool:
        """Whether a span holds all from ``start`` to ``end``."""
        before = bisect.bisect_right(self._starts, start)
        return before > 0 and self._ends[before - 1] >= end
