"""The compiled half of `cuda`: each kernel gives one row, or one tile of pairs, to a block of threads.

The same source runs on numba's simulator, so nothing here uses what that lacks (warp shuffles, libdevice). Arguments of
``math.exp`` are never above zero and those of ``math.log`` never zero or below, since Python raises there where a GPU
says infinity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda as _cuda

# numba-cuda takes the place of numba's own module at run time; the types of either say little.
cuda: Any = _cuda

#: Pairs of a tile on either side, and dimensions that it loads at once.
TILE = 16
#: Threads of a block, which shares a row or a tile; a power of two.
THREADS = TILE * TILE
#: Below no logit but minus infinity: the maximum of none.
_LOWEST = np.finfo(np.float32).min
_WORD = np.uint64(0xFFFF)


def _launched(function: Any) -> Any:
    """A kernel: compiled at its first launch for the types it is given."""
    return cuda.jit(function)


def _called(function: Any) -> Any:
    """What kernels call."""
    return cuda.jit(device=True)(function)


def seen(given: Any) -> Any:
    """An array on a GPU as numba's own kind, None for anything else; the simulator has but that kind."""
    if hasattr(given, "__cuda_array_interface__"):
        return cuda.as_cuda_array(given)
    return given if hasattr(given, "copy_to_host") and hasattr(given, "is_c_contiguous") else None


@_called
def _sum(shared: Any, value: Any) -> Any:
    """The sum of the block's values, in every thread; ``shared`` may be used again after it."""
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    width = THREADS // 2
    while width:
        if thread < width:
            shared[thread] += shared[thread + width]
        cuda.syncthreads()
        width //= 2
    total = shared[0]
    cuda.syncthreads()
    return total


@_called
def _least(shared: Any, value: Any) -> Any:
    """The least of the block's values, in every thread."""
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    width = THREADS // 2
    while width:
        if thread < width:
            shared[thread] = min(shared[thread], shared[thread + width])
        cuda.syncthreads()
        width //= 2
    least = shared[0]
    cuda.syncthreads()
    return least


@_called
def _bf16(bits: Any) -> Any:
    """A bfloat16 is the upper half of a float32."""
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@_called
def _take(value: Any, top: Any, total: Any, moment: Any) -> Any:
    """One logit more: the highest so far, the sum of exp(logit - highest), and that of (logit - highest) times it."""
    if value > top:
        gap = top - value
        scale = math.exp(gap)
        # A logit's share that has gone to nothing weighs nothing, however far it is from the highest.
        moment = scale * (moment + gap * total) if scale > 0.0 else np.float32(0.0)
        total = total * scale
        top = value
    share = math.exp(value - top)
    if share != 0.0:
        moment += (value - top) * share
    return top, total + share, moment


@_called
def _finish(top: Any, total: Any, moment: Any, out: Any) -> Any:
    """Joins what the block's threads have found of a row, and writes entropy and log-sum-exp."""
    tops = cuda.shared.array(THREADS, np.float32)
    totals = cuda.shared.array(THREADS, np.float32)
    moments = cuda.shared.array(THREADS, np.float32)
    thread = cuda.threadIdx.x
    tops[thread], totals[thread], moments[thread] = top, total, moment
    cuda.syncthreads()
    width = THREADS // 2
    while width:
        if thread < width:
            other = thread + width
            high = max(tops[thread], tops[other])
            left, right = tops[thread] - high, tops[other] - high
            first, second = math.exp(left), math.exp(right)
            joined = first * moments[thread] if first > 0.0 else np.float32(0.0)
            joined += first * left * totals[thread] if first > 0.0 else np.float32(0.0)
            joined += second * (moments[other] + right * totals[other]) if second > 0.0 else np.float32(0.0)
            totals[thread] = first * totals[thread] + second * totals[other]
            moments[thread] = joined
            tops[thread] = high
        cuda.syncthreads()
        width //= 2
    if thread == 0:
        if totals[0] > 0.0:
            size = math.log(totals[0])
            out[0] = size - moments[0] / totals[0]
            out[1] = tops[0] + size
        else:
            out[0] = np.float32(np.nan)
            out[1] = np.float32(-np.inf) if totals[0] == 0.0 else np.float32(np.nan)


@_launched
def softmax_floats(logits: Any, out: Any) -> None:
    """Entropy and log-sum-exp of each row of float32 or float16 logits."""
    row = cuda.blockIdx.x
    top, total, moment = _LOWEST, np.float32(0.0), np.float32(0.0)
    for place in range(cuda.threadIdx.x, logits.shape[1], THREADS):
        top, total, moment = _take(np.float32(logits[row, place]), top, total, moment)
    _finish(top, total, moment, out[row])


@_launched
def softmax_bf16(logits: Any, out: Any) -> None:
    """Entropy and log-sum-exp of each row of bfloat16 logits, held as uint16."""
    row = cuda.blockIdx.x
    top, total, moment = _LOWEST, np.float32(0.0), np.float32(0.0)
    for place in range(cuda.threadIdx.x, logits.shape[1], THREADS):
        top, total, moment = _take(_bf16(logits[row, place]), top, total, moment)
    _finish(top, total, moment, out[row])


@_launched
def softmax_bf16_words(logits: Any, out: Any) -> None:
    """Entropy and log-sum-exp of each row of bfloat16 logits, four to a uint64: a thread reads eight bytes at once."""
    row = cuda.blockIdx.x
    top, total, moment = _LOWEST, np.float32(0.0), np.float32(0.0)
    for place in range(cuda.threadIdx.x, logits.shape[1], THREADS):
        word = logits[row, place]
        for _ in range(4):
            top, total, moment = _take(_bf16(word & _WORD), top, total, moment)
            word >>= np.uint64(16)
    _finish(top, total, moment, out[row])


@_launched
def token_histogram(tokens: Any, counts: Any, entropy: Any, ignored: Any) -> None:
    """Counts of each row's tokens, the entropy of their shares in nats, and how many lie outside the vocabulary."""
    shared = cuda.shared.array(THREADS, np.float64)
    row, thread = cuda.blockIdx.x, cuda.threadIdx.x
    for place in range(thread, counts.shape[1], THREADS):
        counts[row, place] = 0
    cuda.syncthreads()
    outside = 0.0
    for place in range(thread, tokens.shape[1], THREADS):
        token = tokens[row, place]
        if 0 <= token < counts.shape[1]:
            cuda.atomic.add(counts, (row, token), 1)
        else:
            outside += 1.0
    missed = _sum(shared, outside)
    inside = tokens.shape[1] - missed
    part = 0.0
    for place in range(thread, counts.shape[1], THREADS):
        count = counts[row, place]
        if count > 0:
            part -= count / inside * math.log(count / inside)
    whole = _sum(shared, part)
    if thread == 0:
        entropy[row] = whole
        ignored[row] = int(missed)


@_called
def _extent(counts: Any, shared: Any) -> Any:
    """The sum of a row of counts, NaN where one is below zero, and the least that is not zero."""
    total, least = 0.0, math.inf
    for place in range(cuda.threadIdx.x, counts.size, THREADS):
        value = np.float64(counts[place])
        total += value if value >= 0.0 else math.nan
        if value > 0.0:
            least = min(least, value)
    return _sum(shared, total), _least(shared, least)


@_called
def _stand_in(least: Any) -> Any:
    """The share that Evidently 0.7 gives to empty bins, from the smallest share of any other."""
    return least / 1e6 if least <= 1e-4 else 1e-4


@_launched
def psi(expected: Any, observed: Any, floor: Any, out: Any) -> None:
    """The population stability index of each pair of rows; a floor of 0 takes `_stand_in`'s."""
    shared = cuda.shared.array(THREADS, np.float64)
    row = cuda.blockIdx.x
    total, least = _extent(expected[row], shared)
    other, lowest = _extent(observed[row], shared)
    part = math.nan
    if 0.0 < total < math.inf and 0.0 < other < math.inf:
        part = 0.0
        below = floor if floor > 0.0 else _stand_in(least / total)
        beneath = floor if floor > 0.0 else _stand_in(lowest / other)
        for place in range(cuda.threadIdx.x, expected.shape[1], THREADS):
            p = expected[row, place] / total
            q = observed[row, place] / other
            p = p if p > 0.0 else below
            q = q if q > 0.0 else beneath
            part += (p - q) * math.log(p / q)
    whole = _sum(shared, part)
    if cuda.threadIdx.x == 0:
        out[row] = whole


@_launched
def jensen_shannon(expected: Any, observed: Any, out: Any) -> None:
    """The Jensen-Shannon divergence of each pair of rows, in nats."""
    shared = cuda.shared.array(THREADS, np.float64)
    row = cuda.blockIdx.x
    total, _ = _extent(expected[row], shared)
    other, _ = _extent(observed[row], shared)
    part = math.nan
    if 0.0 < total < math.inf and 0.0 < other < math.inf:
        part = 0.0
        for place in range(cuda.threadIdx.x, expected.shape[1], THREADS):
            p = expected[row, place] / total
            q = observed[row, place] / other
            middle = 0.5 * (p + q)
            if p > 0.0:
                part += 0.5 * p * math.log(p / middle)
            if q > 0.0:
                part += 0.5 * q * math.log(q / middle)
    whole = _sum(shared, part)
    if cuda.threadIdx.x == 0:
        out[row] = max(whole, 0.0) if whole == whole else whole


@_launched
def gaussian_sum(first: Any, second: Any, factor: Any, apart: Any, out: Any) -> None:
    """Adds exp(factor * d^2) of all pairs to ``out``; if ``apart``, without those of a vector with itself."""
    left = cuda.shared.array((TILE, TILE), np.float32)
    right = cuda.shared.array((TILE, TILE), np.float32)
    shared = cuda.shared.array(THREADS, np.float64)
    x, y = cuda.threadIdx.x % TILE, cuda.threadIdx.x // TILE
    i = cuda.blockIdx.x * TILE + x
    j = cuda.blockIdx.y * TILE + y
    mine = cuda.blockIdx.y * TILE + x
    square = np.float32(0.0)
    for start in range(0, first.shape[1], TILE):
        column = start + y
        inside = column < first.shape[1]
        left[x, y] = first[i, column] if inside and i < first.shape[0] else np.float32(0.0)
        right[x, y] = second[mine, column] if inside and mine < second.shape[0] else np.float32(0.0)
        cuda.syncthreads()
        for k in range(TILE):
            gap = left[x, k] - right[y, k]
            square += gap * gap
        cuda.syncthreads()
    counted = i < first.shape[0] and j < second.shape[0] and not (apart and i == j)
    whole = _sum(shared, math.exp(np.float64(factor * square)) if counted else 0.0)
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(out, 0, whole)
