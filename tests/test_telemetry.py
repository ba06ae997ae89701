from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from telemetry_sdk import Sdk

from llmguard import events, instruments, semconv, signals
from llmguard.content import Capture, capture, content_hash
from llmguard.errors import ConfigurationError
from llmguard.telemetry import Prompt, Telemetry, TelemetrySettings
from llmguard.types import Action, Decision, DetectorRun, Finding, Outcome, PolicyRef, Role, Stage

POLICY = PolicyRef("support-bot", "7", "abc")
SECRET = "canary-4111-1111"
CLEAN = "cleared <CREDIT_CARD_1>"


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sdk]:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "LLMGUARD_")):
            monkeypatch.delenv(name)
    with contextlib.closing(Sdk()) as made:
        yield made


def run(name: str = "pii", outcome: Outcome = Outcome.PASS, **more: Any) -> DetectorRun:
    return DetectorRun(name, "1.2", outcome, **more)


def decision(action: Action = Action.ALLOW, **more: Any) -> Decision:
    base = Decision(
        action,
        ("hello",),
        (),
        Stage.INPUT,
        POLICY,
        coverage=(1.0,),
        runs=(run(seconds=0.00002), run("secrets", seconds=0.002)),
        seconds=0.004,
    )
    return replace(base, **more)


def finding(action: Action = Action.REDACT, **more: Any) -> Finding:
    values: dict[str, Any] = {"category": "CREDIT_CARD", "score": 0.9, "span": (3, 19), "detector": "pii"} | more
    return Finding(**values, action=action, reasons=(SECRET,))


def tell(telemetry: Telemetry, decided: Decision, **more: Any) -> None:
    span = telemetry.begin(decided.stage, decided.policy)
    telemetry.end(span, decided, **({"thresholds": {"pii": 0.5}} | more))


# The span.


def test_a_clean_check_is_one_internal_span(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision())
    span = sdk.span
    assert (span.name, span.kind, span.status.status_code) == (
        "llmguard.guard input",
        trace.SpanKind.INTERNAL,
        trace.StatusCode.UNSET,
    )
    assert dict(span.attributes or {}) == {
        "llmguard.stage": "input",
        "llmguard.policy.id": "support-bot",
        "llmguard.policy.version": "7",
        "llmguard.streaming": False,
        "llmguard.action": "allow",
        "llmguard.action.enforced": True,
        "llmguard.content.modified": False,
        "llmguard.coverage": 1.0,
        "llmguard.detectors.run": 2,
    }
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url) == ("llmguard", "https://opentelemetry.io/schemas/1.41.0")


def test_what_samplers_read_is_there_at_the_start(sdk: Sdk) -> None:
    span = sdk.telemetry().begin(Stage.OUTPUT, POLICY, streaming=True, conversation="c-42")
    assert isinstance(span, ReadableSpan)
    assert dict(span.attributes or {}) == {
        "llmguard.stage": "output",
        "llmguard.policy.id": "support-bot",
        "llmguard.policy.version": "7",
        "llmguard.streaming": True,
        "gen_ai.conversation.id": "c-42",
    }
    span.end()


def test_the_span_is_a_child_of_the_current_one_and_never_current(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    with sdk.tracers.get_tracer("app").start_as_current_span("request") as request:
        span = telemetry.begin(Stage.INPUT, POLICY)
        assert trace.get_current_span() is request
        telemetry.end(span, decision(), thresholds={})
    guard = sdk.spans[0]
    assert guard.parent is not None
    assert guard.parent.span_id == request.get_span_context().span_id


def test_the_weakest_coverage_model_and_prompt_are_on_the_span(sdk: Sdk) -> None:
    decided = decision(texts=("a", "b"), coverage=(1.0, 0.25), enforced=False, modified=True)
    tell(sdk.telemetry(), decided, model="gpt-6", prompt=Prompt("greeting", "7", "b"))
    expected = {
        "llmguard.coverage": 0.25,
        "llmguard.action.enforced": False,
        "llmguard.content.modified": True,
        "gen_ai.request.model": "gpt-6",
        "llmguard.prompt.name": "greeting",
        "llmguard.prompt.version": "7",
        "llmguard.prompt.variant": "b",
    }
    assert expected.items() <= sdk.attributes.items()


def test_the_latest_conventions_name_the_prompt_themselves(sdk: Sdk) -> None:
    tell(sdk.telemetry(semconv="latest"), decision(), prompt=Prompt("greeting", "7"))
    assert sdk.attributes["gen_ai.prompt.name"] == "greeting"
    assert sdk.attributes["gen_ai.prompt.version"] == "7"
    assert "llmguard.prompt.variant" not in sdk.attributes


def test_spans_exist_when_blocked_failed_and_abandoned(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    tell(telemetry, decision(Action.BLOCK, texts=("",)))
    failed = (run(outcome=Outcome.ERROR, error="ValueError"), run("b", Outcome.OPEN), run("c", Outcome.SKIPPED))
    tell(telemetry, decision(runs=failed))
    telemetry.abandon(telemetry.begin(Stage.INPUT, POLICY), KeyError(SECRET))
    telemetry.abandon(telemetry.begin(Stage.INPUT, POLICY), None)
    blocked, broken, raised, left = [dict(span.attributes or {}) for span in sdk.spans]
    assert blocked["llmguard.action"] == "block"
    assert (broken["llmguard.detectors.run"], broken["llmguard.detectors.failed"]) == (1, ("pii", "b"))
    assert (raised["error.type"], left["error.type"]) == ("KeyError", "abandoned")
    assert [span.status.status_code.name for span in sdk.spans] == ["UNSET", "UNSET", "ERROR", "UNSET"]
    assert all(span.status.description is None for span in sdk.spans)


def test_an_ended_span_is_not_ended_again(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    telemetry = sdk.telemetry()
    span = telemetry.begin(Stage.INPUT, POLICY)
    telemetry.end(span, decision(), thresholds={})
    telemetry.abandon(span, ValueError())
    telemetry.end(span, decision(), thresholds={})
    assert len(sdk.spans) == 1
    assert not caplog.records


def test_openinference_sees_a_guardrail(sdk: Sdk) -> None:
    tell(sdk.telemetry(openinference=True), decision())
    assert sdk.attributes["openinference.span.kind"] == "GUARDRAIL"


def test_detect_spans_stand_where_the_detectors_ran(sdk: Sdk) -> None:
    import time

    runs = (
        run(outcome=Outcome.HIT, started=time.perf_counter(), seconds=0.25),
        run("slow", Outcome.TIMEOUT, started=time.perf_counter(), seconds=0.5, failure_mode="closed"),
        run("rest", Outcome.SKIPPED),
    )
    before = time.time_ns()
    tell(sdk.telemetry(detect_spans=True), decision(runs=runs, findings=(finding(),)))
    guard, hit, late = sorted(sdk.spans, key=lambda span: span.name != "llmguard.guard input")
    assert [hit.name, late.name] == ["llmguard.detect pii", "llmguard.detect slow"]
    assert dict(hit.attributes or {}) == {
        "llmguard.detector.name": "pii",
        "llmguard.detector.version": "1.2",
        "llmguard.detector.outcome": "hit",
        "llmguard.detector.threshold": 0.5,
        "llmguard.score": 0.9,
        "llmguard.stage": "input",
    }
    assert (late.attributes or {})["error.type"] == "timeout"
    assert (late.attributes or {})["llmguard.failure_mode"] == "closed"
    assert late.status.status_code is trace.StatusCode.ERROR
    assert hit.parent is not None
    assert guard.context is not None
    assert hit.parent.span_id == guard.context.span_id
    assert hit.start_time is not None
    assert hit.end_time == hit.start_time + 250_000_000
    assert abs(hit.start_time - before) < 10**9


# Metrics.


def test_durations_are_recorded_with_their_buckets(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision(findings=(finding(score=0.3), finding(score=0.8))))
    metrics = sdk.metrics()
    (guard,) = metrics["llmguard.guard.duration"].data.data_points
    assert dict(guard.attributes) == {
        "llmguard.stage": "input",
        "llmguard.policy.id": "support-bot",
        "llmguard.action": "allow",
    }
    assert (guard.sum, guard.explicit_bounds) == (0.004, signals.GUARD_DURATION.buckets)
    detectors = metrics["llmguard.detector.duration"].data.data_points
    assert {(p.attributes["llmguard.detector.name"], p.attributes["llmguard.detector.outcome"]) for p in detectors} == {
        ("pii", "pass"),
        ("secrets", "pass"),
    }
    (score,) = metrics["llmguard.detector.score"].data.data_points
    assert (score.sum, score.count, score.explicit_bounds) == (0.8, 1, signals.DETECTOR_SCORE.buckets)
    assert [metrics[row.name].unit for row in signals.METRICS if row.name in metrics] == [
        row.unit for row in signals.METRICS if row.name in metrics
    ]


def test_decisions_and_findings_are_counted_as_monotonic_sums(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    tell(telemetry, decision())
    tell(telemetry, decision(), model="gpt-6", prompt=Prompt("greeting", "7"))
    two = (finding(), finding(), finding(Action.ALLOW, category="URL"))
    tell(telemetry, decision(Action.REDACT, findings=two, enforced=False))
    assert sdk.sums(signals.DECISIONS) == {
        ("input", "allow", True, "support-bot", None, None): 1,
        ("input", "allow", True, "support-bot", "gpt-6", "7"): 1,
        ("input", "redact", False, "support-bot", None, None): 1,
    }
    assert sdk.sums(signals.FINDINGS) == {
        ("pii", "CREDIT_CARD", "input", "redact"): 2,
        ("pii", "URL", "input", "allow"): 1,
    }
    assert sdk.metrics()["llmguard.decisions"].data.is_monotonic


def test_guards_that_share_a_provider_share_its_counters(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision())
    tell(sdk.telemetry(), decision())
    assert list(sdk.sums(signals.DECISIONS).values()) == [2]


def test_labels_from_callers_are_bounded(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    for index in range(130):
        tell(telemetry, decision(), model=f"m{index}", prompt=Prompt("p", str(index)))
    sums = sdk.sums(signals.DECISIONS)
    assert len({key[4] for key in sums}) == 101
    assert sums[("input", "allow", True, "support-bot", "other", "other")] == 30


def test_labels_are_those_of_the_table(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    decided = decision(Action.REDACT, findings=(finding(),), runs=(run(outcome=Outcome.HIT, seconds=0.1),))
    tell(telemetry, decided, model="m", prompt=Prompt("p", "1"))
    telemetry.reload(POLICY, None)
    for name, metric in sdk.metrics().items():
        (row,) = [row for row in signals.METRICS if row.name == name]
        for point in metric.data.data_points:
            assert set(point.attributes) == set(row.attributes)


def test_exemplars_lead_to_the_trace(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision(Action.REDACT, findings=(finding(),)))
    context = sdk.span.get_span_context()
    assert context is not None
    metrics = sdk.metrics()
    for name in ("llmguard.guard.duration", "llmguard.detector.score"):
        (point,) = metrics[name].data.data_points
        assert [(e.trace_id, e.span_id) for e in point.exemplars] == [(context.trace_id, context.span_id)]
    linked = {
        point.attributes["llmguard.detector.name"]: [e.span_id for e in point.exemplars]
        for point in metrics["llmguard.detector.duration"].data.data_points
    }
    assert linked == {"pii": [context.span_id], "secrets": [context.span_id]}


def test_metrics_do_not_need_the_span_to_be_sampled(sdk: Sdk) -> None:
    unsampled = Sdk(sampler=ALWAYS_OFF)
    tell(unsampled.telemetry(), decision())
    assert not unsampled.spans
    assert list(unsampled.sums(signals.DECISIONS).values()) == [1]


def test_threads_lose_no_count(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()

    def many() -> None:
        for _ in range(50):
            tell(telemetry, decision())

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(sdk.sums(signals.DECISIONS).values()) == [400]
    assert len(sdk.spans) == 400


# Events.


def test_a_finding_is_told_with_its_span_length_and_never_its_text(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision(Action.REDACT, findings=(finding(), finding(Action.ALLOW)), runs=(run(),)))
    assert sdk.events("llmguard.finding") == [
        {
            "llmguard.detector.name": "pii",
            "llmguard.detector.version": "1.2",
            "llmguard.detector.threshold": 0.5,
            "llmguard.category": "CREDIT_CARD",
            "llmguard.score": 0.9,
            "llmguard.action": "redact",
            "llmguard.action.enforced": True,
            "llmguard.policy.id": "support-bot",
            "llmguard.policy.version": "7",
            "llmguard.stage": "input",
            "llmguard.finding.length": 16,
        }
    ]
    (record,) = [data.log_record for data in sdk.log_exporter.get_finished_logs()]
    context = sdk.span.get_span_context()
    assert context is not None
    assert (record.severity_text, record.trace_id, record.span_id) == ("WARN", context.trace_id, context.span_id)


def test_a_failure_is_told_with_its_error_type(sdk: Sdk) -> None:
    runs = (
        run(outcome=Outcome.ERROR, error="app.Broken", failure_mode="closed"),
        run("slow", Outcome.TIMEOUT, failure_mode="open"),
        run("off", Outcome.OPEN, failure_mode="open"),
    )
    tell(sdk.telemetry(), decision(Action.BLOCK, texts=("",), runs=runs))
    told = sdk.events("llmguard.detector.failure")
    assert [(event["error.type"], event["llmguard.failure_mode"]) for event in told] == [
        ("app.Broken", "closed"),
        ("timeout", "open"),
        ("open", "open"),
    ]


def test_the_strongest_findings_are_told_when_there_are_too_many(sdk: Sdk) -> None:
    many = [finding(Action.FLAG, score=0.1)] * 200 + [finding(Action.BLOCK, score=1.0)]
    tell(sdk.telemetry(), decision(Action.BLOCK, texts=("",), findings=tuple(many)))
    told = sdk.events("llmguard.finding")
    assert len(told) == events.MAX_FINDINGS
    assert told[0]["llmguard.action"] == "block"
    assert sdk.attributes["llmguard.findings.dropped"] == 201 - events.MAX_FINDINGS
    assert sum(sdk.sums(signals.FINDINGS).values()) == 201


def test_an_output_is_evaluated(sdk: Sdk) -> None:
    found = (finding(score=0.4), finding(Action.ALLOW, score=0.7))
    tell(sdk.telemetry(), decision(Action.REDACT, findings=found))
    tell(sdk.telemetry(), decision(Action.REDACT, findings=found, stage=Stage.OUTPUT))
    assert sdk.events("gen_ai.evaluation.result") == [
        {
            "gen_ai.evaluation.name": "pii",
            "gen_ai.evaluation.score.value": 0.7,
            "gen_ai.evaluation.score.label": "hit",
        }
    ]


def test_a_score_that_the_policy_allows_passes(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision(findings=(finding(Action.ALLOW, score=0.2),), stage=Stage.OUTPUT))
    (told,) = sdk.events("gen_ai.evaluation.result")
    assert told["gen_ai.evaluation.score.label"] == "pass"


def test_the_proposed_guardrail_event_is_opt_in(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision())
    assert not sdk.events("gen_ai.guardrail.result")
    tell(sdk.telemetry(semconv_guardrail="experimental"), decision(Action.FLAG))
    (event,) = sdk.events("gen_ai.guardrail.result")
    assert event["gen_ai.guardrail.result.value"] == "flag"


def test_span_events_mirror_findings_and_failures(sdk: Sdk) -> None:
    runs = (run(outcome=Outcome.TIMEOUT),)
    tell(sdk.telemetry(span_events=True), decision(Action.REDACT, findings=(finding(),), runs=runs))
    assert [event.name for event in sdk.span.events] == ["llmguard.finding", "llmguard.detector.failure"]


def test_a_reload_is_told_and_counted(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    telemetry.reload(POLICY, None)
    telemetry.reload(POLICY, ConfigurationError(SECRET))
    assert [event.get("error.type") for event in sdk.events("llmguard.policy.reload")] == [
        None,
        "llmguard.errors.ConfigurationError",
    ]
    assert sdk.sums(signals.RELOADS) == {("ok", "support-bot"): 1, ("error", "support-bot"): 1}


def test_every_event_says_what_the_table_says(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(semconv_guardrail="experimental", content="EVENT_ONLY")
    tell(telemetry, decision(Action.REDACT, findings=(finding(),), stage=Stage.OUTPUT), model="m")
    tell(telemetry, decision(runs=(run(outcome=Outcome.TIMEOUT),)))
    telemetry.reload(POLICY, ValueError())
    telemetry.operation("openai", "chat", "m", prompt=Prompt("p", "1")).end(error=ValueError())
    rows = {row.name: row for row in signals.EVENTS}
    seen = set()
    for data in sdk.log_exporter.get_finished_logs():
        name = data.log_record.event_name
        assert name is not None
        seen.add(name)
        assert set(data.log_record.attributes or {}) <= set(rows[name].attributes)
        assert (data.log_record.severity_text or "?") in rows[name].severity
    of_monitors = {semconv.EVENT_DRIFT, semconv.EVENT_FAIRNESS, semconv.EVENT_DISPATCHED}  # tests of the monitors
    assert seen == set(rows) - of_monitors


# Content.

KINDS = {
    "allow": decision(texts=(CLEAN,)),
    "flag": decision(Action.FLAG, texts=(CLEAN,), findings=(finding(Action.FLAG),)),
    "redact": decision(Action.REDACT, texts=(CLEAN,), findings=(finding(),), modified=True),
    "block": decision(Action.BLOCK, texts=("",), findings=(finding(Action.BLOCK),)),
    "shadow redact": decision(Action.REDACT, texts=(SECRET,), findings=(finding(),), enforced=False),
    "shadow block": decision(Action.BLOCK, texts=(SECRET,), findings=(finding(Action.BLOCK),), enforced=False),
    "failed": decision(texts=(SECRET,), runs=(run(outcome=Outcome.ERROR, error="ValueError"),)),
    "partly seen": decision(texts=(SECRET,), coverage=(0.5,)),
}
MAY_LEAVE = {"allow", "flag", "redact"}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("kind", KINDS)
def test_no_content_leaves_by_default(sdk: Sdk, kind: str, stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    telemetry = sdk.telemetry(detect_spans=True, span_events=True, openinference=True, semconv_guardrail="experimental")
    with caplog.at_level(logging.DEBUG):
        tell(telemetry, replace(KINDS[kind], stage=stage))
        telemetry.abandon(telemetry.begin(stage, POLICY), ValueError(SECRET))
        telemetry.reload(POLICY, ValueError(SECRET))
    told = sdk.all_told() + caplog.text
    assert "llmguard.guard" in told
    assert SECRET not in told
    assert CLEAN not in told


@pytest.mark.parametrize("mode", ["span_only", "EVENT_ONLY", "Span_And_Event"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_cleared_text_leaves_when_asked_for(sdk: Sdk, kind: str, mode: str) -> None:
    tell(sdk.telemetry(content=mode, content_hash_key=b"k" * 16, span_events=True), KINDS[kind])
    assert SECRET not in sdk.all_told()
    in_span = CLEAN in "".join(span.to_json() for span in sdk.spans)
    in_event = CLEAN in str(sdk.events("gen_ai.client.inference.operation.details"))
    assert in_span is (kind in MAY_LEAVE and "SPAN" in mode.upper())
    assert in_event is (kind in MAY_LEAVE and "EVENT" in mode.upper())
    assert ("llmguard.content.hash" in sdk.attributes) is (kind in MAY_LEAVE)


@pytest.mark.parametrize(
    ("stage", "roles", "key", "message"),
    [
        (Stage.INPUT, (), "input", {"role": "user", "parts": [{"type": "text", "content": "hi"}]}),
        (Stage.INPUT, (Role.SYSTEM,), "input", {"role": "system", "parts": [{"type": "text", "content": "hi"}]}),
        (Stage.CONTEXT, (), "input", {"role": "retrieval", "parts": [{"type": "text", "content": "hi"}]}),
        (
            Stage.TOOL_RESULT,
            (),
            "input",
            {"role": "tool", "parts": [{"type": "tool_call_response", "response": "hi"}]},
        ),
        (
            Stage.OUTPUT,
            (),
            "output",
            {"role": "assistant", "parts": [{"type": "text", "content": "hi"}], "finish_reason": "unknown"},
        ),
        (
            Stage.TOOL_CALL,
            (),
            "output",
            {"role": "assistant", "parts": [{"type": "text", "content": "hi"}], "finish_reason": "unknown"},
        ),
    ],
)
def test_captured_content_has_the_conventions_structure(
    sdk: Sdk, stage: Stage, roles: tuple[Role, ...], key: str, message: dict[str, Any]
) -> None:
    tell(sdk.telemetry(content="SPAN_AND_EVENT"), decision(texts=("hi",), stage=stage), roles=roles)
    name = f"gen_ai.{key}.messages"
    assert json.loads(sdk.attributes[name]) == [message]
    (event,) = sdk.events("gen_ai.client.inference.operation.details")
    assert json.loads(json.dumps(event[name])) == [message]


def test_the_latest_conventions_ask_for_no_finish_reason(sdk: Sdk) -> None:
    tell(sdk.telemetry(content="SPAN_ONLY", semconv="latest"), decision(stage=Stage.OUTPUT))
    assert "finish_reason" not in sdk.attributes["gen_ai.output.messages"]


def test_lone_surrogates_do_not_reach_an_exporter(sdk: Sdk) -> None:
    tell(sdk.telemetry(content="SPAN_AND_EVENT", content_hash_key=b"k" * 16), decision(texts=("a\ud800b",)))
    assert "a?b" in sdk.attributes["gen_ai.input.messages"].encode().decode()


def test_attribute_length_limits_hold_for_content() -> None:
    short = Sdk(length=20)
    tell(short.telemetry(content="SPAN_AND_EVENT"), decision(texts=("x" * 500,)))
    assert len(short.attributes["gen_ai.input.messages"]) == 20
    (event,) = short.events("gen_ai.client.inference.operation.details")
    assert event["gen_ai.input.messages"][0]["parts"][0]["content"] == "x" * 20


def test_the_hash_is_keyed_and_stable(sdk: Sdk) -> None:
    tell(sdk.telemetry(content_hash_key=b"k" * 16), decision(texts=("hi",)))
    told = sdk.attributes["llmguard.content.hash"]
    assert told == content_hash(("hi",), b"k" * 16)
    assert told.startswith("hmac-sha256:")
    assert told != content_hash(("hi",), b"l" * 16)


@pytest.mark.parametrize(
    ("value", "expected", "warns"),
    [
        ("", Capture.NOTHING, False),
        (" no_content ", Capture.NOTHING, False),
        ("Span_Only", Capture.SPAN, False),
        ("event_only", Capture.EVENT, False),
        ("SPAN_AND_EVENT", Capture.SPAN | Capture.EVENT, False),
        ("true", Capture.NOTHING, True),
        ("everything", Capture.NOTHING, True),
    ],
)
def test_the_environment_says_what_is_captured(
    value: str, expected: Capture, warns: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(semconv.CONTENT_ENV, value)
    assert capture("env") is expected
    assert bool(caplog.records) is warns


# Telemetry never breaks a call.


class Broken:
    """A provider, tracer, meter, logger or span whose every call raises."""

    def __init__(self, *, late: bool = False) -> None:
        self._late = late

    def get_tracer(self, *_: object, **__: object) -> Broken:
        return self._made()

    get_meter = get_logger = get_tracer

    def _made(self) -> Broken:
        if self._late:
            return self
        raise RuntimeError(SECRET)

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(SECRET)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("component", ["spans", "metrics", "events"])
def test_a_broken_provider_breaks_nothing_and_is_counted(
    sdk: Sdk, component: str, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Any = Broken(late=late)
    telemetry = Telemetry(
        TelemetrySettings(),
        tracer_provider=broken if component == "spans" else sdk.tracers,
        meter_provider=broken if component == "metrics" else sdk.meters,
        logger_provider=broken if component == "events" else sdk.loggers,
    )
    decided = decision(Action.REDACT, findings=(finding(),))
    for _ in range(3):
        tell(telemetry, decided)
        telemetry.abandon(telemetry.begin(Stage.INPUT, POLICY), None)
    telemetry.reload(POLICY, None)
    assert set(telemetry.errors) == {component}
    assert len([r for r in caplog.records if r.name == "llmguard.telemetry"]) == 1
    assert SECRET not in caplog.text
    if component != "spans":
        assert len(sdk.spans) == 6
    if component != "metrics":
        assert list(sdk.sums(signals.DECISIONS).values()) == [3]
        assert sdk.sums(signals.ERRORS) == {(component,): telemetry.errors[component]}
    if component != "events":
        assert len(sdk.events("llmguard.finding")) == 3


def test_a_broken_span_breaks_nothing(sdk: Sdk) -> None:
    telemetry = sdk.telemetry()
    broken: Any = Broken()
    telemetry.end(broken, decision(), thresholds={})
    telemetry.abandon(broken, None)
    assert telemetry.errors["spans"] == 2


def test_a_span_ends_though_its_attributes_fail(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(content="SPAN_ONLY")
    odd: Any = (5,)
    tell(telemetry, decision(texts=odd))
    assert len(sdk.spans) == 1
    assert telemetry.errors == {"spans": 1}


def test_an_answer_that_is_none_breaks_nothing(sdk: Sdk) -> None:
    odd: Any = (Finding("URL", 1.0, (1, 2), "pii", action=Action.FLAG), Finding("URL", 1.0, (3,), "pii"))  # type: ignore[arg-type]
    odd = tuple(replace(item, action=Action.FLAG) for item in odd)
    telemetry = sdk.telemetry(content="EVENT_ONLY")
    tell(telemetry, decision(Action.FLAG, findings=odd))
    text: Any = (5,)
    tell(telemetry, decision(texts=text))
    assert telemetry.errors == {"events": 2}
    assert len(sdk.spans) == 2
    assert sum(sdk.sums(signals.DECISIONS).values()) == 2


def test_disabled_telemetry_says_nothing(sdk: Sdk) -> None:
    telemetry = sdk.telemetry(enabled=False)
    tell(telemetry, decision(Action.REDACT, findings=(finding(),)))
    telemetry.reload(POLICY, None)
    assert not sdk.spans
    assert not sdk.metrics()
    assert not sdk.log_exporter.get_finished_logs()


def test_a_provider_shared_by_two_conventions_keeps_them_apart(sdk: Sdk) -> None:
    tell(sdk.telemetry(), decision())
    tell(sdk.telemetry(semconv="latest"), decision())
    data = sdk.reader.get_metrics_data()
    assert data is not None
    scopes = {scope.scope.schema_url for resource in data.resource_metrics for scope in resource.scope_metrics}
    assert len(scopes) == 2


# With environment variables alone.

_APP = """
import os
from llmguard.telemetry import Telemetry
from llmguard.types import *
telemetry = Telemetry()                       # before the SDK is set up
span = telemetry.begin(Stage.INPUT, PolicyRef("p", "1", ""))
telemetry.end(span, Decision(Action.ALLOW, ("too early",), (), Stage.INPUT, PolicyRef("p", "1", "")), thresholds={})
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure(auto_instrumentation_version=None)
span = telemetry.begin(Stage.INPUT, PolicyRef("p", "1", ""))
found = Finding("URL", 0.9, (0, 2), "pii", action=Action.FLAG)
done = Decision(Action.FLAG, ("hello-cleared",), (found,), Stage.INPUT, PolicyRef("p", "1", ""), coverage=(1.0,))
telemetry.end(span, done, thresholds={})
"""


def _told(**environment: str) -> tuple[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "LLMGUARD_"))}
    exporters = {f"OTEL_{signal}_EXPORTER": "console" for signal in ("TRACES", "METRICS", "LOGS")}
    done = subprocess.run(
        [sys.executable, "-c", _APP],
        env=clean | exporters | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout, done.stderr


def test_the_environment_alone_sets_everything_up() -> None:
    out, _ = _told(OTEL_SERVICE_NAME="shop", OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="span_and_event")
    for expected in (
        '"llmguard.guard input"',
        '"service.name": "shop"',
        '"llmguard.decisions"',
        '"llmguard.finding"',
        "gen_ai.client.inference.operation.details",
    ):
        assert expected in out
    assert out.count("hello-cleared") == 2
    assert "too early" not in out


def test_the_environment_captures_nothing_by_default() -> None:
    out, err = _told(LLMGUARD_TELEMETRY_SPAN_EVENTS="on")
    assert '"llmguard.guard input"' in out
    assert "hello-cleared" not in out + err


def test_a_wrong_capture_mode_warns_once_and_captures_nothing() -> None:
    out, err = _told(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true")
    assert err.count(semconv.CONTENT_ENV) == 1
    assert "hello-cleared" not in out + err


def test_length_limits_come_from_the_environment() -> None:
    out, _ = _told(
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="9", OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY"
    )
    assert "llmguard.guard input" in out
    assert "hello-cleared" not in out


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED", "LLMGUARD_TELEMETRY_ENABLED"])
def test_it_can_be_switched_off(variable: str) -> None:
    out, _ = _told(**{variable: "true" if variable.startswith("OTEL") else "false"})
    assert "llmguard." not in out


def test_instruments_of_an_sdk_that_is_switched_off_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert instruments.shared(MeterProvider(shutdown_on_exit=False), "", "") is None


# Settings.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"semconv": "v1.40"}, "v1.41"),
        ({"semconv_guardrail": "on"}, "experimental"),
        ({"content": "SPAN"}, "SPAN_ONLY"),
        ({"content": 3}, "no content mode"),
        ({"detect_spans": "yes"}, "neither true nor false"),
        ({"content_hash_key": "short"}, "16 bytes"),
        ({"detect_span": True}, "did you mean 'detect_spans'"),
    ],
)
def test_wrong_settings_say_what_would_be_right(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        TelemetrySettings.parse(options, source="policy.yaml")
    assert str(caught.value).startswith("policy.yaml: telemetry.")


def test_settings_are_read_from_a_policy_file_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = TelemetrySettings.parse({"semconv_guardrail": False, "content_hash_key": "k" * 16, "detect_spans": True})
    assert (parsed.semconv_guardrail, parsed.content_hash_key) == ("off", b"k" * 16)
    assert "kkkk" not in repr(parsed)
    monkeypatch.setenv("LLMGUARD_TELEMETRY_SEMCONV", "latest")
    monkeypatch.setenv("LLMGUARD_TELEMETRY_CONTENT_HASH_KEY", "l" * 20)
    monkeypatch.setenv("LLMGUARD_TELEMETRY_OPENINFERENCE", "1")
    said = TelemetrySettings.from_env(parsed)
    assert (said.semconv, said.content_hash_key, said.openinference, said.detect_spans) == (
        "latest",
        b"l" * 20,
        True,
        True,
    )


@pytest.mark.parametrize(("name", "value"), [("DETECT_SPANS", "maybe"), ("SEMCONV", "v0")])
def test_a_wrong_variable_is_an_error(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"LLMGUARD_TELEMETRY_{name}", value)
    with pytest.raises(ConfigurationError, match=value):
        TelemetrySettings.from_env()
