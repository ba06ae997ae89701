"""Slow and obvious twins of the kernels, written from docs/kernels.md and not from the kernels."""

from __future__ import annotations

import itertools
import math
import unicodedata

GOLDEN, POINTS, WORDS = 0x9E3779B97F4A7C15, 0x9E3779B185EBCA87, 6364136223846793005
BLOCK, LONGEST = 512, 640
SPACE, WORD, ALONE = 32, 1 << 24, 1 << 25


def fold(character: str) -> int | None:
    """What one character becomes: None for nothing, else the code point plus its class."""
    code = ord(character)
    if 0xFE00 <= code <= 0xFE0F or code == 0xFEFF or 0x1F3FB <= code <= 0x1F3FF or 0xE0000 <= code <= 0xE0FFF:
        return None
    if 0xFF01 <= code <= 0xFF5E:
        return fold(chr(code - 0xFF01 + ord("!")))
    if 0x1D400 <= code <= 0x1D6A3:
        return ord("abcdefghijklmnopqrstuvwxyz"[(code - 0x1D400) % 26]) + WORD
    if 0x1D7CE <= code <= 0x1D7FF:
        return ord("0") + WORD
    if character == "\u3000":
        return SPACE
    if code >= 0x2070:
        return code + (ALONE if code <= 0xA4CF or code == 0xFFFD or code >= 0x1F000 else WORD)
    return fold_low(character)


def fold_low(character: str) -> int | None:
    """The same below U+2070, where Unicode's own tables say what a character is."""
    code = ord(character)
    if 0x0590 <= code < 0x1E00:
        return code + WORD
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cn", "Mn"):
        return None
    if character in "‘’‚‛´`":
        return ord("'")
    if character in "“”„‟":
        return ord('"')
    if category == "Pd":
        return ord("-")
    if category.startswith("N"):
        return ord("0") + WORD
    plain = unicodedata.normalize("NFKD", character).casefold()[0]
    return ord(plain) + (WORD if plain.isalpha() and not category.startswith("P") else 0)


def blocks(text: str) -> list[list[int]]:
    """The folded characters of each block, with a space before and behind."""
    left = list(text)
    made = []
    while left:
        block = [SPACE]
        while left and len(block) <= LONGEST:
            new = fold(left.pop(0))
            if new == SPACE and len(block) > BLOCK:
                break
            twice = [new] if new == SPACE else [new, new]
            if new is not None and block[-len(twice) :] != twice:
                block.append(new)
        made.append(block if block[-1] == SPACE else [*block, SPACE])
    return made


def words(block: list[int]) -> list[list[int]]:
    """Runs of letters and digits, and the characters that are words alone."""
    found: list[list[int]] = [[]]
    for point in block:
        if point & WORD:
            found[-1].append(point)
        elif point & ALONE:
            found += [[point], []]
        else:
            found.append([])
    return [word for word in found if word]


def _wrap(number: int) -> int:
    return number % 2**64


def features(text: str, bits: int) -> list[list[int]]:
    """The numbers of each block's features, sorted."""

    def number(value: int) -> int:
        return _wrap(value * GOLDEN) >> (64 - bits)

    made = []
    for block in blocks(text):
        found = []
        for length in (2, 3, 4, 5):
            for first in range(len(block) - length + 1):
                value = 0
                for point in reversed(block[first : first + length]):
                    value = _wrap(value * POINTS + point % 2**21 + 1)
                found.append(value)
        hashes = []
        for word in words(block):
            value = 0
            for point in word:
                value = _wrap((value + point) * WORDS)
            hashes.append(value)
        pairs = [_wrap(one * WORDS) ^ two for one, two in itertools.pairwise(hashes)]
        triples = [_wrap(one * POINTS) ^ pair for one, pair in zip(hashes, pairs[1:], strict=False)]
        made.append(sorted(number(value) for value in [*found, *hashes, *pairs, *triples]))
    return made


def score(text: str, weights: list[list[int]]) -> list[list[int]]:
    """For each block the sum of each column over the rows of its features."""
    bits = len(weights).bit_length() - 1
    columns = range(len(weights[0]))
    return [[sum(weights[row][column] for row in block) for column in columns] for block in features(text, bits)]


def highest(text: str, weights: list[list[int]], window: int) -> list[float]:
    """The highest over all runs of ``window`` blocks of each column's sum by the root of the number of features."""
    made = features(text, len(weights).bit_length() - 1)
    runs = [made[first : first + window] for first in range(max(1, len(made) - window + 1))]
    best = [-math.inf] * len(weights[0])
    for run in runs:
        rows = [row for block in run for row in block]
        if rows:
            sums = [sum(weights[row][column] for row in rows) for column in range(len(best))]
            best = [max(old, new / math.sqrt(len(rows))) for old, new in zip(best, sums, strict=True)]
    return best
