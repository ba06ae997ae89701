"""What a detector may answer; nothing else is believed."""

from __future__ import annotations

from collections.abc import Sequence

from llmguard.errors import DetectorError
from llmguard.types import Finding, Text


def validated(
    detector: str, categories: frozenset[str], texts: Sequence[Text], found: object
) -> dict[int, list[Finding]]:
    """The findings by index of the text, after a check of everything that a detector could get wrong.

    Args:
        detector: its name.
        categories: that it may find.
        texts: that it was given.
        found: what it answered.

    Raises:
        DetectorError: the answer has another shape, or a finding a score, a category or a span that can't be.
    """
    if not isinstance(found, Sequence) or len(found) != len(texts):
        what = f"{len(found)} lists" if isinstance(found, Sequence) else type(found).__name__
        raise DetectorError(detector, f"gave {what} for {len(texts)} texts")
    if not any(found):
        return {}
    hits = {}
    for index, findings in enumerate(found):
        if not findings:
            continue
        end = len(texts[index].content)
        for finding in findings:
            if not isinstance(finding, Finding):
                raise DetectorError(detector, f"gave a {type(finding).__name__} for a Finding")
            if not 0.0 <= finding.score <= 1.0:
                raise DetectorError(detector, f"score {finding.score} is not in [0, 1]")
            if finding.category not in categories:
                raise DetectorError(detector, "gave a category that it did not declare")
            if finding.span is not None and not 0 <= finding.span[0] <= finding.span[1] <= end:
                raise DetectorError(detector, f"span {finding.span} is not inside a text of {end} code points")
        hits[index] = list(findings)
    return hits
