"""That what a guard decides reaches the sinks its policy names: in time, once, also over restarts and processes."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alert_sinks import Clock, Scripted
from fakes import Words

from llmguard import ConfigurationError, Guard
from llmguard.exporters.alerts import manager
from llmguard.exporters.alerts.manager import Alerts
from llmguard.exporters.alerts.matching import matchers
from llmguard.exporters.alerts.plan import Plan
from llmguard.exporters.alerts.routing import Routing
from llmguard.exporters.alerts.rule import Rule
from llmguard.exporters.alerts.silences import Silence
from llmguard.exporters.alerts.sink import DELIVERED, RETRY, Verdict
from llmguard.readings import Alert, Dispatched, Reading
from llmguard.types import Action, Decision, Observation, PolicyRef, Stage

BLOCKS = Rule("Blocks", of={"action": ("block",)}, above=0.0, window_s=60.0, severity="critical")
DRIFT = "llmguard.drift.detected"
ATTRIBUTES = {
    "llmguard.monitor.name": "drift",
    "llmguard.drift.feature": "input.length",
    "llmguard.drift.statistic": "berk_jones",
    "llmguard.drift.reference": "file",
    "llmguard.drift.score.value": 9.5,
}
BLOCKED = Observation(Decision(Action.BLOCK, ("",), (), Stage.INPUT, PolicyRef("p", "1", "h")))


class Bench:
    """Alerts with a clock that stands still unless it is moved."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock(1_700_000_000.0)
        self.sinks = {name: Scripted(name) for name in ("ops", "pager")}
        self.plan = Plan(
            (BLOCKS,),
            {name: {"kind": "scripted"} for name in self.sinks},
            PolicyRef("p", "1", "h"),
            Routing(("alertname",), 10.0, 60.0, 3600.0),
            outbox=str(folder / "alerts.sqlite"),
            every_s=15.0,
        )
        self.made: list[Alerts] = []
        monkeypatch.setattr(manager, "build", lambda name, _: self.sinks[name])

    def alerts(self, **changed: Any) -> Alerts:
        self.made.append(Alerts(replace(self.plan, **changed), clock=self.clock))
        return self.made[-1]

    def after(self, seconds: float, *alerts: Alerts) -> None:
        """Move the clock, and have all of them look."""
        self.clock.now += seconds
        for one in alerts:
            one.force_flush()

    def told(self, sink: str = "ops") -> list[tuple[list[str], bool]]:
        return [
            ([one.labels["alertname"] for one in group.notices], group.resolved) for _, group in self.sinks[sink].taken
        ]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path, monkeypatch)
    yield bench
    for alerts in bench.made:
        alerts.shutdown(10.0)


FIRES, OVER = (["Blocks"], False), (["Blocks"], True)


def test_from_a_decision_to_a_sink_and_that_it_is_over(bench: Bench) -> None:
    alerts = bench.alerts()
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    assert bench.told() == []
    bench.after(10, alerts)
    assert bench.told() == bench.told("pager") == [FIRES]
    (notice,) = bench.sinks["ops"].taken[0][1].notices
    assert notice.labels == {"alertname": "Blocks", "severity": "critical"}
    assert notice.annotations["policy"] == "p 1 h"
    bench.after(61, alerts)
    assert bench.told() == bench.told("pager") == [FIRES, OVER]
    bench.after(600, alerts)
    assert len(bench.told()) == 2


def test_rules_tell_the_sinks_that_they_name(bench: Bench) -> None:
    alerts = bench.alerts(rules=(replace(BLOCKS, sinks=("pager",)),))
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    bench.after(10, alerts)
    assert (bench.told(), bench.told("pager")) == ([], [FIRES])


def test_a_sink_that_forgets_is_told_again_in_time(bench: Bench) -> None:
    bench.sinks["pager"].repeat_s = 30.0  # type: ignore[attr-defined]
    alerts = bench.alerts(rules=(replace(BLOCKS, window_s=600.0),), routing=Routing((), 0.0, 10.0))
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    for _ in range(6):
        bench.after(10, alerts)
    assert (bench.told(), bench.told("pager")) == ([FIRES], [FIRES] * 3)


def test_a_sink_that_would_forget_between_two_messages_is_refused(bench: Bench) -> None:
    bench.sinks["pager"].repeat_s = 30.0  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"'pager' must be told every 30 s .* make it 30 or less"):
        bench.alerts()
    alerts = bench.alerts(routing=Routing((), 0.0, 30.0))
    with pytest.raises(ConfigurationError, match="60 s pass"):
        alerts.change(bench.plan)
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    assert bench.told("pager") == [FIRES]


def test_silences_are_kept(bench: Bench) -> None:
    now = bench.clock.now
    alerts = bench.alerts(silences=(Silence(matchers({"alertname": "Blocks"}), now, now + 3600),))
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    bench.after(10, alerts)
    assert bench.told() == []


def test_several_processes_tell_once_and_that_it_is_over_when_it_is_in_all(bench: Bench) -> None:
    one, other = bench.alerts(), bench.alerts()
    one.observe(BLOCKED)
    bench.after(0, one, other)
    bench.after(30, one, other)
    other.observe(BLOCKED)
    bench.after(0, one, other)
    assert bench.told() == [FIRES]
    bench.after(31, other, one)  # over in the first of them
    bench.after(20, other, one)
    assert bench.told() == [FIRES]
    bench.after(61, other, one)
    assert bench.told() == [FIRES, OVER]


def test_whoever_is_left_tells_when_the_one_that_led_ends(bench: Bench) -> None:
    one, other = bench.alerts(), bench.alerts()
    bench.after(0, one, other)
    one.observe(BLOCKED)
    bench.after(0, one, other)
    assert one.shutdown()
    assert bench.told() == [FIRES]  # the end waits for nothing
    bench.after(1, other)
    bench.after(4 * 3600, other)  # what the other said stood for a while
    bench.after(60, other)
    assert bench.told() == [FIRES, OVER]


def test_that_it_is_over_is_told_after_a_restart_and_what_goes_on_is_not_told_again(bench: Bench) -> None:
    before = bench.alerts()
    before.observe(BLOCKED)
    bench.after(0, before)
    bench.after(10, before)
    before.shutdown()
    after = bench.alerts()
    bench.after(20, after)
    after.observe(BLOCKED)
    bench.after(30, after)
    assert bench.told() == [FIRES]
    bench.after(100, after)
    bench.after(100, after)
    assert bench.told() == [FIRES, OVER]


def test_what_fired_right_before_the_end_is_told_however_long_ago_that_was(bench: Bench) -> None:
    killed = bench.alerts()
    killed.observe(BLOCKED)
    bench.after(0, killed)
    killed._board.close()  # as when the process is killed: nothing is told at the end
    killed._closed = True
    killed._stop.set()
    killed._way.delivery.shutdown()
    bench.clock.now += 7 * 86400
    after = bench.alerts()
    bench.after(0, after)
    bench.after(10, after)
    assert bench.told() == [FIRES]
    bench.after(4 * 3600, after)
    bench.after(60, after)
    assert bench.told() == [FIRES, OVER]


def test_another_plan_keeps_what_it_leaves_as_it_was(bench: Bench) -> None:
    alerts = bench.alerts(rules=(BLOCKS, replace(BLOCKS, alert="Others")))
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    bench.after(10, alerts)
    assert sorted(bench.told()) == [FIRES, (["Others"], False)]
    alerts.change(replace(bench.plan, policy=PolicyRef("p", "2", "i"), rules=(BLOCKS,)))
    bench.after(20, alerts)
    bench.after(20, alerts)
    assert sorted(bench.told()) == [FIRES, (["Others"], False), (["Others"], True)]
    bench.after(61, alerts)
    assert sorted(bench.told())[:2] == [FIRES, OVER]


def test_other_sinks_are_told_of_what_fires_and_a_broken_plan_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    alerts = bench.alerts(sinks={"ops": {"kind": "scripted"}})
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    bench.after(10, alerts)
    with pytest.raises(KeyError):
        alerts.change(replace(bench.plan, sinks={"gone": {"kind": "scripted"}}))
    alerts.change(bench.plan)
    bench.after(10, alerts)
    assert (bench.told(), bench.told("pager")) == ([FIRES], [FIRES])
    alerts.change(replace(bench.plan, outbox=str(tmp_path / "another.sqlite")))
    bench.after(0, alerts)
    bench.after(61, alerts)
    bench.after(61, alerts)
    assert (bench.told(), bench.told("pager")) == ([FIRES, OVER], [FIRES, OVER])
    assert (tmp_path / "another.sqlite").exists()


def test_a_sink_that_is_down_hears_of_it_later_and_each_attempt_is_told(bench: Bench) -> None:
    bench.sinks["ops"].answer = lambda _, __: Verdict(RETRY, "status 503")
    told: list[Dispatched] = []
    alerts = bench.alerts()
    alerts.on_dispatch(told.append)
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    bench.after(10, alerts)
    alerts.shutdown()
    assert (bench.told(), bench.told("pager")) == ([], [FIRES])
    assert {(one.sink, one.outcome) for one in told} == {("ops", "retry"), ("pager", "delivered")}
    bench.sinks["ops"].answer = Scripted().answer
    after = bench.alerts()
    bench.after(5, after)
    assert bench.told() == [FIRES]


def _until(done: Callable[[], bool]) -> bool:
    turn = threading.Event()
    return any(done() or turn.wait(0.05) for _ in range(1200))


def test_the_end_tells_what_waits(bench: Bench) -> None:
    alerts = bench.alerts()
    alerts.observe(BLOCKED)
    assert alerts.shutdown()
    assert alerts.shutdown()
    assert bench.told() == [FIRES]
    alerts.observe(BLOCKED)
    assert not alerts._thread or not alerts._thread.is_alive()


def test_its_own_thread_looks_at_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch)
    alerts = Alerts(replace(bench.plan, every_s=0.02, routing=Routing(("alertname",), 0.0)))
    alerts.observe(BLOCKED)
    assert _until(lambda: bench.told() == [FIRES])
    alerts.shutdown()


def test_what_other_monitors_tell_goes_where_a_rule_says_and_nowhere_without_one(bench: Bench) -> None:
    rule = Rule("Drift", kind="drift", of={"feature": ("input.length",)})
    alerts = bench.alerts(rules=(rule,))
    alerts.overhear(Alert(DRIFT, "drift", "a summary", ATTRIBUTES))
    alerts.overhear(Alert(DRIFT, "drift", "a summary", {**ATTRIBUTES, "llmguard.drift.feature": "other"}))
    alerts.overhear(Alert("something.else", "x", "y"))
    bench.after(0, alerts)
    bench.after(10, alerts)
    assert bench.told() == [(["Drift"], False)]
    (notice,) = bench.sinks["ops"].taken[0][1].notices
    assert notice.labels["feature"] == "input.length"
    alerts.overhear(Alert(DRIFT, "drift", "a summary", ATTRIBUTES, resolved=True))
    bench.after(0, alerts)
    bench.after(60, alerts)
    assert bench.told() == [(["Drift"], False), (["Drift"], True)]


class Gauge:
    """A monitor that has a value, and tells an alert of each observation."""

    name = "gauge"

    def __init__(self) -> None:
        self.hearers: list[Callable[[Alert], object]] = []
        self.value = 0.0

    def observe(self, seen: Observation) -> None:
        del seen
        for hear in self.hearers:
            hear(Alert(DRIFT, self.name, "s", ATTRIBUTES))

    def subscribe(self, hear: Callable[[Alert], object]) -> None:
        self.hearers.append(hear)

    def readings(self) -> list[Reading]:
        labels = {name: str(value) for name, value in ATTRIBUTES.items() if not name.endswith("value")}
        return [Reading("llmguard.drift.score", self.value, labels)]


def test_a_guard_has_its_alerts_hear_and_read_the_other_monitors(bench: Bench) -> None:
    rules = (Rule("Told", kind="drift"), Rule("Read", kind="drift", above=5.0, by=("feature",)))
    alerts, gauge = bench.alerts(rules=rules), Gauge()
    with Guard({"rules": []}, monitors=[gauge, alerts]) as guard:
        guard.check("a")
        guard._telemetry.monitors.flush()  # type: ignore[union-attr]
        bench.after(0, alerts)
        bench.after(10, alerts)
        assert bench.told() == [(["Told"], False)]
        gauge.value = 6.0
        bench.after(0, alerts)
        bench.after(10, alerts)
        assert bench.told() == [(["Told"], False), (["Read"], False)]


def _policy(folder: Path, *rules: dict[str, Any], **said: Any) -> dict[str, Any]:
    sinks = {"ops": {"kind": "webhook", "url": "http://127.0.0.1:9/", "secret": "env:HOOK", "allow": ["127.0.0.0/8"]}}
    alerts = {"outbox": str(folder / "a.sqlite"), "sinks": sinks, "rules": list(rules), **said}
    return {
        "name": "p",
        "rules": [{"detector": "words", "action": "block"}],
        "alerts": {**alerts, "every_s": 3600.0, "group_wait_s": 0.0},
    }


RULE = {"alert": "Blocks", "of": {"action": "block"}, "above": 0, "severity": "critical"}


def test_a_policy_with_alerts_needs_no_further_code_and_reload_keeps_what_fires(bench: Bench, tmp_path: Path) -> None:
    policy = _policy(tmp_path, RULE)
    with Guard(policy, detectors=[Words("words", "bad")]) as guard:
        guard.check("a bad word")
        guard._telemetry.monitors.flush()  # type: ignore[union-attr]
        alerts = guard._in_force._monitors._alerts
        assert isinstance(alerts, Alerts)
        assert alerts.force_flush()
        assert bench.told() == [FIRES]
        guard.reload(_policy(tmp_path, RULE, {**RULE, "alert": "More", "above": 1}))
        assert guard._in_force._monitors._alerts is alerts
        guard.check("a bad word")
        guard._telemetry.monitors.flush()  # type: ignore[union-attr]
        alerts.force_flush()
        assert bench.told() == [FIRES, (["More"], False)]
        with pytest.raises(ConfigurationError):
            guard.reload(_policy(tmp_path, {**RULE, "sinks": ["nobody"]}))
        assert [state.state for state in alerts.states()] == ["firing", "firing"]
        guard.reload({**policy, "alerts": {}})
        assert alerts._closed
        guard.reload(policy)
        guard.check("a bad word")
    assert bench.told()[:2] == [FIRES, (["More"], False)]
    assert not [one for one in threading.enumerate() if one.name == "llmguard-alerts"]


def test_a_policy_that_has_no_rules_any_more_tells_that_what_fired_is_over(bench: Bench, tmp_path: Path) -> None:
    with Guard(_policy(tmp_path, RULE), detectors=[Words("words", "bad")]) as guard:
        guard.check("a bad word")
        guard._telemetry.monitors.flush()  # type: ignore[union-attr]
        alerts = guard._in_force._monitors._alerts
        assert isinstance(alerts, Alerts)
        assert alerts.force_flush()
        guard.reload(_policy(tmp_path))
        assert guard._in_force._monitors._alerts is None
        assert bench.told() == [FIRES, OVER]


def test_a_guard_that_nobody_holds_leaves_no_thread_and_tells_what_it_decided(bench: Bench, tmp_path: Path) -> None:
    guard = Guard(_policy(tmp_path, RULE), detectors=[Words("words", "bad")])
    guard.check("a bad word")
    gone = weakref.ref(guard._in_force._monitors._alerts)
    del guard
    assert _until(lambda: gc.collect() >= 0 and gone() is None)
    assert _until(lambda: not [one for one in threading.enumerate() if one.name.startswith("llmguard-alerts")])
    with Guard(_policy(tmp_path, RULE), detectors=[Words("words", "bad")]) as after:
        alerts = after._in_force._monitors._alerts
        assert isinstance(alerts, Alerts)
        alerts.force_flush()
    assert bench.told() == [FIRES]


def test_a_guard_that_is_told_to_tells_nobody(bench: Bench, tmp_path: Path) -> None:
    with Guard(_policy(tmp_path, RULE), detectors=[Words("words", "bad")], alerts=False) as guard:
        guard.check("a bad word")
    assert bench.told() == []
    assert not (tmp_path / "a.sqlite").exists()


def test_a_monitor_of_the_same_name_is_refused_and_leaves_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    with Guard({"rules": []}, detectors=[Words("words", "bad")], monitors=[bench.alerts()]) as guard:
        with pytest.raises(ConfigurationError, match="'alerts'"):
            guard.reload(_policy(tmp_path, RULE))
        assert guard._in_force._monitors._alerts is None


def test_a_sink_whose_secret_is_not_there_is_an_error_of_the_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="HOOK"):
        Guard(_policy(tmp_path, RULE), detectors=[Words("words", "bad")])


def test_alerts_that_nobody_holds_end(bench: Bench) -> None:
    alerts = bench.alerts()
    alerts.observe(BLOCKED)
    thread, gone = alerts._thread, weakref.ref(alerts)
    bench.made.clear()
    del alerts
    assert _until(lambda: gc.collect() >= 0 and gone() is None)
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()


def test_a_look_that_fails_is_told_and_the_next_one_tells_what_it_would_have(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = bench.alerts()
    failures: list[str] = []
    alerts.on_failure(lambda component, error: failures.append(f"{component} {type(error).__name__}"))
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    with monkeypatch.context() as broken:
        broken.setattr(alerts._rounds, "_put", _raising)
        bench.after(10, alerts)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", _raising)
        bench.after(10, alerts)
    assert failures == ["alerts MemoryError"] * 2
    bench.after(10, alerts)
    bench.after(10, alerts)
    assert bench.told() == [FIRES]


def _raising(*_: object) -> None:
    raise MemoryError


def test_a_forked_child_counts_anew_and_tells_through_its_parent(bench: Bench) -> None:
    alerts = bench.alerts()
    bench.after(0, alerts)
    if (child := os.fork()) == 0:
        try:
            alerts.observe(BLOCKED)
            alerts._look()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert [state.state for state in alerts.states()] == ["inactive"]
    bench.after(0, alerts)
    bench.after(10, alerts)
    assert bench.told() == [FIRES]


def test_what_was_told_and_is_damaged_is_told_again_and_counts_as_a_failure(bench: Bench, tmp_path: Path) -> None:
    before = bench.alerts()
    before.observe(BLOCKED)
    bench.after(0, before)
    bench.after(10, before)
    before.shutdown()
    (tmp_path / "alerts.sqlite.firing" / "told.json").write_text("[{}]")
    bench.clock.now += 5
    after = Alerts(replace(bench.plan, every_s=3600.0), clock=bench.clock)
    bench.made.append(after)
    bench.after(0, after)
    bench.after(10, after)
    assert bench.told() == [FIRES, FIRES]
    assert (tmp_path / "alerts.sqlite.firing" / "told.damaged").exists()


def test_more_alerts_than_are_followed_count_as_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmguard.exporters.alerts.routing.MOST", 1)
    alerts = bench.alerts(rules=(replace(BLOCKS, by=("model",)),))
    failures: list[str] = []
    alerts.on_failure(lambda component, error: failures.append(f"{component} {type(error).__name__}"))
    for model in ("a", "b"):
        alerts.observe(replace(BLOCKED, model=model))
    bench.after(0, alerts)
    assert set(failures) == {"alerts TooManyError"}


def test_a_last_check_does_not_wait_for_a_look_that_the_interpreters_end_has_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "_STOPPING_S", 0.01)
    alerts = bench.alerts()
    with alerts._looking, monkeypatch.context() as ending:
        ending.setattr(alerts, "_ending", True)
        alerts.observe(BLOCKED)
    assert alerts.shutdown()
    assert bench.told() == [FIRES]


def test_sinks_change_while_a_message_is_under_way_and_nobody_is_told_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "_STOPPING_S", 0.01)
    busy, answer = threading.Event(), threading.Event()

    def slowly(*_: object) -> Verdict:
        busy.set()
        answer.wait(60)
        return Verdict(DELIVERED)

    before = bench.sinks["ops"]
    before.answer = slowly
    alerts = bench.alerts(routing=Routing((), 0.0))
    alerts.observe(BLOCKED)
    alerts._look()
    assert busy.wait(60)
    bench.sinks["ops"] = Scripted("ops")
    alerts.change(replace(bench.plan, sinks={"ops": {"kind": "scripted", "anew": True}}))
    answer.set()
    assert _until(lambda: before.closed)
    bench.after(60, alerts)
    assert len(before.taken) == 1
    assert bench.told() == [OVER]


def test_what_is_for_a_sink_that_whoever_leads_does_not_know_counts_as_a_failure(bench: Bench) -> None:
    one, other = bench.alerts(sinks={"ops": {"kind": "scripted"}}), bench.alerts()
    failures: list[str] = []
    one.on_failure(lambda component, error: failures.append(f"{component} {type(error).__name__}"))
    bench.after(0, one, other)
    other.observe(BLOCKED)
    bench.after(0, other, one)
    assert failures == ["alerts UnknownSinkError"]
    bench.after(10, other, one)
    assert (bench.told(), bench.told("pager")) == ([FIRES], [])
    one.shutdown()
    bench.after(0, other)
    bench.after(10, other)
    assert (bench.told(), bench.told("pager")) == ([FIRES], [FIRES])


def test_a_full_disk_does_not_keep_another_plan_from_being_followed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts = bench.alerts()
    failures: list[str] = []
    alerts.on_failure(lambda component, error: failures.append(f"{component} {type(error).__name__}"))
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    bench.after(10, alerts)
    with monkeypatch.context() as full:
        full.setattr("llmguard.exporters.alerts.firing.Board.tell", _full)
        alerts.change(replace(bench.plan, outbox=str(tmp_path / "another.sqlite")))
    assert failures == ["alerts OSError"]
    bench.after(61, alerts)
    alerts.observe(BLOCKED)
    bench.after(0, alerts)
    bench.after(10, alerts)
    assert bench.told() == [FIRES, FIRES]


def _full(*_: object) -> None:
    raise OSError(28, "full")


def test_an_outbox_that_cannot_be_written_is_an_error_of_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "whsec_" + "a2tr" * 8)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"a\.sqlite"):
        Guard(_policy(tmp_path / "file", RULE), detectors=[Words("words", "bad")])
