"""Which words of a statement are false: marks that a text carries while it is made, and loses at the end."""

from __future__ import annotations

import difflib
import re

Place = tuple[int, int]

FALSE, UNSURE = "\ue000\ue001", "\ue002\ue003"
_MARKS = re.compile("[\ue000-\ue003]")
_WORD = re.compile(r"\{[^{}]*\}|\w+|[^\w\s]")
_ALIKE = 0.5  # a statement with fewer of the other's words is about something else


def false(text: str) -> str:
    """The text, marked as what is false."""
    return FALSE[0] + text + FALSE[1]


def unsure(text: str) -> str:
    """The text, marked as something of which nobody knows which words are false."""
    return UNSURE[0] + text + UNSURE[1]


def plain(text: str) -> str:
    """The text without marks."""
    return _MARKS.sub("", text)


def differing(text: str, true: str) -> str:
    """The text with the words marked that a true statement doesn't have there; a word left out marks its neighbour.

    Args:
        text: a statement, or a pattern of one with slots in braces.
        true: what it was made from.
    """
    places = [match.span() for match in _WORD.finditer(text)]
    words = [text[start:end].lower() for start, end in places]
    others = [match[0].lower() for match in _WORD.finditer(true)]
    match = difflib.SequenceMatcher(None, words, others, autojunk=False)
    if not words or match.ratio() < _ALIKE:
        return unsure(text)
    wrong: list[int] = []
    for kind, start, end, _, _ in match.get_opcodes():
        if kind == "insert":
            wrong.append(min(start, len(words) - 1))
        elif kind != "equal":
            wrong += range(start, end)
    for at in sorted(set(wrong), reverse=True):
        start, end = places[at]
        text = text[:start] + false(text[start:end]) + text[end:]
    return text if wrong else unsure(text)


def unmarked(text: str) -> tuple[str, list[Place], list[Place]]:
    """The text without marks, the places that were marked as false, and those where nobody knows.

    A mark that lost its other half reaches to the end of the text, or begins at its start.
    """
    bare = plain(text)
    found: list[list[Place]] = []
    for opens, closes in (FALSE, UNSURE):
        places: list[Place] = []
        at, since = 0, None
        for sign in text:
            if sign == opens:
                since = at
            elif sign == closes:
                places.append((since or 0, at))
                since = None
            elif not _MARKS.match(sign):
                at += 1
        if since is not None:
            places.append((since, at))
        found.append([place for place in places if place[0] < place[1]])
    return bare, found[0], found[1]
