from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN
from opentelemetry.util.genai.completion_hook import CompletionHook as Protocol
from opentelemetry.util.genai.handler import TelemetryHandler
from opentelemetry.util.genai.types import InputMessage, OutputMessage, TextPart, ToolCallRequestPart

from llmguard.integrations.completion_hook import CompletionHook, completion_hook
from llmguard.types import Action, Decision, DetectorRun, Outcome, PolicyRef, Stage

SECRET = "ada@example.com"
MASKED = "<masked>"


class Guarding:
    """A guard that redacts one address, or does as it is told."""

    def __init__(self, decide: Callable[[str], Decision] | None = None) -> None:
        self.stages: list[Stage] = []
        self._decide = decide

    def check(self, text: str, /, *, stage: Stage) -> Decision:
        self.stages.append(stage)
        if self._decide is not None and SECRET in text:
            return self._decide(text)
        cleared = text.replace(SECRET, "<EMAIL>")
        return decided(Action.ALLOW if cleared == text else Action.REDACT, cleared)


def decided(action: Action, text: str, **more: Any) -> Decision:
    return Decision(action, (text,), (), Stage.INPUT, PolicyRef("p", "1", ""), coverage=(1.0,), **more)


def raising(text: str) -> Decision:
    raise RuntimeError(text)


class Instrumented:
    """An instrumentation that is built on opentelemetry-util-genai, with the hook in it."""

    def __init__(self, hook: CompletionHook) -> None:
        self.spans, self.logs = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        checked: Any = hook
        self.handler = TelemetryHandler(
            tracer_provider=self.tracers,
            meter_provider=MeterProvider(shutdown_on_exit=False),
            logger_provider=self.loggers,
            completion_hook=checked,
        )

    def call(self, error: BaseException | None = None) -> tuple[dict[str, Any], dict[str, Any], str]:
        """The attributes of span and log record after one call, and all that left as text."""
        call = self.handler.inference("openai", request_model="gpt-6")
        call.input_messages = [InputMessage("user", [TextPart(f"mail {SECRET}")])]
        call.output_messages = [
            OutputMessage("assistant", [TextPart(SECRET), ToolCallRequestPart({"to": SECRET}, "mail", "1")], "stop")
        ]
        call.system_instruction = [TextPart(f"You serve {SECRET}")]
        if error is None:
            call.stop()
        else:
            call.fail(error)
        (span,) = self.spans.get_finished_spans()
        logs = [dict(data.log_record.attributes or {}) for data in self.logs.get_finished_logs()]
        return dict(span.attributes or {}), logs[0] if logs else {}, span.to_json() + str(logs)


@pytest.fixture(autouse=True)
def _capturing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_AND_EVENT")
    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT", raising=False)


def test_it_is_a_completion_hook() -> None:
    assert isinstance(CompletionHook(Guarding()), Protocol)
    assert isinstance(completion_hook(), Protocol)


def test_messages_are_cleared_on_the_span_and_on_the_record() -> None:
    guard = Guarding()
    span, record, told = Instrumented(CompletionHook(guard)).call()
    assert SECRET not in told
    (message,) = json.loads(span["gen_ai.input.messages"])
    assert message["parts"] == [{"content": "mail <EMAIL>", "type": "text"}]
    (answer,) = json.loads(span["gen_ai.output.messages"])
    assert [part.get("content") or part["arguments"] for part in answer["parts"]] == ["<EMAIL>", {"to": "<EMAIL>"}]
    assert record["gen_ai.input.messages"][0]["parts"][0]["content"] == "mail <EMAIL>"
    assert span["gen_ai.request.model"] == record["gen_ai.request.model"] == "gpt-6"
    assert {Stage.INPUT, Stage.OUTPUT} == set(guard.stages)


@pytest.mark.parametrize(
    "decide",
    [
        raising,
        lambda text: decided(Action.BLOCK, ""),
        lambda text: decided(Action.BLOCK, text, enforced=False),
        lambda text: decided(Action.REDACT, text, enforced=False),
        lambda text: decided(Action.ALLOW, text, runs=(DetectorRun("pii", "1", Outcome.TIMEOUT),)),
    ],
    ids=["raises", "blocks", "shadow block", "shadow redact", "unknown"],
)
def test_it_fails_closed(decide: Callable[[str], Decision]) -> None:
    span, _, told = Instrumented(CompletionHook(Guarding(decide))).call()
    assert SECRET not in told
    assert MASKED in span["gen_ai.input.messages"]


def test_it_adds_no_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "NO_CONTENT")
    span, record, _ = Instrumented(CompletionHook(Guarding())).call()
    assert not [key for key in (*span, *record) if "messages" in key or "instructions" in key]


def test_an_exceptions_message_is_cleared() -> None:
    span, _, told = Instrumented(CompletionHook(Guarding())).call(ValueError(f"refused: {SECRET}"))
    assert span["error.type"] == "ValueError"
    assert "refused: <EMAIL>" in told
    assert SECRET not in told


def test_a_record_is_cleared_in_its_body_and_loses_its_exception() -> None:
    record = LogRecord(body={"q": SECRET}, attributes={"input.value": SECRET, "n": 1}, exception=ValueError(SECRET))
    CompletionHook(Guarding()).on_completion(inputs=[], outputs=[], system_instruction=[], log_record=record)
    assert record.body == {"q": "<EMAIL>"}
    assert record.attributes == {"input.value": "<EMAIL>", "n": 1, "exception.type": "builtins.ValueError"}
    assert record.exception is None


def test_a_record_without_content_stays() -> None:
    record = LogRecord(attributes={"n": 1})
    CompletionHook(Guarding()).on_completion(
        inputs=[], outputs=[], system_instruction=[], span=INVALID_SPAN, log_record=record
    )
    assert record.attributes == {"n": 1}
    assert record.body is None


class Unreadable:
    """A recording span of another SDK, which does not show its attributes."""

    def __init__(self) -> None:
        self.set: dict[str, Any] = {}

    def is_recording(self) -> bool:
        return True

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        self.set |= attributes


def test_a_span_that_cannot_be_read_is_masked() -> None:
    span: Any = Unreadable()
    CompletionHook(Guarding()).on_completion(inputs=[], outputs=[], system_instruction=[], span=span)
    assert {span.set["gen_ai.input.messages"], span.set["gen_ai.output.messages"]} == {MASKED}


def test_tool_results_are_looked_at_as_such() -> None:
    guard = Guarding()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    span = tracer.start_span("execute_tool", attributes={"gen_ai.tool.call.result": SECRET})
    CompletionHook(guard).on_completion(inputs=[], outputs=[], system_instruction=[], span=span)
    assert guard.stages == [Stage.TOOL_RESULT]
    span.end()


def test_the_hook_makes_its_own_guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "name: hook\nversion: '1'\nrules:\n"
        "  - {detector: keywords, stage: [input, output], action: redact, redaction: remove}\n"
        f"detectors:\n  keywords: {{deny: ['{SECRET}']}}\n"
    )
    monkeypatch.setenv("LLMGUARD_COMPLETION_HOOK_POLICY", str(policy))
    _, _, told = Instrumented(completion_hook()).call()
    assert SECRET not in told
