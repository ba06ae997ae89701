"""The compiled half of `hashing`: code points in, numbers of features and sums of weights out.

Imported by `hashing` when a kernel is first wanted, since numba takes a third of a second. docs/kernels.md
says what is a feature; tests/kernels/naive.py says it again, slowly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.compiling import kernel

# What a normalised code point is: the class stands in the bits above the code point itself.
POINT = np.uint32(0x1FFFFF)
WORD = np.uint32(1 << 24)
ALONE = np.uint32(1 << 25)
SPACE = np.uint32(0x20)
NOTHING = np.uint32(0)

#: Normalised code points of a block: it ends at the first space from BLOCK on, and at LONGEST in any case.
BLOCK = 512
LONGEST = 640
#: Features of a code point at most: four runs of characters, and a word with its pair and triple.
FEATURES = 7

_FOLDED = np.uint32(0x2070)
# Odd multipliers from the digits of the golden ratio, of xxHash's first prime and of Knuth's MMIX generator (TAOCP
# 3.3.4), so that no two kinds of feature share one.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_POINTS = np.uint64(0x9E3779B185EBCA87)
_WORDS = np.uint64(6364136223846793005)
_MASK = np.uint64(0x1FFFFF)
_ONE = np.uint64(1)


_codes = types.Array(types.uint32, 1, "C", readonly=True)
_points = types.Array(types.uint32, 1, "C")
_sums = types.Array(types.int32, 2, "C")
_counts = types.Array(types.int32, 1, "C")
_weights = types.Array(types.int8, 2, "C")
_means = types.Array(types.float32, 1, "C")
_pair = types.Tuple((types.int64, types.int64))  # type: ignore[no-untyped-call]


@kernel(types.uint32(types.uint32, _codes))
def _high(code: Any, fold: Any) -> Any:
    """What a code point from U+2070 on becomes, by ranges.

    Symbols, CJK and emoji stand alone, full-width and mathematical letters become plain ones, variation selectors,
    skin tones and tags vanish.
    """
    if 0xFF01 <= code <= 0xFF5E:
        return fold[code - 0xFEE0]
    if 0x1D400 <= code <= 0x1D6A3:
        return fold[0x41 + (code - 0x1D400) % 26]
    if 0x1D7CE <= code <= 0x1D7FF:
        return fold[0x30]
    if code == 0x3000:
        return SPACE
    if 0xFE00 <= code <= 0xFE0F or code == 0xFEFF or 0x1F3FB <= code <= 0x1F3FF or 0xE0000 <= code <= 0xE0FFF:
        return NOTHING
    if code <= 0xA4CF or code == 0xFFFD or code >= 0x1F000:
        return np.uint32(code) | ALONE
    return np.uint32(code) | WORD


@kernel(_pair(_codes, types.int64, _codes, _points))
def normalise(codes: Any, start: Any, fold: Any, out: Any) -> Any:
    """Fills a block from ``codes[start:]``: folded, white space collapsed, a third of the same in a row dropped.

    Args:
        codes: the text.
        start: where the block begins.
        fold: what each code point below U+2070 becomes.
        out: [LONGEST + 2], written: a space, the block, a space.

    Returns:
        Where the next block begins, and how many of ``out`` are written.
    """
    out[0] = SPACE
    size = 1
    position = start
    total = len(codes)
    while position < total and size <= LONGEST:
        code = codes[position]
        new = fold[code] if code < _FOLDED else _high(code, fold)
        position += 1
        if new == NOTHING:
            continue
        if new == SPACE:
            if size > BLOCK:
                break
            if out[size - 1] == SPACE:
                continue
        elif size >= 2 and out[size - 1] == new and out[size - 2] == new:
            continue
        out[size] = new
        size += 1
    if out[size - 1] != SPACE:
        out[size] = SPACE
        size += 1
    return position, size


@kernel(types.int64(_points, types.int64, types.int64, _points))
def spell(points: Any, size: Any, bits: Any, ids: Any) -> Any:
    """Writes the number of each run of 2, 3, 4 and 5 characters.

    Args:
        points: a normalised block.
        size: how many of ``points`` there are.
        bits: a number has that many.
        ids: [FEATURES * size], written.

    Returns:
        How many numbers.
    """
    shift = np.uint64(64 - bits)
    made = 0
    for end in range(1, size):
        run = (np.uint64(points[end]) & _MASK) + _ONE
        for back in range(1, min(end, 4) + 1):
            run = run * _POINTS + (np.uint64(points[end - back]) & _MASK) + _ONE
            ids[made] = np.uint32((run * _GOLDEN) >> shift)
            made += 1
    return made


@kernel(types.int64(_points, types.int64, types.int64, _points, types.int64))
def words(points: Any, size: Any, bits: Any, ids: Any, made: Any) -> Any:
    """Writes the number of each word, each pair and each triple of neighbours behind the ``made`` first ones.

    A word is a run of letters and digits, or one character that stands alone (CJK, emoji).

    Args:
        points: a normalised block; ends with a space.
        size: how many of ``points`` there are.
        bits: a number has that many.
        ids: [FEATURES * size], written.
        made: how many of ``ids`` are there already.

    Returns:
        How many numbers there are now.
    """
    shift = np.uint64(64 - bits)
    word = before = earlier = np.uint64(0)
    for place in range(size):
        point = points[place]
        if point & WORD:
            word = (word + np.uint64(point)) * _WORDS
            continue
        alone = point & ALONE
        while word or alone:
            if not word:
                word = np.uint64(point) * _WORDS
                alone = NOTHING
            ids[made] = np.uint32((word * _GOLDEN) >> shift)
            made += 1
            if before:
                pair = (before * _WORDS) ^ word
                ids[made] = np.uint32((pair * _GOLDEN) >> shift)
                made += 1
                if earlier:
                    ids[made] = np.uint32((((earlier * _POINTS) ^ pair) * _GOLDEN) >> shift)
                    made += 1
            earlier = before
            before = word
            word = np.uint64(0)
    return made


@kernel(types.int64(_codes, _codes, types.int64, _weights, _points, _points, _sums, _counts))
def score(codes: Any, fold: Any, bits: Any, weights: Any, points: Any, ids: Any, sums: Any, counts: Any) -> Any:
    """Sums the weights of the features of each block.

    Args:
        codes: the text.
        fold: what each code point below U+2070 becomes.
        bits: of a feature's number.
        weights: [1 << bits, outputs]; outputs a multiple of 4, so that a row is read at once.
        points: [LONGEST + 2], scratch.
        ids: [FEATURES * (LONGEST + 2)], scratch; afterwards the numbers of the last block.
        sums: [len(codes) // BLOCK + 1, outputs], written.
        counts: [len(codes) // BLOCK + 1], written: how many features a block has.

    Returns:
        How many blocks.
    """
    position = block = 0
    while position < len(codes):
        position, size = normalise(codes, position, fold, points)
        made = words(points, size, bits, ids, spell(points, size, bits, ids))
        for first in range(0, weights.shape[1], 4):
            a = b = c = d = np.int32(0)
            for place in range(made):
                row = weights[ids[place]]
                a += row[first]
                b += row[first + 1]
                c += row[first + 2]
                d += row[first + 3]
            sums[block, first] = a
            sums[block, first + 1] = b
            sums[block, first + 2] = c
            sums[block, first + 3] = d
        counts[block] = made
        block += 1
    return block


@kernel(types.void(_sums, _counts, types.int64, types.int64, _means))
def slide(sums: Any, counts: Any, blocks: Any, window: Any, highest: Any) -> None:
    """The highest of each output over all windows of so many blocks; a window without a feature does not count.

    Args:
        sums: [at least blocks, outputs].
        counts: [at least blocks].
        blocks: how many.
        window: blocks of one; a text of fewer is one window.
        highest: [outputs], written: the sum by the root of the count, or minus infinity where there is no feature.
    """
    totals = np.zeros(len(highest), np.int64)
    features = 0
    highest[:] = -np.inf
    for block in range(blocks):
        features += counts[block]
        for output in range(len(highest)):
            totals[output] += sums[block, output]
        if block >= window:
            features -= counts[block - window]
            for output in range(len(highest)):
                totals[output] -= sums[block - window, output]
        if features and (block >= window - 1 or block == blocks - 1):
            root = np.sqrt(np.float64(features))
            for output in range(len(highest)):
                highest[output] = max(highest[output], np.float32(totals[output] / root))


_whole = types.void(_codes, _codes, types.int64, _weights, _points, _points, _sums, _counts, types.int64, _means)


@kernel(_whole)
def highest(
    codes: Any, fold: Any, bits: Any, weights: Any, points: Any, ids: Any, sums: Any, counts: Any, window: Any, out: Any
) -> None:
    """`score` and `slide` in one call."""
    slide(sums, counts, score(codes, fold, bits, weights, points, ids, sums, counts), window, out)


@kernel(_whole, nogil=True)
def highest_long(
    codes: Any, fold: Any, bits: Any, weights: Any, points: Any, ids: Any, sums: Any, counts: Any, window: Any, out: Any
) -> None:
    """`highest` without the interpreter's lock: for texts that take longer than handing it over does."""
    highest(codes, fold, bits, weights, points, ids, sums, counts, window, out)
