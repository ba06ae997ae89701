"""The compiled half of the statistics on counts: histograms, and one pass over two rows of counts.

Every loop here that sums is shaped for the compiler's vectoriser: no calls but to `_log`, no early ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.drift_kernel import floats, kernel, marked, wholes

_f = types.float64
_rows = types.Array(types.float64, 2, "C", readonly=True)
_whole_rows = types.Array(types.int64, 2, "C", readonly=True)
_out = types.Array(types.float64, 1, "C")
_LOG_TWO = 0.6931471805599453
# The bits of the root of a half: mantissas are taken from there to the root of two, so that the logarithm of a number
# near one is exact to its last digits.
_ROOT = np.int64(0x3FE6A09E667F3BCD)
_EXPONENT = np.int64(52)
#: The least sum of counts, and the least share that is told from none: beyond them ratios leave the range of `_log`.
LEAST = 1e-150


@kernel(_f(_f))
def _log(x: Any) -> Any:
    """The logarithm of a normal x > 0 to about 1e-15: exponent by bits, mantissa m by 2 atanh((m - 1) / (m + 1)).

    ``math.log`` is a call, and a loop with a call in it is not vectorised: this is four times faster.
    """
    bits = np.float64(x).view(np.int64)
    power = (bits - _ROOT) >> _EXPONENT
    mantissa = np.int64(bits - (power << _EXPONENT)).view(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = 1 / 21
    series = series * z + 1 / 19
    series = series * z + 1 / 17
    series = series * z + 1 / 15
    series = series * z + 1 / 13
    series = series * z + 1 / 11
    series = series * z + 1 / 9
    series = series * z + 1 / 7
    series = series * z + 1 / 5
    series = series * z + 1 / 3
    series = series * z + 1.0
    return np.float64(power) * _LOG_TWO + 2.0 * s * series


@kernel(types.UniTuple(_f, 2)(floats), types.UniTuple(_f, 2)(wholes), loose=True)  # type: ignore[no-untyped-call]
def _extent(counts: Any) -> Any:
    """The sum of counts, NaN where they are none (see `drift_input.check`), and the smallest that is not zero."""
    total = 0.0
    least = np.inf
    wrong = np.int64(0)
    for i in range(counts.size):
        value = np.float64(counts[i])
        total += value
        wrong += np.int64(not value >= 0.0)
        least = min(least, value if value > LEAST else np.inf)
    return np.float64(np.nan if wrong or not LEAST <= total < np.inf else total), least


@kernel(_f(_f))
def _stand_in(least: Any) -> Any:
    """The share that Evidently 0.7 gives to empty bins, from the smallest share of any other."""
    return max(least, LEAST) / 1e6 if least <= 1e-4 else 1e-4


@kernel(_f(floats, floats, _f), _f(wholes, wholes, _f), loose=True)
def psi(expected: Any, observed: Any, floor: Any) -> Any:
    """The population stability index; a floor of 0 takes `_stand_in`'s. NaN where either are no counts."""
    total, least = _extent(expected)
    other, lowest = _extent(observed)
    if np.isnan(total + other):
        return np.nan
    first, second = 1.0 / total, 1.0 / other
    below = floor if floor > 0.0 else _stand_in(least / total)
    beneath = floor if floor > 0.0 else _stand_in(lowest / other)
    result = 0.0
    for i in range(expected.size):
        p = expected[i] * first
        q = observed[i] * second
        p = p if p > LEAST else below
        q = q if q > LEAST else beneath
        result += (p - q) * _log(p / q)
    return result


@kernel(_f(floats, floats), _f(wholes, wholes), loose=True)
def jensen_shannon(expected: Any, observed: Any) -> Any:
    """The Jensen-Shannon divergence in nats. NaN where either are no counts."""
    first = 1.0 / _extent(expected)[0]
    second = 1.0 / _extent(observed)[0]
    if np.isnan(first + second):
        return np.nan
    result = 0.0
    for i in range(expected.size):
        p = expected[i] * first
        q = observed[i] * second
        middle = 0.5 * (p + q)
        result += p * _log(p / middle if p > LEAST else 1.0) + q * _log(q / middle if q > LEAST else 1.0)
    return max(0.0, 0.5 * result)


@kernel(types.void(_rows, _rows, _f, _out), types.void(_whole_rows, _whole_rows, _f, _out))
def psi_rows(expected: Any, observed: Any, floor: Any, out: Any) -> Any:
    """`psi` of each pair of rows."""
    for row in range(out.size):
        out[row] = psi(expected[row], observed[row], floor)


@kernel(types.void(_rows, _rows, _out), types.void(_whole_rows, _whole_rows, _out))
def jensen_shannon_rows(expected: Any, observed: Any, out: Any) -> Any:
    """`jensen_shannon` of each pair of rows."""
    for row in range(out.size):
        out[row] = jensen_shannon(expected[row], observed[row])


@kernel(types.void(floats, floats, marked))
def histogram(values: Any, edges: Any, out: Any) -> Any:
    """Adds to ``out`` [edges + 1] how many values are below the edges, in each bin, and above; NaN is nowhere."""
    last = edges.size - 1
    for value in values:
        low = 0
        width = edges.size
        while width > 1:
            half = width // 2
            low = low + half if edges[low + half] <= value else low
            width -= half
        if value < edges[0]:
            out[0] += 1
        elif value > edges[last]:
            out[last + 1] += 1
        elif value == value:
            out[min(low, last - 1) + 1] += 1


@kernel(types.UniTuple(_f, 3)(floats, floats, floats))  # type: ignore[no-untyped-call]
def cumulated(expected: Any, observed: Any, widths: Any) -> Any:
    """Of the gap between the cumulated shares: the highest, its integral, and that of its square.

    ``widths[i]`` is the way from the place of bin i to that of the next. NaN where either are no counts.
    """
    total, other = _extent(expected)[0], _extent(observed)[0]
    below = beneath = highest = area = square = 0.0
    for i in range(widths.size):
        below += expected[i]
        beneath += observed[i]
        gap = abs(below / total - beneath / other)
        highest = gap if not gap <= highest else highest
        area += gap * widths[i]
        square += gap * gap * widths[i]
    return highest, area, square
