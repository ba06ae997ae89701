"""OpenTelemetry's providers as one guard sees them: found when they are there, and never why a call fails."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace

from llmguard import __version__, content, semconv
from llmguard.content import Capture
from llmguard.event_log import EventLog
from llmguard.events import qualified
from llmguard.instruments import Instruments, shared

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

    from llmguard.monitors import Monitors
    from llmguard.telemetry_settings import TelemetrySettings

_log = logging.getLogger("llmguard.telemetry")


class Providers:
    """Where spans, metrics and events of one guard go, and what goes wrong there. Thread-safe.

    Args:
        settings: what to emit.
        tracer_provider: where spans go; the global one without it, also when that is set up later.
        meter_provider: likewise for metrics.
        logger_provider: likewise for events.

    Attributes:
        settings: see above.
        convention: that names follow.
        capture: where cleared texts go.
        tracer: that makes spans.
        event_log: where events go.
        instruments: of the meter; None until `find` has found one that measures.
        monitors: that are told of checks and calls, if there are any.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        tracer_provider: trace.TracerProvider | None,
        meter_provider: metrics.MeterProvider | None,
        logger_provider: LoggerProvider | None,
    ) -> None:
        self.settings = settings
        self.convention = semconv.CONVENTIONS[settings.semconv]
        self.capture = content.capture(settings.content) if settings.enabled else Capture.NOTHING
        self.event_log = EventLog(logger_provider, __version__, self.convention.schema_url)
        self.tracer: trace.Tracer = trace.NoOpTracer()
        self.instruments: Instruments | None = None
        self.monitors: Monitors | None = None
        self._lock = Lock()
        self._errors: Counter[str] = Counter()
        self._meter_provider = meter_provider
        self._measures = True
        self._unset: metrics.MeterProvider | None = None
        try:
            schema_url = self.convention.schema_url or None
            self.tracer = trace.get_tracer(semconv.SCOPE, __version__, tracer_provider, schema_url)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self.failed("spans", error)
        if settings.enabled:
            try:
                self.find()  # batches of models are told before the first check has ended
            except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
                self.failed("metrics", error)

    @property
    def errors(self) -> Mapping[str, int]:
        """How often each component failed: ``spans``, ``metrics``, ``events``, ``monitors``."""
        with self._lock:
            return dict(self._errors)

    def find(self) -> Instruments | None:
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
            found = shared(provider, __version__, self.convention.schema_url)
        except Exception:
            self._measures = False
            raise
        self._measures = found is not None
        with self._lock:
            if found is not None and self.instruments is None:
                self.instruments = found
                if self.monitors is not None:
                    found.read(self.monitors.readings)
                for component, times in self._errors.items():
                    found.failed(component, times)
        return found

    def watch(self, monitors: Monitors) -> None:
        """Tell these monitors of checks and calls, and read their values."""
        self.monitors = monitors
        if self.instruments is not None:
            self.instruments.read(monitors.readings)

    def measure(self, work: Callable[[Instruments], object]) -> None:
        """Have something measured, where anything is."""
        try:
            if instruments := self.instruments or self.find():
                work(instruments)
        except Exception as error:  # noqa: BLE001 - telemetry never breaks a call
            self.failed("metrics", error)

    def failed(self, component: str, error: Exception) -> None:
        """Count an error of our own telemetry; the first one of a component is logged, by its type's name."""
        with self._lock:
            self._errors[component] += 1
            first = self._errors[component] == 1
            if self.instruments is not None:
                self.instruments.failed(component)
        if first:
            with suppress(Exception):  # a broken handler: its error would be shown, and with it the one that is told
                _log.warning("telemetry of %s failed with %s; from now on only counted", component, qualified(error))
