"""The compiled half of the statistics on samples: sorting floats by their digits, and walks over two sorted rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.drift_kernel import floats, kernel, written

_i = types.int64
_f = types.float64
_keys = types.Array(types.uint64, 1, "C")
_DIGIT = 11
_PLACES = 6
_LAST = np.uint64((1 << _DIGIT) - 1)
_SIGN = np.uint64(1 << 63)
_ALL = np.uint64((1 << 64) - 1)


@kernel(types.void(floats, _keys, _keys, written))
def sort(values: Any, keys: Any, spare: Any, out: Any) -> Any:
    """Writes the values to ``out`` in order: a stable radix sort by six digits of eleven bits, in linear time.

    A float's bits, all turned over where it is negative and the sign alone where it is not, are in the floats' order.
    ``keys`` and ``spare`` are scratch, as long as the values.
    """
    size = values.size
    raw = values.view(np.uint64)
    starts = np.zeros((_PLACES, 1 << _DIGIT), np.int64)
    for i in range(size):
        bits = raw[i]
        key = bits ^ (_ALL if bits & _SIGN else _SIGN)
        keys[i] = key
        for place in range(_PLACES):
            starts[place, (key >> np.uint64(_DIGIT * place)) & _LAST] += 1
    for place in range(_PLACES):
        shift = np.uint64(_DIGIT * place)
        start = starts[place]
        if start[(keys[0] >> shift) & _LAST] == size:
            continue
        before = 0
        for digit in range(start.size):
            here = start[digit]
            start[digit] = before
            before += here
        for i in range(size):
            key = keys[i]
            digit = (key >> shift) & _LAST
            spare[start[digit]] = key
            start[digit] += 1
        keys, spare = spare, keys
    done = out.view(np.uint64)
    for i in range(size):
        key = keys[i]
        done[i] = key ^ (_SIGN if key & _SIGN else _ALL)


@kernel(_i(floats, floats, _i, _i, _i, _i))
def highest_gap(a: Any, b: Any, i: Any, a_end: Any, j: Any, b_end: Any) -> Any:
    """The highest |rank in a * len(b) - rank in b * len(a)| after any value of a[i:a_end] and b[j:b_end], both sorted.

    That by len(a) * len(b) is the gap of the distribution functions, in whole numbers and so exact. No value of the
    ranges may be equal to one outside them.
    """
    n, m = a.size, b.size
    best = 0
    # Without a branch on the values, which the processor would guess wrong every other time.
    while i < a_end - 1 and j < b_end - 1:
        value = min(a[i], b[j])
        i += np.int64(a[i] == value)
        j += np.int64(b[j] == value)
        passed = np.int64(a[i] != value) & np.int64(b[j] != value)
        best = max(best, passed * abs(i * m - j * n))
    while i < a_end and j < b_end:
        value = min(a[i], b[j])
        while i < a_end and a[i] == value:
            i += 1
        while j < b_end and b[j] == value:
            j += 1
        best = max(best, abs(i * m - j * n))
    # Where one row is at its end the gap rises or falls with the other row, so that its ends are its extremes.
    return max(best, abs(a_end * m - b_end * n))


@kernel(types.UniTuple(_f, 2)(floats, floats))  # type: ignore[no-untyped-call]
def areas(a: Any, b: Any) -> Any:
    """The integrals of the gap of the distribution functions of two sorted rows, and of its square."""
    n, m = a.size, b.size
    area = square = 0.0
    i = j = 0
    before = min(a[0], b[0])
    while i < n or j < m:
        value = min(a[i] if i < n else np.inf, b[j] if j < m else np.inf)
        gap = abs(i / n - j / m)
        area += gap * (value - before)
        square += gap * gap * (value - before)
        before = value
        i += i < n and a[i] == value
        j += j < m and b[j] == value
    return area, square
