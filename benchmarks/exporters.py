"""What exporters add to a guarded call, and how many records they take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.guard import POLICY, providers
from benchmarks.texts import CLEAN, with_ten_findings
from benchmarks.timing import medians, microseconds, row
from llmguard import Guard, TelemetrySettings
from llmguard.exporters.jsonl import JsonlExporter, read
from llmguard.exporters.parquet import ParquetExporter
from llmguard.exporters.processor import Processor
from llmguard.exporters.prometheus import Prometheus
from llmguard.exporters.record import Exporter, Record, record
from llmguard.types import Observation, Text

BATCH = 512
RECORDS = 8 * BATCH


class Nowhere:
    """Takes records and forgets them."""

    def export(self, batch: Sequence[Record]) -> None:
        del batch

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        return True

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        return True


def main() -> bool:
    with tempfile.TemporaryDirectory() as name:
        return _main(Path(name))


def _main(directory: Path) -> bool:
    quiet = TelemetrySettings(enabled=False)
    tracing, metering = providers()
    processors = [
        Processor(exporter, max_queue=1 << 20)
        for exporter in (Nowhere(), JsonlExporter(directory / "a.jsonl"), JsonlExporter(directory / "b.jsonl"))
    ]
    nowhere, jsonl, full = processors
    none = Guard(POLICY, telemetry=quiet)
    guards = {
        "none": none,
        "nowhere": Guard(POLICY, telemetry=quiet, monitors=[nowhere]),
        "jsonl": Guard(POLICY, telemetry=quiet, monitors=[jsonl]),
        "all": Guard(POLICY, tracer_provider=tracing, meter_provider=metering, monitors=[full]),
    }
    calls: dict[str, Callable[[], object]] = {
        name: lambda guard=guard: guard.check(CLEAN)  # type: ignore[misc]
        for name, guard in guards.items()
    }
    decision = none.check(with_ten_findings())
    seen = Observation(decision, (Text(CLEAN),), "some-model", at=time.time(), conversation="c", trace="0" * 32)
    calls["record"] = lambda: record(seen)
    took = medians(calls, rest=0.12)
    held = True
    for name, what in (
        ("nowhere", "a check of 200 words, a processor that exports nowhere"),
        ("jsonl", "the same, to a file of JSON lines"),
        ("all", "the same, spans and metrics by batch exporters, too"),
    ):
        added = took[name] - took["none"]
        ratio = f"adds {added * 1e6:,.1f} us, {took[name] / took['none']:.2f} times none ({took['none'] * 1e6:,.0f} us)"
        held &= row(what, microseconds(took[name]), ratio, "adds <= 60 us", holds=added <= 60e-6)
    row("a record of a decision with ten findings", microseconds(took["record"]), "off the caller's path")
    for guard in guards.values():
        guard.close()
    for processor in processors:
        processor.shutdown()
    dropped, sent = (
        sum(column) for column in zip(*((p.counts.dropped, p.counts.exported) for p in processors), strict=True)
    )
    row("records dropped", f"{dropped:,}", f"of {dropped + sent:,}")

    batch = [record(seen)] * BATCH
    for exporter, what in (
        (JsonlExporter(directory / "c.jsonl"), "JSON lines"),
        (JsonlExporter(directory / "d.jsonl", fsync=True), "JSON lines with fsync"),
        (ParquetExporter(directory / "parquet"), "Parquet"),
    ):
        row(f"{what}, records of ten findings a second", f"{_rate(exporter, batch):,.0f}", f"batches of {BATCH}")
    started = time.perf_counter()
    count = sum(1 for _ in read(directory / "c.jsonl"))
    row("JSON lines read, records a second", f"{count / (time.perf_counter() - started):,.0f}")
    _scrape()
    tracing.shutdown()
    return held


def _rate(exporter: Exporter, batch: Sequence[Record]) -> float:
    started = time.perf_counter()
    for _ in range(0, RECORDS, len(batch)):
        exporter.export(batch)
    exporter.shutdown()
    return RECORDS / (time.perf_counter() - started)


def _scrape() -> None:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry, generate_latest

    prometheus, registry = Prometheus(), CollectorRegistry()
    meters = prometheus.meter_provider(metric_readers=[PrometheusMetricReader(registry=registry)])
    with Guard(POLICY, meter_provider=meters) as guard:
        guard.check(with_ten_findings())
        took = medians({"ours": prometheus.scrape, "theirs": lambda: generate_latest(registry)}, rounds=5)
    ratio = f"{took['ours'] / took['theirs']:.2f} of OpenTelemetry's exporter ({took['theirs'] * 1e6:,.0f} us)"
    row("a scrape by Prometheus", microseconds(took["ours"]), ratio)
    meters.shutdown()
