"""Events as OpenTelemetry log records; without a provider that takes them they are dropped."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from opentelemetry import _logs, trace

from llmguard.semconv import SCOPE

if TYPE_CHECKING:
    from llmguard.events import Event

_SEVERITIES = {
    "DEBUG": _logs.SeverityNumber.DEBUG,
    "INFO": _logs.SeverityNumber.INFO,
    "WARN": _logs.SeverityNumber.WARN,
    "ERROR": _logs.SeverityNumber.ERROR,
}


class EventLog:
    """Where events go.

    Args:
        provider: of the logger; the global one without it, also when that is set up later.
        version: of llmguard.
        schema_url: of the instrumentation scope, or "".
    """

    def __init__(self, provider: _logs.LoggerProvider | None, version: str, schema_url: str) -> None:
        self._provider = provider
        self._scope = (SCOPE, version, schema_url or None)
        self._logger: _logs.Logger | None = None
        self._off = False

    def ready(self) -> bool:
        """Whether there is a provider that takes events."""
        if self._logger is None and not self._off:
            provider = self._provider or _logs.get_logger_provider()
            # The API's own provider takes nothing, until an SDK is set up in its place.
            if type(provider).__module__.startswith("opentelemetry._logs"):
                return False
            try:
                logger = provider.get_logger(*self._scope)
            except Exception:
                self._off = True
                raise
            self._off = isinstance(logger, _logs.NoOpLogger)
            self._logger = None if self._off else logger
        return self._logger is not None

    def emit(self, told: Iterable[Event], span: trace.Span | None) -> None:
        """Emits them in the span's context, or in the current one without a span."""
        if self._logger is None:
            return
        context = trace.set_span_in_context(span) if span is not None else None
        for event in told:
            self._logger.emit(
                timestamp=time.time_ns(),
                context=context,
                severity_number=_SEVERITIES[event.severity],
                severity_text=event.severity,
                attributes=event.attributes,
                event_name=event.name,
            )
