"""When a feature begins to drift, and when it does no longer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from llmguard.detectors.drift_panes import PANES, Panes
from llmguard.kernels.drift import holm


class Change(NamedTuple):
    """A feature that drifts, or does no longer.

    Attributes:
        feature: its name.
        drifting: False when it is over.
        p_value: of the worst window.
        deviation: of the worst window, in standard deviations.
        calls: how many there had been.
    """

    feature: str
    drifting: bool
    p_value: float
    deviation: float
    calls: int


class Alarms:
    """Which features drift: each is told once, and again when a whole window has nothing against it.

    Args:
        level: chance of a false alarm a call, over all features.
    """

    def __init__(self, level: float) -> None:
        self._level = level
        self._quiet: dict[str, int] = {}

    @property
    def drifting(self) -> tuple[str, ...]:
        """The features that drift now."""
        return tuple(self._quiet)

    def clear(self) -> None:
        """No feature drifts any more, since there is another reference."""
        self._quiet = {}

    def look(self, panes: Panes, names: Sequence[str], calls: int, total: int) -> list[Change]:
        """What has changed with the pane that has just ended.

        Args:
            panes: of the window.
            names: of the features.
            calls: in the pane, each of which may take its share of the level.
            total: calls so far.
        """
        looked = panes.look()
        usable = np.flatnonzero(panes.usable).tolist()
        p_values = [looked[at][0] for at in usable]
        hits: Sequence[bool] = [False] * len(usable)
        if min(p_values, default=1.0) <= self._level * calls:
            hits = (holm(p_values) <= self._level * calls).tolist()
        elif not self._quiet:
            return []
        changes = []
        for at, hit in zip(usable, hits, strict=True):
            name, (p, deviation) = names[at], looked[at]
            if hit:
                if name not in self._quiet:
                    changes.append(Change(name, True, p, deviation, total))
                self._quiet[name] = 0
            elif name in self._quiet:
                self._quiet[name] += 1
                if self._quiet[name] >= PANES:
                    del self._quiet[name]
                    changes.append(Change(name, False, p, deviation, total))
        return changes
