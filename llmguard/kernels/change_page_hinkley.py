"""A rise or a fall of the mean, summed up against the mean so far: Page-Hinkley."""

from __future__ import annotations

import math

from llmguard.kernels import change_state
from llmguard.kernels.change_summed import Summed


class PageHinkley(Summed):
    """A rise or a fall of the mean: the sum of distances from the mean so far leaves its lowest or highest behind.

    The test of Page ("Continuous Inspection Schemes", 1954) in Hinkley's form (1971). The defaults are those of MOA and
    river, which watch errors: they are for values in [0, 1]. Scale other values, or give delta and threshold in their
    unit: of independent normal values of deviation 1 the defaults take one in 1,600 for a change, a delta of 0.05 one
    in 18,500.

    Args:
        delta: how far the mean may stray without being summed, in the unit of the values; at least 0.
        threshold: of the sum, in the unit of the values; above 0.
        warm_up: values before the first alarm; at least 2.

    Raises:
        TypeError: an option is no number.
        ValueError: an option is out of range.
        MissingExtraError: numba is not installed.
    """

    __slots__ = ()

    _KIND = "page_hinkley"
    _NAMES = ("count", "mean", "risen", "lowest", "fallen", "highest")

    def __init__(self, *, delta: float = 0.005, threshold: float = 50.0, warm_up: int = 30) -> None:
        self.options = {
            "delta": change_state.option("delta", delta, -math.ulp(0.0), change_state.LARGEST),
            "threshold": change_state.option("threshold", threshold, 0.0, change_state.LARGEST),
            "warm_up": change_state.count("warm_up", warm_up, 2),
        }
        self._begin(self.options.values())
