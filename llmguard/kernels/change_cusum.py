"""A step of the mean away from a target, in standard deviations: CUSUM."""

from __future__ import annotations

import math

from llmguard.kernels import change_state
from llmguard.kernels.change_state import LARGEST
from llmguard.kernels.change_summed import Summed


class Cusum(Summed):
    """A step of the mean: standardised distances from a target, less an allowance, summed up on either side.

    Page's tabular scheme (1954), two-sided. With target and deviation known, an allowance of a half and a threshold
    of 8 a false alarm comes once in 9,600 values (Siegmund's approximation, "Sequential Analysis", 1985), a step of
    one deviation is seen after some 17.

    Args:
        allowance: half the step that should be seen, in standard deviations; at least 0.
        threshold: of the sums, in standard deviations; above 0.
        target: the mean to keep to; None to learn it and the deviation from the first values.
        deviation: the standard deviation about the target, above 0; given with a target and only then.
        warm_up: how many values it learns from, at least 2; with a target none.

    Raises:
        TypeError: an option is no number.
        ValueError: an option is out of range, or one of target and deviation is missing.
        MissingExtraError: numba is not installed.
    """

    __slots__ = ()

    _KIND = "cusum"
    _NAMES = ("count", "mean", "squares", "up", "down")

    def __init__(
        self,
        *,
        allowance: float = 0.5,
        threshold: float = 8.0,
        target: float | None = None,
        deviation: float | None = None,
        warm_up: int = 100,
    ) -> None:
        if (target is None) != (deviation is None):
            raise ValueError("a target comes with its deviation: give both, or neither to learn them")
        self.options = {
            "allowance": change_state.option("allowance", allowance, -math.ulp(0.0), LARGEST),
            "threshold": change_state.option("threshold", threshold, 0.0, LARGEST),
            "target": None if target is None else change_state.option("target", target, -LARGEST, LARGEST),
            "deviation": None if deviation is None else change_state.option("deviation", deviation, 0.0, math.inf),
            "warm_up": change_state.count("warm_up", warm_up, 2),
        }
        known = (math.nan, math.nan) if target is None else (self.options["target"], self.options["deviation"])
        learns = self.options["warm_up"] if target is None else 0
        self._begin((self.options["allowance"], self.options["threshold"], learns, *known))
