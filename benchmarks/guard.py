"""One check of a 200-word prompt with every detector on, against its floors and against Presidio alone."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.peers import litellm_filter
from benchmarks.texts import CLEAN, with_ten_findings
from benchmarks.timing import medians, microseconds, row
from llmguard import Guard, TelemetrySettings
from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.pii import PiiDetector
from llmguard.detectors.pii_engine import analyzer
from llmguard.detectors.pii_nlp import engine

PHRASES = [f"project {name} {number}" for name in ("heron", "falcon", "osprey", "kestrel") for number in range(250)]

POLICY: dict[str, Any] = {
    "name": "benchmark",
    "version": "1",
    "rules": [
        {"detector": "pii", "action": "redact"},
        {"detector": "secrets", "action": "redact"},
        {"detector": "unicode", "action": "flag"},
        {"detector": "keywords", "action": "block"},
        {"detector": "injection_rules", "action": "block", "threshold": 0.9},
        {"detector": "token_stats", "action": "flag"},
    ],
    "detectors": {"keywords": {"deny": PHRASES}},
}


class Nowhere(SpanExporter):
    """Takes spans and forgets them, so that only our side of the export is measured."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def providers() -> tuple[TracerProvider, MeterProvider]:
    """The SDK as in production: a batch span processor and a metric reader."""
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=1 << 20))
    return tracing, MeterProvider([InMemoryMetricReader()])


def main() -> bool:
    tracing, metering = providers()
    quiet = Guard(POLICY, telemetry=TelemetrySettings(enabled=False))
    told = Guard(POLICY, tracer_provider=tracing, meter_provider=metering)
    nothing = {"name": "empty", "version": "1", "rules": []}
    empty = Guard(nothing, tracer_provider=tracing, meter_provider=metering)
    tracer = tracing.get_tracer("benchmark")
    ten = with_ten_findings()
    attributes = _attributes(tracing, told)
    scan = PatternSet(
        [r"[\w.]+@\w+\.\w+", r"\d{3}-\d{2}-\d{4}", r"AKIA[0-9A-Z]{16}", r"(?i)ignore .{0,20}instructions"]
    )
    presidio = analyzer(PiiDetector().recognizers, engine(["en"]), ["en"], 0.0)

    def span() -> None:
        tracer.start_span("llmguard.guard input", attributes=attributes).end()

    found = told.check(ten).findings
    took = medians(
        {
            "clean": lambda: told.check(CLEAN),
            "quiet": lambda: quiet.check(CLEAN),
            "ten": lambda: told.check(ten),
            "ten quiet": lambda: quiet.check(ten),
            "empty": lambda: empty.check(CLEAN),
            "span": span,
            "scan": lambda: scan.match(CLEAN),
            "presidio": lambda: presidio.analyze(CLEAN, "en"),
            "presidio ten": lambda: presidio.analyze(ten, "en"),
        },
        rest=0.12,
    )
    us = {name: seconds * 1e6 for name, seconds in took.items()}
    held = row(
        "clean, six detectors, telemetry",
        microseconds(took["clean"]),
        f"1/{took['presidio'] / took['clean']:.1f} of Presidio alone ({us['presidio']:,.0f} us)",
        "<= 120 us, 1/15",
        holds=us["clean"] <= 120 and took["presidio"] >= 15 * took["clean"],
    )
    held &= row("clean, without telemetry", microseconds(took["quiet"]), bound="<= 50 us", holds=us["quiet"] <= 50)
    held &= row(
        f"ten findings ({len(found)} found), telemetry",
        microseconds(took["ten"]),
        f"1/{took['presidio ten'] / took['ten']:.1f} of Presidio alone ({us['presidio ten']:,.0f} us)",
        "<= 1,000 us, 1/7",
        holds=us["ten"] <= 1000 and took["presidio ten"] >= 7 * took["ten"],
    )
    row("ten findings, without telemetry", microseconds(took["ten quiet"]))
    held &= row(
        "no detectors, telemetry",
        microseconds(took["empty"]),
        f"{took['empty'] / took['span']:.2f} of the bare span it emits",
        "<= 2.5",
        holds=took["empty"] <= 2.5 * took["span"],
    )
    started, checks = time.perf_counter(), 3000
    for _ in range(checks):
        told.check(CLEAN)
    metering.force_flush()
    row(
        "clean, one after the other, until all is told",
        microseconds((time.perf_counter() - started) / checks),
        "the mean: a call, its span, its seven records",
    )
    if (peer := litellm_filter()) is not None:
        beside = medians(
            {
                "clean": lambda: told.check(CLEAN),
                "ten": lambda: told.check(ten),
                "peer": lambda: peer(CLEAN),
                "peer ten": lambda: peer(ten),
            },
            rest=0.12,
        )
        row(
            "LiteLLM's content filter, clean",
            microseconds(beside["peer"]),
            f"{beside['peer'] / beside['clean']:.1f} times ours",
        )
        row(
            "LiteLLM's content filter, ten findings",
            microseconds(beside["peer ten"]),
            f"{beside['peer ten'] / beside['ten']:.2f} times ours",
        )
    row("floor: that bare span", microseconds(took["span"]))
    row("floor: one RE2 set scan", microseconds(took["scan"]))
    tracing.shutdown()
    return held


def _attributes(tracing: TracerProvider, guard: Guard) -> dict[str, Any]:
    """The attributes of the span that a check emits."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    del tracing
    exporter, own = InMemorySpanExporter(), TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(exporter))
    with Guard(guard.policy, tracer_provider=own) as seen:
        seen.check(CLEAN)
    spans: tuple[ReadableSpan, ...] = exporter.get_finished_spans()
    return dict(spans[0].attributes or {})
