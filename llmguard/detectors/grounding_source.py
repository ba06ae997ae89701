"""The documents that an answer must keep to, cut into passages and indexed by their words, numbers and names."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from llmguard.detectors.grounding_numbers import Number, equal, numbers
from llmguard.detectors.grounding_words import Word, lexicon, negates, words
from llmguard.detectors.sentences import sentences

_PLACES = 64
"""Passages of a stem that are kept: what stands in more tells little about any of them."""
_BEGINNING = 4
_DERIVED = 64
"""Stems of one beginning that are kept."""
_COMPARED = 512
"""Numbers that one of no equal value is compared with, for being rounded."""


class Passage(NamedTuple):
    """A sentence of a document.

    Attributes:
        document: index of the document.
        start: first code point in it.
        end: code point after the last one.
        stems: of its words.
        alike: numbers of the lexicon's groups of synonyms that one of them is in.
        sided: those of them that the lexicon has an opposite for.
        negated: whether a word in it turns it round.
    """

    document: int
    start: int
    end: int
    stems: frozenset[str]
    alike: frozenset[int]
    sided: frozenset[str]
    negated: bool


class Source:
    """What the documents of one check hold; built in time linear in them.

    Args:
        documents: their texts.

    Attributes:
        passages: their sentences, in order.
        places: for each stem the first passages that hold it, at most 64.
        capitals: words that stand with a capital, in lower case.
    """

    def __init__(self, documents: Sequence[str]) -> None:
        self.passages: list[Passage] = []
        self.places: dict[str, list[int]] = {}
        self.capitals: set[str] = set()
        self._initials: set[str] = set()
        self._beginnings: dict[str, list[str]] = defaultdict(list)
        self._values: dict[float, list[tuple[Number, int]]] = defaultdict(list)
        self._compared = 0
        self._first: dict[Number, None] = {}
        self._told: dict[Number, tuple[list[int], bool]] = {}
        for index, text in enumerate(documents):
            for start, end in sentences(text):
                self._add(index, start, text[start:end])

    def _add(self, document: int, start: int, content: str) -> None:
        found = words(content)
        passage = len(self.passages)
        stems = frozenset([word.stem for word in found])
        known = lexicon()
        alike = frozenset([group for one in stems for group in known.alike.get(one, ())])
        sided = frozenset([one for one in stems if one in known.sides])
        negated = any([negates(word) for word in found])
        self.passages.append(Passage(document, start, start + len(content), stems, alike, sided, negated))
        for one in stems:
            places = self.places.get(one)
            if places is None:
                self.places[one] = [passage]
                beginning = self._beginnings[one[:_BEGINNING]]
                if len(beginning) < _DERIVED:
                    beginning.append(one)
            elif len(places) < _PLACES:
                places.append(passage)
        self.capitals.update([word.low for word in found if word.upper])
        self._initials |= initials(found)
        for number in numbers(content, found):
            if self._compared < _COMPARED:
                self._compared += 1
                self._first[_anywhere(number)] = None
            for value in {_key(number.value), _key(number.bare)}:
                if len(self._values[value]) < _PLACES:
                    self._values[value].append((number, passage))

    def same_beginning(self, one: str) -> Iterable[str]:
        """Stems of the documents that begin with the same four letters."""
        return self._beginnings.get(one[:_BEGINNING], ())

    def abbreviated(self, low: str) -> bool:
        """Whether a word is made of the first letters of names in the documents."""
        return low in self._initials

    def told(self, number: Number) -> tuple[list[int], bool]:
        """The passages with an equal number of the same value or digits; without one, whether it is one rounded."""
        asked = _anywhere(number)
        if asked not in self._told:
            found = self._values.get(_key(number.value), [])
            if number.bare != number.value:
                found = found + self._values.get(_key(number.bare), [])
            passages = [passage for other, passage in found if equal(number, other)]
            self._told[asked] = passages, not passages and any([equal(number, other) for other in self._first])
        return self._told[asked]

    def weight(self, one: str) -> float:
        """How much a stem tells: less, the more passages it stands in."""
        return math.log(1.0 + len(self.passages) / (1.0 + len(self.places.get(one, ()))))

    def ranked(self, stems: Collection[str], most: int) -> list[tuple[int, float]]:
        """The passages that hold most of these stems by weight, and their weights, the best first."""
        found: dict[int, float] = defaultdict(float)
        for one in sorted(stems):
            weight = self.weight(one)
            for passage in self.places.get(one, ()):
                found[passage] += weight
        return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]


def _key(value: float) -> float:
    return round(value, 6)


def _anywhere(number: Number) -> Number:
    """A number wherever it stands: equal ones are compared once."""
    return number._replace(start=0, end=0)


def initials(found: Sequence[Word]) -> set[str]:
    """First letters of each run of two to five capitalised words: what the run may be abbreviated to."""
    made: set[str] = set()
    run: list[str] = []
    function = lexicon().function
    for word in found:
        if word.upper:
            run.append(word.low[0])
            made.update(["".join(run[-length:]) for length in range(2, min(5, len(run)) + 1)])
        elif word.low not in function:
            run.clear()
    return made
