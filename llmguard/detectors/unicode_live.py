"""What the unicode detector can say of a text that still grows, and how little of it has to be looked at again.

Still open are the runs at the end, of letters and of odd characters with their neighbours, and what hangs on the text
around it: direction changes that their line may close, direction marks and words that letters to come may explain.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from llmguard.detectors.unicode_bidi import BIDI, OVERRIDES, RTL, opened
from llmguard.detectors.unicode_near import NEAR, Near, last_near
from llmguard.detectors.unicode_words import CYRILLIC_OWN, EDGE, clears, scored_words
from llmguard.detectors.views import CONTROLS, INVISIBLE, MARKS

#: Letters from the end among which one that clears its word is looked for: so no word is read again and again.
_LOOK_BACK = 64

_ASCII_CONTROLS = "".join(chr(point) for point in [*range(9), *range(14, 32), 127])
_ODD_RUN = re.compile(f"[{CONTROLS}{MARKS}{INVISIBLE}]+")
_BIDI = re.compile(f"[{BIDI}]")


def settled(text: str, *, bidi: bool, mixed: bool) -> int:
    """Up to where findings are final: in prose to the beginning of the last word.

    Args:
        text: so far.
        bidi: whether it may hold characters that turn the direction.
        mixed: whether it may hold words that mix letters.
    """
    if text.isascii():
        return min(len(text.rstrip(string.ascii_letters)), len(text.rstrip(_ASCII_CONTROLS)))
    place = min(_odd_run(text), _last_word(text))
    if bidi:
        place = min(place, opened(text, len(text)), _unexplained_marks(text))
    return min(place, _unexplained_words(text)) if mixed else place


def context(text: str, start: int) -> int:
    """From where to look for what starts at or after ``start``; at most ``NEAR`` or an open line before it.

    Args:
        text: so far.
        start: a place in it.
    """
    place = start - 1
    if place > 0 and not text.isascii():
        place = min(place, last_near(RTL, text, start), last_near(CYRILLIC_OWN, text, start), opened(text, start))
    # Odd characters are read in runs, and beside what stands before them. At the very start one may have a licence.
    return max(0, _odd_run(text[: place + 1]) - 1)


def _odd_run(text: str) -> int:
    """Where the odd characters at the end begin."""
    run = _ODD_RUN.match(text[::-1])
    return len(text) - run.end() if run else len(text)


def _last_word(text: str) -> int:
    """Where the word at the end begins; the text's end if nothing can be found in it any more."""
    size = place = len(text)
    while place and text[place - 1].isalpha():
        place -= 1
        if size - place <= _LOOK_BACK and clears(text[place]):
            return size
    return place


def _unexplained_marks(text: str) -> int:
    """Where the first character stands that right-to-left letters to come may explain."""
    return _unexplained(text, RTL, (hit.span() for hit in _BIDI.finditer(text) if hit[0] not in OVERRIDES))


def _unexplained_words(text: str) -> int:
    """Where the first word begins that Cyrillic letters to come may explain."""
    words = ((start, end) for start, end, score in scored_words(text) if score == EDGE)
    return _unexplained(text, CYRILLIC_OWN, words)


def _unexplained(text: str, letters: str, spans: Iterable[tuple[int, int]]) -> int:
    """Where the first of some spans begins that letters to come may be near to.

    Those that no letter came near to are let go many at a time: one by one, each would cost a look at all the others.
    """
    near = Near(letters, text)
    first: int | None = None
    for start, end in spans:
        if near.has(start, end):
            continue
        first = start if first is None else first
        if first + 2 * NEAR > len(text) or end + NEAR > len(text):
            return start
    return len(text)
