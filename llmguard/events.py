"""What a decision has to tell beyond its span: findings, failures, evaluations, as events without content."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmguard import semconv
from llmguard.types import Action, Decision, DetectorRun, Finding, Outcome, PolicyRef, Stage

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

    from llmguard.readings import Dispatched

# As many as OpenTelemetry lets a span have by default (OTEL_SPAN_EVENT_COUNT_LIMIT).
MAX_FINDINGS = 128


class Event(NamedTuple):
    """A named log record: ``severity`` is DEBUG, INFO, WARN or ERROR."""

    name: str
    severity: str
    attributes: Mapping[str, AnyValue]


def acted_on(decision: Decision) -> list[Finding]:
    """The findings that the policy acts on."""
    return [finding for finding in decision.findings if finding.action is not Action.ALLOW]


def _strength(finding: Finding) -> tuple[int, float]:
    return finding.action.severity, finding.score


def findings_and_failures(
    decision: Decision, failed: Sequence[DetectorRun], thresholds: Mapping[str, float]
) -> list[Event]:
    """One event a finding that the policy acts on, at most ``MAX_FINDINGS``, and one a detector that could not say.

    Args:
        decision: to tell of.
        failed: the runs that failed.
        thresholds: by detector, where its rules have one.
    """
    findings = acted_on(decision)
    if len(findings) > MAX_FINDINGS:
        findings = heapq.nlargest(MAX_FINDINGS, findings, key=_strength)
    return _of_findings(decision, findings, thresholds) + _of_failures(decision, failed)


def _of_findings(decision: Decision, findings: Sequence[Finding], thresholds: Mapping[str, float]) -> list[Event]:
    versions = {run.detector: run.version for run in decision.runs}
    shared: dict[str, AnyValue] = {
        semconv.ENFORCED: decision.enforced,
        semconv.POLICY_ID: decision.policy.name,
        semconv.POLICY_VERSION: decision.policy.version,
        semconv.STAGE: decision.stage.value,
    }
    made = []
    for finding in findings:
        attributes = shared | {
            semconv.DETECTOR: finding.detector,
            semconv.CATEGORY: finding.category,
            semconv.SCORE: finding.score,
            semconv.ACTION: finding.action.value,
        }
        if finding.detector in versions:
            attributes[semconv.DETECTOR_VERSION] = versions[finding.detector]
        if finding.detector in thresholds:
            attributes[semconv.THRESHOLD] = thresholds[finding.detector]
        if finding.span is not None:
            attributes[semconv.FINDING_LENGTH] = finding.span[1] - finding.span[0]
        made.append(Event(semconv.EVENT_FINDING, "WARN", attributes))
    return made


def _of_failures(decision: Decision, failed: Sequence[DetectorRun]) -> list[Event]:
    return [
        Event(
            semconv.EVENT_FAILURE,
            "ERROR",
            {
                semconv.DETECTOR: run.detector,
                semconv.DETECTOR_VERSION: run.version,
                semconv.OUTCOME: run.outcome.value,
                semconv.ERROR_TYPE: failure(run),
                semconv.FAILURE_MODE: run.failure_mode,
                semconv.POLICY_ID: decision.policy.name,
                semconv.POLICY_VERSION: decision.policy.version,
                semconv.STAGE: decision.stage.value,
            },
        )
        for run in failed
    ]


def failure(run: DetectorRun) -> str:
    """Value of ``error.type`` for a failed run: the exception's name, ``timeout``, or ``open`` for its breaker."""
    return run.error or run.outcome.value


def evaluations(decision: Decision) -> list[Event]:
    """For an output, one event a detector that found something: its highest score, and whether that was allowed."""
    if decision.stage is not Stage.OUTPUT:
        return []
    hits = {finding.detector for finding in acted_on(decision)}
    return [
        Event(
            semconv.EVENT_EVALUATION,
            "INFO",
            {
                semconv.EVALUATION_NAME: name,
                semconv.EVALUATION_SCORE: score,
                semconv.EVALUATION_LABEL: Outcome.HIT.value if name in hits else Outcome.PASS.value,
            },
        )
        for name, score in highest_scores(decision.findings).items()
    ]


def highest_scores(findings: Sequence[Finding]) -> dict[str, float]:
    """The highest score of each detector that found anything."""
    highest: dict[str, float] = {}
    for finding in findings:
        if finding.score >= highest.get(finding.detector, 0.0):
            highest[finding.detector] = finding.score
    return highest


def guardrail(decision: Decision) -> Event:
    """The event of the proposal semantic-conventions-genai #427."""
    return Event(
        semconv.EVENT_GUARDRAIL,
        "INFO",
        {
            semconv.GUARDRAIL_COMPONENT: semconv.SCOPE,
            semconv.GUARDRAIL_RESULT_TYPE: "action",
            semconv.GUARDRAIL_RESULT_VALUE: decision.action.value,
            semconv.GUARDRAIL_SOURCE: decision.stage.value,
            semconv.GUARDRAIL_POLICY_ID: decision.policy.name,
            semconv.GUARDRAIL_POLICY_VERSION: decision.policy.version,
        },
    )


def details(stage: Stage, key: str, messages: Sequence[Mapping[str, AnyValue]], model: str | None) -> Event:
    """The event that carries cleared texts.

    Args:
        stage: of the check.
        key: the attribute for the messages.
        messages: in the conventions' structure.
        model: that the texts go to or come from.
    """
    attributes: dict[str, AnyValue] = {
        semconv.OPERATION: semconv.GUARD_OPERATION,
        semconv.STAGE: stage.value,
        key: messages,
    }
    if model:
        attributes[semconv.REQUEST_MODEL] = model
    return Event(semconv.EVENT_CONTENT, "DEBUG", attributes)


def reload(policy: PolicyRef, outcome: str, error: BaseException | None) -> Event:
    """The event of a policy file that was read again.

    Args:
        policy: the one in force now.
        outcome: ``ok`` or ``error``.
        error: why the new file was refused.
    """
    attributes: dict[str, AnyValue] = {
        semconv.RELOAD_OUTCOME: outcome,
        semconv.POLICY_ID: policy.name,
        semconv.POLICY_VERSION: policy.version,
    }
    if error is not None:
        attributes[semconv.ERROR_TYPE] = qualified(error)
    return Event(semconv.EVENT_RELOAD, "INFO" if error is None else "WARN", attributes)


def dispatched(seen: Dispatched) -> Event:
    """The event of an attempt to deliver a message about alerts."""
    attributes: dict[str, AnyValue] = {
        semconv.ALERT_SINK: seen.sink,
        semconv.ALERT_OUTCOME: seen.outcome,
        semconv.ALERT_SEVERITY: seen.severity,
        semconv.ALERT_ATTEMPTS: seen.attempts,
    }
    return Event(semconv.EVENT_DISPATCHED, "INFO" if seen.outcome == "delivered" else "WARN", attributes)


def qualified(error: BaseException) -> str:
    """Value of ``error.type`` for an exception; a builtin one goes by its bare name."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
