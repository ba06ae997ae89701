"""Is the last window still like the reference? A test that holds for few calls as for many, and for rare values.

Each cut of the bins ("at most this long", or "in this language") splits the calls in two, and the share on one side is
compared between window and reference by the likelihood ratio of two binomials; the worst cut counts. Over all
cuts this is the statistic of Berk and Jones ("Goodness-of-fit test statistics that dominate the Kolmogorov statistics",
1979), which sees a shift of the middle as Kolmogorov and Smirnov's does, and rare values besides.
"""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import MissingExtraError

_SQRT_HALF = math.sqrt(0.5)


def deviations(
    reference: NDArray[np.int64], ring: NDArray[np.int64], newest: int, ordered: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How many standard deviations each feature is from its reference, at its worst cut and in its worst window.

    A deviation is the signed root of the likelihood ratio, with the window's count moved by one towards the
    reference: then its normal tail bounds that of the binomial (Zubkov and Serov, "A complete proof of universal
    inequalities for the distribution function of the binomial law", 2013), and that of drawing without replacement is
    lighter still (Hoeffding, 1963). So small counts raise no false alarms.

    Args:
        reference: counts by feature and bin, shape [features, bins].
        ring: counts by pane, and in it by feature and bin, shape [panes, features * bins]. The windows are the newest
            pane, the newest two, four and so on.
        newest: place of the newest pane; the one before it has the next older calls.
        ordered: which features are numbers, whose cuts lie between bins; of the others each bin is one. [features].

    Returns:
        Shape [features], from 0 up; 0 where there is nothing to compare.

    Raises:
        ValueError: shapes that don't fit.
        MissingExtraError: numba is not installed.
    """
    if reference.ndim != 2 or ring.ndim != 2 or ring.shape[1] != reference.size or ordered.shape != reference.shape[:1]:
        raise ValueError(
            f"shapes that don't fit: references {reference.shape}, panes {ring.shape}, flags {ordered.shape}"
        )
    if not 0 <= newest < len(ring):
        raise ValueError(f"there is no pane {newest} among {len(ring)}")
    out = np.zeros(len(reference))
    compiled().deviations(
        np.ascontiguousarray(reference, np.int64),
        np.ascontiguousarray(ring, np.int64),
        newest,
        np.ascontiguousarray(ordered, np.bool_),
        out,
    )
    return out


def p_value(deviation: float, tries: int) -> float:
    """How likely a deviation of at least this is without drift, when it is the worst of so many cuts and windows.

    Args:
        deviation: from `deviations`.
        tries: how many cuts there were in all windows; by Bonferroni's bound.
    """
    return min(1.0, tries * math.erfc(deviation * _SQRT_HALF))


@cache
def compiled() -> ModuleType:
    """The kernels, which compile at their import."""
    try:
        from llmguard.kernels import deviations_jit
    except ImportError as error:
        raise MissingExtraError("DriftMonitor", "numba", "drift") from error
    return deviations_jit
