"""Clears what other instrumentations capture: a completion hook for opentelemetry-util-genai.

With ``OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK=llmguard`` every instrumentation that is built on that
package hands over the span and the log record of each operation before they leave. Content that it put there
is cleared by a guard; none is added.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from llmguard.content import cleared
from llmguard.exporters.otlp import MASKED, clear_value, content_key
from llmguard.semconv import CONTENT_KEYS
from llmguard.types import Decision, Stage

if TYPE_CHECKING:
    from opentelemetry._logs import LogRecord
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AnyValue

POLICY_ENV = "LLMGUARD_COMPLETION_HOOK_POLICY"

_holds_content = content_key(CONTENT_KEYS)
_OUTPUT = ("gen_ai.output.", "gen_ai.completion", "gen_ai.tool.call.arguments")
_TOOL_RESULT = "gen_ai.tool.call.result"


class Checks(Protocol):
    """The part of a guard that the hook needs."""

    def check(self, text: str, /, *, stage: Stage) -> Decision:
        """What the policy makes of a text."""
        ...


class CompletionHook:
    """Clears messages on the span and on the log record of a GenAI operation; fails closed.

    A text that is blocked, that a detector could not judge, or that raises becomes ``<masked>``.

    Args:
        guard: that clears; without it one is made at the first message, by the policy that
            ``LLMGUARD_COMPLETION_HOOK_POLICY`` names (a file or a preset), or the default one. It emits no
            telemetry of its own.
    """

    def __init__(self, guard: Checks | None = None) -> None:
        self._guard = guard
        self._lock = Lock()

    def on_completion(
        self,
        *,
        inputs: Sequence[object],
        outputs: Sequence[object],
        system_instruction: Sequence[object],
        tool_definitions: Sequence[object] | None = None,
        span: Span | None = None,
        log_record: LogRecord | None = None,
    ) -> None:
        """Clear what is on ``span`` and ``log_record``; the messages themselves stay as they are.

        Args:
            inputs: messages to the model; not read, for what leaves is on the span and the record.
            outputs: likewise, from the model.
            system_instruction: likewise.
            tool_definitions: likewise.
            span: of the operation, still recording.
            log_record: of the operation, not emitted yet.
        """
        if span is not None and span.is_recording():
            self._clear_span(span)
        if log_record is not None:
            attributes = dict(log_record.attributes or {})
            log_record.attributes = attributes | self._cleared(attributes)
            if log_record.body is not None:
                log_record.body = self._value("", log_record.body)
            _drop_exception(log_record)

    def _clear_span(self, span: Span) -> None:
        attributes = getattr(span, "attributes", None)
        if not isinstance(attributes, Mapping):
            # A span that cannot be read: whatever the conventions could have put there goes.
            span.set_attributes({key: MASKED for key in CONTENT_KEYS if key.startswith("gen_ai.") and "*" not in key})
            return
        span.set_attributes(self._cleared(attributes))
        status = getattr(span, "status", None)
        if status is not None and status.description:
            span.set_status(status.status_code, str(self._value("", status.description)))

    def _cleared(self, attributes: Mapping[str, AnyValue]) -> dict[str, AnyValue]:
        return {key: self._value(key, value) for key, value in attributes.items() if _holds_content(key)}

    def _value(self, key: str, value: AnyValue) -> AnyValue:
        stage = Stage.TOOL_RESULT if key == _TOOL_RESULT else Stage.OUTPUT if key.startswith(_OUTPUT) else Stage.INPUT

        def clear(text: str) -> str:
            texts = cleared(self._get_guard().check(text, stage=stage)) if text else ("",)
            return texts[0] if texts else MASKED

        return clear_value(value, clear)

    def _get_guard(self) -> Checks:
        with self._lock:
            if self._guard is None:
                from llmguard.guard import Guard
                from llmguard.telemetry_settings import TelemetrySettings

                self._guard = Guard(
                    os.environ.get(POLICY_ENV) or None, telemetry=TelemetrySettings(enabled=False), alerts=False
                )
            return self._guard


def completion_hook() -> CompletionHook:
    """The hook, as the entry point ``llmguard`` of ``opentelemetry_genai_completion_hook`` makes it."""
    return CompletionHook()


def _drop_exception(log_record: LogRecord) -> None:
    """Keep an exception's type but not its message, which may quote the prompt."""
    error = getattr(log_record, "exception", None)
    if error is not None:
        kind = type(error)
        log_record.attributes = dict(log_record.attributes or {}) | {
            "exception.type": f"{kind.__module__}.{kind.__qualname__}"
        }
        log_record.exception = None
