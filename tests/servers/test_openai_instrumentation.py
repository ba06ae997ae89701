"""OpenTelemetry's own instrumentation of openai beside ours: each call is told once, without what is secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_server import Server, model_server
from telemetry_sdk import Sdk

from llmguard import Blocked, Guard
from llmguard.telemetry import TelemetrySettings

pytest.importorskip("opentelemetry.instrumentation.genai.openai")
openai = pytest.importorskip("openai")

SECRET = "ada@example.com"
ASKED = [{"role": "user", "content": f"Write to {SECRET}"}]
THEIRS = "opentelemetry.instrumentation.genai.openai"


def policy(action: str) -> dict[str, Any]:
    rules = [{"detector": "keywords", "stage": ["input", "output"], "action": action}]
    return {"name": "p", "rules": rules, "detectors": {"keywords": {"deny": [SECRET]}}}


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    own = Sdk()
    yield own
    own.close()


@pytest.fixture
def instrumented(sdk: Sdk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Their instrumentation, told to capture all content and to hand it to our hook first."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_AND_EVENT")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK", "llmguard")
    (tmp_path / "policy.yaml").write_text(json.dumps(policy("redact")))
    monkeypatch.setenv("LLMGUARD_COMPLETION_HOOK_POLICY", str(tmp_path / "policy.yaml"))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=sdk.tracers, meter_provider=sdk.meters, logger_provider=sdk.loggers)
    yield instrumentor
    instrumentor.uninstrument()


def scopes(sdk: Sdk) -> list[str]:
    """Who told of the call of the model itself, in order."""
    known = [(span.instrumentation_scope, span.attributes or {}) for span in sdk.spans]
    return [scope.name for scope, said in known if scope is not None and "gen_ai.operation.name" in said]


def guard_of(sdk: Sdk, **settings: Any) -> Guard:
    providers: Any = {"tracer_provider": sdk.tracers, "meter_provider": sdk.meters, "logger_provider": sdk.loggers}
    return Guard(policy("redact"), telemetry=TelemetrySettings(content="NO_CONTENT", **settings), **providers)


def client_of(server: Server) -> Any:
    return openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=0)


def test_a_call_is_told_once_and_by_us_when_nobody_else_does(sdk: Sdk, instrumented: Any) -> None:
    with model_server() as server, guard_of(sdk) as guard, client_of(server) as bare:
        client = guard.wrap(bare)
        said = client.chat.completions.create(model="m", messages=ASKED)
        assert said.choices[0].message.content == f"You said Write to {SECRET}"
        assert scopes(sdk) == [THEIRS]
        assert [span.name for span in sdk.spans].count("llmguard.guard input") == 1
        instrumented.uninstrument()
        client.chat.completions.create(model="m", messages=ASKED)
        assert scopes(sdk) == [THEIRS, "llmguard"]
    assert all(SECRET not in str(body) for _, body in server.seen)


def test_streams_responses_and_embeddings_are_told_once(sdk: Sdk, instrumented: Any) -> None:
    with model_server() as server, guard_of(sdk) as guard, client_of(server) as bare:
        client = guard.wrap(bare)
        with client.chat.completions.create(model="m", messages=ASKED, stream=True) as events:
            said = "".join([event.choices[0].delta.content or "" for event in events])
        assert said == f"You said Write to {SECRET}"
        assert SECRET in client.responses.create(model="m", input=f"Write to {SECRET}").output_text
        client.embeddings.create(model="m", input=SECRET)
        assert scopes(sdk) == [THEIRS] * 3
        assert SECRET not in sdk.all_told()


async def test_asynchronous_calls_are_told_once(sdk: Sdk, instrumented: Any) -> None:
    with model_server() as server, guard_of(sdk) as guard:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1") as bare:
            await guard.wrap(bare).chat.completions.create(model="m", messages=ASKED)
            made = await guard.wrap(bare).chat.completions.create(model="m", messages=ASKED, stream=True)
            assert [event async for event in made]
    assert scopes(sdk) == [THEIRS] * 2
    assert SECRET not in sdk.all_told()


def test_what_it_captures_is_cleared_by_our_hook(sdk: Sdk, instrumented: Any) -> None:
    with model_server() as server, client_of(server) as bare:  # it stands before the guard, so it sees everything
        bare.chat.completions.create(model="m", messages=ASKED)
    (span,) = sdk.spans
    said = dict(span.attributes or {})
    assert "Write to <" in str(said["gen_ai.input.messages"])
    assert "You said Write to <" in str(said["gen_ai.output.messages"])
    assert SECRET not in sdk.all_told()


def test_without_the_hook_it_would_have_told(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_AND_EVENT")
    OpenAIInstrumentor().instrument(tracer_provider=sdk.tracers, logger_provider=sdk.loggers)
    try:
        with model_server() as server, client_of(server) as bare:
            bare.chat.completions.create(model="m", messages=ASKED)
    finally:
        OpenAIInstrumentor().uninstrument()
    assert SECRET in sdk.all_told()


def test_a_call_that_is_blocked_is_told_too(sdk: Sdk, instrumented: Any) -> None:
    with (
        model_server() as server,
        client_of(server) as bare,
        Guard(policy("block"), tracer_provider=sdk.tracers) as guard,
    ):
        with pytest.raises(Blocked):
            guard.wrap(bare).chat.completions.create(model="m", messages=ASKED)
        assert not server.seen
    assert scopes(sdk) == [THEIRS]
    assert SECRET not in sdk.all_told()
