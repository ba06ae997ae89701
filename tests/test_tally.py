"""Sums by label, and how many there may be."""

from __future__ import annotations

import pytest
from telemetry_sdk import Sdk

from llmguard import semconv, signals
from llmguard.tally import MADE_UP, Bounded, Tally, Together
from llmguard.telemetry import Prompt
from llmguard.types import Action, Decision, PolicyRef, Stage


def test_sums_by_label() -> None:
    tally = Tally()
    tally.add(("a", True))
    tally.add(("a", True), 2)
    tally.add(("a", False))
    assert dict(tally.sums()) == {("a", True): 3, ("a", False): 1}


def test_of_too_many_sums_what_is_made_up_becomes_other_and_nothing_is_lost() -> None:
    tally = Tally(made_up=(1, 2), limit=3)
    for number in range(10):
        tally.add(("input", f"model-{number}", ""))
        tally.add(("input", "model-0", ""))
    sums = dict(tally.sums())
    assert sums == {
        ("input", "model-0", ""): 11,
        ("input", "model-1", ""): 1,
        ("input", "model-2", ""): 1,
        ("input", "other", ""): 7,
    }


def test_a_value_that_is_known_stays() -> None:
    bounded = Bounded(1)
    assert [bounded(value) for value in ("a", "b", "a", "")] == ["a", "other", "a", ""]


def test_of_too_many_sets_what_is_made_up_becomes_other() -> None:
    together = Together(limit=1)
    first = {semconv.OPERATION: "chat", semconv.REQUEST_MODEL: "m", semconv.SERVER_ADDRESS: "h", semconv.SERVER_PORT: 1}
    assert together(first) == together(dict(first)) == first
    assert together({**first, semconv.SERVER_PORT: 2}) == {
        semconv.OPERATION: "chat",
        semconv.REQUEST_MODEL: "other",
        semconv.SERVER_ADDRESS: "other",
    }


def test_callers_make_up_labels_of_metrics_alone_that_are_bounded_together() -> None:
    labels = {label for row in signals.METRICS for label in row.attributes}
    assert labels >= MADE_UP


@pytest.mark.parametrize("calls", [4_000])
def test_no_metric_has_more_series_than_that_whatever_callers_say(calls: int) -> None:
    sdk = Sdk()
    try:
        telemetry = sdk.telemetry(
            inference_span="always", prices={f"m-{at}": {"input": 1.0, "output": 1.0} for at in range(90)}
        )
        for number in range(calls):
            model, version = f"m-{number % 90}", str(number // 90 % 97)
            decision = Decision(Action.ALLOW, ("",), (), Stage.INPUT, PolicyRef("p", "1", "h"))
            span = telemetry.begin(Stage.INPUT, decision.policy)
            telemetry.end(span, decision, thresholds={}, model=model, prompt=Prompt("p", version))
            call = telemetry.operation(
                "openai", "chat", model, address=f"h{number % 89}", port=1, prompt=Prompt("p", version)
            )
            call.end(error=f"e{number % 83}")
        points = {name: len(metric.data.data_points) for name, metric in sdk.metrics().items()}
        total = sum(sdk.sums(signals.DECISIONS).values())
    finally:
        sdk.close()
    assert 1_000 < points["llmguard.decisions"] <= 2_001
    assert 500 < points["gen_ai.client.operation.duration"] <= 1_001
    assert total == calls
