"""Whether a word that mostly means something else (``black``, ``straight``) means a person where it stands."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

# What may end a clause after "she is blind".
_CLAUSE_END = rb"\s*(?:$|[.,;:!?)\n]|(?:and|or|but)\b)"
# Further back than the longest phrase that is looked for before a word.
_BACK = 48


class Contexts:
    """Around which words an ambiguous one counts; all of them in lower case.

    Args:
        words: count before one of ``persons`` (``old people``), or after one of ``said_of`` at the end of a clause
            (``I am old.``).
        counted: count after one of ``counts`` (``most blacks``).
        persons: words for people.
        said_of: words that say something of a person.
        counts: words before several people.
        capitalised: count only with a capital (``Polish``).
    """

    def __init__(
        self,
        words: Collection[str] = (),
        counted: Collection[str] = (),
        persons: Collection[str] = (),
        said_of: Collection[str] = (),
        counts: Collection[str] = (),
        capitalised: Collection[str] = (),
    ) -> None:
        self._words = frozenset(words)
        self._counted = frozenset(counted)
        self._capitalised = frozenset(capitalised)
        self._free = not (self._words or self._counted or self._capitalised)
        self._person = re.compile(rb"[\s-]+(?:" + _any(persons) + rb")\b", re.IGNORECASE)
        self._clause_end = re.compile(_CLAUSE_END, re.IGNORECASE)
        self._said = re.compile(rb"(?:^|\W)(?:" + _any(said_of) + rb")\s+(?:an?\s+)?$", re.IGNORECASE)
        self._count = re.compile(rb"(?:^|\W)(?:" + _any(counts) + rb")\s+$", re.IGNORECASE)

    def fit(self, word: str, data: bytes, start: int, end: int) -> bool:
        """Whether a word counts where it stands.

        Args:
            word: in lower case, its parts one blank apart.
            data: the text, in UTF-8.
            start: of the word in it.
            end: likewise.
        """
        if word in self._words:
            if self._person.match(data, end):
                return True
            said = self._said.search(data[max(0, start - _BACK) : start])
            return said is not None and self._clause_end.match(data, end) is not None
        if word in self._counted:
            return self._count.search(data[max(0, start - _BACK) : start]) is not None
        return word not in self._capitalised or not data[start : start + 1].islower()


def _any(phrases: Iterable[str]) -> bytes:
    """One of some phrases, or nothing that exists where there are none."""
    listed = [rb"\s+".join(re.escape(word.encode()) for word in phrase.split()) for phrase in phrases]
    return b"|".join(listed) or rb"(?!)"


def edged(data: bytes, start: int, end: int) -> bool:
    """Whether words begin and end here, letters beyond ASCII included."""
    if (start == 0 or data[start - 1] == 0x20) and (end == len(data) or data[end] in b" .,"):
        return True
    return not (_joins(data[max(0, start - 4) : start], -1) or _joins(data[end : end + 4], 0))


def _joins(beside: bytes, place: int) -> bool:
    """Whether the character beside a word goes on with it.

    Letters and marks up to U+1FFF are of scripts written with blanks; behind them come signs, and scripts without.
    """
    if not beside:
        return False
    if beside[place] < 0x80:
        return chr(beside[place]).isalnum() or beside[place] == 0x5F
    letter = beside.decode("utf-8", "ignore")[place:][:1]
    return letter in "\u00aa\u00b5\u00ba" or ("\u00c0" <= letter <= "\u1fff" and letter not in "\u00d7\u00f7")
