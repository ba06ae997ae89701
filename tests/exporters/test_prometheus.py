"""That parsers of Prometheus read what we write, under the names of OpenTelemetry's exporter, and of many workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import Broken, Words
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from llmguard import ConfigurationError, Guard
from llmguard.exporters.prometheus import Prometheus
from llmguard.exporters.prometheus_families import Exemplar, Family, Sample, as_json, from_json, total
from llmguard.exporters.prometheus_text import OPENMETRICS, TEXT, wants_openmetrics
from llmguard.exporters.prometheus_workers import Workers

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
NASTY = 'a\\b"c\nd\u2028\ud800'
SECRET = "canary-4711"


@pytest.fixture
def prometheus() -> Prometheus:
    return Prometheus()


@contextmanager
def measured(prometheus: Prometheus, *more: Any) -> Iterator[MeterProvider]:
    meters = prometheus.meter_provider(
        metric_readers=more, resource=Resource({"service.name": "demo"}), shutdown_on_exit=False
    )
    yield meters
    meters.shutdown()


def figures(text: bytes, parse: Any = plain) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels, without the labels of the scope."""
    return {
        (
            sample.name,
            frozenset((k, v) for k, v in sample.labels.items() if not k.startswith("otel_scope")),
        ): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


def guarded(meters: MeterProvider, **more: Any) -> Guard:
    policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": "redact"}]}
    return Guard(policy, **{"detectors": [Words("words", "bad")], "meter_provider": meters, **more})


def test_names_and_values_are_those_of_the_official_exporter(prometheus: Prometheus) -> None:
    registry = CollectorRegistry()
    with measured(prometheus, PrometheusMetricReader(registry=registry)) as meters:
        with guarded(meters) as guard:
            guard.check("bad")
            guard.check("good", stage="output")
        meter = meters.get_meter("app")
        meter.create_counter("app.bytes", "By", "x").add(3, {"a.b": "c", "flag": True})
        meter.create_up_down_counter("app.open", "1").add(-2)
        meter.create_histogram("app.wait_seconds", "s").record(0.3, {"route": "/"})
        meter.create_observable_gauge("app.gauge", [lambda _: [Observation(float("inf"))]], "%")
        ours, theirs = figures(prometheus.scrape().body), figures(generate_latest(registry))
    assert ours == theirs
    assert len(ours) > 60
    assert ours["llmguard_findings_total", frozenset(
        {"llmguard_detector_name": "words", "llmguard_category": "BAD", "llmguard_stage": "input",
         "llmguard_action": "redact"}.items())] == 1  # fmt: skip


def test_both_formats_say_the_same_and_their_parsers_take_it(prometheus: Prometheus) -> None:
    with measured(prometheus) as meters:
        meter = meters.get_meter("app")
        meter.create_counter("app.total", description='x\\y"z\nw').add(1, {"a": NASTY})
        meter.create_histogram("app.seconds", "s").record(7)
        meter.create_gauge("app.gauge").set(float("nan"), {"x": ""})
        text, other = prometheus.scrape(), prometheus.scrape(ACCEPT)
    assert (text.content_type, other.content_type) == (TEXT, OPENMETRICS)
    assert other.body.endswith(b"# EOF\n")
    ours, theirs = figures(text.body), figures(other.body, openmetrics)
    assert repr(sorted(map(repr, ours.items()))) == repr(sorted(map(repr, theirs.items())))
    assert ours["app_total", frozenset({("a", NASTY.replace("\ud800", "?"))})] == 1


def test_exemplars_lead_to_traces(prometheus: Prometheus) -> None:
    tracers = TracerProvider(shutdown_on_exit=False)
    with measured(prometheus) as meters:
        with (
            guarded(meters, tracer_provider=tracers) as guard,
            tracers.get_tracer("t").start_as_current_span("x") as span,
        ):
            guard.check("bad")
        trace = f"{span.get_span_context().trace_id:032x}"
        said, text = prometheus.scrape(ACCEPT).body.decode(), prometheus.scrape().body.decode()
    (family,) = [one for one in openmetrics(said) if one.name == "llmguard_guard_duration_seconds"]
    exemplars = [sample.exemplar for sample in family.samples if sample.exemplar]
    assert [exemplar.labels["trace_id"] for exemplar in exemplars] == [trace]
    assert all(
        sample.name.endswith("_bucket") and sample.exemplar.value <= float(sample.labels["le"])
        for sample in family.samples
        if sample.exemplar
    )
    assert trace not in text


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [(ACCEPT, True), ("", False), ("*/*", False), ("text/plain, application/OpenMetrics-Text", True)],
)
def test_what_is_asked_for(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


async def test_in_an_asgi_application(prometheus: Prometheus) -> None:
    with measured(prometheus) as meters:
        meters.get_meter("app").create_counter("app.calls").add(1)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(prometheus), base_url="http://x") as client:
            got = await client.get("/metrics", headers={"Accept": ACCEPT})
            assert (got.status_code, got.headers["content-type"]) == (200, OPENMETRICS)
            assert b"app_calls_total" in got.content
            assert (await client.get("/metrics")).headers["content-type"] == TEXT
            assert (await client.head("/metrics")).content == b""
            assert (await client.post("/metrics")).status_code == 405
    with pytest.raises(ConfigurationError, match="not websocket"):
        await prometheus({"type": "websocket"}, None, None)  # type: ignore[arg-type]


def test_on_a_port_of_its_own(prometheus: Prometheus) -> None:
    with measured(prometheus) as meters:
        meters.get_meter("app").create_counter("app.calls").add(1)
        port = prometheus.serve(0)
        with pytest.raises(ConfigurationError, match="already"):
            prometheus.serve(0)
        with pytest.raises(ConfigurationError, match="can't listen"):
            Prometheus().serve(port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            assert b"app_calls_total" in answer.read()
            assert answer.headers["content-type"] == TEXT
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/other", timeout=60)
        missing.value.close()
        prometheus.shutdown()
        prometheus.shutdown()
        assert prometheus.serve(0)
        prometheus.shutdown()


def test_a_directory_that_goes_is_a_failed_scrape(tmp_path: Path) -> None:
    prometheus = Prometheus(directory=tmp_path / "shared", interval_s=3600)
    port = prometheus.serve(0)
    shutil.rmtree(tmp_path / "shared")
    with pytest.raises(urllib.error.HTTPError, match="500") as failed:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60)
    assert str(tmp_path) not in failed.value.read().decode()
    failed.value.close()
    with pytest.raises(FileNotFoundError):
        prometheus.shutdown()
    prometheus.shutdown()
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60)


WORKER = """
import sys
from opentelemetry.metrics import Observation
from llmguard.exporters.prometheus import Prometheus
prometheus = Prometheus(directory=sys.argv[1], interval_s=3600)
meter = prometheus.meter_provider().get_meter("app")
meter.create_counter("app.calls").add(int(sys.argv[2]))
meter.create_histogram("app.seconds", "s").record(int(sys.argv[2]))
meter.create_up_down_counter("app.open").add(int(sys.argv[2]))
meter.create_observable_gauge("app.level", [lambda _: [Observation(int(sys.argv[2]))]])
if sys.argv[3] == "tell":
    prometheus.scrape()
print("ready", flush=True)
sys.stdin.read()
"""


def worker(directory: Path, number: int, how: str = "tell") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(directory), str(number), how]
    begun = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert begun.stdout is not None
    assert begun.stdout.readline() == "ready\n"
    return begun


def ended(process: subprocess.Popen[str], how: int = 0) -> None:
    if how:
        process.send_signal(how)
    process.communicate(timeout=60)


def test_one_worker_answers_for_all(tmp_path: Path) -> None:
    prometheus = Prometheus(directory=tmp_path, interval_s=3600)

    def seen() -> tuple[float, float, float | None, float | None]:
        said = {name: value for (name, _), value in figures(prometheus.scrape().body).items()}
        assert said["app_calls_total"] == said["app_seconds_sum"]
        return said["app_calls_total"], said["app_seconds_count"], said.get("app_open"), said.get("app_level")

    one, two = worker(tmp_path, 1), worker(tmp_path, 20)
    assert seen() == (21, 2, 21, 20)
    ended(two, signal.SIGKILL)
    assert seen() == (21, 2, 1, 1)  # what it counted stays; how it was does not
    ended(one)
    assert seen() == (21, 2, None, None)
    for number in (100, 1000):
        ended(worker(tmp_path, number, "no"))  # tells at its end
        assert seen()[0] == 21 + sum(n for n in (100, 1000) if n <= number)
    assert len(list(tmp_path.iterdir())) <= 4
    prometheus.shutdown()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_tells_of_itself(tmp_path: Path) -> None:
    script = """
import os, sys
from llmguard.exporters.prometheus import Prometheus
prometheus = Prometheus(directory=sys.argv[1], interval_s=3600)
counter = prometheus.meter_provider().get_meter("app").create_counter("app.calls")
if (child := os.fork()) == 0:
    counter.add(2)
    prometheus.shutdown()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
counter.add(5)
print(prometheus.scrape().body.decode())
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, timeout=120).stdout
    assert figures(said)["app_calls_total", frozenset()] == 7


def test_a_forked_child_lets_go_of_the_port() -> None:
    script = """
import os, signal, socket
from llmguard.exporters.prometheus import Prometheus
prometheus = Prometheus()
port = prometheus.serve(0)
go, gone = os.pipe(), os.pipe()
if (child := os.fork()) == 0:
    signal.alarm(60)
    os.read(go[0], 1)
    try:
        socket.create_connection(("127.0.0.1", port), 30)
    except ConnectionRefusedError:
        prometheus.shutdown()
        os._exit(0)
    os._exit(1)
prometheus.shutdown()
os.write(go[1], b"x")
print(os.waitpid(child, 0)[1])
"""
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, check=True, capture_output=True, timeout=120).stdout == b"0\n"


def test_a_forked_worker_that_can_not_begin_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(tmp_path)
    mine = {"x": Family("x", "counter", "", "", True, {(): Sample(1.0)})}
    workers.told(mine)
    parent = os.getpid()
    real = os.open

    def full(path: Any, *more: Any) -> int:
        if f"{parent + 1}." in str(path):
            raise OSError(28, "No space left on device")
        return real(path, *more)

    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                workers.told(mine)
    assert sorted(file.name.split(".")[0] for file in tmp_path.iterdir()) == [str(parent)] * 2 + ["all"]
    workers.told(mine)
    assert any(file.name.startswith(f"{parent + 1}.") for file in tmp_path.glob("*.json"))


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    prometheus = Prometheus(directory=tmp_path, interval_s=3600)
    for content in ("", "{", "[[1]]", "{}", '[["a","b","","",1,[]]]', "null"):
        (tmp_path / "ended.json").write_text(content)
        assert prometheus.scrape().body == b""
    prometheus.shutdown()


def test_sums() -> None:
    labels = (("a", "b"),)

    def made(value: float, at: float, **more: Any) -> dict[str, Family]:
        exemplar = Exemplar(1, value, at, "t", "s")
        sample = Sample(value, (1, 2), (0.5,), (exemplar,))
        return {"x": Family("x", "histogram", "h", "", True, {labels: sample._replace(**more)})}

    one = made(1.0, 2.0)
    added = total([one, made(2.0, 1.0)])
    assert added["x"].samples[labels] == Sample(3.0, (2, 4), (0.5,), (Exemplar(1, 1.0, 2.0, "t", "s"),))
    assert one == made(1.0, 2.0)
    assert total([one, made(2.0, 1.0, bounds=(0.7,))]) == one
    assert total([one, {"x": Family("x", "counter", "", "", True, {(): Sample(1.0)})}]) == one
    assert from_json(as_json(one)) == one


@pytest.mark.parametrize(
    "options",
    [{"interval_s": 0}, {"interval_s": "1"}, {"interval_s": float("nan")}, {"directory": ""}, {"directory": 1}],
)
def test_options_that_are_none(options: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Prometheus(**options)


@pytest.mark.parametrize("port", [-1, 65536, "x", True])
def test_ports_that_are_none(prometheus: Prometheus, port: Any) -> None:
    with pytest.raises(ConfigurationError, match="port"):
        prometheus.serve(port)


def test_a_directory_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="can't be written"):
        Prometheus(directory=tmp_path / "file")


def test_no_text_is_told(prometheus: Prometheus, tmp_path: Path) -> None:
    def fails(texts: Any) -> Any:
        raise KeyError(texts[0].content)

    shared = Prometheus(directory=tmp_path, interval_s=3600)
    with measured(prometheus, shared.reader) as meters:
        for detector in (Words("words", SECRET), Broken(fails, name="words")):
            with guarded(meters, detectors=[detector]) as guard:
                guard.check(f"my {SECRET}")
        told = prometheus.scrape().body + prometheus.scrape(ACCEPT).body + shared.scrape().body
        shared.shutdown()
    assert b'llmguard_detector_outcome="error"' in told
    assert SECRET.encode() not in told + b"".join(file.read_bytes() for file in tmp_path.iterdir())
