"""A real OpenTelemetry SDK that keeps what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from llmguard import signals
from llmguard.telemetry import Telemetry, TelemetrySettings


class Sdk:
    """A real SDK with in-memory exporters."""

    def __init__(self, sampler: Sampler | None = None, length: int | None = None) -> None:
        self.span_exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(
            sampler=sampler,
            span_limits=SpanLimits(max_span_attribute_length=length),
            shutdown_on_exit=False,
        )
        self.tracers.add_span_processor(SimpleSpanProcessor(self.span_exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)
        self.log_exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.loggers = LoggerProvider(
            shutdown_on_exit=False, log_record_limits=LogRecordLimits(max_log_record_attribute_length=length)
        )
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.log_exporter))

    def telemetry(self, **settings: Any) -> Telemetry:
        return Telemetry(
            TelemetrySettings(**settings),
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            logger_provider=self.loggers,
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.span_exporter.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.span.attributes or {})

    def events(self, name: str) -> list[dict[str, Any]]:
        records = [data.log_record for data in self.log_exporter.get_finished_logs()]
        return [dict(record.attributes or {}) for record in records if record.event_name == name]

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {m.name: m for r in data.resource_metrics for scope in r.scope_metrics for m in scope.metrics}

    def sums(self, row: signals.MetricRow) -> dict[tuple[Any, ...], float]:
        points: Sequence[NumberDataPoint] = self.metrics()[row.name].data.data_points
        return {tuple((p.attributes or {}).get(key) for key in row.attributes): p.value for p in points}

    def all_told(self) -> str:
        """Everything that left, as text."""
        logs = [record.log_record for record in self.log_exporter.get_finished_logs()]
        data = self.reader.get_metrics_data()
        return "\n".join(
            [span.to_json() for span in self.spans]
            + [f"{log.body!r} {log.event_name} {dict(log.attributes or {})}" for log in logs]
            + ([data.to_json()] if data else [])
        )

    def close(self) -> None:
        """Shut everything down."""
        self.tracers.shutdown()
        self.meters.shutdown()
        self.loggers.shutdown()
