"""Windows over the tokens of a text: where to cut, what each covers, and the case that an uncased vocabulary loses.

A window is what a model reads at once. A text that is longer becomes several windows that overlap, so no part of it
goes unread and no word is seen only in halves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int32]
Flags: TypeAlias = NDArray[np.bool_]

#: Past the last cased code point of Unicode (squared capitals, U+1F189).
_CASED_END = 0x1F190
#: Sums of three kinds of letters are kept in one integer, so that one pass counts them; a chunk has fewer letters
#: than a field holds.
_FIELD = 21
_MASK = (1 << _FIELD) - 1
_UPPER, _LOWER, _INITIAL = 1, 1 << _FIELD, 1 << 2 * _FIELD
#: The case by upper-case letters (0, 1, more), whether there are lower-case ones, and whether one begins a word.
_CASES: Ints = np.array([0, 0, 0, 0, 3, 1, 3, 1, 2, 2, 3, 3], np.int32)


@dataclass(frozen=True, slots=True)
class Window:
    """What a model reads at once.

    Attributes:
        start: first code point of the text that the window covers.
        end: code point after the last one.
        ids: of the tokens, [n], special tokens included.
        type_ids: segment (0, or 1 for the second text of a pair) plus 2 times the case type where the card asks for
            it, [n].
        offsets: code points of the text that each token stands for, half open, [n, 2]; -1, -1 for what is not of the
            text.
    """

    start: int
    end: int
    ids: Ints
    type_ids: Ints
    offsets: Ints


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text, without special ones.

    Attributes:
        length: code points of the text.
        ids: [n].
        offsets: code points, [n, 2].
        cases: 0 to 3, [n]; zeros where nobody asked.
        spaced: whether white space comes before a token, [n]; empty when the text fits any window.
        words: whether a token begins a word of the tokenizer, [n]; empty likewise.
    """

    length: int
    ids: Ints
    offsets: Ints
    cases: Ints
    spaced: Flags
    words: Flags


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens around one text or two, as the tokenizer's own template has them.

    Attributes:
        ids: of each run of special tokens: before, after; or before, between, after.
        type_ids: of each run.
        segments: type of each text's own tokens.
    """

    ids: tuple[Ints, ...]
    type_ids: tuple[Ints, ...]
    segments: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many special tokens there are."""
        return sum([len(run) for run in self.ids])


def cut(count: int, capacity: int, overlap: int, spaced: Flags, words: Flags) -> list[tuple[int, int]]:
    """Where to cut so many tokens, as half-open ranges.

    A window ends at white space if there is any in its second half, else where a word of the tokenizer ends (scripts
    without spaces), else anywhere: so only a word longer than half a window is ever cut. The next window begins
    ``overlap`` tokens earlier, at white space too. Every window is a quarter of the capacity further than the one
    before it, so the work is linear.

    Args:
        count: of tokens.
        capacity: tokens in a window.
        overlap: tokens that two windows share, at most half the capacity; a few more or fewer to begin at a word.
        spaced: whether white space comes before a token, [count]; not read when all fits into one window.
        words: whether a token begins a word, [count]; likewise.
    """
    if count <= capacity:
        return [(0, count)]
    overlap = min(overlap, capacity // 2)
    advance = max(1, capacity // 4)
    ranges: list[tuple[int, int]] = []
    first = 0
    while first + capacity < count:
        low, high = first + (capacity + 1) // 2, first + capacity
        last = _last(spaced, low, high) or _last(words, low, high) or high
        ranges.append((first, last))
        target = max(last - overlap, first + advance)
        low = max(last - 2 * overlap, first + advance)
        first = _last(spaced, low, target) or _first(spaced, target, last) or _last(words, low, target) or target
    ranges.append((first, count))
    return ranges


def _last(flags: Flags, low: int, high: int) -> int | None:
    found = np.flatnonzero(flags[low : high + 1])
    return low + int(found[-1]) if len(found) else None


def _first(flags: Flags, low: int, high: int) -> int | None:
    found = np.flatnonzero(flags[low : high + 1])
    return low + int(found[0]) if len(found) else None


def spans(tokens: Tokens, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The code points that each range of tokens covers; together all of the text, also what has no token."""
    if len(ranges) == 1:
        return [(0, tokens.length)]
    starts = np.maximum.accumulate(tokens.offsets[:, 0])
    ends = np.maximum.accumulate(tokens.offsets[:, 1])
    return [
        (
            int(starts[first]) if first else 0,
            max(int(starts[last]), int(ends[last - 1])) if last < len(starts) else tokens.length,
        )
        for first, last in ranges
    ]


def code_points(text: str) -> NDArray[np.uint32]:
    """The text as numbers, [code points]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def spaced_tokens(points: NDArray[np.uint32], offsets: Ints) -> Flags:
    """Whether white space comes before a token, or is its first code point (byte-level tokenizers keep it), [n]."""
    space = _spaces().take(points, mode="clip")
    before = np.zeros(len(points) + 1, np.int32)
    np.cumsum(space, out=before[1:])
    seen = before.take(offsets[:, 0] + 1, mode="clip")
    ended = np.zeros(len(offsets), np.int32)
    ended[1:] = before.take(offsets[:-1, 1])
    return np.asarray(seen > ended)


def case_types(points: NDArray[np.uint32], offsets: Ints) -> Ints:
    """The case of each token's own code points: what an uncased vocabulary forgets, and what tells a name from a word.

    0 no upper-case letter, 1 the first letter of a word alone is upper case, 2 two letters or more and all upper case,
    3 anything else. The first letter of a word is one with no cased letter right before it, in this token or another.

    Args:
        points: of the text.
        offsets: of the tokens, in code points, [n, 2].

    Returns:
        0 to 3 for each token, [n].
    """
    kinds = _letters().take(points, mode="clip")
    kinds[1:] += (kinds[1:] & _UPPER) * ((kinds[:-1] == 0) * _INITIAL)
    if len(kinds):
        kinds[0] += (kinds[0] & _UPPER) * _INITIAL
    sums = np.zeros(len(kinds) + 1, np.int64)
    np.cumsum(kinds, out=sums[1:])
    edges = sums.take(offsets)
    inside = edges[:, 1] - edges[:, 0]
    upper = np.minimum(inside & _MASK, 2)
    lower = (inside >> _FIELD & _MASK) > 0
    cases: Ints = _CASES.take(upper * 4 + lower * 2 + (inside >> 2 * _FIELD == 1))
    return cases


@cache
def _letters() -> NDArray[np.int64]:
    kinds = np.zeros(_CASED_END, np.int64)
    for point in range(_CASED_END):
        letter = chr(point)
        if letter.isupper() or letter.istitle():
            kinds[point] = _UPPER
        elif letter.islower():
            kinds[point] = _LOWER
    return kinds


@cache
def _spaces() -> NDArray[np.uint8]:
    kinds = np.zeros(0x3002, np.uint8)
    kinds[[point for point in range(0x3002) if chr(point).isspace()]] = 1
    return kinds
