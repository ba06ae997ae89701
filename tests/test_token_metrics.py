"""What texts are made of, as metrics: recorded for what went on, and never a word of it."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from llmguard import Guard, signals
from llmguard.detectors.token_stats import statistics
from llmguard.token_metrics import TokenMetrics

ROWS = (signals.TOKEN_ENTROPY, signals.TOKEN_REPETITION, signals.TOKEN_VARIETY)
POLICY = {
    "name": "words",
    "rules": [{"detector": "keywords", "action": "block"}],
    "detectors": {"keywords": {"deny": ["stop"]}},
}


class Collected:
    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def points(self, name: str) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        metrics = [
            m for r in (data.resource_metrics if data else ()) for scope in r.scope_metrics for m in scope.metrics
        ]
        return {
            point.attributes["llmguard.stage"]: point for m in metrics if m.name == name for point in m.data.data_points
        }


@pytest.fixture
def collected() -> Any:
    made = Collected()
    yield made
    made.provider.shutdown()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_check_tells_what_its_texts_are_made_of(collected: Collected, row: signals.MetricRow) -> None:
    first, second = "one two three one two three one two three", "Ünïcödé, and nothing said twice"
    with Guard(POLICY, meter_provider=collected.provider) as guard:
        guard.check([first, second])
        guard.check(first, stage="output")
        points = collected.points(row.name)
    at = ROWS.index(row)
    numbers = [
        (known.entropy, known.repetition, known.type_token_ratio)[at] for known in map(statistics, (first, second))
    ]
    assert {stage: point.count for stage, point in points.items()} == {"input": 2, "output": 1}
    assert points["input"].sum == pytest.approx(sum(numbers))
    assert points["output"].sum == pytest.approx(numbers[0])
    assert tuple(points["input"].explicit_bounds) == row.buckets
    assert dict(points["input"].attributes) == {"llmguard.stage": "input"}


def test_a_stream_tells_it_once_and_a_blocked_or_empty_text_has_nothing_to_tell(collected: Collected) -> None:
    with Guard(POLICY, meter_provider=collected.provider) as guard:
        guard.check("please stop")
        guard.check("")
        with guard.stream() as stream:
            for piece in ("some ", "words ", "in pieces"):
                stream.feed(piece)
            stream.close()
        points = collected.points("llmguard.tokens.entropy")
    assert {stage: point.count for stage, point in points.items()} == {"output": 1}
    assert points["output"].sum == pytest.approx(statistics("some words in pieces").entropy)


def test_only_the_beginning_of_long_texts_and_of_many_is_looked_at(collected: Collected) -> None:
    with Guard(POLICY, meter_provider=collected.provider) as guard:
        guard.check(["ab" * 1_024 + "z" * 100_000] * 20)
        points = collected.points("llmguard.tokens.entropy")
    assert (points["input"].count, points["input"].sum) == (8, pytest.approx(8.0))


def test_of_very_many_texts_a_second_there_is_a_sample(collected: Collected) -> None:
    now = [5.0]
    metrics = TokenMetrics(collected.provider.get_meter("test"), lambda: now[0])
    told = []
    for later in (0.0, 0.9, 0.1, 1.0):
        now[0] += later
        for _ in range(30):
            metrics.record(("some words", "and more", "of them", "here"), "input", Context())
        told.append(collected.points("llmguard.tokens.entropy")["input"].count)
    assert told == [100, 100, 200, 300]
