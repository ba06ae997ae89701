"""The detectors of a policy, by stage, ready to run over whole texts and over parts of texts that grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmguard.breaker import Breaker
from llmguard.detectors.sentencewise import Sentencewise
from llmguard.policy import Policy, StagePlan
from llmguard.running import Run, Step
from llmguard.stream_plan import StreamPlan, stream_plan
from llmguard.types import Detector, DetectorRun, Incremental, Outcome, Scope, Stage, Text
from llmguard.workers import Workers


@dataclass(frozen=True, slots=True)
class _Steps:
    plan: StagePlan
    inline: tuple[Step, ...]
    pooled: tuple[Step, ...]
    stream: StreamPlan[Step]


class Pipeline:
    """The detectors of one policy, ready to run.

    Args:
        policy: which detectors each stage runs, with their deadlines.
        detectors: by name; every detector that a rule of the policy names.
        breakers: by name; they outlive a change of the policy.
        workers: threads for the detectors that are not inline.
    """

    def __init__(
        self,
        policy: Policy,
        detectors: Mapping[str, Detector],
        breakers: Mapping[str, Breaker],
        workers: Workers,
    ) -> None:
        self._workers = workers
        self._stages = {}
        for stage in Stage:
            plan = policy.plan(stage)
            steps = [
                _step(name, detectors[name], breakers[name], plan.deadlines[name] / 1000.0) for name in plan.detectors
            ]
            self._stages[stage] = _Steps(
                plan,
                tuple(step for step in steps if step.inline),
                tuple(step for step in steps if not step.inline),
                stream_plan(plan, steps, lambda step: step.growing),
            )

    def detectors(self, stage: Stage) -> tuple[str, ...]:
        """Names of the detectors that a stage runs, cheap ones first."""
        steps = self._stages[stage]
        return tuple(step.name for step in (*steps.inline, *steps.pooled))

    def together(self, stage: Stage) -> bool:
        """Whether a detector of a stage must see the texts of a check together, those it has seen before too."""
        steps = self._stages[stage]
        return any(step.together for step in (*steps.inline, *steps.pooled))

    def start(self, stage: Stage, groups: Sequence[Sequence[Text]]) -> Run:
        """Run the inline detectors over all groups in one batch, and send the others on their way.

        Args:
            stage: when the texts are looked at.
            groups: the texts of one decision each; well-formed Unicode.
        """
        steps = self._stages[stage]
        return Run(steps.plan, steps.inline, steps.pooled, groups, self._workers)

    def stream(self, stage: Stage) -> StreamPlan[Step]:
        """How a stage's detectors take part in a stream."""
        return self._stages[stage].stream

    def look(self, stage: Stage, steps: Sequence[Step], text: Text) -> Run:
        """Run some of a stage's detectors over a part of a text that is still growing.

        Args:
            stage: when the text is looked at.
            steps: of the stage's `StreamPlan`.
            text: well-formed Unicode.
        """
        inline = tuple([step for step in steps if step.inline])
        pooled = tuple([step for step in steps if not step.inline]) if len(inline) < len(steps) else ()
        return Run(self._stages[stage].plan, inline, pooled, ((text,),), self._workers)

    def unasked(self, stage: Stage, runs: Sequence[DetectorRun]) -> list[DetectorRun]:
        """The detectors of a stage that did not have to look, because others had blocked the text already."""
        steps, asked = self._stages[stage], {run.detector for run in runs}
        return [
            DetectorRun(step.name, step.version, Outcome.SKIPPED)
            for step in (*steps.inline, *steps.pooled)
            if step.name not in asked
        ]

    def plan(self, stage: Stage) -> StagePlan:
        """What a stage makes of findings and failures."""
        return self._stages[stage].plan


def _step(name: str, detector: Detector, breaker: Breaker, deadline_s: float) -> Step:
    growing: Incremental | None = None
    detect = detector.detect
    if detector.scope is Scope.SENTENCE:
        growing = Sentencewise(detector)
        detect = growing.detect
    elif detector.scope is Scope.SPAN and isinstance(detector, Incremental):
        growing = detector
    together = getattr(detector, "together", False) is True
    inline = detector.inline
    return Step(name, detector.version, detect, detector.categories, breaker, deadline_s, inline, together, growing)
