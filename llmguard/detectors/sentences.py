"""Where the sentences of a text are: one rule for all who cut texts, so that they agree.

A sentence ends at a line's end, or at a full stop, question mark, exclamation mark or ellipsis that white space
follows, also behind closing quotes and brackets; the marks of Chinese, Japanese and Hindi end one by themselves. A stop
after a single letter or a usual abbreviation ends none (``e.g. this``, ``J. Smith``, ``Dr. Wu``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# The look behind keeps a run of marks that ends no sentence from being tried at each of them.
_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？｡।]+[”’」』）]*|\n+")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(\[\"'“])(?:[A-Za-z]|e\.g|i\.e|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|approx|No|Nr|Inc|Ltd|Co|Corp|cf|al|fig|p|pp)\.$"
)
_REACH = 12


def sentences(text: str) -> list[tuple[int, int]]:
    """Half-open spans of the sentences, in order, without the white space between them; linear in the text."""
    found: list[tuple[int, int]] = []
    start = 0
    for stop, end in _ends(text):
        _add(found, text, start, stop)
        start = end
    _add(found, text, start, len(text))
    return found


def settled(text: str) -> int:
    """Up to where the sentences of a text that goes on are the same whatever follows.

    Args:
        text: as far as it has come, from the beginning of a sentence.
    """
    last = 0
    for stop, end in _ends(text):
        if end < len(text):  # what stands behind the marks is no further mark
            last = end
        elif text[stop : stop + 1] == "\n":
            last = stop
    return last


def beginning(text: str, place: int) -> int:
    """Where the sentence that a place stands in begins, or the white space before it does."""
    last = 0
    for _, end in _ends(text):
        if end > place:
            break
        last = end
    return last


def _ends(text: str) -> Iterator[tuple[int, int]]:
    """Where sentences end, and where what follows them begins."""
    start = 0
    for match in _END.finditer(text):
        end = match.end()
        stop = match.group()
        if stop == "." and _ABBREVIATED.search(text[max(start, end - _REACH) : end]):
            continue
        yield match.start() if stop[0] == "\n" else end, end
        start = end


def _add(found: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    part = text[start:end]
    bare = part.strip()
    if bare:
        begin = start + part.index(bare[0]) if part[0].isspace() else start
        found.append((begin, begin + len(bare)))
