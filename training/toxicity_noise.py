"""Spelling tricks: what people do to words so that a filter misses them.

Every trick is put on a toxic sentence and on its benign twin alike, so that a trick alone says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random

Trick = Callable[[str, Random], str]

_LEET = {"a": "4@", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7", "l": "1", "b": "8", "g": "9"}
_CYRILLIC = dict(zip("aeopcyxi", "аеорсухі", strict=True))
_LETTER_EMOJI = {
    "a": "🅰️",
    "b": "🅱️",
    "o": "⭕",
    "i": "ℹ️",
    "m": "Ⓜ️",
    "p": "🅿️",
    "x": "❌",
    "t": "✝️",
    "s": "💲",
    "v": "♈",
    "u": "⛎",
    "c": "☪️",
    "h": "♓",
    "n": "♑",
}
_WORD = re.compile(r"[^\W\d_]{4,}")


def _some_words(text: str, rng: Random, change: Callable[[str], str], share: float = 0.5) -> str:
    """Change about a share of the words of four letters or more, one at least."""
    places = [match.span() for match in _WORD.finditer(text)]
    chosen = [place for place in places if rng.random() < share] or places[:1]
    for start, end in reversed(chosen):
        text = text[:start] + change(text[start:end]) + text[end:]
    return text


def leet(text: str, rng: Random) -> str:
    """Digits and signs for letters."""

    def change(word: str) -> str:
        return "".join(rng.choice(_LEET[c.lower()]) if c.lower() in _LEET and rng.random() < 0.6 else c for c in word)

    return _some_words(text, rng, change, 0.7)


def drop(text: str, rng: Random) -> str:
    """A letter inside a word left out."""

    def change(word: str) -> str:
        at = rng.randrange(1, len(word) - 1)
        return word[:at] + word[at + 1 :]

    return _some_words(text, rng, change)


def swap(text: str, rng: Random) -> str:
    """Two letters inside a word in the wrong order."""

    def change(word: str) -> str:
        at = rng.randrange(1, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return _some_words(text, rng, change)


def repeat(text: str, rng: Random) -> str:
    """A letter drawn out."""

    def change(word: str) -> str:
        at = rng.randrange(1, len(word))
        return word[:at] + word[at] * rng.randrange(2, 5) + word[at:]

    return _some_words(text, rng, change, 0.3)


def spaced(text: str, rng: Random) -> str:
    """Spaces or dots between the letters of words."""
    sign = rng.choice([" ", " ", ".", "-", "_"])
    return _some_words(text, rng, sign.join, 0.4)


def joined(text: str, rng: Random) -> str:
    """Spaces left out: all of them, or between some words."""
    keep = rng.choice([0.0, 0.5])
    return re.sub(r" ", lambda _: " " if rng.random() < keep else "", text)


def masked(text: str, rng: Random) -> str:
    """A star for the inner letters of some words."""

    def change(word: str) -> str:
        at = rng.randrange(1, len(word) - 1)
        return word[:at] + "*" + word[at + 1 :]

    return _some_words(text, rng, change)


def look_alike(text: str, rng: Random) -> str:
    """Cyrillic letters that look like Latin ones."""
    return "".join(_CYRILLIC[c] if c in _CYRILLIC and rng.random() < 0.6 else c for c in text)


def letter_emoji(text: str, rng: Random) -> str:
    """Emoji that look like letters."""

    def change(word: str) -> str:
        known = [at for at, c in enumerate(word.lower()) if c in _LETTER_EMOJI]
        if not known:
            return word
        at = rng.choice(known)
        return word[:at] + _LETTER_EMOJI[word[at].lower()] + word[at + 1 :]

    return _some_words(text, rng, change, 0.6)


def shout(text: str, rng: Random) -> str:
    """Capitals, and marks at the end."""
    return text.rstrip(".!?").upper() + rng.choice(["", "!", "!!!", "?!"])


TRICKS: Mapping[str, Trick] = {
    "leet": leet,
    "drop": drop,
    "swap": swap,
    "repeat": repeat,
    "spaced": spaced,
    "joined": joined,
    "masked": masked,
    "look_alike": look_alike,
    "letter_emoji": letter_emoji,
    "shout": shout,
}
