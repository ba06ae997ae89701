from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from llmguard.errors import MissingExtraError
from llmguard.exporters.otlp import MASKED, MaskingSpanExporter, clear_value

SECRET = "ada@example.com"


def clear(text: str) -> str:
    return text.replace(SECRET, "<EMAIL>")


def broken(text: str) -> str:
    raise ValueError(text)


def exported(attributes: dict[str, Any], clear: Any = clear, **more: Any) -> tuple[ReadableSpan, ReadableSpan]:
    """A span as one exporter gets it masked and another, of the same provider, as it was."""
    masked, plain = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(MaskingSpanExporter(masked, clear, **more)))  # type: ignore[arg-type]
    provider.add_span_processor(SimpleSpanProcessor(plain))
    span = provider.get_tracer("app").start_span("chat", attributes=attributes)
    span.add_event("gen_ai.choice", {"content": SECRET, "index": 1})
    span.record_exception(ValueError(SECRET))
    span.set_status(Status(StatusCode.ERROR, f"no such user: {SECRET}"))
    span.end()
    (cleared,), (original,) = masked.get_finished_spans(), plain.get_finished_spans()
    return cleared, original


CONTENT = {
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": SECRET}]}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": SECRET}]}]),
    "gen_ai.system_instructions": SECRET,
    "gen_ai.tool.call.arguments": json.dumps({"to": SECRET, SECRET: 1}),
    "gen_ai.tool.call.result": [SECRET, "ok"],
    "gen_ai.prompt.0.content": SECRET,
    "gen_ai.completion.0.content": SECRET,
    "traceloop.entity.input": json.dumps({"inputs": {"q": SECRET}}),
    "traceloop.entity.output": SECRET,
    "input.value": f"hello {SECRET}",
    "output.value": SECRET,
    "llm.input_messages.0.message.content": SECRET,
    "llm.output_messages.1.message.content": SECRET,
}


def test_known_content_is_cleared_everywhere_and_the_shared_span_is_not_touched() -> None:
    cleared, original = exported(CONTENT | {"gen_ai.request.model": "gpt-6", "user.id": SECRET})
    assert SECRET in original.to_json()
    kept = dict(cleared.attributes or {})
    assert kept.pop("user.id") == SECRET  # not a content attribute: not ours to change
    assert kept["gen_ai.request.model"] == "gpt-6"
    assert kept["input.value"] == "hello <EMAIL>"
    assert kept["gen_ai.tool.call.result"] == ("<EMAIL>", "ok")
    assert SECRET not in str(kept)
    assert SECRET not in str([dict(event.attributes or {}) for event in cleared.events])
    assert cleared.status.description == "no such user: <EMAIL>"
    assert cleared.events[0].attributes == {"content": "<EMAIL>", "index": 1}


def test_all_else_of_the_span_stays() -> None:
    masked, plain = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_attributes=2, max_events=1, max_links=1, max_event_attributes=1),
    )
    provider.add_span_processor(SimpleSpanProcessor(MaskingSpanExporter(masked, clear)))  # type: ignore[arg-type]
    provider.add_span_processor(SimpleSpanProcessor(plain))
    tracer = provider.get_tracer("app", "2", "https://example.com/schema")
    links = [Link(SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1)), {"input.value": SECRET})] * 2
    span = tracer.start_span("chat", kind=SpanKind.CLIENT, links=links, attributes={"a": 1, "b": 2, "c": 3})
    span.add_event("one", {"a": 1, "b": 2})
    span.add_event("two", {"a": 1, "b": 2})
    span.end()
    (cleared,), (original,) = masked.get_finished_spans(), plain.get_finished_spans()
    assert cleared.to_json() == original.to_json().replace(SECRET, "<EMAIL>")
    for counter in ("dropped_attributes", "dropped_events", "dropped_links"):
        assert getattr(cleared, counter) == getattr(original, counter) == 1
    assert cleared.events[0].dropped_attributes == 1
    assert cleared.instrumentation_scope == original.instrumentation_scope


def test_it_fails_closed() -> None:
    cleared, _ = exported(CONTENT, clear=broken)
    assert {cleared.attributes[key] for key in CONTENT if cleared.attributes} == {MASKED}
    assert cleared.status.description == MASKED
    assert SECRET not in cleared.to_json()


def test_own_keys_replace_the_known_ones() -> None:
    cleared, _ = exported({"input.value": SECRET, "app.note.7": SECRET}, keys=["app.note.*"])
    assert cleared.attributes == {"input.value": SECRET, "app.note.7": "<EMAIL>"}


class Recording:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.calls.append(f"export {len(spans)}")
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.calls.append(f"flush {timeout_millis}")
        return False


def test_the_wrapped_exporter_answers() -> None:
    inner: Any = Recording()
    exporter = MaskingSpanExporter(inner, clear)
    assert exporter.export([ReadableSpan("a"), ReadableSpan("b")]) is SpanExportResult.FAILURE
    assert exporter.force_flush(5) is False
    exporter.shutdown()
    assert inner.calls == ["export 2", "flush 5", "shutdown"]


def test_a_missing_sdk_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    inner: Any = Recording()
    with pytest.raises(MissingExtraError, match=r"llmguard\[otel\]"):
        MaskingSpanExporter(inner, clear)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        ("[INST] ada@example.com", "[INST] <EMAIL>"),
        ('{"a": "ada@example.com"', '{"a": "<EMAIL>"'),
        ('{"a": "ada\\u0040example.com"', MASKED),
        ('{"a": "ada\\u0040example.com"}', '{"a":"<EMAIL>"}'),
        ('{"a": "ada@example.com", "a": "x"}', '{"a":"x"}'),
        ('{"arguments": "{\\"to\\": \\"ada\\\\u0040example.com\\"}"}', '{"arguments":"{\\"to\\":\\"<EMAIL>\\"}"}'),
        ({"ada@example.com": ["ada@example.com", True, None]}, {"<EMAIL>": ["<EMAIL>", True, None]}),
        (b"ada@example.com", MASKED),
        ("[" * 100 + "]" * 100, "[" * 64 + f'"{MASKED}"' + "]" * 64),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    assert clear_value(value, clear) == expected


def test_numbers_are_looked_at() -> None:
    cleared = clear_value({"card": 4111111111111111, "n": 3}, lambda text: text.replace("4111111111111111", "<CARD>"))
    assert cleared == {"card": "<CARD>", "n": 3}


_leaves = st.none() | st.booleans() | st.integers() | st.text() | st.just(SECRET)
_values = st.recursive(_leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just(SECRET), inner))


@given(_values, st.booleans())
def test_no_structure_hides_content(value: Any, encoded: bool) -> None:
    assert SECRET not in str(clear_value(json.dumps(value) if encoded else value, clear))


@given(_values)
def test_a_clear_that_raises_lets_no_text_through(value: Any) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        if isinstance(value, dict):
            return [text for item in value.items() for part in item for text in texts(part)]
        return [text for item in value for text in texts(item)] if isinstance(value, list) else []

    if any(texts(value)):
        assert clear_value(value, broken) == MASKED
