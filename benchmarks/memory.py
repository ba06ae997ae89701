"""A million decisions with every exporter on: resident memory stays where it was, and metrics keep few series."""

from __future__ import annotations

import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.guard import Nowhere
from benchmarks.timing import row
from llmguard import Finding, Guard, TelemetrySettings
from llmguard.detectors.drift import DriftMonitor
from llmguard.detectors.fairness import FairnessMonitor
from llmguard.detectors.function import FunctionDetector
from llmguard.dialects.registry import get
from llmguard.dialects.wire import Body, Usage
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.jsonl import JsonlExporter
from llmguard.exporters.processor import Processor
from llmguard.exporters.prometheus import Prometheus
from llmguard.exporters.sampling import Keeping, Share
from llmguard.vault import Vault

DECISIONS = 1_000_000
FIRST = 50_000
#: Of `FIRST`: how far resident memory may be from where it was.
BOUND = 0.05
#: More than metrics may have: a store that takes one process takes hundreds of these.
SERIES = 20_000
_STAGES = ("input", "output", "context", "tool_call", "tool_result")
_WORDS = ("the", "team", "wrote", "report", "about", "prices", "and", "week", "for", "women", "older", "people", "city")


class NoLogs(LogRecordExporter):
    """Takes log records and forgets them."""

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        """Nothing is open."""


class NoMetrics(MetricExporter):
    """Takes metrics and forgets them."""

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing is open."""


def _marks(text: str) -> list[Finding]:
    if "raise" in text:
        raise type(f"Error{text[-6:].strip()}", (Exception,), {})
    return [Finding("WORD", 0.5, (at, at + 4)) for at in range(0, len(text), 64) if text[at : at + 4] == "team"]


class Everything:
    """A guard with every way out on, and callers who never say the same name twice.

    Args:
        directory: where files go.
        vault: of the guard.
    """

    def __init__(self, directory: Path, vault: Vault | None = None) -> None:
        self._random = random.Random(0)
        self._made = 0
        self.tracers = TracerProvider(sampler=Share(0.5))
        self.tracers.add_span_processor(Keeping(BatchSpanProcessor(Nowhere())))
        self._tracer = self.tracers.get_tracer("caller")
        self.prometheus = Prometheus()
        self.meters = self.prometheus.meter_provider(
            metric_readers=[PeriodicExportingMetricReader(NoMetrics(), 10_000)]
        )
        self.loggers = LoggerProvider()
        self.loggers.add_log_record_processor(BatchLogRecordProcessor(NoLogs()))
        exporters = (
            JsonlExporter(directory / "records.jsonl", max_bytes=32 << 20, keep=2),
            AuditLog(directory / "audit", signing_key=bytes(range(32)), max_bytes=16 << 20, keep_days=1e-4),
        )
        self.processors = [Processor(exporter) for exporter in exporters]
        self.drift = DriftMonitor(5000, window=4096)
        self.fairness = FairnessMonitor()
        self.guard = Guard(
            self._policy(0),
            vault=vault,
            detectors=[FunctionDetector(_marks, name="marks", categories=["WORD"], inline=True)],
            telemetry=TelemetrySettings(prices={"m-1": {"input": 1.0, "output": 2.0}}),
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            logger_provider=self.loggers,
            monitors=[self.drift, self.fairness, *self.processors],
        )

    @staticmethod
    def _policy(number: int) -> dict[str, Any]:
        names = ("pii", "marks")
        return {
            "name": "policy",
            "version": str(number),
            "rules": [{"detector": name, "action": "redact" if name == "pii" else "flag"} for name in names]
            + [{"detector": "keywords", "action": "block"}],
            "detectors": {"keywords": {"deny": ["project heron"]}, "pii": {"entities": ["EMAIL_ADDRESS"]}},
        }

    def run(self, decisions: int) -> None:
        """Make so many decisions."""
        until = self._made + decisions
        while self._made < until:
            self._decide()
            self._made += 1
            if self._made % 10_000 == 0:
                self.guard.reload(self._policy(self._made))
                self.prometheus.scrape()

    def flush(self) -> None:
        """Have all of it told."""
        self.guard.flush()
        for provider in (self.tracers, self.meters, self.loggers):
            provider.force_flush()
        for processor in self.processors:
            processor.force_flush()
        gc.collect()

    def series(self) -> int:
        """How many series a scrape has."""
        lines = self.prometheus.scrape().body.splitlines()
        return sum(1 for line in lines if line and not line.startswith(b"#") and b"_bucket{" not in line)

    def close(self) -> None:
        """Stop all of it."""
        self.guard.close()
        for processor in self.processors:
            processor.shutdown()
        for provider in (self.tracers, self.meters, self.loggers):
            provider.shutdown()

    def _decide(self) -> None:
        number, chance = self._made, self._random
        guard = self.guard
        with ExitStack() as stack:
            enter = stack.enter_context
            if chance.random() < 0.7:
                enter(self._tracer.start_as_current_span(f"request {number}"))
            enter(guard.conversation(f"conversation-{number}"))
            enter(guard.tenant(f"tenant-{number}"))
            version = f"v{chance.randrange(1 << 30)}" if chance.random() < 0.5 else f"v{chance.randrange(150)}"
            enter(guard.prompt(f"prompt-{number}", version=version, variant=f"{number}"))
            enter(guard.cohort(plan=f"plan-{number}", **{f"dimension_{number}": "x"}))
            model = f"m-{chance.randrange(150)}" if chance.random() < 0.5 else f"m-{chance.randrange(1 << 30)}"
            text = " ".join(chance.choices(_WORDS, k=8))
            kind = number % 50
            if kind == 0:
                text += f" raise {number}"
            elif kind == 1:
                text += " project heron"
            elif kind % 4 == 2:  # enough that the vault is full before the first look
                text += f" write to person{number}@example.com"
            if kind == 7:
                stream = guard.stream()
                stream.feed(text[:40])
                del stream  # the reader goes away
                return
            guard.check(text, stage=_STAGES[number % len(_STAGES)])
            if number % 4 == 0:
                self._call(model)

    def _call(self, model: str) -> None:
        chance = self._random
        host = f"h{chance.randrange(150)}.example"
        call = self.guard.operation(
            get("openai.chat"), Body(model=model, stream=True), host, chance.randrange(1, 65536)
        )
        call.chunk()
        call.chunk()
        if chance.random() < 0.2:
            call.end(error=f"code_{chance.randrange(1 << 30)}")
        else:
            call.end(Body(model=f"{model}-{chance.randrange(150)}", id="r", finish=("stop",), usage=Usage(10, 20)))


def resident() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(directory: Path, decisions: int, first: int, tell: Callable[[int, float, int], None]) -> tuple[float, float]:
    """Resident memory after the first decisions, and after all of them.

    Args:
        directory: where files go.
        decisions: all of them.
        first: how many are the first.
        tell: told decisions so far, MB, and series, each ``first`` decisions.
    """
    all_on = Everything(directory)
    began = 0.0
    size = 0.0
    for done in range(first, decisions + 1, first):
        all_on.run(first)
        all_on.flush()
        size = resident()
        began = began or size
        tell(done, size, all_on.series())
    all_on.close()
    return began, size


def main(decisions: int = DECISIONS, first: int = FIRST) -> bool:
    seen: list[int] = []

    def tell(done: int, size: float, series: int) -> None:
        seen.append(series)
        if done % (decisions // 5) == 0 or done == first:
            row(f"after {done:,} decisions", f"{size:.1f} MB", f"{series:,} series")

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        began, ended = soak(Path(name), decisions, first, tell)
    moved = ended / began - 1
    took = f"{decisions / (time.perf_counter() - started):,.0f} decisions a second"
    held = row("resident memory moved by", f"{moved:+.1%}", took, f"<= {BOUND:.0%}", holds=abs(moved) <= BOUND)
    return held & row("series, buckets apart", f"{seen[-1]:,}", "", f"<= {SERIES:,}", holds=seen[-1] <= SERIES)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
