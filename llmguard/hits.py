"""Findings in a text that grows: where they stand, and what a stream makes of their actions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmguard.errors import DetectorError
from llmguard.policy import Rule
from llmguard.types import Action, Finding

_SURROGATE = re.compile("[\ud800-\udfff]")

Hit = tuple[Finding, Rule | None]
"""A finding and the rule that decided it."""


def well_formed(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD, one for one, so that places stay."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


def checked(detector: str, place: object, end: int) -> int:
    """A place that a detector told, if it is one.

    Raises:
        DetectorError: it is not from 0 to ``end``.
    """
    if type(place) is not int or not 0 <= place <= end:
        raise DetectorError(detector, f"said that a text of {end} code points is settled up to something else")
    return place


def severity(action: Action) -> int:
    """What actions are ordered by."""
    return action.severity


def span_of(hit: Hit) -> tuple[int, int]:
    """Where it stands."""
    return hit[0].span or (0, 0)


def uncrossed(findings: Iterable[Finding], place: int) -> int:
    """The last place up to here that none of some findings reaches across."""
    for start, end in sorted([finding.span for finding in findings if finding.span], reverse=True):
        if start < place < end:
            place = start
    return place


def acts(hit: Hit) -> bool:
    """Whether a finding's rule acts on streams; one that observes only tells."""
    return hit[1] is None or hit[1].stream != "observe"


def demoted(finding: Finding) -> Finding:
    """The finding of a rule that observes only: flagged at most."""
    action = finding.action if finding.action.severity <= Action.FLAG.severity else Action.FLAG
    return Finding(
        finding.category, finding.score, finding.span, finding.detector, finding.reasons, finding.text, action
    )


def moved(finding: Finding, span: tuple[int, int], action: Action | None = None) -> Finding:
    """The finding at another place, with another action if one is given."""
    return Finding(
        finding.category, finding.score, span, finding.detector, finding.reasons, finding.text, action or finding.action
    )


def shifted(finding: Finding, by: int) -> tuple[int, int]:
    """Its place in the text from ``by`` on."""
    start, end = finding.span or (0, 0)
    return max(start - by, 0), end - by


def withheld(hit: Hit, gone: int) -> Hit:
    """A window's finding that began in what went out can't be redacted any more: it blocks."""
    finding, rule = hit
    if finding.action is Action.REDACT and span_of(hit)[0] < gone:
        return moved(finding, span_of(hit), Action.BLOCK), rule
    return hit
