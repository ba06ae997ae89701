"""What a guard says to OpenTelemetry: a span, metrics and events of every check, never its content.

Telemetry never breaks a call: whatever goes wrong here is swallowed, logged once a component by the
name of its exception's type, and counted in ``llmguard.telemetry.errors``.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode

from llmguard import __version__, content, events, semconv, spans
from llmguard.content import Capture
from llmguard.event_log import EventLog
from llmguard.events import qualified
from llmguard.instruments import Instruments, shared
from llmguard.semconv import POLICY_ID, POLICY_VERSION, STAGE, STREAMING
from llmguard.spans import Prompt
from llmguard.telemetry_settings import TelemetrySettings
from llmguard.types import Decision, DetectorRun, PolicyRef, Role, Stage

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.util.types import AnyValue

__all__ = ["Prompt", "Telemetry", "TelemetrySettings"]

_log = logging.getLogger(__name__)
_SPAN_NAMES = {stage: semconv.guard_span(stage) for stage in Stage}


class Telemetry:
    """The telemetry of one guard: `begin` a check, then `end` or `abandon` it. Thread-safe; its methods never raise.

    Args:
        settings: what to emit; what the environment says without it.
        tracer_provider: where spans go; the global one without it, also when that is set up later.
        meter_provider: likewise for metrics.
        logger_provider: likewise for events.

    Raises:
        ConfigurationError: the environment says something wrong.
    """

    def __init__(
        self,
        settings: TelemetrySettings | None = None,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self.settings = settings or TelemetrySettings.from_env()
        self._convention = semconv.CONVENTIONS[self.settings.semconv]
        self._capture = content.capture(self.settings.content) if self.settings.enabled else Capture.NOTHING
        self._captures = Capture.SPAN in self._capture or self.settings.content_hash_key is not None
        self._tells_all = Capture.EVENT in self._capture or self.settings.semconv_guardrail != "off"
        self._lock = Lock()
        self._errors: Counter[str] = Counter()
        self._meter_provider = meter_provider
        self._instruments: Instruments | None = None
        self._measures = True
        self._unset: metrics.MeterProvider | None = None
        self._event_log = EventLog(logger_provider, __version__, self._convention.schema_url)
        self._tracer: trace.Tracer = trace.NoOpTracer()
        try:
            schema_url = self._convention.schema_url or None
            self._tracer = trace.get_tracer(semconv.SCOPE, __version__, tracer_provider, schema_url)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("spans", error)
        if self.settings.enabled:
            try:
                self._find_instruments()  # batches of models are told before the first check has ended
            except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
                self._failed("metrics", error)

    @property
    def errors(self) -> Mapping[str, int]:
        """How often each component failed: ``spans``, ``metrics``, ``events``."""
        with self._lock:
            return dict(self._errors)

    def begin(
        self, stage: Stage, policy: PolicyRef, *, streaming: bool = False, conversation: str | None = None
    ) -> Span:
        """Start the span of a check, a child of the current span; it is never made current itself.

        Args:
            stage: of the check.
            policy: that decides.
            streaming: whether the text comes in chunks.
            conversation: the conversation's id.
        """
        if not self.settings.enabled:
            return INVALID_SPAN
        attributes: dict[str, AnyValue] = {
            STAGE: stage.value,
            POLICY_ID: policy.name,
            POLICY_VERSION: policy.version,
            STREAMING: streaming,
        }
        if conversation is not None:
            attributes[semconv.CONVERSATION] = conversation
        if self.settings.openinference:
            attributes[semconv.OPENINFERENCE_KIND] = semconv.OPENINFERENCE_GUARDRAIL
        try:
            return self._tracer.start_span(_SPAN_NAMES[stage], None, SpanKind.INTERNAL, attributes)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("spans", error)
            return INVALID_SPAN

    def end(
        self,
        span: Span,
        decision: Decision,
        *,
        thresholds: Mapping[str, float],
        roles: tuple[Role, ...] = (),
        model: str | None = None,
        prompt: Prompt | None = None,
    ) -> None:
        """End the span of a check with what was decided, and tell metrics and events.

        Args:
            span: what `begin` gave.
            decision: what was decided.
            thresholds: by detector, where its rules have one.
            roles: of the decision's texts, for captured content.
            model: that the texts go to or come from.
            prompt: the template that the texts were made with.
        """
        if not self.settings.enabled:
            return
        ran, failed = spans.sort_runs(decision.runs)
        told: Sequence[events.Event] = ()
        if decision.findings or failed:
            told = self._findings_and_failures(decision, failed, thresholds)
        try:
            if span.is_recording():
                self._end_span(span, decision, ran, failed, told, roles, model, prompt)
                if self.settings.detect_spans:
                    spans.emit_detect_spans(self._tracer, span, decision, thresholds)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("spans", error)
        try:
            if instruments := self._instruments or self._find_instruments():
                instruments.record(decision, span, model or "", prompt.version if prompt else "", self._failed)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("metrics", error)
        if decision.findings or failed or self._tells_all:
            self._tell(span, decision, told, roles, model)

    def held(self, span: Span, stage: Stage, waits: Sequence[float]) -> None:
        """Tell metrics how long the pieces of a stream were held back.

        Args:
            span: what `begin` gave.
            stage: when they were looked at.
            waits: seconds, one a piece.
        """
        if not self.settings.enabled or not waits:
            return
        try:
            if instruments := self._instruments or self._find_instruments():
                instruments.held(stage.value, waits, span, self._failed)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("metrics", error)

    def abandon(self, span: Span, error: BaseException | None) -> None:
        """End the span of a check that was given up or raised.

        Args:
            span: what `begin` gave.
            error: what was raised; None when the caller went away.
        """
        try:
            if span.is_recording():
                span.set_attribute(semconv.ERROR_TYPE, semconv.ABANDONED if error is None else qualified(error))
                if error is not None:
                    span.set_status(StatusCode.ERROR)
                span.end()
        except Exception as ours:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("spans", ours)

    def reload(self, policy: PolicyRef, error: Exception | None) -> None:
        """Tell that a policy was read again.

        Args:
            policy: the one in force now.
            error: why the new one was refused; None when it was taken.
        """
        if not self.settings.enabled:
            return
        outcome = "ok" if error is None else "error"
        try:
            if instruments := self._instruments or self._find_instruments():
                instruments.reloaded(outcome, policy.name)
        except Exception as ours:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("metrics", ours)
        try:
            if self._event_log.ready():
                self._event_log.emit([events.reload(policy, outcome, error)], None)
        except Exception as ours:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("events", ours)

    def _end_span(
        self,
        span: Span,
        decision: Decision,
        ran: int,
        failed: Sequence[DetectorRun],
        told: Sequence[events.Event],
        roles: tuple[Role, ...],
        model: str | None,
        prompt: Prompt | None,
    ) -> None:
        try:
            attributes = spans.guard_attributes(decision, ran, failed)
            if self._captures or model or prompt:
                attributes |= self._further_attributes(decision, roles, model, prompt)
            span.set_attributes(attributes)
            if self.settings.span_events:
                for event in told:
                    span.add_event(event.name, event.attributes)
        finally:
            span.end()

    def _further_attributes(
        self, decision: Decision, roles: tuple[Role, ...], model: str | None, prompt: Prompt | None
    ) -> dict[str, AnyValue]:
        """Model, prompt, and the cleared texts and their hash where they are asked for."""
        said: dict[str, AnyValue] = {}
        if model:
            said[semconv.REQUEST_MODEL] = model
        if prompt is not None:
            said |= spans.prompt_attributes(prompt, self._convention)
        if texts := content.cleared(decision) if self._captures else ():
            if Capture.SPAN in self._capture:
                made = content.messages(decision.stage, texts, roles, self._convention)
                said[content.messages_key(decision.stage)] = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
            if self.settings.content_hash_key is not None:
                said[semconv.CONTENT_HASH] = content.content_hash(texts, self.settings.content_hash_key)
        return said

    def _findings_and_failures(
        self, decision: Decision, failed: Sequence[DetectorRun], thresholds: Mapping[str, float]
    ) -> Sequence[events.Event]:
        try:
            if self.settings.span_events or self._event_log.ready():
                return events.findings_and_failures(decision, failed, thresholds)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("events", error)
        return ()

    def _tell(
        self,
        span: Span,
        decision: Decision,
        told: Sequence[events.Event],
        roles: tuple[Role, ...],
        model: str | None,
    ) -> None:
        """Emit a decision's events, with the cleared texts where that is asked for."""
        try:
            if not self._event_log.ready():
                return
            made = [*told, *events.evaluations(decision)]
            if self.settings.semconv_guardrail != "off":
                made.append(events.guardrail(decision))
            texts = content.cleared(decision) if Capture.EVENT in self._capture else ()
            if texts:
                messages = content.messages(decision.stage, texts, roles, self._convention)
                made.append(events.details(decision.stage, content.messages_key(decision.stage), messages, model))
            self._event_log.emit(made, span)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("events", error)

    def _find_instruments(self) -> Instruments | None:
        """The instruments, once there is a provider that measures."""
        if not self._measures:
            return None
        provider = self._meter_provider or metrics.get_meter_provider()
        # The API's own provider measures nothing, until an SDK is set up in its place.
        if provider is self._unset:
            return None
        if type(provider).__module__.startswith("opentelemetry.metrics"):
            self._unset = provider
            return None
        try:
            found = shared(provider, __version__, self._convention.schema_url)
        except Exception:
            self._measures = False
            raise
        self._measures = found is not None
        with self._lock:
            if found is not None and self._instruments is None:
                self._instruments = found
                for component, times in self._errors.items():
                    found.failed(component, times)
        return found

    def _failed(self, component: str, error: Exception) -> None:
        with self._lock:
            self._errors[component] += 1
            first = self._errors[component] == 1
            if self._instruments is not None:
                self._instruments.failed(component)
        if first:
            _log.warning("telemetry of %s failed with %s; from now on only counted", component, qualified(error))
