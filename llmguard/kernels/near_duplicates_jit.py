"""The compiled half of `near_duplicates`: the shingles of a text, folded into a signature or a fingerprint."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.compiling import kernel
from llmguard.kernels.hashing_jit import normalise
from llmguard.kernels.tokens_jit import mixed

_codes = types.Array(types.uint32, 1, "C", readonly=True)
_points = types.Array(types.uint32, 1, "C")
_signature = types.Array(types.uint32, 1, "C")
_factors = types.Array(types.uint64, 1, "C", readonly=True)
_votes = types.Array(types.int64, 1, "C")

#: Characters of a shingle.
SHINGLE = 5
_PLACE = np.uint64(0x9E3779B185EBCA87)
_MASK = np.uint64(0x1FFFFF)
_32 = np.uint64(32)
_ONE = np.uint64(1)


@kernel(types.uint64(_points, types.int64))
def shingle(points: Any, last: Any) -> Any:
    """The hash of the ``SHINGLE`` characters that end at a place, or of those that there are."""
    value = np.uint64(0)
    for place in range(max(0, last - SHINGLE + 1), last + 1):
        value = value * _PLACE + (np.uint64(points[place]) & _MASK) + _ONE
    return mixed(value)


@kernel(types.int64(_codes, _codes, _points, _factors, _factors, _signature), nogil=True)
def minhash(codes: Any, fold: Any, points: Any, factors: Any, addends: Any, signature: Any) -> Any:
    """Writes for each of many hash functions the least value that a shingle has; how many shingles there are."""
    signature[:] = np.uint32(0xFFFFFFFF)
    position = made = 0
    while position < len(codes):
        position, size = normalise(codes, position, fold, points)
        # A space before nothing is what white space behind the last block leaves.
        if size == 1:
            continue
        for last in range(min(SHINGLE, size) - 1, size):
            value = shingle(points, last)
            for index in range(len(factors)):
                low = np.uint32((value * factors[index] + addends[index]) >> _32)
                signature[index] = min(signature[index], low)
        made += max(1, size - SHINGLE + 1)
    return made


@kernel(types.uint64(_codes, _codes, _points, _votes), nogil=True)
def simhash(codes: Any, fold: Any, points: Any, votes: Any) -> Any:
    """Each shingle votes with the bits of its hash; the fingerprint has the bits that won."""
    votes[:] = 0
    position = 0
    while position < len(codes):
        position, size = normalise(codes, position, fold, points)
        # A space before nothing is what white space behind the last block leaves.
        if size == 1:
            continue
        for last in range(min(SHINGLE, size) - 1, size):
            value = shingle(points, last)
            for bit in range(64):
                votes[bit] += np.int64((value >> np.uint64(bit)) & _ONE) * 2 - 1
    fingerprint = np.uint64(0)
    for bit in range(64):
        if votes[bit] > 0:
            fingerprint |= _ONE << np.uint64(bit)
    return fingerprint
