"""``llmguard serve`` as a process of its own, on real sockets."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_calls import Model, served
from opentelemetry.sdk.metrics import MeterProvider
from otlp_collector import collecting
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from typer.testing import CliRunner

from llmguard import Guard
from llmguard.cli import serve_telemetry
from llmguard.cli.main import app
from llmguard.errors import ConfigurationError, MissingExtraError

START = [sys.executable, "-c", "from llmguard.cli import run; run()", "serve"]
OPTIONS = ["--port", "0", "--dialect", "openai.chat", "--access-log"]
PATH = "/v1/chat/completions"
POLICY = """
name: served
rules:
  - {detector: keywords, stage: [input, output], action: redact}
detectors:
  keywords: {deny: [heron]}
"""
ASKED = {"model": "m", "messages": [{"role": "user", "content": "project heron"}]}
ANSWER = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}}],
}
PAGE = b"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total 5\n"


def test_it_guards_until_it_is_told_to_stop(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    model = Model(json.dumps(ANSWER).encode())
    with (
        served(model, lifespan="off") as (upstream, _),
        _serving("--upstream", upstream, "--policy", str(policy), *OPTIONS) as (client, said_to_its_end),
    ):
        assert client.get("/healthz").text == "ok\n"
        got = client.post(PATH, json=ASKED, params={"key": "k-7731"})
        assert got.status_code == 200
        assert re.fullmatch("[0-9a-f]{32}", got.headers["x-request-id"])
        assert client.post("/v1/messages", json=ASKED).status_code == 404
        figures = client.get("/metrics")
        assert figures.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "llmguard_decisions" in {family.name for family in plain(figures.text)}
        said = said_to_its_end()
    assert "guarding http://127.0.0.1" in said
    assert "heron" not in said
    assert b"heron" not in b"".join(model.asked)
    assert f"POST {PATH} " in said
    assert "k-7731" not in said


async def _vllm(scope: Any, receive: Any, send: Any) -> None:
    """Answers a call, and at /metrics as vLLM does."""
    model = Model(PAGE if scope["path"] == "/metrics" else json.dumps(ANSWER).encode())
    await model(scope, receive, send)


def test_what_the_environment_wants_sent_is_sent_before_it_stops(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with served(_vllm, lifespan="off") as (upstream, _), collecting() as collector:
        # Nothing is sent before its time: what arrives is what the end has sent.
        delays = ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BLRP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL"]
        late = dict.fromkeys(delays, "1000000000")
        options = ["--upstream", upstream, "--policy", str(policy), "--trace-share", "1", *OPTIONS]
        with _serving(*options, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **late) as (client, said_to_its_end):
            assert client.post(PATH, json=ASKED).status_code == 200
            accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
            got = client.get("/metrics", headers={"accept": accept})
            assert collector.spans == []
            said_to_its_end()
    assert got.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(got.text)}
    assert "llmguard_decisions" in families
    assert families["vllm:prompt_tokens"].samples[0].value == 5
    samples = [sample for family in families.values() for sample in family.samples]
    shown = {sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar}
    assert shown
    assert shown <= collector.traces
    assert "llmguard.guard input" in collector.spans
    assert {"llmguard.decisions", "llmguard.guard.duration"} <= collector.metrics
    assert "llmguard.finding" in collector.events
    assert "heron" not in str(collector.got)


FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (%d, %d)); from llmguard.cli import run; run()"


def test_it_takes_as_many_connections_as_it_may(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    start = [sys.executable, "-c", FEW_FILES % (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]), "serve"]
    options = ["--upstream", "http://127.0.0.1:9", "--policy", str(policy), *OPTIONS]
    with _started([*start, *options]) as (client, said_to_its_end), ExitStack() as open_ones:
        where = client.base_url.host, client.base_url.port
        kept = [open_ones.enter_context(socket.create_connection(where, 60)) for _ in range(200)]
        for one in kept:
            one.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        for one in kept:
            assert one.recv(12) == b"HTTP/1.1 200"
        open_ones.close()
        assert "open files" not in said_to_its_end()


def test_it_says_where_connections_will_lack_files(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    options = ["--upstream", "http://127.0.0.1:9", "--policy", str(policy), *OPTIONS]
    start = [sys.executable, "-c", FEW_FILES % (128, 256), "serve"]
    with _started([*start, *options]) as (client, said_to_its_end):
        assert client.get("/healthz").status_code == 200
        assert "256 open files" in said_to_its_end()


Serving = tuple[httpx.Client, Callable[[], str]]


def _serving(*options: str, **variables: str) -> AbstractContextManager[Serving]:
    return _started([*START, *options], **variables)


@contextmanager
def _started(command: list[str], **variables: str) -> Iterator[Serving]:
    """A client of the command's process, and what stops it and returns all that it has said."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
    )
    try:
        url, begun = _running(process)

        def said_to_its_end() -> str:
            client.close()
            process.send_signal(signal.SIGTERM)
            said = begun + process.communicate(timeout=60)[0]
            assert process.returncode in (0, -signal.SIGTERM)
            return said

        with httpx.Client(base_url=url, timeout=60) as client:
            yield client, said_to_its_end
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _running(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """The URL that it says it runs at, and all that it said up to there."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if running := re.search(r"running on (http://[\d.]+:\d+)", line):
            return running[1], said
    raise AssertionError(said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--upstream", "localhost:8000"], "an upstream's URL looks like http://host:8000"),
        (["--upstream", "http://x", "--policy", "nonesuch"], "nonesuch"),
        (["--upstream", "http://x", "--dialect", "openai.chats"], "openai.chat"),
        (["--upstream", "http://x", "--timeout", "0"], "total must be more than nothing"),
        (["--upstream", "http://x", "--health-path", "health"], "begins with a slash"),
        (["--upstream", "http://x", "--trace-share", "2"], "--trace-share"),
        ([], "--upstream"),
    ],
)
def test_wrong_options_end_with_one_line(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_without_the_packages_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(app, ["serve", "--upstream", "http://x"])
    assert done.exit_code == 2
    assert "llmguard[proxy]" in done.output


def _counted(telemetry: serve_telemetry.ServeTelemetry) -> str:
    """The figures behind a check."""
    assert telemetry.scrape is not None
    with Guard({"name": "p", "rules": []}, **telemetry.providers) as guard:
        guard.check("x")
    return telemetry.scrape("").body.decode()


def test_without_a_collector_there_are_figures_alone() -> None:
    telemetry = serve_telemetry.set_up(None)
    assert set(telemetry.providers) == {"meter_provider"}
    assert telemetry.end is None
    assert "llmguard_decisions_total" in _counted(telemetry)


def test_a_signal_with_a_collector_of_its_own_is_sent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
        telemetry = serve_telemetry.set_up(None)
        assert set(telemetry.providers) == {"meter_provider", "tracer_provider"}
        assert "llmguard_decisions_total" in _counted(telemetry)
        assert telemetry.end is not None
        telemetry.end()
    assert collector.spans == ["llmguard.guard input"]
    assert not collector.metrics


def test_opentelemetry_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    telemetry = serve_telemetry.set_up(None)
    assert set(telemetry.providers) == {"meter_provider"}
    assert _counted(telemetry) == ""


def test_providers_around_the_process_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    around = MeterProvider(shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: around)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    telemetry = serve_telemetry.set_up(None)
    assert telemetry.providers == {}
    assert "llmguard_decisions_total" in _counted(telemetry)
    monkeypatch.delattr(MeterProvider, "add_metric_reader")
    assert serve_telemetry.set_up(None) == ({}, None, None)
    around.shutdown()


def test_figures_need_the_sdk_and_a_collector_more_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    assert serve_telemetry.set_up(None) == ({}, None, None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingExtraError, match=r"llmguard\[otel\]"):
        serve_telemetry.set_up(None)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"):
        serve_telemetry.set_up(None)
