"""The metrics of checks: what is measured, by which labels, and nothing that could tell one caller from another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, NoOpMeter, Observation
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

from llmguard import semconv
from llmguard.events import highest_scores
from llmguard.tally import Bounded, Tally
from llmguard.types import Action, Outcome

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from llmguard.types import Decision

# Runs and checks that found nothing get an exemplar from here on: the boundary of the second bucket.
EXEMPLAR_SECONDS = 0.0001
_UNLINKED = set_span_in_context(INVALID_SPAN)
_MAX_NAMES = 100
_MAX_CATEGORIES = 1000


class Instruments:
    """The instruments of one meter, shared by all guards that report to it.

    A record costs several microseconds, so only durations and scores are recorded, in the span's
    context; counters are sums of ours that are read when metrics are collected.

    Args:
        meter: that makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._guard_duration = _histogram(meter, semconv.GUARD_DURATION)
        self._detector_duration = _histogram(meter, semconv.DETECTOR_DURATION)
        self._detector_score = _histogram(meter, semconv.DETECTOR_SCORE)
        self._decisions = _tally(meter, semconv.DECISIONS)
        self._findings = _tally(meter, semconv.FINDINGS)
        self._reloads = _tally(meter, semconv.RELOADS)
        self._errors = _tally(meter, semconv.ERRORS)
        self._policies = Bounded(_MAX_NAMES)
        self._models = Bounded(_MAX_NAMES)
        self._prompt_versions = Bounded(_MAX_NAMES)
        self._categories = Bounded(_MAX_CATEGORIES)
        self._guard_labels: dict[tuple[str, str, str], dict[str, str]] = {}
        self._run_labels: dict[tuple[str, str, str], dict[str, str]] = {}

    def record(self, decision: Decision, span: Span, model: str, prompt_version: str) -> None:
        """Tell one decision.

        What is worth a look is recorded in the span's context, so that an exemplar leads to the trace; an
        exemplar costs a quarter of a record, and nobody looks at the fast ones among the clean.

        Args:
            decision: that was made.
            span: of the check.
            model: that the texts go to or come from, or "".
            prompt_version: of the caller's prompt template, or "".
        """
        stage = decision.stage.value
        action = decision.action.value
        policy = self._policies(decision.policy.name)
        if model or prompt_version:
            model, prompt_version = self._models(model), self._prompt_versions(prompt_version)
        self._decisions.add((stage, action, decision.enforced, policy, model, prompt_version))
        linked = set_span_in_context(span)
        key = (stage, policy, action)
        labels = self._guard_labels.get(key) or self._remember(self._guard_labels, semconv.GUARD_DURATION, key)
        fast = decision.seconds < EXEMPLAR_SECONDS and decision.action is Action.ALLOW
        self._guard_duration.record(decision.seconds, labels, _UNLINKED if fast else linked)
        known = self._run_labels
        record = self._detector_duration.record
        for run in decision.runs:
            outcome = run.outcome
            key = (run.detector, stage, outcome.value)
            labels = known.get(key) or self._remember(known, semconv.DETECTOR_DURATION, key)
            fast = run.seconds < EXEMPLAR_SECONDS and (outcome is Outcome.PASS or outcome is Outcome.SKIPPED)
            record(run.seconds, labels, _UNLINKED if fast else linked)
        if decision.findings:
            self._record_findings(decision, linked, stage)

    def reloaded(self, outcome: str, policy: str) -> None:
        """Counts one hot reload, ``ok`` or ``error``."""
        self._reloads.add((outcome, self._policies(policy)))

    def failed(self, component: str, times: int = 1) -> None:
        """Counts errors of our own telemetry."""
        self._errors.add((component,), times)

    def _record_findings(self, decision: Decision, context: Context, stage: str) -> None:
        counts = Counter((finding.detector, finding.category, finding.action.value) for finding in decision.findings)
        for (detector, category, action), count in counts.items():
            self._findings.add((detector, self._categories(category), stage, action), count)
        for detector, score in highest_scores(decision).items():
            self._detector_score.record(score, {semconv.DETECTOR: detector, semconv.STAGE: stage}, context)

    @staticmethod
    def _remember(
        known: dict[tuple[str, str, str], dict[str, str]], row: semconv.MetricRow, key: tuple[str, str, str]
    ) -> dict[str, str]:
        return known.setdefault(key, dict(zip(row.attributes, key, strict=True)))


_shared: WeakKeyDictionary[MeterProvider, dict[str, Instruments | None]] = WeakKeyDictionary()
_shared_lock = Lock()


def shared(provider: MeterProvider, version: str, schema_url: str) -> Instruments | None:
    """The instruments of a provider, made once: a second observable counter of a name would be ignored.

    Args:
        provider: of the meter.
        version: of llmguard.
        schema_url: of the instrumentation scope.

    Returns:
        None when the provider measures nothing.
    """
    with _shared_lock:
        made = _shared.setdefault(provider, {})
        if schema_url not in made:
            meter = provider.get_meter(semconv.SCOPE, version, schema_url or None)
            made[schema_url] = None if isinstance(meter, NoOpMeter) else Instruments(meter)
        return made[schema_url]


def _histogram(meter: Meter, row: semconv.MetricRow) -> Histogram:
    return meter.create_histogram(row.name, row.unit, row.description, explicit_bucket_boundaries_advisory=row.buckets)


def _tally(meter: Meter, row: semconv.MetricRow) -> Tally:
    tally = Tally()

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(total, {key: label for key, label in zip(row.attributes, labels, strict=True) if label != ""})
            for labels, total in tally.sums()
        ]

    meter.create_observable_counter(row.name, [observe], row.unit, row.description)
    return tally
