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


def entropy(counts: list[int]) -> float:
    """Shannon's entropy in bits."""
    total = sum(counts)
    return math.fsum(-count / total * math.log2(count / total) for count in counts if count) if total else 0.0


def histogram(tokens: list[int]) -> list[int]:
    """How often each id from 0 to the highest occurs."""
    return [tokens.count(token) for token in range(max(tokens, default=-1) + 1)]


def repetition(tokens: list[int], n: int) -> float:
    """Share of the runs of n that stood there before."""
    runs = [tuple(tokens[place : place + n]) for place in range(len(tokens) - n + 1)]
    return sum(run in runs[:place] for place, run in enumerate(runs)) / len(runs) if runs else 0.0


def longest_repeat(tokens: list[int]) -> tuple[int, int, int]:
    """The longest span that stands there twice, the one whose second place comes first, and its first place."""
    for length in range(len(tokens) - 1, 0, -1):
        for second in range(1, len(tokens) - length + 1):
            for first in range(second):
                if tokens[first : first + length] == tokens[second : second + length]:
                    return length, first, second
    return 0, -1, -1


def burstiness(tokens: list[int]) -> float:
    """(s - m) / (s + m) of the distances to the next same id."""
    gaps = [
        tokens.index(token, place + 1) - place for place, token in enumerate(tokens) if token in tokens[place + 1 :]
    ]
    if len(gaps) < 2:
        return 0.0
    mean = math.fsum(gaps) / len(gaps)
    deviation = math.sqrt(math.fsum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    return (deviation - mean) / (deviation + mean)


def loops(tokens: list[int], length: int, repeats: int, longest: int) -> list[tuple[int, int, int]]:
    """Each place at which the sequence since the last one has become a loop: period, start, end."""
    found = []
    base = 0
    for end in range(1, len(tokens) + 1):
        for period in range(1, longest + 1):
            start = end - max(length, repeats * period)
            if start >= base and all(tokens[at] == tokens[at - period] for at in range(start + period, end)):
                found.append((period, start, end))
                base = end
                break
    return found


def confidence(logs: list[float]) -> tuple[float, float, float]:
    """Perplexity, mean and smallest probability."""
    chances = [math.exp(log) for log in logs]
    if not logs:
        return 1.0, 1.0, 1.0
    mean = -sum(logs) / len(logs)
    return math.exp(mean) if mean < 709 else math.inf, math.fsum(chances) / len(logs), min(chances)


def top_entropy(logs: list[float]) -> float:
    """Entropy in bits of some probabilities and what is missing to 1."""
    chances = [math.exp(log) for log in logs]
    return -math.fsum(chance * math.log2(chance) for chance in [*chances, 1 - math.fsum(chances)] if chance > 0)


def surprises(logs: list[float], window: int, deviations: float, floor: float) -> list[int]:
    """Places that surprise more than those right before them."""
    bits = [-log / math.log(2) for log in logs]
    found = []
    for place in range(8, len(bits)):
        before = [min(one, 64.0) for one in bits[max(0, place - window) : place]]
        mean = math.fsum(before) / len(before)
        deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in before) / len(before))
        if bits[place] >= floor and min(bits[place], 64.0) > mean + deviations * deviation:
            found.append(place)
    return found


def shingles(text: str) -> list[int]:
    """The hashes of the runs of five characters of each block."""
    made = []
    for block in blocks(text):
        if len(block) == 1:  # a space before nothing
            continue
        for last in range(min(5, len(block)) - 1, len(block)):
            value = 0
            for point in block[max(0, last - 4) : last + 1]:
                value = _wrap(value * POINTS + point % 2**21 + 1)
            value = _wrap((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9)
            value = _wrap((value ^ (value >> 27)) * 0x94D049BB133111EB)
            made.append(value ^ (value >> 31))
    return made


def minhash(text: str, functions: list[tuple[int, int]]) -> list[int]:
    """For each factor and addend the least upper half of a shingle's hash times and plus them."""
    made = shingles(text)
    return [min([_wrap(one * factor + addend) >> 32 for one in made] + [2**32 - 1]) for factor, addend in functions]


def simhash(text: str) -> int:
    """The bits that more shingles have than have not."""
    made = shingles(text)
    return sum(1 << bit for bit in range(64) if 2 * sum(one >> bit & 1 for one in made) > len(made))
