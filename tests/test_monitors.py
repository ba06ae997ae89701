"""What monitors are told by a guard, and that they never get in its way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fakes import Words
from telemetry_sdk import Sdk

from llmguard import ConfigurationError, Guard, TelemetrySettings, monitors
from llmguard.dialects.wire import Body, Usage
from llmguard.readings import Alert, Reading
from llmguard.types import Action, Observation, Role, Stage, Text

RULES = [{"detector": "words", "categories": ["BAD"], "action": "redact"}]


class Ear:
    """Keeps what it is told."""

    name = "ear"

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def observe(self, seen: Observation) -> None:
        self.seen.append(seen)


class Deaf(Ear):
    """Raises."""

    name = "deaf"

    def observe(self, seen: Observation) -> None:
        raise KeyError(seen.texts[0].content)


class Gauge(Ear):
    """Has a value, and tells an alert of each observation."""

    name = "gauge"

    def __init__(self) -> None:
        super().__init__()
        self.hear: list[Callable[[Alert], object]] = []

    def observe(self, seen: Observation) -> None:
        del seen
        for hear in self.hear:
            hear(Alert("llmguard.drift.detected", self.name, "x", {"llmguard.drift.feature": "f"}))
            hear(Alert("llmguard.drift.detected", self.name, "x", resolved=True))

    def readings(self) -> list[Reading]:
        return [Reading("llmguard.drift.score", 0.5, {"llmguard.drift.feature": "f"})]

    def subscribe(self, hear: Callable[[Alert], object]) -> None:
        self.hear.append(hear)


@pytest.fixture
def sdk() -> Iterator[Sdk]:
    with contextlib.closing(Sdk()) as made:
        yield made


def watched(*monitors: Any, sdk: Sdk | None = None, **more: Any) -> Guard:
    providers = (
        {"tracer_provider": sdk.tracers, "meter_provider": sdk.meters, "logger_provider": sdk.loggers} if sdk else {}
    )
    policy = {"name": "p", "version": "1", "rules": RULES}
    return Guard(policy, detectors=[Words("words", "bad")], monitors=monitors, **providers, **more)


def test_a_check_is_told_with_what_came_in_and_what_was_decided() -> None:
    ear = Ear()
    before = time.time()
    with (
        watched(ear) as guard,
        guard.prompt("greeting", version="2"),
        guard.tenant("t"),
        guard.conversation("c-1"),
        guard.cohort(plan="free"),
        guard.cohort(country="pe"),
    ):
        decision = guard.check("a bad word")
    (seen,) = ear.seen
    assert seen.decision == decision
    assert decision.action is Action.REDACT
    assert seen.texts == (Text("a bad word"),)
    assert seen.prompt == ("greeting", "2", "")
    assert seen.cohort == {"plan": "free", "country": "pe"}
    assert (seen.conversation, seen.tenant) == ("c-1", "t")
    assert before <= seen.at <= time.time()
    assert seen.numbers == {}


def test_a_flush_tells_of_all_there_was() -> None:
    ear = Ear()
    with watched(ear) as guard:
        for number in range(50):
            guard.check(f"text {number}")
        guard.flush()
        assert len(ear.seen) == 50


def test_a_cohort_ends_with_its_block() -> None:
    ear = Ear()
    with watched(ear) as guard:
        with guard.cohort(plan="free"):
            guard.check("x")
        guard.check("y")
    assert [seen.cohort for seen in ear.seen] == [{"plan": "free"}, {}]


def test_every_decision_of_a_batch_is_told() -> None:
    ear = Ear()
    with watched(ear) as guard:
        guard.check_batch(["one", "two"])
        asyncio.run(guard.acheck_batch(["three"]))
        asyncio.run(guard.acheck("four", stage="output"))
    assert [seen.texts[0].content for seen in ear.seen] == ["one", "two", "three", "four"]
    assert ear.seen[-1].texts[0].role is Role.ASSISTANT


def test_both_sides_of_a_guarded_function_are_told() -> None:
    ear = Ear()
    with watched(ear) as guard:

        @guard
        def ask(question: str) -> str:
            return question.upper()

        ask("hello")
    stages = [seen.decision.stage for seen in ear.seen if seen.decision]
    assert stages == [Stage.INPUT, Stage.OUTPUT]
    assert [seen.texts[0].content for seen in ear.seen] == ["hello", "HELLO"]


def test_a_stream_is_told_at_its_end_with_the_cohort_of_its_beginning() -> None:
    ear = Ear()
    with watched(ear) as guard:
        with guard.cohort(plan="free"):
            stream = guard.stream()
        stream.feed("a b")
        assert ear.seen == []
        stream.feed("ad word")
        stream.close()
    (seen,) = ear.seen
    assert seen.texts == (Text("a bad word", Role.ASSISTANT),)
    assert seen.decision == stream.decision
    assert seen.cohort == {"plan": "free"}


def test_a_stream_that_is_given_up_is_not_told() -> None:
    ear = Ear()
    with watched(ear) as guard:
        guard.stream().feed("abandoned")
        gc.collect()
    assert ear.seen == []


def test_a_call_is_told_with_what_was_measured(sdk: Sdk) -> None:
    ear = Ear()
    settings = TelemetrySettings(prices={"m": {"input": 10.0, "output": 20.0}})
    with watched(ear, sdk=sdk, telemetry=settings) as guard, guard.cohort(plan="free"):
        call = guard._telemetry.operation("openai", "chat", "m", streaming=True, conversation="c-2")
        call.chunk()
        call.end(Body(model="m", usage=Usage(1000, 500)))
    (seen,) = ear.seen
    assert seen.decision is None
    assert seen.model == "m"
    assert seen.texts == ()
    assert seen.numbers.keys() == {"latency", "time_to_first_chunk", "input_tokens", "output_tokens", "cost"}
    assert seen.numbers["cost"] == pytest.approx(0.02)
    assert (seen.numbers["input_tokens"], seen.numbers["output_tokens"]) == (1000, 500)
    assert (seen.conversation, seen.cohort) == ("c-2", {"plan": "free"})
    assert seen.trace == f"{sdk.span.context.trace_id:032x}"


def test_a_call_that_somebody_else_tells_of_is_told_to_monitors_all_the_same(sdk: Sdk) -> None:
    ear = Ear()
    with watched(ear, sdk=sdk, telemetry=TelemetrySettings(inference_span="never")) as guard:
        guard._telemetry.operation("openai", "chat", "m").end()
    assert ear.seen[0].numbers.keys() == {"latency"}
    assert sdk.spans == ()


def test_a_monitor_that_raises_is_counted_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear()
    with caplog.at_level(logging.WARNING, "llmguard.telemetry"), watched(Deaf(), ear) as guard:
        assert guard.check("canary 7731").action is Action.ALLOW
        guard.check("canary 7731")
    assert len(ear.seen) == 2
    assert guard._telemetry.errors == {"monitors": 2}
    assert "canary" not in caplog.text


def test_values_and_alerts_of_a_monitor_go_to_telemetry(sdk: Sdk) -> None:
    gauge = Gauge()
    with watched(gauge, sdk=sdk) as guard:
        guard.check("x")
    metric = sdk.metrics()["llmguard.drift.score"]
    (point,) = metric.data.data_points
    assert point.value == 0.5
    assert dict(point.attributes) == {"llmguard.drift.feature": "f"}
    told = [record.log_record for record in sdk.log_exporter.get_finished_logs()]
    (record,) = [record for record in told if record.event_name == "llmguard.drift.detected"]
    assert record.severity_text == "WARN"
    assert dict(record.attributes or {}) == {"llmguard.drift.feature": "f"}


def test_the_values_of_a_monitor_go_with_its_guard(sdk: Sdk) -> None:
    guard = watched(Gauge(), sdk=sdk)
    guard.close()
    assert "llmguard.drift.score" in sdk.metrics()
    del guard
    gc.collect()
    assert "llmguard.drift.score" not in sdk.metrics()


def test_what_waits_is_told_when_the_guard_goes() -> None:
    ear = Ear()
    guard = watched(ear)
    guard.check("last words")
    del guard
    gc.collect()
    assert len(ear.seen) == 1


def test_more_than_may_wait_is_told_all_the_same_and_in_order() -> None:
    ear = Ear()
    with watched(ear) as guard:
        guard.check_batch([str(at) for at in range(1000)])
    assert [seen.texts[0].content for seen in ear.seen] == [str(at) for at in range(1000)]


def test_few_observations_of_long_texts_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitors, "_ROOM", 1000)
    ear = Ear()
    with watched(ear) as guard:
        for at in range(1, 21):
            guard.check("long " * 100)
            assert len(ear.seen) >= at - 3  # two wait, and one may be under way
    assert len(ear.seen) == 20


def test_what_is_no_monitor_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="str is no monitor"):
        watched("drift")
    with pytest.raises(ConfigurationError, match="two of the given monitors are named 'ear'"):
        watched(Ear(), Ear())


def test_a_cohort_is_made_of_words() -> None:
    with (
        watched() as guard,
        pytest.raises(ConfigurationError, match="plan must be a string, not int"),
        guard.cohort(plan=3),
    ):  # type: ignore[arg-type]
        pass


class Attentive(Ear):
    """Hears what the others tell, and reads them."""

    name = "attentive"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Alert] = []
        self.read: list[Callable[[], Sequence[Reading]]] = []

    def attend(self, readings: Callable[[], Sequence[Reading]]) -> None:
        self.read.append(readings)

    def overhear(self, alert: Alert) -> None:
        self.heard.append(alert)
        raise KeyError("canary 7731")


def test_a_monitor_may_hear_what_the_others_tell_and_read_them() -> None:
    attentive = Attentive()
    with watched(Gauge(), attentive) as guard:
        guard.check("x")
    assert [alert.resolved for alert in attentive.heard] == [False, True]
    assert [reading.value for reading in attentive.read[0]()] == [0.5]
    assert guard._telemetry.errors == {"monitors": 2}


def test_monitors_may_join_later_and_go_again() -> None:
    with watched() as guard:
        guard.check("nobody hears this")
        ear, attentive = Ear(), Attentive()
        for joining in ([attentive, ear], [attentive, ear], [attentive]):
            guard._telemetry.watch(joining)
            guard.check("x")
            guard._telemetry.monitors.flush()  # type: ignore[union-attr]
        assert (len(ear.seen), len(attentive.seen), len(attentive.read)) == (2, 3, 1)
        with pytest.raises(ConfigurationError, match="two of the given monitors"):
            guard._telemetry.watch([attentive, Attentive()])
        guard.check("x")
    assert (len(ear.seen), len(attentive.seen)) == (2, 4)
