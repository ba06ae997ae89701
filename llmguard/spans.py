"""What a decision says on its spans, without content."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from llmguard import semconv
from llmguard.events import MAX_FINDINGS, acted_on, failure, highest_scores
from llmguard.semconv import ACTION, COVERAGE, DETECTORS_RUN, ENFORCED, MODIFIED
from llmguard.types import Decision, DetectorRun, Outcome

if TYPE_CHECKING:
    from opentelemetry.util.types import AnyValue

_COULD_SAY = frozenset({Outcome.PASS, Outcome.HIT, Outcome.SKIPPED})


class Prompt(NamedTuple):
    """The caller's prompt template, its version, and the variant of an A/B test; "" where there is none."""

    name: str
    version: str = ""
    variant: str = ""


def sort_runs(runs: Sequence[DetectorRun]) -> tuple[int, list[DetectorRun]]:
    """How many detectors ran, and which could not say (they raised, timed out or are shut off)."""
    outcomes = [run.outcome for run in runs]
    ran = outcomes.count(Outcome.PASS)
    if ran == len(outcomes):
        return ran, []
    ran = len(outcomes) - outcomes.count(Outcome.SKIPPED) - outcomes.count(Outcome.OPEN)
    return ran, [run for run in runs if run.outcome not in _COULD_SAY]


def guard_attributes(decision: Decision, ran: int, failed: Sequence[DetectorRun]) -> dict[str, AnyValue]:
    """What every guard span says at its end."""
    attributes: dict[str, AnyValue] = {
        ACTION: decision.action.value,
        ENFORCED: decision.enforced,
        MODIFIED: decision.modified,
        COVERAGE: min(decision.coverage) if decision.coverage else 1.0,
        DETECTORS_RUN: ran,
    }
    if failed:
        attributes[semconv.DETECTORS_FAILED] = [run.detector for run in failed]
    if len(decision.findings) > MAX_FINDINGS and (dropped := len(acted_on(decision)) - MAX_FINDINGS) > 0:
        attributes[semconv.FINDINGS_DROPPED] = dropped
    return attributes


def prompt_attributes(prompt: Prompt, convention: semconv.Convention) -> dict[str, AnyValue]:
    """The caller's prompt template, under our names and the convention's where it has some."""
    said = {
        semconv.PROMPT_NAME: prompt.name,
        semconv.PROMPT_VERSION: prompt.version,
        semconv.PROMPT_VARIANT: prompt.variant,
        convention.prompt_name: prompt.name,
        convention.prompt_version: prompt.version,
    }
    return {key: value for key, value in said.items() if key and value}


def emit_detect_spans(tracer: Tracer, guard: Span, decision: Decision, thresholds: Mapping[str, float]) -> None:
    """One span for each detector that ran, at the time it ran.

    Args:
        tracer: that makes them.
        guard: their parent.
        decision: that the detectors' runs led to.
        thresholds: by detector, where its rules have one.
    """
    context = set_span_in_context(guard)
    scores = highest_scores(decision.findings)
    epoch = time.time_ns() - time.perf_counter_ns()
    for run in decision.runs:
        if run.outcome is Outcome.SKIPPED or run.outcome is Outcome.OPEN:
            continue
        attributes = _detect_attributes(decision, run, thresholds, scores)
        start = epoch + int(run.started * 1e9)
        name = semconv.detect_span(run.detector)
        span = tracer.start_span(name, context, SpanKind.INTERNAL, attributes, start_time=start)
        if semconv.ERROR_TYPE in attributes:
            span.set_status(StatusCode.ERROR)
        span.end(start + int(run.seconds * 1e9))


def _detect_attributes(
    decision: Decision, run: DetectorRun, thresholds: Mapping[str, float], scores: Mapping[str, float]
) -> dict[str, AnyValue]:
    attributes: dict[str, AnyValue] = {
        semconv.DETECTOR: run.detector,
        semconv.DETECTOR_VERSION: run.version,
        semconv.OUTCOME: run.outcome.value,
        semconv.STAGE: decision.stage.value,
    }
    if run.detector in thresholds:
        attributes[semconv.THRESHOLD] = thresholds[run.detector]
    if run.detector in scores:
        attributes[semconv.SCORE] = scores[run.detector]
    if run.failure_mode:
        attributes[semconv.FAILURE_MODE] = run.failure_mode
    if run.outcome is Outcome.ERROR or run.outcome is Outcome.TIMEOUT:
        attributes[semconv.ERROR_TYPE] = failure(run)
    return attributes
