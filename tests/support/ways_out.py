"""Every way that something can leave a guard, all of them on, and a search for marks in all that left."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import traceback
import urllib.parse
import warnings
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from receivers import Receiver, status
from rich.console import Console
from telemetry_sdk import Sdk

from llmguard import Guard, TelemetrySettings
from llmguard.detectors.drift import DriftMonitor
from llmguard.detectors.fairness import FairnessMonitor
from llmguard.exporters.alerts.manager import Alerts
from llmguard.exporters.alerts.plan import Plan
from llmguard.exporters.alerts.routing import Routing
from llmguard.exporters.alerts.rule import Rule
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.console import ConsoleExporter
from llmguard.exporters.jsonl import JsonlExporter
from llmguard.exporters.otlp import MaskingSpanExporter
from llmguard.exporters.parquet import ParquetExporter
from llmguard.exporters.processor import Processor
from llmguard.exporters.prometheus import Prometheus
from llmguard.exporters.record import Record
from llmguard.types import PolicyRef

#: Loggers of packages that callers bring along: at DEBUG they say what they send, whoever guards it.
_THEIRS = ("openai", "httpx", "httpcore")
_SHORTEST = 8


def forms(mark: str) -> list[bytes]:
    """The bytes in which a mark may stand: plain and escaped in every common way, and in base64 at any offset."""
    raw = mark.encode()
    written = {raw, json.dumps(mark)[1:-1].encode(), repr(mark)[1:-1].encode(), repr(raw)[2:-1].encode()}
    written |= {
        mark.encode("utf-16-le"),
        mark.encode("utf-16-be"),
        urllib.parse.quote(mark).encode(),
        raw.hex().encode(),
    }
    written |= {mark.encode("unicode_escape"), mark.encode("idna") if mark.isascii() else raw}
    for form in (raw, json.dumps(mark)[1:-1].encode(), mark.encode("utf-16-le")):
        for shift in range(3):
            # Whole groups of three bytes alone: those at the edges depend on what stands beside.
            whole = form[shift : shift + (len(form) - shift) // 3 * 3]
            written |= {base64.b64encode(whole), base64.urlsafe_b64encode(whole)}
    return sorted(form for form in written if len(form) >= _SHORTEST)


class Raising:
    """An exporter that fails, and says with which records."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def export(self, batch: Sequence[Record]) -> None:
        raise OSError(f"no room for {self._mark}")

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        raise OSError(self._mark)

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        raise OSError(self._mark)


class RaisingMonitor:
    """A monitor that fails, and says with which texts."""

    name = "raising"

    def observe(self, seen: Any) -> None:
        raise ValueError(f"{[text.content for text in seen.texts]} of {seen.model}")


class WaysOut:
    """A guard's surroundings with everything on.

    Args:
        directory: for files.
        content: setting of telemetry.
        raising: what the exceptions of broken exporters and receivers say.
        by: labels that alerts are told by.
    """

    def __init__(
        self, directory: Path, *, content: str = "NO_CONTENT", raising: str = "", by: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self._raising = raising
        self.settings = TelemetrySettings(
            content=content,
            detect_spans=True,
            span_events=True,
            openinference=True,
            semconv_guardrail="experimental",
            inference_span="always",
            content_hash_key=b"k" * 32,
            prices={"m": {"input": 1.0, "output": 2.0}},
        )
        self._by = tuple(by)
        self.told: list[str] = []

    @contextlib.contextmanager
    def open(self) -> Iterator[WaysOut]:
        """Everything on, until the block is left; all of it has left by then."""
        directory = self.directory
        handler = _Logs(directory / "log.txt")
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        self.sdk = sdk = Sdk()
        self.masked = Sdk()
        self.console = StringIO()
        self.prometheus = Prometheus()
        self.reader = InMemoryMetricReader()
        self.meters = self.prometheus.meter_provider(metric_readers=[self.reader], shutdown_on_exit=False)
        refusal = status(400, self._raising.encode() or b"no", x_why=self._raising or "no")
        try:
            with (
                warnings.catch_warnings(record=True) as self._warned,
                Receiver(status(200)) as good,
                Receiver(refusal) as bad,
            ):
                warnings.simplefilter("always")
                self._receivers = (good, bad)
                self.alerts = self._alerts(good, bad)
                self.processors = [
                    Processor(JsonlExporter(directory / "records.jsonl")),
                    Processor(AuditLog(directory / "audit", signing_key=bytes(range(32)))),
                    Processor(ParquetExporter(directory / "parquet")),
                    Processor(ConsoleExporter(Console(file=self.console, width=300))),
                    Processor(Raising(self._raising), delay_s=0.01),
                ]
                self.watching = [DriftMonitor(100, window=128), FairnessMonitor(window=100, minimum=2)]
                for monitor in self.watching:
                    monitor.subscribe(lambda alert: self.told.append(repr(alert)))
                yield self
                self._end()
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            handler.close()
            sdk.close()
            self.masked.close()

    def _alerts(self, good: Receiver, bad: Receiver) -> Alerts:
        secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
        where = self.directory / "webhook.key"
        where.write_text(secret, encoding="ascii")
        sinks = {
            name: {"kind": "webhook", "url": receiver.url, "secret": f"file:{where}", "allow": ["127.0.0.1/32"]}
            for name, receiver in (("good", good), ("bad", bad))
        }
        rules = [
            Rule("Blocks", of={"action": ("block",)}, above=0.0, by=self._by),
            Rule("Findings", of={"detector": ("words",)}, above=0.0, by=self._by),
            Rule("Failing", of={"outcome": ("error", "timeout", "open")}, above=0.0, by=self._by),
            Rule("Calls", value="calls", above=0.0, by=self._by),
        ]
        routing = Routing(("alertname",), 0.0, 1.0, 3600.0)
        outbox = str(self.directory / "alerts.sqlite")
        return Alerts(Plan(tuple(rules), sinks, PolicyRef("p", "1", "h"), routing, outbox=outbox, every_s=3600.0))

    def guard(self, policy: dict[str, Any], **more: Any) -> Guard:
        """A guard with all ways out."""
        return Guard(
            policy,
            telemetry=self.settings,
            tracer_provider=self.sdk.tracers,
            meter_provider=self.meters,
            logger_provider=self.sdk.loggers,
            monitors=[*self.watching, *self.processors, RaisingMonitor(), self.alerts],
            **more,
        )

    def _end(self) -> None:
        self.alerts.force_flush()
        for processor in self.processors:
            processor.force_flush()
            processor.shutdown(10.0)
        self.scraped = b"".join(
            [self.prometheus.scrape(accept).body for accept in ("", "application/openmetrics-text; version=1.0.0")]
        )
        self._metrics = self.reader.get_metrics_data()
        cleared = MaskingSpanExporter(self.masked.span_exporter, lambda text: "gone")
        cleared.export(list(self.sdk.spans))
        self.meters.shutdown()
        self.alerts.shutdown(10.0)

    def left(self) -> dict[str, bytes]:
        """All that left, by way."""
        import pyarrow.parquet as pq

        logs = [data.log_record for data in self.sdk.log_exporter.get_finished_logs()]
        tables = [pq.read_table(path).to_pylist() for path in (self.directory / "parquet").glob("*.parquet")]
        ways: dict[str, str | bytes] = {
            "spans": "\n".join([span.to_json() for span in self.sdk.spans]),
            "masked spans": "\n".join([span.to_json() for span in self.masked.spans]),
            "log records": repr([(log.event_name, log.body, dict(log.attributes or {})) for log in logs]),
            "metrics": self._metrics.to_json() if self._metrics is not None else "",
            "scrape": self.scraped,
            "console": self.console.getvalue(),
            "parquet": repr(tables),
            "alerts of monitors": "\n".join(self.told),
            "warnings": "\n".join([f"{one.message!r} {one.filename}" for one in self._warned]),
        }
        for name, receiver in zip(("payloads", "refused payloads"), self._receivers, strict=True):
            ways[name] = repr([(seen.line, seen.headers) for seen in receiver.seen]).encode() + b"".join(
                [seen.body for seen in receiver.seen]
            )
        found = {
            name: way if isinstance(way, bytes) else way.encode("utf-8", "surrogatepass") for name, way in ways.items()
        }
        for path in sorted(self.directory.rglob("*")):
            name = str(path.relative_to(self.directory))
            found["file names"] = found.get("file names", b"") + name.encode() + b"\n"
            if path.is_file():
                way = name.split("/")[0].removesuffix("-wal").removesuffix("-shm")
                found[way] = found.get(way, b"") + path.read_bytes()
        return found


def ways_with(left: dict[str, bytes], mark: str) -> set[str]:
    """The ways in which a mark is found."""
    looked_for = forms(mark)
    return {name for name, data in left.items() if any(form in data for form in looked_for)}


class _Logs(logging.Handler):
    """Writes what Python's loggers say to a file, with the whole of every exception."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.DEBUG)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.split(".")[0] in _THEIRS:
            return
        # Opened anew each time: a server that configures logging closes all handlers.
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{record.name} {record.levelname} {record.getMessage()} {record.args!r}\n")
            if record.exc_info and record.exc_info[1] is not None:
                file.write("".join(traceback.format_exception(record.exc_info[1])))
