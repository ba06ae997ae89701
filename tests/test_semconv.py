from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from llmguard import semconv, signals
from llmguard.exporters.otlp import content_key
from llmguard.types import Stage

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_telemetry", DOCS / "generate_telemetry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_docs_are_those_of_the_code(generator: ModuleType) -> None:
    page = (DOCS / "telemetry.md").read_text(encoding="utf-8")
    assert generator.filled(page) == page, "run: python docs/generate_telemetry.py"


def test_the_docs_name_every_table_and_row(generator: ModuleType) -> None:
    page = (DOCS / "telemetry.md").read_text(encoding="utf-8")
    for name, table in generator.tables().items():
        assert f"<!-- {name} -->" in page
        assert len(table.splitlines()) > 2
    for row in (*signals.SPANS, *signals.EVENTS, *signals.METRICS):
        assert f"| `{row.name}` |" in page


def test_our_names_are_ours_and_lower_case() -> None:
    names = {
        value
        for key, value in vars(semconv).items()
        if key.isupper() and isinstance(value, str) and value.startswith(("llmguard.", "gen_ai."))
    }
    assert len(names) > 30
    for name in names:
        assert name == name.lower()
        assert " " not in name


@pytest.mark.parametrize("row", signals.METRICS, ids=lambda row: row.name)
def test_no_metric_has_an_id_a_score_or_text_as_a_label(row: signals.MetricRow) -> None:
    forbidden = {
        semconv.SCORE,
        semconv.CONVERSATION,
        semconv.CONTENT_HASH,
        semconv.INPUT_MESSAGES,
        semconv.OUTPUT_MESSAGES,
        semconv.FINDING_LENGTH,
        semconv.ERROR_TYPE,
        semconv.RESPONSE_ID,
    }
    if row is signals.CALL_DURATION:  # the conventions demand it there; its values are bounded
        forbidden.remove(semconv.ERROR_TYPE)
    assert not forbidden & set(row.attributes)
    assert list(row.buckets) == sorted(set(row.buckets))
    assert bool(row.buckets) is (row.kind == "histogram")


def test_the_buckets_are_the_agreed_ones() -> None:
    assert signals.GUARD_DURATION.buckets == (
        *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
        *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    )
    assert signals.DETECTOR_DURATION.buckets == signals.GUARD_DURATION.buckets
    assert signals.DETECTOR_SCORE.buckets == tuple(round(0.05 * n, 2) for n in range(1, 21))
    assert signals.CALL_DURATION.buckets == (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28),
        *(2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    )
    assert (signals.TOKEN_USAGE.buckets[0], signals.TOKEN_USAGE.buckets[-1]) == (1, 67108864)


def test_span_names_come_from_closed_sets() -> None:
    assert [semconv.guard_span(stage) for stage in Stage][:2] == ["llmguard.guard input", "llmguard.guard output"]
    assert semconv.detect_span("pii") == "llmguard.detect pii"
    assert semconv.operation_span("chat", "m-1") == "chat m-1"
    assert semconv.operation_span("chat", "") == "chat"


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("gen_ai.input.messages", True),
        ("gen_ai.prompt.0.content", True),
        ("gen_ai.completion.12.tool_calls.0.arguments", True),
        ("llm.input_messages.0.message.content", True),
        ("llm.output_messages.3.message.tool_calls.0.tool_call.function.arguments", True),
        ("traceloop.entity.input", True),
        ("input.value", True),
        ("exception.message", True),
        ("gen_ai.prompt.0.role", False),
        ("gen_ai.request.model", False),
        ("llmguard.action", False),
        ("input.mime_type", False),
    ],
)
def test_known_content_attributes(name: str, holds: bool) -> None:
    assert content_key(semconv.CONTENT_KEYS)(name) is holds
