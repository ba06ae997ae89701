"""Stretches of letters that are no language: too many pairs of letters that hardly any word has."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

#: Code points that are judged together, and pairs of letters among them that must be there to judge by, unless the
#: block before is gibberish.
BLOCK, PAIRS = 512, 100
#: Code points without a space, not all of them letters, from which they are no words: data, a link, a key.
_DATA = 64

#: For each letter those that hardly ever follow it: fewer than one pair in 10,000 among 25,919 different words, without
#: accents, of 39 languages in Latin letters: stop words and example sentences of spaCy 3.8 (MIT), and words that occur
#: three times in talk pages of Wikipedia (context_toxicity, Apache-2.0) or in awesome-chatgpt-prompts (CC0-1.0).
_RARE = {
    "b": "dfgkmnpqvxz",
    "c": "bdfgjmnpqvwx",
    "d": "kqx",
    "f": "bcdghjkmnpqvwxz",
    "g": "cfjpqvxz",
    "h": "bcfghjpqxz",
    "i": "w",
    "j": "bcdfghjklmnpqrtvwxyz",
    "k": "bcfgjmpqwxz",
    "l": "qrxz",
    "m": "gjkqrvwxz",
    "n": "x",
    "o": "q",
    "p": "bcdfgjknqvwxz",
    "q": "abcdefghijklmnopqrstvwxyz",
    "r": "qx",
    "s": "bgjx",
    "t": "gqx",
    "u": "qw",
    "v": "bcdfghjklmnpqtvwxz",
    "w": "bcdfgjkmpqtuvwxyz",
    "x": "bdfghjklmnqrsvwxyz",
    "y": "fjkqxyz",
    "z": "bcfghjmnpqrstvwx",
}
_LETTERS = 27
#: Code points that are looked up at once: what comes of them stays in the cache.
_STEP = 32 * BLOCK
_NUMBERS = bytes(
    string.ascii_lowercase.find(chr(code).lower()) + 1 if chr(code).isalpha() and code < 128 else 0
    for code in range(256)
)


def _kinds() -> NDArray[np.int64]:
    """By the number of a pair: 1 for one of letters, and 65,536 more for a rare one, so that one sum counts both."""
    kinds = np.zeros((_LETTERS, 256), np.int64)
    kinds[1:, 1:_LETTERS] = 1
    number = string.ascii_lowercase.index
    for first, followers in _RARE.items():
        for follower in followers:
            kinds[number(follower) + 1, number(first) + 1] += 1 << 16
    return kinds.ravel()


_KIND = _kinds()
#: Two neighbouring bytes, the first one the lower.
_PAIR = np.dtype("<u2")


def _encoded(block: str) -> bool:
    return any(len(word) >= _DATA and not word.isalpha() for word in block.split())


def gibberish(
    content: str, threshold: float, known: Sequence[tuple[int, int]]
) -> Iterator[tuple[float, tuple[int, int]]]:
    """The highest share of rare pairs and the span of each stretch, in order.

    Args:
        content: the text.
        threshold: share of rare pairs from which a block counts.
        known: spans of which more is known: blocks that they reach into are left out.
    """
    totals: list[int] = []
    for first in range(0, len(content) - 1, _STEP):
        data = content[first : first + _STEP + 1].encode("ascii", "replace").translate(_NUMBERS)
        # Each byte with the next one: neighbours overlap, so nothing is computed nor copied.
        kinds = _KIND[np.ndarray(len(data) - 1, _PAIR, data, 0, 1)]
        if len(kinds) <= BLOCK:  # most texts are short, and this is quicker
            totals.append(int(np.add.reduce(kinds)))
        else:
            totals += np.add.reduceat(kinds, range(0, len(kinds), BLOCK)).tolist()
    taken = {block for start, stop in known for block in range(start // BLOCK, -(-stop // BLOCK))}
    joined: list[tuple[int, int, float]] = []
    for block, total in enumerate(totals):
        rare, letters = total >> 16, total & 0xFFFF
        begin, end = block * BLOCK, min(len(content), (block + 1) * BLOCK)
        enough = 1 if joined and joined[-1][1] == begin else PAIRS
        if rare < threshold * letters or letters < enough:
            continue
        if block in taken or _encoded(content[begin:end]):
            continue
        share = rare / letters
        if joined and joined[-1][1] == begin:
            before = joined.pop()
            begin, share = before[0], max(before[2], share)
        joined.append((begin, end, share))
    for begin, end, share in joined:
        yield share, (begin, end)
