"""Traces, metrics and events to a collector by OTLP, set up by one call."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llmguard.errors import ConfigurationError, MissingExtraError, nearest
from llmguard.exporters.otlp import MaskingSpanExporter

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
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
        if everywhere:
            _check_free()
        reach = _Reach(endpoint.rstrip("/"), protocol, dict(headers or {}))
        # All that can be wrong is found before the first provider starts its threads.
        sampler = None if share is None else Share(share)
        spans, figures, events = map(reach.exporter, _EXPORTERS)
        resource = Resource.create({"service.name": service} if service else {})
        self.tracers = _tracers(spans, resource, sampler, clear)
        self.meters = _meters(figures, resource)
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

    def shutdown(self) -> None:
        """Send what waits, and stop. The interpreter's end does it, too."""
        self.tracers.shutdown()
        self.meters.shutdown()
        self.loggers.shutdown()


class _Reach:
    """How the collector is reached."""

    def __init__(self, endpoint: str, protocol: str, headers: dict[str, str]) -> None:
        self._endpoint = endpoint
        self._protocol = protocol
        self._headers = headers

    def exporter(self, signal: str) -> Any:
        """Of a signal; None where the environment says so."""
        if os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() == "none":
            return None
        protocol, source = self._protocol, "protocol"
        for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if not protocol and (protocol := os.environ.get(variable, "").strip()):
                source = variable
        protocol = protocol or HTTP
        if protocol not in _PACKAGES:
            raise ConfigurationError(f"{source}: {protocol!r} is no protocol of OTLP{nearest(protocol, _PACKAGES)}")
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
        return kind(**options)


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


def _meters(exporter: Any, resource: Resource) -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return MeterProvider([PeriodicExportingMetricReader(exporter)] if exporter is not None else [], resource)


def _loggers(exporter: Any, resource: Resource) -> LoggerProvider:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    loggers = LoggerProvider(resource)
    if exporter is not None:
        loggers.add_log_record_processor(BatchLogRecordProcessor(exporter))
    return loggers
