"""The compiled half of `deviations`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.compiling import kernel

_counts = types.Array(types.int64, 2, "C")
_flags = types.Array(types.boolean, 1, "C")
_out = types.Array(types.float64, 1, "C")


@kernel(types.float64(types.float64, types.float64, types.float64))
def divergence(k: Any, n: Any, share: Any) -> Any:
    """By n the Kullback-Leibler divergence of k / n from a share, in nats."""
    total = 0.0
    if k > 0.0:
        total += k * math.log(k / (n * share))
    if k < n:
        total += (n - k) * math.log((n - k) / (n * (1.0 - share)))
    return total


@kernel(types.float64(types.float64, types.float64, types.float64, types.float64))
def twice_ratio(k0: Any, n0: Any, k1: Any, n1: Any) -> Any:
    """Twice the log likelihood ratio of two shares, the window's count moved by one towards the reference's share."""
    apart = k1 - n1 * k0 / n0
    if abs(apart) <= 1.0:
        return 0.0
    k1 -= 1.0 if apart > 0.0 else -1.0
    pooled = (k0 + k1) / (n0 + n1)
    return 2.0 * (divergence(k1, n1, pooled) + divergence(k0, n0, pooled))


@kernel(types.void(_counts, _counts, types.int64, _flags, _out))
def deviations(reference: Any, ring: Any, newest: Any, ordered: Any, out: Any) -> None:
    """See `deviations.deviations`: the worst over the windows of 1, 2, 4, ... panes."""
    panes = ring.shape[0]
    features, bins = reference.shape
    window = np.zeros(bins)
    for feature in range(features):
        n0 = 0.0
        for bin_ in range(bins):
            n0 += reference[feature, bin_]
        worst = 0.0
        window[:] = 0.0
        n1 = 0.0
        next_look = 1
        for back in range(panes):
            row = (newest - back) % panes
            for bin_ in range(bins):
                count = ring[row, feature * bins + bin_]
                window[bin_] += count
                n1 += count
            if back + 1 != next_look:
                continue
            next_look *= 2
            if n0 == 0.0 or n1 == 0.0:
                continue
            k0 = k1 = 0.0
            for bin_ in range(bins):
                if ordered[feature]:
                    k0 += reference[feature, bin_]
                    k1 += window[bin_]
                else:
                    k0 = float(reference[feature, bin_])
                    k1 = window[bin_]
                worst = max(worst, twice_ratio(k0, n0, k1, n1))
        out[feature] = math.sqrt(worst)
