"""That one call sends traces, metrics and events to a collector, over HTTP and gRPC, and never a text."""

from __future__ import annotations

import socket
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
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otlp_collector import Collector, collecting

from llmguard.exporters.otlp_providers import Otlp, configured

SECRET = "canary-4711"


@pytest.fixture
def over_http() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


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
        ({"signals": "traces"}, "signals must be some of traces, metrics, logs"),
        ({"signals": ["trace"]}, "signals must be some of traces, metrics, logs"),
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


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "collector:4318", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT must be a URL"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", r"OTEL_EXPORTER_OTLP_\* for logs"),
    ],
)
def test_so_is_one_of_the_exporters(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc" if "TIMEOUT" in variable else "http/protobuf")
    with pytest.raises(ConfigurationError, match=named):
        Otlp(signals=["logs"], everywhere=False)


def test_signals_and_further_readers(over_http: Collector) -> None:
    reader = InMemoryMetricReader()
    otlp = Otlp(endpoint=over_http.url, signals=["traces"], readers=[reader], everywhere=False)
    read: list[str] = []
    told(otlp, lambda guard: (guard.check(f"my {SECRET}"), read.append(str(reader.get_metrics_data()))))
    assert "llmguard.guard.duration" in read[0]
    assert over_http.spans == ["llmguard.guard input"]
    assert not over_http.metrics
    assert not over_http.events


ALL = {"traces", "metrics", "logs"}
ENDPOINT, COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"


@pytest.mark.parametrize(
    ("variables", "signals"),
    [
        ({}, set()),
        ({ENDPOINT: " "}, set()),
        ({ENDPOINT: COLLECTOR}, ALL),
        ({ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "TRUE"}, set()),
        ({ENDPOINT: COLLECTOR, "OTEL_SDK_DISABLED": "no"}, ALL),
        ({ENDPOINT: COLLECTOR, "OTEL_LOGS_EXPORTER": "None"}, {"traces", "metrics"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": COLLECTOR}, {"traces"}),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, set()),
    ],
)
def test_signals_for_which_the_environment_names_a_collector(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], signals: set[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert configured() == signals


def test_the_end_does_not_wait_for_a_collector_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        otlp = Otlp(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", everywhere=False)
        otlp.tracers.get_tracer("app").start_span("chat").end()
        otlp.shutdown(0.0)
        ending = [thread for thread in threading.enumerate() if thread.name == "llmguard-otlp-end"]
        assert ending, "it waits on, and nobody waits for it"
    for thread in ending:
        thread.join(60)


def test_providers_that_are_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    meters = MeterProvider(shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: meters)
    with pytest.raises(ConfigurationError, match="MeterProvider already"):
        Otlp(endpoint="http://127.0.0.1:9")
    meters.shutdown()
