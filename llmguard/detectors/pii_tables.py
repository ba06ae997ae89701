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

Numbers = npt.NDArray[np.int64]


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
    edges = np.flatnonzero(np.diff(digit.view(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    lengths = ends - starts
    if len(starts) < BLOCKS or int(lengths.max()) > _BLOCK:
        return None
    order = np.arange(len(starts))
    apart = np.concatenate(([True], starts[1:] - ends[:-1] > _GAP))
    begins = (order - np.maximum.accumulate(np.where(apart, order, 0))) % BLOCKS == 0
    candidates = np.flatnonzero(begins)
    parts = [candidates]
    for mark in _SPLITS:
        if mark in chunk:
            seen = np.concatenate(([0], np.cumsum(row == mark)))
            parts.append(np.flatnonzero(begins | np.concatenate(([False], seen[starts[1:]] > seen[ends[:-1]]))))
    plain = row[digit]
    worth = np.zeros(len(candidates), bool)
    for first in parts:
        likely = _likely(plain, lengths, first, shortest, lines)
        worth[np.searchsorted(candidates, first[likely], side="right") - 1] = True
    worth[-2:] = True  # what follows the row may be an extension
    before = np.concatenate(([0], ends[candidates[1:] - 1]))
    found: list[int] = before[worth].tolist()
    return found


def _likely(
    plain: npt.NDArray[np.uint8],
    lengths: Numbers,
    first: Numbers,
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
