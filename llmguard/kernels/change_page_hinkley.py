"""A rise or a fall of the mean, summed up against the mean so far: Page-Hinkley."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.kernels import change_state


class PageHinkley:
    """A rise or a fall of the mean: the sum of distances from the mean so far leaves its lowest or highest behind.

    The test of Page ("Continuous Inspection Schemes", 1954) in Hinkley's form (1971).

    Args:
        delta: how far the mean may stray without being summed, in the unit of the values; at least 0.
        threshold: of the sum, in the unit of the values; above 0. With a delta of a twentieth of a standard deviation
            and a threshold of 50 of them one false alarm in 18,500 independent normal values was seen.
        warm_up: values before the first alarm; at least 2.

    Raises:
        TypeError: an option is no number.
        ValueError: an option is out of range.
        MissingExtraError: numba is not installed.
    """

    __slots__ = ("_options", "_state", "_step", "options")

    _NAMES = ("count", "mean", "risen", "lowest", "fallen", "highest")

    def __init__(self, *, delta: float = 0.005, threshold: float = 50.0, warm_up: int = 30) -> None:
        self.options = {
            "delta": change_state.option("delta", delta, -math.ulp(0.0), change_state.LARGEST),
            "threshold": change_state.option("threshold", threshold, 0.0, change_state.LARGEST),
            "warm_up": change_state.count("warm_up", warm_up, 2),
        }
        self._options = np.array(list(self.options.values()), np.float64)
        self._state = np.zeros(len(self._NAMES))
        self._step = change_state.compiled().page_hinkley

    def update(self, value: float) -> bool:
        """Takes one value in; True when the mean has changed.

        Raises:
            TypeError: it is no number.
            ValueError: it is NaN or of more than 1e100; the state is as before.
        """
        found: bool = self._step(self._state, self._options, change_state.value(value))
        return found

    def update_many(self, values: ArrayLike) -> NDArray[np.int64]:
        """Takes values in as `update` would, one by one; the places at which it would have said True.

        Raises:
            TypeError: they are no numbers.
            ValueError: one is NaN or of more than 1e100; the state is as before.
        """
        row = change_state.values(values)
        hits = np.empty(row.size, np.int64)
        return hits[: change_state.compiled().page_hinkley_row(self._state, self._options, row, hits)]

    def state(self) -> dict[str, Any]:
        """All that it knows, as a mapping of plain numbers, fit for JSON."""
        numbers = dict(zip(self._NAMES, self._state.tolist(), strict=True))
        return {"detector": "page_hinkley", "format": change_state.FORMAT, "options": self.options, "state": numbers}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> PageHinkley:
        """The detector that `state` described.

        Raises:
            TypeError: it is no mapping.
            ValueError: it is the state of another detector or format, or was cut short or altered.
        """
        options, numbers = change_state.opened(saved, "page_hinkley")
        made: PageHinkley = change_state.made(cls, options, "page_hinkley")
        made._state = change_state.row(numbers, cls._NAMES, "page_hinkley")
        return made
