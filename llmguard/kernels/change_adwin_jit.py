"""The compiled half of `change_adwin`: a window whose older half is kept in ever coarser buckets, and its cuts.

``heads``: values in the window, their sum, their summed squared distance from the mean, values since the start.
``filled`` [rows]: buckets in each row. ``sums``, ``squares`` [rows, buckets + 1]: of each bucket, oldest first; a
bucket of row r holds 2^r values. Options: delta, clock, least values of either side, buckets of a row.
"""

from __future__ import annotations

import math
from typing import Any

from numba import types

from llmguard.kernels.drift_kernel import floats, kernel, marked, written

_i = types.int64
_table = types.Array(types.float64, 2, "C")


@kernel(types.void(written, marked, _table, _table, types.float64, _i))
def _insert(heads: Any, filled: Any, sums: Any, squares: Any, value: Any, buckets: Any) -> Any:
    if heads[0] > 0.0:
        gap = value - heads[1] / heads[0]
        heads[2] += gap * gap * heads[0] / (heads[0] + 1.0)
    heads[0] += 1.0
    heads[1] += value
    sums[0, filled[0]] = value
    squares[0, filled[0]] = 0.0
    filled[0] += 1
    row = 0
    size = 1.0
    while filled[row] > buckets and row + 1 < filled.size:
        gap = (sums[row, 0] - sums[row, 1]) / size
        above = filled[row + 1]
        sums[row + 1, above] = sums[row, 0] + sums[row, 1]
        squares[row + 1, above] = squares[row, 0] + squares[row, 1] + gap * gap * size / 2.0
        filled[row + 1] += 1
        filled[row] -= 2
        for place in range(filled[row]):
            sums[row, place] = sums[row, place + 2]
            squares[row, place] = squares[row, place + 2]
        row += 1
        size *= 2.0


@kernel(types.void(written, marked, _table, _table, _i))
def _drop(heads: Any, filled: Any, sums: Any, squares: Any, row: Any) -> Any:
    """Lets go of the oldest bucket, which is the first of the highest row."""
    size = 2.0**row
    heads[0] -= size
    heads[1] -= sums[row, 0]
    gap = sums[row, 0] / size - heads[1] / heads[0]
    heads[2] = max(0.0, heads[2] - squares[row, 0] - gap * gap * size * heads[0] / (size + heads[0]))
    filled[row] -= 1
    for place in range(filled[row]):
        sums[row, place] = sums[row, place + 1]
        squares[row, place] = squares[row, place + 1]


@kernel(types.boolean(written, floats, marked, _table, _i))
def _parts(heads: Any, options: Any, filled: Any, sums: Any, top: Any) -> Any:
    """Whether some cut leaves two sides whose means are too far apart (Bifet and Gavaldà, 2007, section 3, eq. 3.1)."""
    least = max(1.0, options[2])
    variance = heads[2] / heads[0]
    doubt = math.log(2.0 * math.log(heads[0]) / options[0])
    older = total = 0.0
    for row in range(top, -1, -1):
        for place in range(filled[row]):
            older += 2.0**row
            total += sums[row, place]
            newer = heads[0] - older
            if newer < least:
                return False
            if older < least:
                continue
            share = 1.0 / older + 1.0 / newer
            bound = math.sqrt(2.0 * share * variance * doubt) + 2.0 / 3.0 * share * doubt
            if abs(total / older - (heads[1] - total) / newer) > bound:
                return True
    return False


@kernel(types.boolean(written, floats, marked, _table, _table, types.float64))
def step(heads: Any, options: Any, filled: Any, sums: Any, squares: Any, value: Any) -> Any:
    """Takes one value in; True when the window was cut."""
    _insert(heads, filled, sums, squares, value, int(options[3]))
    heads[3] += 1.0
    if heads[3] % options[1] != 0.0:
        return False
    top = filled.size - 1
    while top > 0 and not filled[top]:
        top -= 1
    cut = False
    while heads[0] >= 2.0 * options[2] and heads[0] > 2.0 and _parts(heads, options, filled, sums, top):
        _drop(heads, filled, sums, squares, top)
        cut = True
        while top > 0 and not filled[top]:
            top -= 1
    return cut


@kernel(_i(written, floats, marked, _table, _table, floats, marked))
def walk(heads: Any, options: Any, filled: Any, sums: Any, squares: Any, values: Any, hits: Any) -> Any:
    """Steps through values; writes the places of cuts and returns how many there are."""
    found = 0
    for place in range(values.size):
        if step(heads, options, filled, sums, squares, values[place]):
            hits[found] = place
            found += 1
    return found
