"""The metrics of checks: what is measured, by which labels, and nothing that could tell one caller from another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary, WeakMethod

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, NoOpMeter, Observation
from opentelemetry.trace import Span, set_span_in_context

from llmguard import semconv, signals
from llmguard.batches import Batches
from llmguard.call_metrics import Called, CallMetrics, Chunks
from llmguard.events import highest_scores
from llmguard.inference.watchers import watch
from llmguard.later import Later
from llmguard.tally import MADE_UP, Bounded, Tally
from llmguard.token_metrics import TokenMetrics, kept

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from llmguard.readings import Dispatched, Reading
    from llmguard.types import Decision, DetectorRun, Finding

_MAX_NAMES = 100
_MAX_CATEGORIES = 1000


class _Measured(NamedTuple):
    """What metrics want to know of a decision; of its cleared texts only what is counted a moment later."""

    stage: str
    action: str
    enforced: bool
    policy: str
    seconds: float
    runs: tuple[DetectorRun, ...]
    findings: tuple[Finding, ...]
    texts: tuple[str, ...]
    span: Span
    model: str
    prompt_version: str
    failed: Callable[[str, Exception], None]


class _Held(NamedTuple):
    """How long the pieces of a stream were held back, in seconds."""

    stage: str
    waits: Sequence[float]
    span: Span
    failed: Callable[[str, Exception], None]


class Instruments:
    """The instruments of one meter, shared by all guards that report to it.

    A record costs the SDK several microseconds, and a check makes one for each detector. So they are made a
    moment later by a thread of their own, and in any case before metrics are collected; counters are sums of
    ours that are read then.

    Args:
        meter: that makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._guard_duration = _histogram(meter, signals.GUARD_DURATION)
        self._detector_duration = _histogram(meter, signals.DETECTOR_DURATION)
        self._detector_score = _histogram(meter, signals.DETECTOR_SCORE)
        self._stream_held = _histogram(meter, signals.STREAM_HELD)
        self._later: Later[_Measured | _Held | Called | Chunks] = Later(self._measure)
        # The first callback of a collection brings the histograms up to date too: the SDK reads those after it.
        self._decisions = _tally(meter, signals.DECISIONS, self._later.flush)
        self._findings = _tally(meter, signals.FINDINGS, self._later.flush)
        self._unguarded = _tally(meter, signals.UNGUARDED, self._later.flush)
        self._reloads = _tally(meter, signals.RELOADS, self._later.flush)
        self._errors = _tally(meter, signals.ERRORS, self._later.flush)
        self._alerts = _tally(meter, signals.ALERTS, self._later.flush)
        self._alert_duration = _histogram(meter, signals.ALERT_DURATION)
        self._sinks = Bounded(_MAX_NAMES)
        self._policies = Bounded(_MAX_NAMES)
        self._models = Bounded(_MAX_NAMES)
        self._prompt_versions = Bounded(_MAX_NAMES)
        self._categories = Bounded(_MAX_CATEGORIES)
        errors, addresses = Bounded(_MAX_NAMES), Bounded(_MAX_NAMES)
        self._calls = CallMetrics(meter, self._models, self._prompt_versions, addresses, errors)
        self._tokens = TokenMetrics(meter)
        self._batches = Batches(meter)
        watch(self._batches)
        self._monitors: list[WeakMethod[Callable[[], Sequence[Reading]]]] = []
        for row in signals.GAUGES:
            meter.create_observable_gauge(row.name, [self._reader(row.name)], row.unit, row.description)
        self._guard_labels: dict[tuple[str, str, str], dict[str, str]] = {}
        self._run_labels: dict[tuple[str, str, str], dict[str, str]] = {}

    def flush(self) -> None:
        """Have all that waits recorded, before this returns."""
        self._later.flush()

    def record(
        self,
        decision: Decision,
        span: Span,
        model: str,
        prompt_version: str,
        failed: Callable[[str, Exception], None],
    ) -> None:
        """Tell one decision, in the context of its span, so that an exemplar leads to the trace.

        Args:
            decision: that was made; its cleared texts are kept until they are counted, a moment later.
            span: of the check.
            model: that the texts go to or come from, or "".
            prompt_version: of the caller's prompt template, or "".
            failed: told ``metrics`` and the error when the SDK raises.
        """
        self._later.add(
            _Measured(
                decision.stage.value,
                decision.action.value,
                decision.enforced,
                decision.policy.name,
                decision.seconds,
                decision.runs,
                decision.findings,
                kept(decision.texts),
                span,
                model,
                prompt_version,
                failed,
            )
        )

    def held(self, stage: str, waits: Sequence[float], span: Span, failed: Callable[[str, Exception], None]) -> None:
        """Tell how long the pieces of a stream were held back.

        Args:
            stage: when they were looked at.
            waits: seconds, one a piece.
            span: of the stream's check.
            failed: told ``metrics`` and the error when the SDK raises.
        """
        self._later.add(_Held(stage, waits, span, failed))

    def called(self, seen: Called | Chunks) -> None:
        """Tell of a call of the model, or of chunks of its stream."""
        self._later.add(seen)

    def _measure(self, seen: _Measured | _Held | Called | Chunks) -> None:
        try:
            if isinstance(seen, Called | Chunks):
                self._calls.record(seen)
            elif isinstance(seen, _Held):
                labels, context = {semconv.STAGE: seen.stage}, set_span_in_context(seen.span)
                for wait in seen.waits:
                    self._stream_held.record(wait, labels, context)
            else:
                self._record(seen)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call, nor the thread behind it
            seen.failed("metrics", error)

    def _record(self, seen: _Measured) -> None:
        stage, action, policy = seen.stage, seen.action, self._policies(seen.policy)
        model, prompt_version = self._models(seen.model), self._prompt_versions(seen.prompt_version)
        self._decisions.add((stage, action, seen.enforced, policy, model, prompt_version))
        context = set_span_in_context(seen.span)
        key = (stage, policy, action)
        labels = self._guard_labels.get(key) or self._remember(self._guard_labels, signals.GUARD_DURATION, key)
        self._guard_duration.record(seen.seconds, labels, context)
        known = self._run_labels
        for run in seen.runs:
            key = (run.detector, stage, run.outcome.value)
            labels = known.get(key) or self._remember(known, signals.DETECTOR_DURATION, key)
            self._detector_duration.record(run.seconds, labels, context)
        if seen.findings:
            self._record_findings(seen.findings, context, stage)
        self._tokens.record(seen.texts, stage, context)

    def reloaded(self, outcome: str, policy: str) -> None:
        """Counts one hot reload, ``ok`` or ``error``."""
        self._reloads.add((outcome, self._policies(policy)))

    def unguarded(self, reason: str, outcome: str, dialect: str) -> None:
        """Counts one request or answer that could not be read."""
        self._unguarded.add((reason, outcome, dialect))

    def read(self, readings: Callable[[], Sequence[Reading]]) -> None:
        """Reads the values of monitors, as long as there are any, whenever metrics are collected.

        Args:
            readings: a method; it must not raise.
        """
        self._monitors.append(WeakMethod(readings))

    def _reader(self, metric: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            self._monitors = [method for method in self._monitors if method() is not None]
            read = [reading for method in self._monitors for reading in (method() or tuple)()]
            return [Observation(one.value, one.labels) for one in read if one.metric == metric]

        return observe

    def dispatched(self, seen: Dispatched) -> None:
        """Counts one attempt to deliver a message about alerts."""
        key = (self._sinks(seen.sink), seen.outcome, seen.severity)
        self._alerts.add(key)
        if seen.outcome != "dropped":
            labels = dict(zip(signals.ALERT_DURATION.attributes, key, strict=True))
            self._alert_duration.record(seen.seconds, labels)

    def failed(self, component: str, times: int = 1) -> None:
        """Counts errors of our own telemetry."""
        self._errors.add((component,), times)

    def _record_findings(self, findings: Sequence[Finding], context: Context, stage: str) -> None:
        counts = Counter((finding.detector, finding.category, finding.action.value) for finding in findings)
        for (detector, category, action), count in counts.items():
            self._findings.add((detector, self._categories(category), stage, action), count)
        for detector, score in highest_scores(findings).items():
            self._detector_score.record(score, {semconv.DETECTOR: detector, semconv.STAGE: stage}, context)

    @staticmethod
    def _remember(
        known: dict[tuple[str, str, str], dict[str, str]], row: signals.MetricRow, key: tuple[str, str, str]
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


def _histogram(meter: Meter, row: signals.MetricRow) -> Histogram:
    return meter.create_histogram(row.name, row.unit, row.description, explicit_bucket_boundaries_advisory=row.buckets)


def _tally(meter: Meter, row: signals.MetricRow, before: Callable[[], None]) -> Tally:
    tally = Tally([place for place, name in enumerate(row.attributes) if name in MADE_UP])

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        before()
        return [
            Observation(total, {key: label for key, label in zip(row.attributes, labels, strict=True) if label != ""})
            for labels, total in tally.sums()
        ]

    meter.create_observable_counter(row.name, [observe], row.unit, row.description)
    return tally
