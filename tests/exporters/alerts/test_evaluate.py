"""How rules stand over time, and what is told of them."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest
from records import called, made

from llmguard.exporters.alerts.evaluate import FIRING, INACTIVE, PENDING, RESOLVED, Evaluator
from llmguard.exporters.alerts.notice import Notice
from llmguard.exporters.alerts.rule import Burn, Rule
from llmguard.readings import Alert, Reading
from llmguard.types import PolicyRef

POLICY = PolicyRef("p", "3", "00ff")
NOW = 1_800_000_000.0
BLOCKS = Rule("Blocks", of={"action": ("block",)}, above=1, window_s=60, for_s=30, by=("model",), severity="critical")


def blocked(model: str = "m", **more: Any) -> Any:
    return made(action="block", model=model, **more)


def seen(evaluator: Evaluator, records: int, now: float, **more: Any) -> None:
    for _ in range(records):
        evaluator.observe(blocked(**more), now)


def names(notices: list[Notice]) -> list[tuple[str, bool]]:
    return sorted((notice.labels.get("model", notice.labels["alertname"]), notice.resolved) for notice in notices)


def states(evaluator: Evaluator) -> list[str]:
    return [state.state for state in evaluator.states()]


def test_pending_then_firing_then_resolved_then_nothing() -> None:
    evaluator = Evaluator([BLOCKS], POLICY)
    assert states(evaluator) == [INACTIVE]
    seen(evaluator, 2, NOW, trace="ab" * 16)
    assert evaluator.evaluate(NOW) == []
    assert states(evaluator) == [PENDING]
    assert evaluator.evaluate(NOW + 29) == []
    (notice,) = evaluator.evaluate(NOW + 30)
    assert notice == Notice(
        {"alertname": "Blocks", "severity": "critical", "model": "m"},
        {"policy": "p 3 00ff", "window": "60 s", "value": "2", "trace_id": "ab" * 16},
        NOW + 30,
    )
    assert states(evaluator) == [FIRING]
    (again,) = evaluator.evaluate(NOW + 45)
    assert again == notice
    (over,) = evaluator.evaluate(NOW + 60)
    assert (over.labels, over.started, over.ended) == (notice.labels, NOW + 30, NOW + 60)
    assert states(evaluator) == [RESOLVED]
    assert evaluator.evaluate(NOW + 70) == []
    assert states(evaluator) == [INACTIVE]


def test_what_pauses_while_pending_begins_again() -> None:
    evaluator = Evaluator([BLOCKS])
    seen(evaluator, 2, NOW)
    evaluator.evaluate(NOW + 50)
    assert states(evaluator) == [PENDING]
    evaluator.evaluate(NOW + 60)
    assert states(evaluator) == [INACTIVE]
    seen(evaluator, 2, NOW + 65)
    assert evaluator.evaluate(NOW + 80) == []
    assert evaluator.evaluate(NOW + 109) == []
    assert names(evaluator.evaluate(NOW + 110)) == [("m", False)]


def test_what_fires_again_began_again() -> None:
    evaluator = Evaluator([Rule("A", of={"action": ("block",)}, above=0, window_s=60)])
    seen(evaluator, 1, NOW)
    evaluator.evaluate(NOW)
    assert evaluator.evaluate(NOW + 60)[0].resolved
    seen(evaluator, 1, NOW + 61)
    (notice,) = evaluator.evaluate(NOW + 61)
    assert (notice.started, notice.resolved) == (NOW + 61, False)


def test_each_value_of_a_label_stands_by_itself() -> None:
    evaluator = Evaluator([BLOCKS])
    for model, count in (("a", 3), ("b", 1), ("", 2)):
        seen(evaluator, count, NOW, model=model)
    evaluator.evaluate(NOW)
    assert names(evaluator.evaluate(NOW + 30)) == [("Blocks", False), ("a", False)]  # no model, no label


def test_a_share_needs_enough_of_them() -> None:
    rule = Rule("A", "ratio", {"action": ("block",)}, {}, above=0.5, at_least=10, window_s=60)
    evaluator = Evaluator([rule])
    seen(evaluator, 9, NOW)
    assert evaluator.evaluate(NOW) == []
    evaluator.observe(made(action="allow"), NOW)
    (notice,) = evaluator.evaluate(NOW)
    assert notice.annotations["value"] == "0.9"


def test_a_burn_rate_needs_both_windows() -> None:
    rule = Rule("A", "burn", {"action": ("block",)}, {}, burn=Burn(0.9, 600, 60, 5))
    evaluator = Evaluator([rule])
    seen(evaluator, 10, NOW)
    (notice,) = evaluator.evaluate(NOW)
    assert notice.annotations["window"] == "600 s and 60 s"
    for second in range(1, 61):
        evaluator.observe(made(action="allow"), NOW + 10 + second / 10)
    assert [one.resolved for one in evaluator.evaluate(NOW + 20)] == [True]  # no longer in the long window
    evaluator = Evaluator([rule])
    seen(evaluator, 10, NOW)
    evaluator.evaluate(NOW)
    evaluator.observe(made(action="allow"), NOW + 65)
    assert [one.resolved for one in evaluator.evaluate(NOW + 65)] == [True]  # no longer in the short one


@pytest.mark.parametrize(
    ("rule", "bad", "fires"),
    [
        (Rule("A", of={"action": ("block",)}, above=50), 50, False),
        (Rule("A", of={"action": ("block",)}, above=50), 51, True),
        (Rule("A", "ratio", {"action": ("block",)}, {}, above=0.05), 50, False),
        (Rule("A", "ratio", {"action": ("block",)}, {}, above=0.05), 51, True),
        (Rule("A", "ratio", {"action": ("allow",)}, {}, below=0.95), 50, False),
        (Rule("A", "ratio", {"action": ("allow",)}, {}, below=0.95), 51, True),
        # 14.4 times what 99 % and 99.9 % allow to fail.
        (Rule("A", "burn", {"action": ("block",)}, {}, burn=Burn(0.99)), 144, False),
        (Rule("A", "burn", {"action": ("block",)}, {}, burn=Burn(0.99)), 145, True),
        (Rule("A", "burn", {"action": ("block",)}, {}, burn=Burn(0.999)), 14, False),
        (Rule("A", "burn", {"action": ("block",)}, {}, burn=Burn(0.999)), 15, True),
    ],
)
def test_what_equals_the_bound_tells_nobody(rule: Rule, bad: int, fires: bool) -> None:
    evaluator = Evaluator([rule])
    for number in range(1000):
        evaluator.observe(made(action="block" if number < bad else "allow"), NOW)
    assert bool(evaluator.evaluate(NOW)) is fires


def test_what_has_to_last_may_last_longer_than_the_window() -> None:
    evaluator = Evaluator([Rule("A", of={"action": ("block",)}, above=0, window_s=60, for_s=300)])
    for second in range(0, 300, 30):
        seen(evaluator, 1, NOW + second)
        assert evaluator.evaluate(NOW + second) == []
    assert names(evaluator.evaluate(NOW + 300)) == [("A", False)]


def test_nothing_is_missing_before_a_whole_window_has_gone_by() -> None:
    rules = [Rule("Silent", "absence", window_s=60), Rule("Few", below=3, window_s=60), Rule("None", "rate", below=1)]
    evaluator = Evaluator(rules)
    assert evaluator.evaluate(NOW) == []
    assert evaluator.evaluate(NOW + 59) == []
    assert names(evaluator.evaluate(NOW + 60)) == [("Few", False), ("Silent", False)]
    evaluator.observe(made(), NOW + 61)
    assert names(evaluator.evaluate(NOW + 61)) == [("Few", False), ("Silent", True)]
    assert names(evaluator.evaluate(NOW + 300)) == [("Few", False), ("None", False), ("Silent", False)]


def test_a_quantile_of_nothing_is_neither_above_nor_below() -> None:
    evaluator = Evaluator([Rule("A", value="latency", below=1, window_s=60)])
    assert evaluator.evaluate(NOW + 600) == []
    evaluator.observe(called(), NOW + 601)
    (notice,) = evaluator.evaluate(NOW + 601)
    assert 0.32 < float(notice.annotations["value"]) <= 0.64


def test_a_clock_that_is_set_back_ends_nothing_before_it_began() -> None:
    evaluator = Evaluator([Rule("A", of={"action": ("block",)}, above=0, window_s=60, for_s=30)])
    seen(evaluator, 1, NOW)
    evaluator.evaluate(NOW)
    assert evaluator.evaluate(NOW - 3600) == []
    assert evaluator.evaluate(NOW - 3600 + 29) == []
    (notice,) = evaluator.evaluate(NOW - 3600 + 30)
    (over,) = evaluator.evaluate(NOW - 3600 + 60)
    assert notice.started <= over.ended
    assert over.resolved


def drift(score: float, *, resolved: bool = False, feature: str = "length") -> Alert:
    said: dict[str, str | int | float] = {
        "llmguard.monitor.name": "d",
        "llmguard.drift.feature": feature,
        "llmguard.drift.statistic": "berk_jones",
        "llmguard.drift.reference": "file",
        "llmguard.drift.score.value": score,
    }
    return Alert("llmguard.drift.detected", "d", "length has drifted", said, resolved)


def test_what_a_monitor_tells_fires_until_it_is_over() -> None:
    rule = Rule("Drifts", "drift", {"feature": ("length",)}, for_s=10)
    evaluator = Evaluator([rule, Rule("Unfair", "fairness")])
    evaluator.hear(drift(6.5))
    evaluator.hear(drift(9.0, feature="words"))
    evaluator.hear(Alert("llmguard.other", "d", "x"))
    assert evaluator.evaluate(NOW) == []
    (notice,) = evaluator.evaluate(NOW + 10)
    assert notice.labels == {
        "alertname": "Drifts",
        "severity": "warning",
        "monitor": "d",
        "feature": "length",
        "statistic": "berk_jones",
        "reference": "file",
    }
    assert notice.annotations["value"] == "6.5"
    evaluator.hear(drift(0.5, resolved=True))
    assert [one.resolved for one in evaluator.evaluate(NOW + 20)] == [True]


def test_the_alerts_of_monitors_are_bounded() -> None:
    evaluator = Evaluator([Rule("Drifts", "drift")])
    for number in range(5000):
        evaluator.hear(drift(1.0, feature=f"f{number}"))
    assert len(evaluator.evaluate(NOW)) == 1000


@pytest.mark.parametrize("score", ["high", None, 10**400, float("nan"), True])
def test_a_score_that_is_no_number_stops_no_rule(score: Any) -> None:
    evaluator = Evaluator([Rule("Drifts", "drift"), Rule("Blocks", of={"action": ("block",)}, above=0)])
    evaluator.hear(drift(score))
    seen(evaluator, 1, NOW)
    drifts, blocks = evaluator.evaluate(NOW)
    assert (drifts.labels["alertname"], blocks.labels["alertname"]) == ("Drifts", "Blocks")
    assert "value" not in drifts.annotations


@pytest.mark.parametrize("values", list(itertools.permutations([0.9, float("nan"), 0.1])))
def test_a_reading_of_nothing_hides_no_other(values: tuple[float, ...]) -> None:
    evaluator = Evaluator([Rule("Unfair", "fairness", by=("monitor",), above=0.5)])
    readings = [Reading("llmguard.fairness.disparity", value, {"llmguard.monitor.name": "f"}) for value in values]
    (notice,) = evaluator.evaluate(NOW, readings)
    assert notice.annotations["value"] == "0.9"


@pytest.mark.parametrize(
    ("bound", "fires"), [({"above": 0.2}, ["a", "b"]), ({"above": 0.35}, ["b"]), ({"below": 0.2}, ["c"])]
)
def test_bounds_are_about_the_readings_of_monitors(bound: dict[str, float], fires: list[str]) -> None:
    rule = Rule("Unfair", "fairness", {"outcome": ("blocked",)}, by=("group",), **bound)
    evaluator = Evaluator([rule])
    readings = [
        Reading(
            "llmguard.fairness.disparity",
            value,
            {"llmguard.monitor.name": "f", "llmguard.fairness.outcome": outcome, "llmguard.fairness.group": group},
        )
        for group, outcome, value in [
            ("a", "blocked", 0.3),
            ("b", "blocked", 0.4),
            ("c", "blocked", 0.1),
            ("a", "x", 9),
        ]
    ]
    notices = evaluator.evaluate(NOW, readings)
    assert sorted(notice.labels["group"] for notice in notices) == fires
    assert all(notice.resolved for notice in evaluator.evaluate(NOW + 1))


def test_a_policy_that_changes_keeps_what_stays_and_ends_what_goes() -> None:
    stays, goes = BLOCKS, Rule("Other", of={"action": ("block",)}, above=0, window_s=60)
    evaluator = Evaluator([stays, goes], POLICY)
    seen(evaluator, 2, NOW)
    evaluator.evaluate(NOW)
    assert names(evaluator.evaluate(NOW + 30)) == [("Other", False), ("m", False)]
    evaluator.change([Rule("New", "absence"), stays], PolicyRef("p", "4", ""))
    notices = evaluator.evaluate(NOW + 40)
    assert names(notices) == [("Other", True), ("m", False)]
    (kept,) = [notice for notice in notices if not notice.resolved]
    assert (kept.started, kept.annotations["policy"]) == (NOW + 30, "p 4")
    assert names(evaluator.evaluate(NOW + 50)) == [("m", False)]


def test_no_rule_costs_nothing_and_tells_nothing() -> None:
    evaluator = Evaluator([])
    evaluator.observe(made(), NOW)
    assert evaluator.evaluate(NOW) == []
    assert evaluator.states() == []


def test_threads_count_everything() -> None:
    evaluator = Evaluator([Rule("A", of={"action": ("block",)}, above=0, window_s=60)])
    threads = [threading.Thread(target=seen, args=(evaluator, 500, NOW)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        evaluator.evaluate(NOW)
    for thread in threads:
        thread.join()
    (notice,) = evaluator.evaluate(NOW)
    assert notice.annotations["value"] == "2000"
