"""What a guard says to OpenTelemetry: a span, metrics and events of every check and call, never their content.

Telemetry never breaks a call: whatever goes wrong here is swallowed, logged once a component by the
name of its exception's type, and counted in ``llmguard.telemetry.errors``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode

from llmguard import content, events, semconv, spans
from llmguard.call_metrics import Call
from llmguard.content import Capture
from llmguard.events import qualified
from llmguard.heard import name
from llmguard.instrumented import told_elsewhere
from llmguard.monitors import Monitors
from llmguard.operation import IDLE, Operation
from llmguard.providers import Providers
from llmguard.semconv import POLICY_ID, POLICY_VERSION, STAGE, STREAMING
from llmguard.spans import Prompt
from llmguard.telemetry_settings import TelemetrySettings
from llmguard.types import Decision, DetectorRun, Monitor, PolicyRef, Role, Stage

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.util.types import AnyValue

    from llmguard.readings import Alert, Dispatched

__all__ = ["Prompt", "Telemetry", "TelemetrySettings"]

_SPAN_NAMES = {stage: semconv.guard_span(stage) for stage in Stage}


class Telemetry:
    """The telemetry of one guard: `begin` a check, then `end` or `abandon` it. Thread-safe; its methods never raise.

    Args:
        settings: what to emit; what the environment says without it.
        tracer_provider: where spans go; the global one without it, also when that is set up later.
        meter_provider: likewise for metrics.
        logger_provider: likewise for events.
        monitors: what is told of every check and every call.

    Attributes:
        monitors: see above; None as long as there are none.

    Raises:
        ConfigurationError: the environment says something wrong, or one of the monitors is none.
    """

    def __init__(
        self,
        settings: TelemetrySettings | None = None,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        monitors: Iterable[Monitor] = (),
    ) -> None:
        self.settings = settings or TelemetrySettings.from_env()
        self._providers = Providers(self.settings, tracer_provider, meter_provider, logger_provider)
        self._convention = self._providers.convention
        self._capture = self._providers.capture
        self._captures = Capture.SPAN in self._capture or self.settings.content_hash_key is not None
        self._tells_all = Capture.EVENT in self._capture or self.settings.semconv_guardrail != "off"
        self._tracer = self._providers.tracer
        self._event_log = self._providers.event_log
        self._failed = self._providers.failed
        given = tuple(monitors)
        self.monitors = Monitors(given, self._failed, self._alert, self._dispatched) if given else None
        if self.monitors is not None:
            self._providers.watch(self.monitors)

    def watch(self, monitors: Iterable[Monitor]) -> None:
        """Have these monitors told of checks and calls, too, in place of those that came this way before.

        Raises:
            ConfigurationError: one of them is no monitor, or has the name of another; nothing is changed.
        """
        further = tuple(monitors)
        known = self.monitors
        if known is None and further:
            known = Monitors((), self._failed, self._alert, self._dispatched)
        if known is not None:
            known.change(further)
            if self.monitors is None:
                self._providers.watch(known)
                self.monitors = known

    def flush(self) -> None:
        """Have metrics and monitors told of all there was, before this returns."""
        self._providers.measure(lambda known: known.flush())
        if self.monitors is not None:
            self.monitors.flush()

    @property
    def errors(self) -> Mapping[str, int]:
        """How often each component failed: ``spans``, ``metrics``, ``events``, ``monitors``, ``alerts``."""
        return self._providers.errors

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
        model = name(model) if model else None
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
        version = prompt.version if prompt else ""
        self._providers.measure(lambda known: known.record(decision, span, model or "", version, self._failed))
        if decision.findings or failed or self._tells_all:
            self._tell(span, decision, told, roles, model)

    def held(self, span: Span, stage: Stage, waits: Sequence[float]) -> None:
        """Tell metrics how long the pieces of a stream were held back.

        Args:
            span: what `begin` gave.
            stage: when they were looked at.
            waits: seconds, one a piece.
        """
        if self.settings.enabled and waits:
            self._providers.measure(lambda known: known.held(stage.value, waits, span, self._failed))

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

    def operation(
        self,
        provider: str,
        operation: str,
        model: str,
        *,
        address: str = "",
        port: int | None = None,
        streaming: bool = False,
        prompt: Prompt | None = None,
        conversation: str | None = None,
        client: str = "",
        in_process: bool = False,
    ) -> Operation:
        """Begin to tell of a call of the model, right before it is made.

        Where somebody else tells of it (see the setting ``inference_span``), only its cost is told.

        Args:
            provider: ``gen_ai.provider.name``, as the dialect says.
            operation: ``gen_ai.operation.name``, likewise.
            model: that is asked for, or "".
            address: host of the server, without credentials, path or query.
            port: of the server.
            streaming: whether the answer comes in chunks.
            prompt: the template that the texts were made with.
            conversation: the conversation's id.
            client: import name of the client package that makes the call, as ``openai``; "" when none does.
            in_process: whether the model runs in this process.
        """
        if not self.settings.enabled:
            return IDLE
        try:
            owned = self.settings.inference_span == "always"
            if self.settings.inference_span == "auto":
                owned = not told_elsewhere(operation, client)
            if owned or self.settings.prices is not None or self.monitors is not None:
                call = Call(provider, operation, model, address, port)
                way = {"streaming": streaming, "in_process": in_process, "owned": owned}
                return Operation(self._providers, call, prompt, conversation, **way)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("spans", error)
        return IDLE

    def unguarded(self, reason: str, *, passed: bool, dialect: str) -> None:
        """Count a request or an answer that could not be read, so that nobody knows what it says.

        Args:
            reason: why, in one of the words that `signals.UNGUARDED` has.
            passed: whether it went on all the same; otherwise it was refused.
            dialect: name of its wire format, or "" where it is in none.
        """
        if self.settings.enabled:
            outcome = "passed" if passed else "refused"
            self._providers.measure(lambda known: known.unguarded(reason, outcome, dialect or semconv.NONE))

    def reload(self, policy: PolicyRef, error: Exception | None) -> None:
        """Tell that a policy was read again.

        Args:
            policy: the one in force now.
            error: why the new one was refused; None when it was taken.
        """
        if not self.settings.enabled:
            return
        outcome = "ok" if error is None else "error"
        self._providers.measure(lambda known: known.reloaded(outcome, policy.name))
        try:
            if self._event_log.ready():
                self._event_log.emit([events.reload(policy, outcome, error)], None)
        except Exception as ours:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("events", ours)

    def _alert(self, alert: Alert) -> None:
        if alert.resolved or not self.settings.enabled:
            return
        try:
            if self._event_log.ready():
                self._event_log.emit([events.Event(alert.event, "WARN", dict(alert.attributes))], None)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self._failed("events", error)

    def _dispatched(self, seen: Dispatched) -> None:
        if not self.settings.enabled:
            return
        self._providers.measure(lambda known: known.dispatched(seen))
        try:
            if self._event_log.ready():
                self._event_log.emit([events.dispatched(seen)], None)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a delivery
            self._failed("events", error)

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
