"""Traces, metrics and events to a collector by OTLP, set up by one call."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmguard.errors import ConfigurationError, MissingExtraError, nearest
from llmguard.exporters.otlp import MaskingSpanExporter

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

HTTP, GRPC = "http/protobuf", "grpc"
_PACKAGES = {HTTP: "opentelemetry.exporter.otlp.proto.http", GRPC: "opentelemetry.exporter.otlp.proto.grpc"}
_EXPORTERS = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


def configured() -> frozenset[str]:
    """The signals for which the environment names a collector: ``traces``, ``metrics``, ``logs``.

    Those are all with ``OTEL_EXPORTER_OTLP_ENDPOINT``, one with its own variable, such as
    ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``; without those whose exporter is ``none``, and none of them where
    ``OTEL_SDK_DISABLED`` is true.
    """
    if _variable("OTEL_SDK_DISABLED").lower() == "true":
        return frozenset()
    return frozenset([signal for signal in _EXPORTERS if not _off(signal) and any(map(_variable, _endpoints(signal)))])


def _endpoints(signal: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"


def _off(signal: str) -> bool:
    return _variable(f"OTEL_{signal.upper()}_EXPORTER").lower() == "none"


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


class Otlp:
    """Providers of OpenTelemetry's SDK that send what they are told to a collector, in batches.

    What is not given goes by the environment: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``_PROTOCOL``, ``_HEADERS``,
    ``_CERTIFICATE``, ``_TIMEOUT`` and their kin for single signals, ``OTEL_SERVICE_NAME``,
    ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_TRACES_SAMPLER``; ``OTEL_TRACES_EXPORTER=none`` leaves a signal out.

    ::

        Otlp(endpoint="http://collector:4318", service="shop", share=0.05)
        guard = Guard()

    Args:
        endpoint: URL of the collector, without the path of a signal.
        protocol: ``http/protobuf`` or ``grpc``.
        headers: sent with every request; not shown or logged.
        service: the name of the service.
        share: of the traces that are kept, besides those in which a check blocked or anything failed. Every span is
            recorded then. Without it the environment's sampler decides.
        clear: for the content that other instrumentations put on spans, see `MaskingSpanExporter`.
        everywhere: whether these are the providers of the whole process; otherwise give them to the guard.
        signals: that are sent; see `configured`.
        readers: further ones of the meter provider, such as `Prometheus.reader`.

    Attributes:
        tracers: the tracer provider.
        meters: the meter provider.
        loggers: the logger provider.

    Raises:
        ConfigurationError: an argument or a variable is none of those, or the process has its providers already.
        MissingExtraError: opentelemetry-sdk or the exporter's package is not installed.
    """

    def __init__(
        self,
        *,
        endpoint: str = "",
        protocol: str = "",
        headers: Mapping[str, str] | None = None,
        service: str = "",
        share: float | None = None,
        clear: Callable[[str], str] | None = None,
        everywhere: bool = True,
        signals: Collection[str] = tuple(_EXPORTERS),
        readers: Iterable[MetricReader] = (),
    ) -> None:
        try:
            from opentelemetry.sdk.resources import Resource

            from llmguard.exporters.sampling import Share
        except ImportError:
            raise MissingExtraError("Otlp", "opentelemetry.sdk", "otel") from None
        if not isinstance(endpoint, str) or (endpoint and not endpoint.startswith(("http://", "https://"))):
            raise ConfigurationError("endpoint must be a URL that begins with http:// or https://")
        if headers is not None and not isinstance(headers, Mapping):
            raise ConfigurationError(f"headers must be a mapping of names to values, not a {type(headers).__name__}")
        if isinstance(signals, str) or not set(signals) <= set(_EXPORTERS):
            raise ConfigurationError(f"signals must be some of {', '.join(_EXPORTERS)}, not {signals!r}")
        if everywhere:
            _check_free()
        reach = _Reach(endpoint.rstrip("/"), protocol, dict(headers or {}))
        # All that can be wrong is found before the first provider starts its threads.
        sampler = None if share is None else Share(share)
        spans, figures, events = [reach.exporter(one) if one in signals else None for one in _EXPORTERS]
        resource = Resource.create({"service.name": service} if service else {})
        self.tracers = _tracers(spans, resource, sampler, clear)
        self.meters = _meters(figures, resource, readers)
        self.loggers = _loggers(events, resource)
        if everywhere:
            from opentelemetry import _logs, metrics, trace

            trace.set_tracer_provider(self.tracers)
            metrics.set_meter_provider(self.meters)
            _logs.set_logger_provider(self.loggers)

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Send what waits; whether all three could."""
        wait = int(timeout_s * 1000)
        return all([provider.force_flush(wait) for provider in (self.tracers, self.meters, self.loggers)])

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Send what waits, for at most so long, and stop. The interpreter's end does it, too."""
        end = time.monotonic() + timeout_s
        ending = [
            threading.Thread(target=provider.shutdown, name="llmguard-otlp-end", daemon=True)
            for provider in (self.tracers, self.meters, self.loggers)
        ]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join(max(0.0, end - time.monotonic()))


class _Reach:
    """How the collector is reached."""

    def __init__(self, endpoint: str, protocol: str, headers: dict[str, str]) -> None:
        self._endpoint = endpoint
        self._protocol = protocol
        self._headers = headers

    def exporter(self, signal: str) -> Any:
        """Of a signal; None where the environment says so."""
        if _off(signal):
            return None
        protocol, source = self._protocol, "protocol"
        for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if not protocol and (protocol := _variable(variable)):
                source = variable
        protocol = protocol or HTTP
        if protocol not in _PACKAGES:
            raise ConfigurationError(f"{source}: {protocol!r} is no protocol of OTLP{nearest(protocol, _PACKAGES)}")
        named = next(filter(_variable, _endpoints(signal)), "")
        if (
            protocol == HTTP
            and not self._endpoint
            and named
            and not _variable(named).startswith(("http://", "https://"))
        ):
            raise ConfigurationError(f"{named} must be a URL that begins with http:// or https://")
        module, name = _EXPORTERS[signal]
        try:
            kind = getattr(importlib.import_module(f"{_PACKAGES[protocol]}.{module}"), name)
        except ImportError:
            raise MissingExtraError("Otlp", _PACKAGES[protocol], "otel") from None
        options: dict[str, Any] = {}
        if self._endpoint:
            options["endpoint"] = self._endpoint if protocol == GRPC else f"{self._endpoint}/v1/{signal}"
        if self._headers:
            options["headers"] = {key.lower(): value for key, value in self._headers.items()}
        try:
            return kind(**options)
        except ValueError as error:
            raise ConfigurationError(f"a variable of OTEL_EXPORTER_OTLP_* for {signal}: {error}") from None


def _check_free() -> None:
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    for kind, provider in (
        (TracerProvider, trace.get_tracer_provider()),
        (MeterProvider, metrics.get_meter_provider()),
        (LoggerProvider, _logs.get_logger_provider()),
    ):
        if isinstance(provider, kind):
            raise ConfigurationError(
                f"this process has a {kind.__name__} already: add exporters to that one, or give everywhere=False"
            )


def _tracers(
    exporter: Any, resource: Resource, sampler: Sampler | None, clear: Callable[[str], str] | None
) -> TracerProvider:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from llmguard.exporters.sampling import Keeping

    tracers = TracerProvider(resource=resource, sampler=sampler)
    if exporter is not None:
        masking: Any = MaskingSpanExporter(exporter, clear) if clear else exporter
        processor: SpanProcessor = BatchSpanProcessor(masking)
        tracers.add_span_processor(processor if sampler is None else Keeping(processor))
    return tracers


def _meters(exporter: Any, resource: Resource, readers: Iterable[MetricReader]) -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    own = [] if exporter is None else [PeriodicExportingMetricReader(exporter)]
    return MeterProvider([*own, *readers], resource)


def _loggers(exporter: Any, resource: Resource) -> LoggerProvider:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    loggers = LoggerProvider(resource)
    if exporter is not None:
        loggers.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return loggers
