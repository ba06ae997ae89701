"""Words as they are compared: their stems, and what an own lexicon knows of them.

A stem is what is left when the endings of English are cut; it need not be a word. Words of other languages are compared
as they stand, but for those endings.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
_VOWEL = re.compile(r"[aeiouy]")
_LONGEST = 40
"""Letters from which on a run is no word: it is compared by its beginning."""


class Word(NamedTuple):
    """A word of a text.

    Attributes:
        start: first code point.
        end: code point after the last one.
        low: in lower case.
        stem: without its endings.
        upper: whether it begins with a capital.
    """

    start: int
    end: int
    low: str
    stem: str
    upper: bool


@dataclass(frozen=True, slots=True)
class Lexicon:
    """What is known of single words, by stem.

    Attributes:
        function: words that say nothing about the matter, as they stand.
        negation: words that turn a sentence round, as they stand.
        refusal: words of sentences that refuse and say no more, as they stand.
        alike: groups of words that may stand for each other.
        sides: pairs that exclude each other: number of the pair and which side.
        kinds: sets of which a thing is one.
        numbers: values of number words, as they stand.
        ordinals: likewise.
        magnitudes: likewise.
        units: names of units, as they stand.
    """

    function: frozenset[str]
    negation: frozenset[str]
    refusal: frozenset[str]
    alike: dict[str, frozenset[int]]
    sides: dict[str, frozenset[tuple[int, int]]]
    kinds: dict[str, frozenset[int]]
    numbers: dict[str, float]
    ordinals: dict[str, float]
    magnitudes: dict[str, float]
    units: dict[str, str]


@cache
def lexicon() -> Lexicon:
    """The bundled lexicon; read once."""
    data = _file()
    alike: dict[str, set[int]] = defaultdict(set)
    sides: dict[str, set[tuple[int, int]]] = defaultdict(set)
    kinds: dict[str, set[int]] = defaultdict(set)
    for number, line in enumerate(data["synonyms"]):
        for word in _listed(line):
            alike[stem(word)].add(number)
    for number, line in enumerate(data["opposites"]):
        for side, half in enumerate(line.split(" / ")):
            for word in _listed(half):
                sides[stem(word)].add((number, side))
    for number, line in enumerate(data["kinds"]):
        for word in _listed(line):
            kinds[stem(word)].add(number)
    return Lexicon(
        frozenset(data["function"].split()),
        frozenset(data["negation"].split()),
        frozenset(data["refusal"].split()),
        {word: frozenset(found) for word, found in alike.items()},
        {word: frozenset(found) for word, found in sides.items()},
        {word: frozenset(found) for word, found in kinds.items()},
        {word: float(value) for word, value in data["numbers"].items()},
        {word: float(value) for word, value in data["ordinals"].items()},
        {word: float(value) for word, value in data["magnitudes"].items()},
        data["units"],
    )


def phrases() -> list[str]:
    """Patterns of whole sentences that claim nothing, in small letters and without marks between the words."""
    found: list[str] = _file()["phrases"]
    return found


@cache
def members() -> dict[int, frozenset[str]]:
    """The stems of each of the lexicon's kinds, by its number."""
    found: dict[int, set[str]] = defaultdict(set)
    for word, numbers in lexicon().kinds.items():
        for number in numbers:
            found[number].add(word)
    return {number: frozenset(own) for number, own in found.items()}


@cache
def _file() -> dict[str, Any]:
    path = resources.files("llmguard.detectors") / "data" / "grounding_lexicon.yaml"
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def _listed(line: str) -> list[str]:
    return [word.strip() for word in line.split(",")]


def words(text: str) -> list[Word]:
    """The words of a text, in order; linear in the text."""
    found = []
    for match in _WORD.finditer(text):
        own = match.group()
        low = own.lower().replace("’", "'")
        found.append(Word(match.start(), match.end(), low, stem(low), own[0].isupper()))
    return found


def negates(word: Word) -> bool:
    """Whether a word turns a sentence round."""
    return word.low in lexicon().negation or word.low.endswith("n't")


@lru_cache(maxsize=1 << 15)
def stem(word: str) -> str:
    """A word in lower case without the endings of plural, past, progress and adverb, nor its last e."""
    word = word.split("'", 1)[0][:_LONGEST]
    word = _file()["irregular"].get(word, word)
    if word in _file()["whole"]:
        return word
    if len(word) > 4 and word.endswith("ly"):
        word = word[:-2]
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 4 and word.endswith("ied"):
        word = word[:-3] + "y"
    for ending in ("ing", "ed"):
        bare = word[: -len(ending)]
        if len(word) > len(ending) + 2 and word.endswith(ending) and _VOWEL.search(bare):
            word = bare[:-1] if len(bare) > 3 and bare[-1] == bare[-2] and bare[-1] not in "lsz" else bare
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def related(one: str, other: str) -> bool:
    """Whether two stems begin so much alike that the one is likely derived from the other."""
    shorter, longer = sorted((len(one), len(other)))
    shared = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    return shared >= shorter - 1 and (shared > 4 or (shared == 4 and longer <= 6))
