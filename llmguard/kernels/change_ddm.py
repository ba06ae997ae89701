"""A rise of a rate of failures: DDM."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.kernels import change_state
from llmguard.kernels.change_summed import Summed


class Ddm(Summed):
    """A rise of a rate of failures: the rate and its deviation leave the lowest they have been far behind.

    The drift detection method of Gama et al. ("Learning with Drift Detection", 2004), but that the lowest rate is taken
    from the first failure on: a row of calls without any proves less than a rate of nothing with no deviation.

    Args:
        drift: how many deviations above the lowest are a change; above 0.
        warning: how many are a warning; above 0 and at most as many.
        warm_up: values before the first alarm; at least 1.

    Raises:
        TypeError: an option is no number.
        ValueError: an option is out of range.
        MissingExtraError: numba is not installed.
    """

    __slots__ = ()

    _KIND = "ddm"
    _NAMES = ("count", "rate", "lowest", "deviation", "warning")

    def __init__(self, *, drift: float = 3.0, warning: float = 2.0, warm_up: int = 30) -> None:
        self.options = {
            "drift": change_state.option("drift", drift, 0.0, change_state.LARGEST),
            "warning": change_state.option("warning", warning, 0.0, math.nextafter(float(drift), math.inf)),
            "warm_up": change_state.count("warm_up", warm_up, 1),
        }
        self._begin(self.options[name] for name in ("warning", "drift", "warm_up"))

    @property
    def warning(self) -> bool:
        """Whether the rate is high, though not yet so high as to be a change."""
        return bool(self._state[4])

    def update(self, value: float) -> bool:
        """Takes one outcome in, from 0 (well) to 1 (failed), bools too; True when failures have become more.

        Raises:
            TypeError: it is no number.
            ValueError: it is NaN or outside [0, 1]; the state is as before.
        """
        outcome = change_state.value(float(value) if isinstance(value, bool) else value)
        if not 0.0 <= outcome <= 1.0:
            raise ValueError(f"an outcome lies in [0, 1], not at {outcome}")
        return super().update(outcome)

    def update_many(self, values: ArrayLike) -> NDArray[np.int64]:
        """Takes outcomes in as `update` would, one by one; the places at which it would have said True.

        Raises:
            TypeError: they are no numbers.
            ValueError: one is NaN or outside [0, 1]; the state is as before.
        """
        row = change_state.values(values)
        if ((row < 0.0) | (row > 1.0)).any():
            raise ValueError("outcomes lie in [0, 1]; at least one is outside")
        return super().update_many(row)
