"""How a placeholder is written, and how one is found again in a text.

A placeholder is ``<LABEL_n>``. It begins with its only ``<`` and ends with its only ``>``, so none can arise where two
pieces of text meet, no two can overlap, and which parts of a text are placeholders doesn't depend on where one looks.
"""

from __future__ import annotations

import re
from functools import lru_cache

_LABEL_LENGTH = 48
_DIGITS = 9
HIGHEST_NUMBER = 10**_DIGITS - 1
"""No placeholder has a higher number."""

MAX_PLACEHOLDER_LENGTH = len("<") + _LABEL_LENGTH + len("_") + _DIGITS + len(">")
"""The longest placeholder, in code points: a stream that restores holds back less than that."""

# Bounded on every side: each "<" costs at most a constant, so that a scan is linear in the text.
PLACEHOLDER = re.compile(rf"<([A-Z][A-Z0-9_]{{0,{_LABEL_LENGTH - 1}}})_([1-9][0-9]{{0,{_DIGITS - 1}}})>")
"""What is written like a placeholder: the label and the number are its groups."""

_UNFINISHED = re.compile(rf"<(?:[A-Z][A-Z0-9_]{{0,{MAX_PLACEHOLDER_LENGTH - 3}}})?\Z")


@lru_cache(maxsize=1024)
def label(category: str) -> str:
    """A category as it is written in a text.

    Starts with a letter, then ``A-Z``, ``0-9`` and ``_``, at most 48 in all. It never ends like ``_1``, so ``<LABEL>``
    alone is not written like a placeholder. Categories that are written alike share their numbers.
    """
    word = re.sub(r"[^A-Z0-9]+", "_", category.upper()).strip("_")[: _LABEL_LENGTH - 1].rstrip("_")
    word = re.sub(r"(?:_[0-9]+)+\Z", lambda match: match[0].replace("_", ""), word)
    return word if word[:1].isalpha() else f"X{word}"


def unfinished(text: str) -> int:
    """Where a placeholder may be beginning at the end of a text that goes on; the text's length if nowhere.

    Restoring ``text[:unfinished(text)]`` now, and the rest with what follows it, gives the same as restoring it all at
    the end. Never less than ``len(text) - MAX_PLACEHOLDER_LENGTH + 1``.
    """
    start = text.rfind("<", max(0, len(text) - MAX_PLACEHOLDER_LENGTH + 1))
    return start if start >= 0 and _UNFINISHED.match(text, start) else len(text)
