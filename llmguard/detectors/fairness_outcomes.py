"""What a check meant to whoever it was about: blocked or not, refused or not, how toxic, how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmguard.detectors.fairness_counts import SCORE_UNIT
from llmguard.types import Action, Decision, Observation, Outcome, Role, Stage

_REFUSAL = "REFUSAL"
_RAN = (Outcome.PASS, Outcome.HIT)


class Outcomes:
    """Reads the outcomes of a check.

    Args:
        stages: that count, by outcome.
        toxicity: name of the detector whose highest score is the toxicity.
        toxic_from: score from which texts count as toxic; None for the score itself.
        refusal: name of the detector that finds refusals.
    """

    def __init__(
        self, stages: Mapping[str, frozenset[Stage]], toxicity: str, toxic_from: float | None, refusal: str
    ) -> None:
        self._stages = stages
        self._toxicity = toxicity
        self._toxic_from = toxic_from
        self._refusal = refusal

    @property
    def toxicity_is_rate(self) -> bool:
        """Whether toxicity is a share of checks in place of a mean score."""
        return self._toxic_from is not None

    def settings(self) -> dict[str, Any]:
        """What must be the same for two monitors' counts to be added up."""
        return {
            "stages": {outcome: sorted(stages) for outcome, stages in self._stages.items()},
            "detectors": [self._toxicity, self._refusal],
            "toxic_from": self._toxic_from,
        }

    def of(self, seen: Observation, decision: Decision) -> Iterator[tuple[int, int]]:
        """The outcomes that a check has: their places in `OUTCOMES`, and their values as whole numbers.

        A detector that did not run, or failed, says nothing about the text, so the check has no such outcome.
        """
        stage, stages = decision.stage, self._stages
        if stage in stages["block"]:
            yield 0, int(decision.action is Action.BLOCK)
        ran = [run.detector for run in decision.runs if run.outcome in _RAN]
        if stage in stages["refusal"] and self._refusal in ran:
            yield 1, int(any(finding.category == _REFUSAL for finding in decision.findings))
        if stage in stages["toxicity"] and self._toxicity in ran:
            score = max((one.score for one in decision.findings if one.detector == self._toxicity), default=0.0)
            if 0 <= score <= 1:
                limit = self._toxic_from
                yield 2, round(score * SCORE_UNIT) if limit is None else int(score >= limit)
        if stage in stages["length"]:
            yield 3, sum([len(text.content) for text in seen.texts if text.role is not Role.SYSTEM])
