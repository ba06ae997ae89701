"""What tells that a sentence goes beyond its documents, in numbers that a small linear model adds up."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmguard.detectors.grounding_numbers import Number, numbers
from llmguard.detectors.grounding_source import Source, initials
from llmguard.detectors.grounding_words import Word, lexicon, members, negates, related, words

#: The signals, in the order of `Claim.signals`.
NAMES = (
    "words_absent",
    "absent_share",
    "words_paraphrased",
    "numbers_absent",
    "counts_absent",
    "numbers_elsewhere",
    "names_absent",
    "names_elsewhere",
    "opposites",
    "kinds",
    "negation",
    "uncovered",
)
_MOST = 4
"""What stands more often in one sentence counts as often as this."""
_BEST, _MORE = 2, 8
"""Passages that a sentence may take its words from: two, and one more for every eight of its words."""
_COUNT = 10
"""Number words up to it mostly count what the documents list: they need not stand there."""

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence beside its documents.

    Attributes:
        signals: by `NAMES`.
        best: indices of the passages that it may take its words from, the best first.
        doubtful: where words, numbers and names stand that speak against it.
    """

    signals: list[float]
    best: list[int]
    doubtful: list[Place]


class _Around(NamedTuple):
    """What the best passages of a sentence hold.

    Attributes:
        passages: these passages, and those before and after them.
        shared: stems of the sentence that the best ones hold.
        groups: numbers of the synonyms among their stems.
        sides: the opposites among those of their stems that the sentence does not hold too.
    """

    passages: set[int]
    shared: set[str]
    groups: set[int]
    sides: set[tuple[int, int]]


def examined(sentence: str, source: Source) -> Claim:
    """A sentence's signals.

    Args:
        sentence: any text.
        source: the documents.
    """
    found = words(sentence)
    own_numbers = numbers(sentence, found)
    function = lexicon().function
    taken = [(number.start, number.end) for number in own_numbers]
    content = [word for word in found if word.low not in function and len(word.low) > 1 and not _inside(word, taken)]
    names = [word for word in content if word.upper and (word is not found[0] or word.low in source.capitals)]
    named = {word.start for word in names}
    common = [word for word in content if word.start not in named]
    stems = {word.stem for word in content}
    ranked = source.ranked(stems, _BEST + len(stems) // _MORE)
    around = _around([passage for passage, _ in ranked], stems, source)
    doubtful: list[Place] = []
    absent, paraphrased, opposites, kinds = _common(common, around, source, doubtful)
    told = _numbers(own_numbers, around, source, doubtful)
    names_absent, names_elsewhere, other_kinds = _names(names, initials(found), around, source, doubtful)
    whole = sum([source.weight(one) for one in stems])
    covered = sum([source.weight(one) for one in stems if one in around.shared])
    negated = any([negates(word) for word in found])
    counts = (absent, paraphrased, *told, names_absent, names_elsewhere, opposites, kinds + other_kinds)
    capped = [float(min(_MOST, count)) for count in counts]
    signals = [
        capped[0],
        absent / max(1, len(common)),
        *capped[1:],
        float(negated != any([source.passages[passage].negated for passage, _ in ranked[:1]])),
        1.0 - covered / whole if whole else 0.0,
    ]
    return Claim(signals, [passage for passage, _ in ranked], sorted(doubtful))


def _around(best: list[int], stems: set[str], source: Source) -> _Around:
    # Only what the sentence or the lexicon holds too is gone through: a passage may be a whole document.
    known = lexicon()
    passages = [source.passages[passage] for passage in best]
    return _Around(
        {passage + step for passage in best for step in (-1, 0, 1)},
        {one for passage in passages for one in passage.stems & stems},
        {group for passage in passages for group in passage.alike},
        {side for passage in passages for one in passage.sided - stems for side in known.sides[one]},
    )


def _common(common: list[Word], around: _Around, source: Source, doubtful: list[Place]) -> tuple[int, int, int, int]:
    """Words that the documents lack, say otherwise, say the opposite of, or have another of their kind for."""
    known = lexicon()
    absent = paraphrased = opposites = kinds = 0
    for word in common:
        if word.stem in source.places:
            continue
        if any([related(word.stem, other) for other in source.same_beginning(word.stem)]) or not (
            around.groups.isdisjoint(known.alike.get(word.stem, ()))
        ):
            paraphrased += 1
            continue
        if any([(number, 1 - side) in around.sides for number, side in known.sides.get(word.stem, ())]):
            opposites += 1
        elif _of_a_kind(word, source):
            kinds += 1
        else:
            absent += 1
        doubtful.append((word.start, word.end))
    return absent, paraphrased, opposites, kinds


def _numbers(own: list[Number], around: _Around, source: Source, doubtful: list[Place]) -> tuple[int, int, int]:
    """Numbers that the documents lack, small counts that they lack, and those that stand beside other words."""
    absent = counts = elsewhere = 0
    for number in own:
        told, rounded = source.told(number)
        if not around.passages.isdisjoint(told):
            continue
        if told:
            elsewhere += 1
        elif rounded:
            continue
        elif number.digits == 0 and number.value <= _COUNT:
            counts += 1
        else:
            absent += 1
        doubtful.append((number.start, number.end))
    return absent, counts, elsewhere


def _names(
    names: list[Word], short: set[str], around: _Around, source: Source, doubtful: list[Place]
) -> tuple[int, int, int]:
    """Names that the documents lack, those that stand beside other words, and those that replace one of their kind."""
    absent = elsewhere = kinds = 0
    spelt = {letter for one in short if one in source.capitals for letter in one}
    for word in names:
        places = source.places.get(word.stem)
        if places:
            elsewhere += around.passages.isdisjoint(places)
        elif _of_a_kind(word, source):
            kinds += 1
            doubtful.append((word.start, word.end))
        elif not (source.abbreviated(word.low) or word.low[0] in spelt):
            absent += 1
            doubtful.append((word.start, word.end))
    return absent, elsewhere, kinds


def _of_a_kind(word: Word, source: Source) -> bool:
    """Whether the documents, which lack a word, have another of its kind: another month, another colour."""
    return any(other in source.places for number in lexicon().kinds.get(word.stem, ()) for other in members()[number])


def _inside(word: Word, spans: Sequence[Place]) -> bool:
    at = bisect.bisect_right(spans, (word.end, 0)) - 1
    return at >= 0 and spans[at][0] <= word.start < spans[at][1]
