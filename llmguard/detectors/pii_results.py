"""What a recognizer found, and which of several overlapping finds of one category stay, as in Presidio."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple


class Hit(NamedTuple):
    """One thing that a recognizer found.

    Attributes:
        category: the entity type.
        start: first code point.
        end: one past the last code point.
        score: in [0, 1].
        source: index of the recognizer.
        lifted: whether a context word raised the score.
    """

    category: str
    start: int
    end: int
    score: float
    source: int = 0
    lifted: bool = False


def _order(hit: Hit) -> tuple[str, int, int, float]:
    return hit.category, hit.start, hit.start - hit.end, -hit.score


def without_duplicates(hits: Iterable[Hit]) -> list[Hit]:
    """Drop each hit of no score, or that another of its category contains with as high a score.

    The rule and the order of the result are those of ``EntityRecognizer.remove_duplicates`` of Presidio
    2.2.366: best score first, then by place.
    """
    kept: list[Hit] = []
    for _, group in groupby(sorted(hits, key=_order), key=attrgetter("category")):
        active: list[Hit] = []
        for hit in group:
            if hit.score == 0:
                continue
            active = [other for other in active if other.end >= hit.start]
            if not any(hit.end <= other.end and hit.score <= other.score for other in active):
                kept.append(hit)
                active.append(hit)
    kept.sort(key=lambda hit: (-hit.score, hit.start, hit.start - hit.end))
    return kept
