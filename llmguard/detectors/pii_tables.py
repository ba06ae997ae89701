"""Long rows of digits, as tables have them: where in them a phone number could be at all.

``phonenumbers`` cuts such a row into candidates of ``BLOCKS`` blocks of digits and tries each as a whole and in the
parts between its spaces and between its dots. Here numpy writes all of them one below the other, and one scan of RE2
tells which could be a number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

BLOCKS = 21
"""Blocks of a candidate at most: one and twenty more, by the matcher's own pattern."""

_BLOCK = 20
_GAP = 4
_SPLITS = b" ."
_OTHER_SPLITS = (b"/", b"(", b"- ", b" -")
_NEWLINE = 10

Ints = npt.NDArray[np.int32]


def worth_a_look(chunk: bytes, shortest: int, lines: Callable[[bytes], Sequence[int]]) -> list[int] | None:
    """Offsets in a row of digits from which on the matcher's next candidate could be, or hold, a number.

    Args:
        chunk: ASCII digits and what may stand between two of them.
        shortest: digits of a number at least.
        lines: where in a text the lines begin that could be a number.

    Returns:
        Each the end of the candidate before; None when the row has something that is not thought of here.
    """
    if any(mark in chunk for mark in _OTHER_SPLITS):
        return None
    row = np.frombuffer(chunk, np.uint8)
    digit = (row >= ord("0")) & (row <= ord("9"))
    edges = np.flatnonzero(np.diff(digit.view(np.int8), prepend=0, append=0)).astype(np.int32)
    starts, ends = edges[::2], edges[1::2]
    lengths = ends - starts
    longest = int(lengths.max(initial=0))
    if len(starts) < BLOCKS or longest > _BLOCK:
        return None
    gaps = starts[1:] - ends[:-1]
    begins = _begins(gaps)
    candidates = np.flatnonzero(begins)
    parts = [candidates]
    for mark in _SPLITS:
        if mark in chunk:
            cut = _holds(row, ends[:-1], gaps, mark)
            if longest >= shortest or not cut.all():
                parts.append(np.flatnonzero(begins | np.concatenate(([False], cut))))
    plain = row[digit]
    worth = np.zeros(len(candidates), bool)
    for first in parts:
        likely = _likely(plain, lengths, first, shortest, lines)
        worth[np.searchsorted(candidates, first[likely], side="right") - 1] = True
    worth[-2:] = True  # what follows the row may be an extension
    before = np.concatenate(([0], ends[candidates[1:] - 1]))
    found: list[int] = before[worth].tolist()
    return found


def _begins(gaps: Ints) -> npt.NDArray[np.bool_]:
    """Which blocks begin a candidate: every twenty-first, and those that stand too far from the one before."""
    order = np.arange(len(gaps) + 1, dtype=np.int32)
    if gaps.max() > _GAP:
        apart = np.concatenate(([True], gaps > _GAP))
        order -= np.maximum.accumulate(np.where(apart, order, 0))
    begins: npt.NDArray[np.bool_] = order % BLOCKS == 0
    return begins


def _holds(row: npt.NDArray[np.uint8], ends: Ints, gaps: Ints, mark: int) -> npt.NDArray[np.bool_]:
    """Which gaps of up to ``_GAP`` characters hold the mark."""
    found: npt.NDArray[np.bool_] = row[ends] == mark
    for step in range(1, min(int(gaps.max()), _GAP)):
        found |= (gaps > step) & (row[np.minimum(ends + step, len(row) - 1)] == mark)
    return found


def _likely(
    plain: npt.NDArray[np.uint8],
    lengths: Ints,
    first: npt.NDArray[np.intp],
    shortest: int,
    lines: Callable[[bytes], Sequence[int]],
) -> list[int]:
    """Which of the parts that begin at the blocks ``first`` could be a number."""
    sizes = np.add.reduceat(lengths, first)
    long = sizes >= shortest
    if not long.any():
        return []
    kept = np.flatnonzero(long)
    sizes = sizes[kept] + 1
    written = np.full(int(sizes.sum()), _NEWLINE, np.uint8)
    inside = np.ones(len(written), bool)
    inside[np.cumsum(sizes) - 1] = False
    written[inside] = plain[np.repeat(long, np.add.reduceat(lengths, first))]
    begin = np.cumsum(sizes) - sizes
    found: list[int] = kept[np.searchsorted(begin, np.asarray(lines(written.tobytes()), np.int64))].tolist()
    return found
