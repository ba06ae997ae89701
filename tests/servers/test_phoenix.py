"""Arize Phoenix as a receiver of OTLP: the spans of guarded calls arrive, and what is secret is nowhere in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_server import model_server

from llmguard import Blocked, Guard
from llmguard.telemetry import TelemetrySettings

pytestmark = pytest.mark.slow

SECRET = "heron-2718"  # unlike anything that a span would hold otherwise
POLICY: dict[str, Any] = {
    "name": "told",
    "rules": [{"detector": "keywords", "stage": ["input", "output"], "action": "redact"}],
    "detectors": {"keywords": {"deny": [SECRET]}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Phoenix keeps what it was told."""
    return tmp_path_factory.mktemp("phoenix")


@pytest.fixture(scope="module")
def url(python_of: Callable[[str], str], running: Any, free_port: Callable[[], int], folder: Path) -> Iterator[str]:
    port = free_port()
    own = {"PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_HOST": "127.0.0.1"}
    own |= {"PHOENIX_WORKING_DIR": str(folder), "PHOENIX_TELEMETRY_ENABLED": "false"}
    own |= {"PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false"}
    command = [str(Path(python_of("phoenix")).with_name("phoenix")), "serve"]
    with running(command, port, "/healthz", **own) as found:
        yield found


def received(url: str, sent: set[str]) -> list[dict[str, Any]]:
    """The spans of those ids, once it has them all: it answers before it has written them."""
    found: list[dict[str, Any]] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(1000):
            got = client.get("/v1/projects/default/spans", params={"limit": 1000})
            every = got.json()["data"] if got.status_code == 200 else []
            found = [span for span in every if span["context"]["span_id"] in sent]
            if len(found) == len(sent):
                break
    return found


@pytest.mark.parametrize("content", ["NO_CONTENT", "SPAN_AND_EVENT"])
def test_spans_arrive_and_say_nothing_secret(url: str, folder: Path, content: str) -> None:
    openai = pytest.importorskip("openai")
    otlp = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(otlp.OTLPSpanExporter(endpoint=f"{url}/v1/traces")))
    settings = TelemetrySettings(content=content, detect_spans=True, openinference=True)
    blocking = {**POLICY, "rules": [{**POLICY["rules"][0], "action": "block"}]}
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": f"The word is {SECRET}"}]}
    sent = InMemorySpanExporter()
    tracers.add_span_processor(SimpleSpanProcessor(sent))
    with (
        model_server() as server,
        openai.OpenAI(api_key=SECRET, base_url=f"{server.url}/v1", max_retries=0) as bare,
        Guard(POLICY, telemetry=settings, tracer_provider=tracers) as guard,
        Guard(blocking, telemetry=settings, tracer_provider=tracers) as strict,
        tracers.get_tracer("test").start_as_current_span("a request"),
    ):
        client = guard.wrap(bare)
        assert SECRET in client.chat.completions.create(**asked).choices[0].message.content
        with client.chat.completions.create(**asked, stream=True) as events:
            assert SECRET in "".join([event.choices[0].delta.content or "" for event in events])
        with pytest.raises(Blocked):
            strict.wrap(bare).chat.completions.create(**asked)
    tracers.shutdown()
    ids = [span.context.span_id for span in sent.get_finished_spans() if span.context is not None]
    spans = received(url, {f"{one:016x}" for one in ids})
    assert len(spans) == len(ids)
    names = {span["name"] for span in spans}
    assert names >= {"a request", "chat m", "llmguard.guard input", "llmguard.guard output", "llmguard.detect keywords"}
    assert len({span["context"]["trace_id"] for span in spans}) == 1
    kinds = {span["name"]: span["span_kind"] for span in spans}
    assert kinds["llmguard.guard input"] == "GUARDRAIL"
    assert any(span["attributes"].get("llmguard.action") == "block" for span in spans)
    assert ("<KEYWORD" in str(spans)) == (content != "NO_CONTENT")
    assert SECRET not in str(spans)
    assert not [path.name for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
