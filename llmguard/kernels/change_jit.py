"""The compiled half of `change`: one step of each detector, and a walk over a row of values by that same step.

A state is a row of floats that the step writes; the detectors name its places.
"""

from __future__ import annotations

import math
from typing import Any

from numba import types

from llmguard.kernels.drift_kernel import floats, kernel, marked, written

_b = types.boolean
_f = types.float64
_i = types.int64


@kernel(_b(written, floats, _f))
def page_hinkley(state: Any, options: Any, value: Any) -> Any:
    """State: count, mean, risen, lowest, fallen, highest. Options: delta, threshold, warm-up."""
    state[0] += 1.0
    state[1] += (value - state[1]) / state[0]
    gap = value - state[1]
    state[2] += gap - options[0]
    state[3] = min(state[3], state[2])
    state[4] += gap + options[0]
    state[5] = max(state[5], state[4])
    if state[0] < options[2]:
        return False
    if state[2] - state[3] <= options[1] and state[5] - state[4] <= options[1]:
        return False
    state[:] = 0.0
    return True


@kernel(_b(written, floats, _f))
def cusum(state: Any, options: Any, value: Any) -> Any:
    """State: count, mean, squares, up, down. Options: allowance, threshold, warm-up, target, deviation (or NaN)."""
    state[0] += 1.0
    if state[0] <= options[2]:
        gap = value - state[1]
        state[1] += gap / state[0]
        state[2] += gap * (value - state[1])
        return False
    mean, deviation = options[3], options[4]
    if math.isnan(mean):
        mean = state[1]
        deviation = math.sqrt(state[2] / (options[2] - 1.0))
    gap = value - mean
    # Of a constant nothing is known about how far it strays: any other value is a change.
    z = gap / deviation if deviation > 0.0 else (0.0 if gap == 0.0 else math.copysign(math.inf, gap))
    state[3] = max(0.0, state[3] + z - options[0])
    state[4] = max(0.0, state[4] - z - options[0])
    if state[3] <= options[1] and state[4] <= options[1]:
        return False
    state[:] = 0.0
    return True


@kernel(_b(written, floats, _f))
def ddm(state: Any, options: Any, value: Any) -> Any:
    """State: count, rate, least rate, its deviation, warning. Options: warning level, drift level, warm-up."""
    state[0] += 1.0
    state[1] += (value - state[1]) / state[0]
    state[4] = 0.0
    if state[0] < options[2]:
        return False
    rate = state[1]
    deviation = math.sqrt(max(0.0, rate * (1.0 - rate)) / state[0])
    # A least rate of nothing and a deviation of nothing come of calls without one error, which prove less than that.
    if rate > 0.0 and (state[3] == 0.0 or rate + deviation <= state[2] + state[3]):
        state[2] = rate
        state[3] = deviation
    if state[3] == 0.0:
        return False
    if rate + deviation > state[2] + options[1] * state[3]:
        state[:] = 0.0
        return True
    state[4] = 1.0 if rate + deviation > state[2] + options[0] * state[3] else 0.0
    return False


_walk = _i(written, floats, floats, marked)


@kernel(_walk)
def page_hinkley_row(state: Any, options: Any, values: Any, hits: Any) -> Any:
    """Steps through values; writes the places of changes and returns how many there are."""
    found = 0
    for place in range(values.size):
        if page_hinkley(state, options, values[place]):
            hits[found] = place
            found += 1
    return found


@kernel(_walk)
def cusum_row(state: Any, options: Any, values: Any, hits: Any) -> Any:
    """Steps through values; writes the places of changes and returns how many there are."""
    found = 0
    for place in range(values.size):
        if cusum(state, options, values[place]):
            hits[found] = place
            found += 1
    return found


@kernel(_walk)
def ddm_row(state: Any, options: Any, values: Any, hits: Any) -> Any:
    """Steps through values; writes the places of changes and returns how many there are."""
    found = 0
    for place in range(values.size):
        if ddm(state, options, values[place]):
            hits[found] = place
            found += 1
    return found
