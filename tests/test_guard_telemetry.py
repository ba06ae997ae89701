"""What a guard tells OpenTelemetry, end to end, and that it never tells content."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from fakes import Broken, Hanging, Words
from opentelemetry.metrics import NoOpHistogram, NoOpMeter

from llmguard import Blocked, ConfigurationError, Guard, Stage, TelemetrySettings
from llmguard.testing import capture

MARK = "zq-canary-7731"
RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
    {"detector": "words", "categories": ["ODD"], "action": "flag"},
]


def told(seen, **options) -> Guard:
    detectors = options.pop("detectors", [Words("words", "bad", "worse", "odd")])
    rules = options.pop("rules", RULES)
    telemetry = options.pop("telemetry", None)
    return Guard(
        {"name": "p", "version": "7", "rules": rules, **options},
        detectors=detectors,
        telemetry=telemetry,
        tracer_provider=seen.tracer_provider,
        meter_provider=seen.meter_provider,
        logger_provider=seen.logger_provider,
    )


def test_one_span_a_stage_under_the_callers_span() -> None:
    with capture() as seen, told(seen) as guard:

        @guard
        def ask(question: str) -> str:
            return "an odd answer"

        tracer = seen.tracer_provider.get_tracer("caller")
        prompt = guard.prompt("greeting", version="3", variant="b")
        with tracer.start_as_current_span("request") as parent, guard.conversation("c-42"), prompt:
            ask("a bad question")
        spans = [span for span in seen.spans if span.name.startswith("llmguard.")]
    assert [(span.name, span.attributes["llmguard.action"]) for span in spans] == [
        ("llmguard.guard input", "redact"),
        ("llmguard.guard output", "flag"),
    ]
    for span in spans:
        assert span.parent.span_id == parent.get_span_context().span_id
        assert span.attributes["gen_ai.conversation.id"] == "c-42"
        assert span.attributes["llmguard.policy.version"] == "7"
        assert span.attributes["llmguard.prompt.name"] == "greeting"
        assert span.attributes["llmguard.prompt.variant"] == "b"
        assert span.attributes["llmguard.coverage"] == 1.0


def test_a_call_without_a_conversation_has_no_conversation_id() -> None:
    with capture() as seen, told(seen) as guard:
        guard(input="question")(lambda question: "fine")("fine")
        assert all("gen_ai.conversation.id" not in span.attributes for span in seen.spans)


def test_a_batch_has_a_span_a_decision() -> None:
    with capture() as seen, told(seen) as guard:
        guard.check_batch(["fine", "bad", "worse"])
        assert [span.attributes["llmguard.action"] for span in seen.spans] == ["allow", "redact", "block"]


async def test_a_cancelled_check_ends_its_span() -> None:
    hanging = Hanging()
    rules = [{"detector": "hanging", "action": "block", "deadline_ms": 60_000}]
    with capture() as seen, told(seen, detectors=[hanging], rules=rules) as guard:
        task = asyncio.create_task(guard.acheck("x"))
        await asyncio.to_thread(hanging.begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hanging.released.set()
        (span,) = seen.spans
    assert span.attributes["error.type"] == "asyncio.exceptions.CancelledError"


def test_a_check_that_runs_beside_a_call_that_raises_ends_its_span() -> None:
    slow = Words("slow", "worse", inline=False)
    rules = [{"detector": "slow", "stage": "input", "action": "block"}]
    with capture() as seen, told(seen, detectors=[slow], rules=rules, overlap=True) as guard:

        @guard
        def ask(question: str) -> str:
            raise ConnectionError

        with pytest.raises(ConnectionError):
            ask("fine")
        assert [span.name for span in seen.spans] == ["llmguard.guard input"]


def test_metrics_count_every_decision_and_finding() -> None:
    with capture() as seen, told(seen) as guard:
        for text in ("fine", "bad bad", "worse", "fine"):
            guard.check(text)
        metrics = seen.metrics()
    decisions = {point.attributes["llmguard.action"]: point.value for point in metrics["llmguard.decisions"]}
    assert decisions == {"allow": 2, "redact": 1, "block": 1}
    findings = {point.attributes["llmguard.category"]: point.value for point in metrics["llmguard.findings"]}
    assert findings == {"BAD": 2, "WORSE": 1}
    assert sum(point.count for point in metrics["llmguard.guard.duration"]) == 4
    assert sum(point.count for point in metrics["llmguard.detector.duration"]) == 4


def test_a_reload_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with capture() as seen, told(seen) as guard:
        guard.reload({"name": "p", "version": "8", "rules": RULES})
        with caplog.at_level(logging.WARNING), pytest.raises(Exception, match="unknown detector"):
            guard.reload({"name": "p", "version": "9", "rules": [{"detector": "wrds", "action": "flag"}]})
        outcomes = {
            p.attributes["llmguard.policy.reload.outcome"]: p.value for p in seen.metrics()["llmguard.policy.reloads"]
        }
        events = [record.event_name for record in seen.logs]
    assert outcomes == {"ok": 1, "error": 1}
    assert "policy 'p' version '8' stays in force" in caplog.text
    assert "unknown detector 'wrds'" in caplog.text
    assert events.count("llmguard.policy.reload") == 2


def everything(seen) -> str:
    """All that telemetry holds, as one string."""
    spans = [json.loads(span.to_json()) for span in seen.spans]
    logs = [(record.event_name, record.body, dict(record.attributes or {})) for record in seen.logs]
    points = [(name, [dict(point.attributes) for point in points]) for name, points in seen.metrics().items()]
    return repr((spans, logs, points))


def test_a_marked_secret_is_nowhere_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    def explode(texts):
        raise ValueError(f"could not read {texts[0].content}")

    rules = [*RULES, {"detector": "broken", "action": "flag", "on_failure": "open"}]
    detectors = [Words("words", "bad", "worse", "odd"), Broken(explode)]
    settings = TelemetrySettings(
        detect_spans=True, span_events=True, openinference=True, semconv_guardrail="experimental"
    )
    messages = []
    with capture() as seen, caplog.at_level(logging.DEBUG):
        with told(seen, detectors=detectors, rules=rules, telemetry=settings) as guard:

            @guard
            def ask(question: str) -> str:
                return question

            for word in ("fine", "odd", "bad", "worse"):
                text = f"{MARK} {word} {MARK}@example.com"
                messages.extend(repr(guard.check(text, stage=stage)) for stage in Stage)
                try:
                    ask(text)
                except Blocked as blocked:
                    messages.append(f"{blocked} {blocked!r}")
        heard = everything(seen)
        assert "llmguard.finding" in heard  # it does say something
    assert MARK not in heard
    assert MARK not in caplog.text
    assert MARK not in "".join(messages)


def test_with_capture_on_only_cleared_text_is_told() -> None:
    with capture() as seen, told(seen, telemetry=TelemetrySettings(content="SPAN_AND_EVENT")) as guard:
        guard.check("a bad question, harmless-part")
        guard.check("worse than that, blocked-part")
        heard = everything(seen)
    assert "a <BAD_1> question, harmless-part" in heard
    assert "blocked-part" not in heard


def test_a_stream_that_is_read_later_belongs_to_the_prompt_it_was_asked_with() -> None:
    with capture() as seen, told(seen) as guard:
        with guard.prompt("greeting", version="3"), guard.conversation("c-42"):
            asked = guard.call_scope()
            checks = asked.__enter__()
        check = checks.stream(Stage.OUTPUT)
        for _ in check.feed("fine"):
            pass
        for _ in check.end():
            pass
        check.finish()
        asked.__exit__(None, None, None)
        (span,) = seen.spans
    assert span.attributes["llmguard.prompt.name"] == "greeting"
    assert span.attributes["gen_ai.conversation.id"] == "c-42"


@pytest.mark.parametrize("wrong", [("",), (7,), ("p", 7), ("p", "1", None)])
def test_a_prompt_is_named_by_strings(wrong: tuple[object, ...]) -> None:
    name, version, variant = (*wrong, "", "")[:3]
    with (
        Guard() as guard,
        pytest.raises(ConfigurationError, match="must be strings"),
        guard.prompt(name, version=version, variant=variant),
    ):
        pass


def test_what_could_not_be_read_is_counted_by_closed_words() -> None:
    with capture() as seen, told(seen) as guard:
        for _ in range(2):
            guard.unguarded("route", passed=True)
        guard.unguarded("body", passed=False, dialect="openai.chat")
        points = seen.metrics()["llmguard.requests.unguarded"]
    found = {tuple(sorted(point.attributes.items())): point.value for point in points}
    assert found == {
        (
            ("llmguard.dialect", "none"),
            ("llmguard.unguarded.outcome", "passed"),
            ("llmguard.unguarded.reason", "route"),
        ): 2,
        (
            ("llmguard.dialect", "openai.chat"),
            ("llmguard.unguarded.outcome", "refused"),
            ("llmguard.unguarded.reason", "body"),
        ): 1,
    }


class Recorder:
    """A provider and its meter, which counts durations; never collected, which would have all recorded before."""

    def __init__(self) -> None:
        self.recorded = 0

    def get_meter(self, *args: object, **kwargs: object) -> Recorder:
        return self

    def create_histogram(self, name: str, *args: object, **kwargs: object) -> Recorder | NoOpHistogram:
        return self if name == "llmguard.guard.duration" else NoOpHistogram(name)

    def record(self, amount: float, *args: object, **kwargs: object) -> None:
        self.recorded += 1

    def __getattr__(self, name: str) -> object:
        return getattr(NoOpMeter("llmguard"), name)


def test_a_flush_has_the_metrics_recorded() -> None:
    recorder = Recorder()
    with Guard({"rules": []}, meter_provider=recorder) as guard:
        for _ in range(50):
            guard.check("x")
        guard.flush()
        assert recorder.recorded == 50
