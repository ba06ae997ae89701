"""One finding a place: what several shapes say about one secret becomes one answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from llmguard.types import Finding


class Candidate(NamedTuple):
    """What one shape says: a half-open span in code points and how sure it is.

    Attributes:
        start: first code point.
        end: behind the last one.
        tier: 0 for known shapes, 1 for named values, 2 for randomness; the lower one stands.
        score: in [0, 1].
        order: the shape's place in its list; settles ties.
        category: what it is called.
        reasons: why.
    """

    start: int
    end: int
    tier: int
    score: float
    order: int
    category: str
    reasons: tuple[str, ...]


def merge(candidates: Iterable[Candidate]) -> list[Finding]:
    """Findings in order, none overlapping another.

    Overlapping candidates of one tier become one finding over their union, with the category of the
    longest (then the surest, then the first in the list of shapes) and the highest score. A candidate
    that overlaps a finding of a lower tier is left out. Takes n log n for n candidates.
    """
    found: list[Candidate] = []
    by_tier: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        by_tier.setdefault(candidate.tier, []).append(candidate)
    for tier in sorted(by_tier):
        fresh = _without(_unions(sorted(by_tier[tier])), found)
        found = sorted(found + fresh) if found and fresh else found or fresh
    return [Finding(c.category, c.score, (c.start, c.end), reasons=c.reasons) for c in found]


def _unions(candidates: list[Candidate]) -> list[Candidate]:
    unions: list[Candidate] = []
    group: list[Candidate] = []
    end = -1
    for candidate in candidates:
        if group and candidate.start >= end:
            unions.append(_union(group, end))
            group = []
            end = -1
        group.append(candidate)
        end = max(end, candidate.end)
    if group:
        unions.append(_union(group, end))
    return unions


def _union(group: list[Candidate], end: int) -> Candidate:
    if len(group) == 1:
        return group[0]
    best = max(group, key=lambda c: (c.end - c.start, c.score, -c.order))
    reasons = dict.fromkeys(best.reasons)
    for candidate in group:
        reasons.update(dict.fromkeys(candidate.reasons))
    score = max(candidate.score for candidate in group)
    return best._replace(start=group[0].start, end=end, score=score, reasons=tuple(reasons))


def _without(candidates: list[Candidate], taken: list[Candidate]) -> list[Candidate]:
    kept = []
    at = 0
    for candidate in candidates:
        while at < len(taken) and taken[at].end <= candidate.start:
            at += 1
        if at == len(taken) or taken[at].start >= candidate.end:
            kept.append(candidate)
    return kept
