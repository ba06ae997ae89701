"""The compiled half of `tokens`: histograms, entropy, repetition, spans that come again, gaps.

Imported by `tokens` when a kernel is first wanted, since numba takes a third of a second. Ids are int64, save where a
histogram reads int32 as it is. tests/kernels/naive.py says the same again, slowly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.compiling import kernel

_i = types.int64
_f = types.float64
_narrow = types.Array(types.int32, 1, "C", readonly=True)
_wide = types.Array(types.int64, 1, "C", readonly=True)
_counts = types.Array(types.int64, 1, "C")
_parts = types.Array(types.uint32, 1, "C")
_table = types.Array(types.float64, 1, "C", readonly=True)
_hashes = types.Array(types.uint64, 1, "C")
_pair = types.UniTuple(_i, 2)  # type: ignore[no-untyped-call]
_triple = types.UniTuple(_i, 3)  # type: ignore[no-untyped-call]

# The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _61 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(61)
_LOW_30, _LOW_31 = np.uint64((1 << 30) - 1), np.uint64((1 << 31) - 1)
#: The Mersenne prime 2^61 - 1: a product modulo it needs no division.
_PRIME = np.uint64((1 << 61) - 1)
_ONE = np.uint64(1)


@kernel(types.uint64(types.uint64))
def mixed(value: Any) -> Any:
    """A bijection of 64 bits in which every bit of the result hangs on every bit of the value."""
    value = (value ^ (value >> _30)) * _MIX_1
    value = (value ^ (value >> _27)) * _MIX_2
    return value ^ (value >> _31)


@kernel(_i(_narrow, _parts), _i(_wide, _parts), nogil=True)
def count(ids: Any, counts: Any) -> Any:
    """Adds one for each id to ``counts``; how many were out of its range."""
    size = np.uint64(len(counts))
    outside = 0
    # From 0 on: of any other range numba takes it that places may be negative, which costs a third more.
    for place in range(len(ids)):
        at = np.uint64(ids[place])
        if at < size:
            counts[at] += np.uint32(1)
        else:
            outside += 1
    return outside


@kernel(_f(_narrow, _counts, _table), _f(_wide, _counts, _table))
def count_few(ids: Any, counts: Any, logs: Any) -> Any:
    """`count` and the entropy of it, for fewer ids than ``logs`` has logarithms; -1 where one is out of range.

    The entropy of n ids is log n less the mean over the ids of the logarithm of their count: no look at empty bins.
    """
    size = np.uint64(len(counts))
    for place in range(len(ids)):
        at = np.uint64(ids[place])
        if at >= size:
            return -1.0
        counts[at] += 1
    total = 0.0
    for place in range(len(ids)):
        total += logs[counts[ids[place]]]
    return max(0.0, logs[len(ids)] - total / len(ids)) if len(ids) else 0.0


@kernel(_f(types.Array(types.int64, 1, "C", readonly=True)), nogil=True)
def entropy(counts: Any) -> Any:
    """Shannon's entropy in bits of counts that are not negative; 0 where all are 0."""
    total = 0
    for place in range(len(counts)):
        total += counts[place]
    if total == 0:
        return 0.0
    scale = 1.0 / total
    bits = 0.0
    for place in range(len(counts)):
        if counts[place] > 0:
            share = counts[place] * scale
            bits -= share * np.log2(share)
    return max(0.0, bits)


@kernel(_i(_wide, _i, types.uint64, _counts), nogil=True)
def distinct(ids: Any, n: Any, seed: Any, slots: Any) -> Any:
    """How many different runs of ``n`` ids there are.

    Args:
        ids: the sequence.
        n: ids of a run.
        seed: makes collisions unpredictable; the answer does not hang on it.
        slots: [a power of two, at least twice the number of runs], all -1; afterwards the places of first runs.
    """
    mask = np.uint64(len(slots) - 1)
    found = 0
    for start in range(len(ids) - n + 1):
        value = seed
        for place in range(start, start + n):
            value = mixed((value ^ np.uint64(ids[place])) + _GOLDEN)
        slot = value & mask
        while True:
            known = slots[slot]
            if known < 0:
                slots[slot] = start
                found += 1
                break
            same = True
            for offset in range(n):
                if ids[known + offset] != ids[start + offset]:
                    same = False
                    break
            if same:
                break
            slot = (slot + _ONE) & mask
    return found


@kernel(types.uint64(types.uint64, types.uint64))
def _times(a: Any, b: Any) -> Any:
    """The product modulo 2^61 - 1 of two numbers below it, by halves of 31 and 30 bits."""
    a_high, a_low, b_high, b_low = a >> _31, a & _LOW_31, b >> _31, b & _LOW_31
    middle = a_low * b_high + a_high * b_low
    product = ((a_high * b_high) << _ONE) + (middle >> _30) + ((middle & _LOW_30) << _31) + a_low * b_low
    product = (product & _PRIME) + (product >> _61)
    return product - _PRIME if product >= _PRIME else product


@kernel(_pair(_wide, _hashes, types.uint64, _i, _counts), nogil=True)
def _again(ids: Any, sums: Any, power: Any, length: Any, slots: Any) -> Any:
    """Where the first run of that many ids stands that stood earlier, and where; (-1, -1) without one."""
    mask = np.uint64(len(slots) - 1)
    slots[:] = -1
    for start in range(len(ids) - length + 1):
        value = sums[start + length] + _PRIME - _times(sums[start], power)
        value = value - _PRIME if value >= _PRIME else value
        slot = mixed(value) & mask
        while slots[slot] >= 0:
            known = slots[slot]
            same = True
            for offset in range(length):
                if ids[known + offset] != ids[start + offset]:
                    same = False
                    break
            if same:
                return known, start
            slot = (slot + _ONE) & mask
        slots[slot] = start
    return -1, -1


@kernel(_triple(_wide, types.uint64, _hashes, _counts), nogil=True)
def longest(ids: Any, base: Any, sums: Any, slots: Any) -> Any:
    """The longest run that stands in two places: its length and the places, by bisection over the lengths.

    If a run comes again, each shorter one does. Polynomial hashes modulo 2^61 - 1 (Karp and Rabin, 1987) say where
    to look, and each hit is compared id by id.

    Args:
        ids: the sequence.
        base: of the polynomial, random: nobody can make runs collide.
        sums: [ids + 1], written.
        slots: [a power of two, at least twice the ids], written.
    """
    sums[0] = np.uint64(0)
    for place in range(len(ids)):
        value = _times(sums[place], base) + mixed(np.uint64(ids[place])) % _PRIME
        sums[place + 1] = value - _PRIME if value >= _PRIME else value
    low, high = 0, len(ids)
    first = second = -1
    while high - low > 1:
        middle = (low + high) // 2
        power = _ONE
        factor, left = base, middle
        while left:
            if left & 1:
                power = _times(power, factor)
            factor = _times(factor, factor)
            left >>= 1
        earlier, later = _again(ids, sums, power, middle, slots)
        if earlier >= 0:
            low, first, second = middle, earlier, later
        else:
            high = middle
    return low, first, second


@kernel(types.UniTuple(_f, 3)(_wide, types.uint64, _counts, _counts), nogil=True)  # type: ignore[no-untyped-call]
def gaps(ids: Any, seed: Any, slots: Any, last: Any) -> Any:
    """The number, the mean and the variance of the distances from each id to its next occurrence.

    Args:
        ids: the sequence.
        seed: see `distinct`.
        slots: [a power of two, at least twice the ids], all -1; where an id stood first.
        last: [as slots], written: where it stood last.
    """
    mask = np.uint64(len(slots) - 1)
    number = 0
    mean = spread = 0.0
    for place in range(len(ids)):
        slot = mixed((np.uint64(ids[place]) ^ seed) + _GOLDEN) & mask
        while slots[slot] >= 0 and ids[slots[slot]] != ids[place]:
            slot = (slot + _ONE) & mask
        if slots[slot] < 0:
            slots[slot] = place
        else:
            # Welford's update: no sum of squares that cancels.
            gap = float(place - last[slot])
            number += 1
            step = gap - mean
            mean += step / number
            spread += step * (gap - mean)
        last[slot] = place
    return float(number), mean, spread / number if number else 0.0
