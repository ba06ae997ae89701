"""The last window of calls in panes, so that a sudden drift shows in the newest and a small one in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.drift_bins import coarse
from llmguard.detectors.drift_summary import Summary
from llmguard.kernels.deviations import deviations, p_value

#: Panes of a window, and how many windows are looked at when one ends: the last pane, the last two, four, and so on.
PANES = 64
_WINDOWS = 7
#: Coarse bins of a feature. More would find narrower changes, and cost each of the others some of its chance.
BINS = 16
#: Fewer values are no reference.
LEAST = 30


class Panes:
    """Counts of the features in coarse bins, one set a pane.

    Args:
        references: what to compare with, one a feature; None where there is nothing yet.
        before: panes whose counts go on: of the same features with the same references, or with none then. New
            features come last.

    Attributes:
        ring: counts, shape [panes, features * bins].
        newest: which pane is counted into.
    """

    def __init__(self, references: Sequence[Summary | None], before: Panes | None = None) -> None:
        count = len(references)
        self.ring: NDArray[np.int64] = np.zeros((PANES, count * BINS), np.int64)
        self.newest = 0
        if before is not None:
            self.ring[:, : before.ring.shape[1]] = before.ring
            self.newest = before.newest
        self._reference = np.zeros((count, BINS), np.int64)
        self._ordered = np.ones(count, np.bool_)
        self._usable = np.zeros(count, np.bool_)
        maps: list[NDArray[np.int64]] = []
        for at, reference in enumerate(references):
            mapped = np.zeros(1, np.int64)
            if reference is not None and reference.n >= LEAST:
                mapped = coarse(reference.layout, reference.counts, BINS)
                self._reference[at] = np.bincount(mapped, weights=reference.counts, minlength=BINS)
                self._ordered[at] = reference.layout.kind != "category"
                self._usable[at] = True
            maps.append(mapped + at * BINS)
        self._ends = np.cumsum([len(mapped) for mapped in maps]) - 1
        self._starts = self._ends - [len(mapped) - 1 for mapped in maps]
        self._map = np.concatenate(maps)
        self._first = np.arange(count) * BINS
        cuts = np.where(self._ordered, BINS - 1, BINS)
        self._tries = [int(own) * _WINDOWS for own in cuts]

    def add(self, places: NDArray[np.int64]) -> None:
        """Count calls into the newest pane.

        Args:
            places: fine bins, -1 where there is no value; shape [calls, features].
        """
        flat = places + self._starts
        # A category that came up after the reference is among the rest; a feature without a reference is not counted.
        flat = np.where(flat > self._ends, self._first, self._map[np.minimum(flat, self._ends)])
        counted = flat[(places >= 0) & self._usable]
        self.ring[self.newest] += np.bincount(counted, minlength=self.ring.shape[1])

    def turn(self, panes: int = 1) -> None:
        """Begin a new pane, in the place of the oldest; more than one after a time without calls."""
        for _ in range(min(panes, PANES)):
            self.newest = (self.newest + 1) % PANES
            self.ring[self.newest] = 0

    def look(self) -> list[tuple[float, float]]:
        """For each feature its p-value over all windows that end now, and the deviation that it comes from."""
        worst = deviations(self._reference, self.ring, self.newest, self._ordered)
        return [(p_value(float(own), tries), float(own)) for own, tries in zip(worst, self._tries, strict=True)]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which features have a reference to be compared with, shape [features]."""
        return self._usable
