"""The compiled half of `tokens_odds`: what log probabilities of tokens come to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.compiling import kernel

_i = types.int64
_f = types.float64
_row = types.Array(types.float64, 1, "C", readonly=True)
_rows = types.Array(types.float64, 2, "C", readonly=True)
_out = types.Array(types.float64, 1, "C")
_places = types.Array(types.int64, 1, "C")

#: Bits that a surprise counts for in the mean of its window, at most: an impossible token must not hide all later ones.
_MOST = 64.0


@kernel(types.UniTuple(_f, 3)(_row), nogil=True)  # type: ignore[no-untyped-call]
def confidence(logs: Any) -> Any:
    """The sum of logarithms, the sum of probabilities, and the smallest logarithm."""
    total = chances = 0.0
    least = np.inf
    for place in range(len(logs)):
        total += logs[place]
        chances += np.exp(logs[place])
        least = min(least, logs[place])
    return total, chances, least


@kernel(types.void(_rows, _out), nogil=True)
def top_entropy(logs: Any, out: Any) -> None:
    """For each row the entropy in bits of its probabilities and of what is missing to 1, as one more outcome."""
    for row in range(logs.shape[0]):
        rest = 1.0
        bits = 0.0
        for column in range(logs.shape[1]):
            share = np.exp(logs[row, column])
            rest -= share
            if share > 0.0:
                bits -= share * logs[row, column]
        bits /= np.log(2.0)
        if rest > 0.0:
            bits -= rest * np.log2(rest)
        out[row] = max(0.0, bits)


@kernel(_i(_row, _i, _i, _f, _f, _places), nogil=True)
def spikes(bits: Any, window: Any, least: Any, deviations: Any, floor: Any, out: Any) -> Any:
    """Places whose surprise stands out from those right before them; how many.

    Args:
        bits: surprise of each token.
        window: how many tokens before it a token is compared with, at most.
        least: how many there must be.
        deviations: standard deviations above their mean from which it stands out.
        floor: bits that it must have.
        out: [bits], written.
    """
    found = 0
    for place in range(least, len(bits)):
        if bits[place] < floor:
            continue
        first = max(0, place - window)
        number = place - first
        mean = 0.0
        for before in range(first, place):
            mean += min(bits[before], _MOST)
        mean /= number
        spread = 0.0
        for before in range(first, place):
            step = min(bits[before], _MOST) - mean
            spread += step * step
        if min(bits[place], _MOST) > mean + deviations * np.sqrt(spread / number):
            out[found] = place
            found += 1
    return found
