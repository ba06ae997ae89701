"""Words that mix ASCII letters with letters that look like them.

References: Unicode UTS 39 (security mechanisms).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from llmguard.detectors.unicode_near import Near
from llmguard.detectors.views import confusables
from llmguard.types import Finding

# Greek letters that stand at a word's edge in ordinary science: TNFα, IFNγ, sinα.
_SYMBOLS = frozenset("αβγδεζηθκλμνξπρστφχψω")
_CYRILLIC_TWINS = frozenset("aceopxyABCEHKMOPTXaceopxyi")


def _lookalikes() -> str:
    """Letters of other scripts that look like an ASCII letter, as the inside of a character class."""
    plain = ("LATIN", "MATHEMATICAL", "DOUBLE-STRUCK", "MODIFIER", "SCRIPT")
    found = (
        char
        for char, target in confusables().items()
        if target.isalpha() and char.isalpha() and not unicodedata.name(char).startswith(plain)
    )
    return "".join(sorted(found))


_LOOKALIKES = _lookalikes()
_TWINS = frozenset(_LOOKALIKES)

MIXED = f"[A-Za-z][{_LOOKALIKES}]|[{_LOOKALIKES}][A-Za-z]"
"""Matches in every text with a mixed word, for RE2 and for Python."""

CYRILLIC_OWN = "".join(char for char in map(chr, range(0x400, 0x530)) if char not in _TWINS)
"""Cyrillic letters that look like no ASCII letter, as the inside of a character class."""

EDGE = -1.0
"""The score of a word with a single Cyrillic part at its edge: what it is worth hangs on the text around it."""

_MIXED = re.compile(MIXED)


def mixed_words(content: str) -> Iterator[Finding]:
    """Findings about words that mix ASCII letters with letters that look like them."""
    near = Near(CYRILLIC_OWN, content)
    for start, end, score in scored_words(content):
        if score == EDGE:
            # "Windowsа" in Russian text is inflection; in English text it is a homoglyph.
            score = 0.0 if near.has(start, end) else 0.8
        if score:
            yield Finding("MIXED_SCRIPT", score, (start, end), reasons=("letters of two scripts that look alike",))


def scored_words(content: str) -> Iterator[tuple[int, int, float]]:
    """Start, end and score of each word that mixes letters, also of those that score 0 or ``EDGE``."""
    done = 0
    for hit in _MIXED.finditer(content):
        if hit.start() < done:
            continue
        start, end = hit.span()
        while start > done and content[start - 1].isalpha():
            start -= 1
        while end < len(content) and content[end].isalpha():
            end += 1
        done = end
        yield start, end, _word(content[start:end])


def _word(word: str) -> float:
    foreign = [char for char in word if not latin(char)]
    switches = sum(latin(left) != latin(right) for left, right in pairwise(word))
    if all(char in _TWINS for char in foreign):
        if switches > 1:
            return 0.9
        if len(foreign) == 1 and foreign[0] in _SYMBOLS:
            return 0.0
        return EDGE if _cyrillic(foreign[0]) else 0.8
    inner = [char for char in word if latin(char)]
    between = switches > 1 and all(map(_cyrillic, foreign))
    return 0.5 if between and all(char in _CYRILLIC_TWINS for char in inner) else 0.0


def clears(char: str) -> bool:
    """Whether no word with this letter is ever found: it is neither Latin nor Cyrillic, nor does it look Latin."""
    return not (latin(char) or _cyrillic(char) or char in _TWINS)


def latin(char: str) -> bool:
    """Whether a letter is one of the Latin alphabets'."""
    return char < "\u0250" or "\u1e00" <= char <= "\u1eff"


def _cyrillic(char: str) -> bool:
    return "\u0400" <= char <= "\u052f"
