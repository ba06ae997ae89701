"""That one call sends traces, metrics and events to a collector, over HTTP and gRPC, and never a text."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest
from fakes import Words

from llmguard import ConfigurationError, Guard

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.sdk.metrics import MeterProvider

from llmguard.exporters.otlp_providers import Otlp

SECRET = "canary-4711"
KINDS = {
    "/v1/traces": (trace_pb.ExportTraceServiceRequest, trace_pb.ExportTraceServiceResponse),
    "/v1/metrics": (metrics_pb.ExportMetricsServiceRequest, metrics_pb.ExportMetricsServiceResponse),
    "/v1/logs": (logs_pb.ExportLogsServiceRequest, logs_pb.ExportLogsServiceResponse),
}


class Collector:
    """What a collector was sent, by path, with the headers of the requests."""

    def __init__(self) -> None:
        self.got: dict[str, list[Any]] = {path: [] for path in KINDS}
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def take(self, path: str, message: Any, headers: Any) -> Any:
        self.got[path].append(message)
        self.headers.append({str(key).lower(): str(value) for key, value in headers})
        return KINDS[path][1]()

    @property
    def spans(self) -> list[str]:
        return [
            span.name
            for message in self.got["/v1/traces"]
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> set[str]:
        return {
            metric.name
            for message in self.got["/v1/metrics"]
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def events(self) -> list[str]:
        return [
            record.event_name
            for message in self.got["/v1/logs"]
            for resource in message.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


@pytest.fixture
def over_http() -> Iterator[Collector]:
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = KINDS[self.path][0].FromString(self.rfile.read(int(self.headers["content-length"])))
            body = collector.take(self.path, message, self.headers.items()).SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield collector
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def over_grpc() -> Iterator[Collector]:
    collector = Collector()

    class Service:
        def __init__(self, path: str) -> None:
            self.path = path

        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's name
            return collector.take(self.path, request, context.invocation_metadata())

    server = grpc.server(futures.ThreadPoolExecutor(3))
    trace_grpc.add_TraceServiceServicer_to_server(Service("/v1/traces"), server)
    metrics_grpc.add_MetricsServiceServicer_to_server(Service("/v1/metrics"), server)
    logs_grpc.add_LogsServiceServicer_to_server(Service("/v1/logs"), server)
    collector.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    server.stop(None).wait()


@pytest.fixture(params=["http/protobuf", "grpc"])
def collector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Collector:
    made: Collector = request.getfixturevalue("over_http" if request.param == "http/protobuf" else "over_grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
    return made


def told(otlp: Otlp, check: Callable[[Guard], object] = lambda guard: guard.check(f"my {SECRET}")) -> None:
    policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": "block"}]}
    providers = {"tracer_provider": otlp.tracers, "meter_provider": otlp.meters, "logger_provider": otlp.loggers}
    with Guard(policy, detectors=[Words("words", SECRET)], **providers) as guard:
        check(guard)
    assert otlp.force_flush()
    otlp.shutdown()


def test_traces_metrics_and_events_arrive(collector: Collector) -> None:
    told(Otlp(endpoint=collector.url + "/", headers={"X-Key": "k"}, service="shop", everywhere=False))
    assert collector.spans == ["llmguard.guard input"]
    assert "llmguard.guard.duration" in collector.metrics
    assert collector.events == ["llmguard.finding"]
    assert all(headers["x-key"] == "k" for headers in collector.headers)
    said = str(collector.got)
    assert 'string_value: "shop"' in said
    assert SECRET not in said


def test_the_environment_alone(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-env")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    told(Otlp(everywhere=False))
    assert collector.spans == ["llmguard.guard input"]
    assert collector.metrics == set()
    assert "from-env" in str(collector.got)


def test_a_share_keeps_what_was_blocked(over_http: Collector) -> None:
    otlp = Otlp(endpoint=over_http.url, share=0.0, everywhere=False)
    told(otlp, lambda guard: [guard.check(text) for text in ("good", SECRET, "good")])
    assert over_http.spans == ["llmguard.guard input"]


def test_content_of_others_is_cleared(over_http: Collector) -> None:
    otlp = Otlp(endpoint=over_http.url, clear=lambda text: text.replace(SECRET, "-"), everywhere=False)
    otlp.tracers.get_tracer("app").start_span("chat", attributes={"gen_ai.prompt": f"my {SECRET}"}).end()
    assert otlp.force_flush()
    otlp.shutdown()
    assert "my -" in str(over_http.got)
    assert SECRET not in str(over_http.got)


def test_for_the_whole_process(over_http: Collector) -> None:
    script = f"""
from llmguard import ConfigurationError, Guard
from llmguard.exporters.otlp_providers import Otlp
Otlp(endpoint={over_http.url!r})
try:
    Otlp(endpoint={over_http.url!r})
except ConfigurationError as error:
    print(error)
Guard({{"name": "p", "version": "1", "rules": []}}).check("x")
"""
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=120)
    assert ran.stdout.startswith("this process has a TracerProvider already")
    assert over_http.spans == ["llmguard.guard input"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"endpoint": "collector:4317"}, "endpoint must be a URL"),
        ({"endpoint": 4317}, "endpoint must be a URL"),
        ({"headers": ["x-key=k"]}, "headers must be a mapping"),
        ({"protocol": "http/json"}, "protocol: 'http/json' is no protocol"),
        ({"share": 2}, "share"),
    ],
)
def test_options_that_are_none(options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Otlp(everywhere=False, **options)


def test_a_variable_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "carrier-pigeon")
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: 'carrier-pigeon'"):
        Otlp(endpoint="http://127.0.0.1:9", everywhere=False)
    assert not [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("Otel")]


def test_providers_that_are_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    meters = MeterProvider(shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: meters)
    with pytest.raises(ConfigurationError, match="MeterProvider already"):
        Otlp(endpoint="http://127.0.0.1:9")
    meters.shutdown()
