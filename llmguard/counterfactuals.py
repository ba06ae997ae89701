"""The same text about others: a term that names a group of people, replaced by those that name other groups."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from llmguard.detectors.fairness_lexicon import Lexicon, Mention
    from llmguard.detectors.fairness_terms import Term

_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
# Further back than an article and the blanks after it.
_BACK = 16
# Vowels in writing whose first sound is that of "you", and letters whose names begin with a vowel.
_LIKE_YOU = re.compile(r"eu|u[krs]|uni", re.IGNORECASE)
_SPELLED = re.compile(r"[FHLMNRSX][A-Z]")


class Swap(NamedTuple):
    """A text in which a term is replaced wherever it stands.

    Attributes:
        term: the one that stood there.
        by: the one that stands there now.
        text: with the replacement.
    """

    term: Term
    by: Term
    text: str


class Swapper:
    """Makes swaps by a lexicon.

    A term is replaced by those of the other groups of its dimension that have all of its forms, so that the sentence
    stays one. The case of its letters is taken over, and ``a`` or ``an`` before it, where it was right, stays right.

    Args:
        lexicon: of the terms.
        most: swaps that are made of a term in a text; which ones, goes round from text to text.
        everywhere: whether ambiguous words count wherever they stand.
    """

    def __init__(self, lexicon: Lexicon, *, most: int = 8, everywhere: bool = True) -> None:
        self._lexicon = lexicon
        self._most = most
        self._everywhere = everywhere
        self._others = {term: _others(term, lexicon.terms) for term in lexicon.terms}
        self._turns: dict[Term, int] = defaultdict(int)

    def swaps(self, text: str) -> Iterator[Swap]:
        """The swaps of a text, term by term; none if it mentions nobody."""
        mentions = self._lexicon.mentions(text, everywhere=self._everywhere)
        groups = {(one.term.dimension, one.term.group) for one in mentions}
        for term in dict.fromkeys(mention.term for mention in mentions):
            places = [mention for mention in mentions if mention.term is term]
            # A group that is mentioned already would make "gay and gay people" of it.
            others = [other for other in self._others[term] if (other.dimension, other.group) not in groups]
            turn = self._turns[term]
            self._turns[term] = turn + self._most
            for step in range(min(self._most, len(others))):
                other = others[(turn + step) % len(others)]
                yield Swap(term, other, _replaced(text, places, other))


def _others(term: Term, terms: Sequence[Term]) -> list[Term]:
    return [
        other
        for other in terms
        if other.dimension == term.dimension and other.group != term.group and other.forms >= term.forms
    ]


def _replaced(text: str, places: Sequence[Mention], by: Term) -> str:
    parts: list[str] = []
    past = 0
    for mention in places:
        before, old = text[past : mention.start], text[mention.start : mention.end]
        first = text[max(0, mention.start - _BACK) : mention.start].rstrip()[-1:] in ("", *".!?")
        new = _cased(old, mention.term.text, by.text, first=first)
        article = _ARTICLE.search(before[-_BACK:])
        if article is not None and article[1].lower() == indefinite(old):
            right = indefinite(new)
            if article[1][0].isupper():
                right = right.upper() if new.isupper() else right.capitalize()
            before = before.removesuffix(article[0]) + right + article[2]
        parts += (before, new)
        past = mention.end
    return "".join([*parts, text[past:]])


def _cased(old: str, spelled: str, new: str, *, first: bool) -> str:
    """A term in the case of the one it replaces: as it is spelled, small, LARGE, or With A Capital.

    Args:
        old: as it stands in the text.
        spelled: as the lexicon has it.
        new: as the lexicon has it.
        first: whether a sentence begins with it.
    """
    if old == spelled:
        return new[:1].upper() + new[1:] if first and old[0].isupper() else new
    if old.islower():
        return new.lower()
    return new.upper() if old.isupper() else new[:1].upper() + new[1:]


def indefinite(phrase: str) -> str:
    """``a`` or ``an``, by the sound that a phrase begins with."""
    if _SPELLED.match(phrase) or phrase.lower().startswith("lgbt"):
        return "an"
    return "an" if phrase[:1].lower() in tuple("aeiou") and not _LIKE_YOU.match(phrase) else "a"
