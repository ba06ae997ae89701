"""Settles which finding speaks for a stretch of text that several of them cover.

The stronger action wins, then the higher score, then the longer span, then the one further left, then the name of the
category and of the detector. Two rules keep what a loser covers beside the winner from getting through:

1. Findings of the same action that overlap, also in a chain, become one: the winner's, over all that they cover.
2. Of a finding with a weaker action, the parts that no stronger one covers stay, with its own action.

So every code point gets the strongest action of the findings that cover it, and no code point gets a stronger one.
"""

from __future__ import annotations

import dataclasses
import sys
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from llmguard.errors import DetectorError
from llmguard.types import Action, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Cluster(NamedTuple):
    """Findings that overlap, as one: from where to where in the text, and the finding that speaks for them."""

    start: int
    end: int
    winner: Finding


def clusters(findings: Sequence[Finding], length: int) -> list[Cluster]:
    """Overlapping findings as one each, from left to right; O(n log n). Actions are not looked at.

    Args:
        findings: in any order. One without a span covers the whole text; one with an empty span nothing.
        length: of the text, in code points.

    Raises:
        DetectorError: a span is outside the text.
    """
    spans: list[tuple[int, int, Finding]] = []
    for finding in findings:
        start, end = finding.span or (0, length)
        if not 0 <= start <= end <= length:
            raise DetectorError(finding.detector, "a finding's span is outside the text")
        if start < end:
            spans.append((start, end, finding))
    spans.sort(key=itemgetter(0))
    found: list[Cluster] = []
    last = 0
    for start, end, finding in spans:
        if start >= last:
            found.append(Cluster(start, end, finding))
            last = end
        else:
            last = max(last, end)
            found[-1] = Cluster(found[-1].start, last, min(found[-1].winner, finding, key=_rank))
    return found


def _rank(finding: Finding) -> tuple[float, int, int, str, str]:
    start, end = finding.span or (0, sys.maxsize)
    return -finding.score, start - end, start, finding.category, finding.detector


def resolve(findings: Sequence[Finding], length: int | None = None) -> list[Finding]:
    """The same findings without overlaps, from left to right; O(n log n).

    Args:
        findings: in any order, with the actions that the policy gave them.
        length: of the text, in code points; where it isn't given, a finding about the whole text ends at
            ``sys.maxsize``.

    Returns:
        Findings with disjoint spans: winners with their new spans, and the parts of weaker ones beside them. No span
        is None or empty.

    Raises:
        DetectorError: a span is outside the text.
    """
    length = sys.maxsize if length is None else length
    settled: list[Cluster] = []
    for action in sorted(Action, key=lambda action: -action.severity):
        same = clusters([finding for finding in findings if finding.action is action], length)
        settled = sorted([*settled, *_beside(same, settled)], key=itemgetter(0))
    return [
        winner if winner.span == (start, end) else dataclasses.replace(winner, span=(start, end))
        for start, end, winner in settled
    ]


def _beside(weaker: Sequence[Cluster], stronger: Sequence[Cluster]) -> Iterator[Cluster]:
    """The parts of the weaker ones that no stronger one covers; both are disjoint and go from left to right."""
    at = 0
    for start, end, winner in weaker:
        while at < len(stronger) and stronger[at].end <= start:
            at += 1
        for other in range(at, len(stronger)):
            if stronger[other].start >= end:
                break
            if start < stronger[other].start:
                yield Cluster(start, stronger[other].start, winner)
            start = stronger[other].end
        if start < end:
            yield Cluster(start, end, winner)
