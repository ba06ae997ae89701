"""That a policy's alerts become a monitor by an entry point, which goes on while policies change."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from llmguard import ConfigurationError, Policy
from llmguard.exporters.alerts.inhibition import Inhibition
from llmguard.exporters.alerts.matching import matchers
from llmguard.exporters.alerts.plan import Plan
from llmguard.exporters.alerts.routing import Routing
from llmguard.exporters.alerts.rule import Rule
from llmguard.exporters.alerts.silences import Silence
from llmguard.policy_monitors import PolicyMonitors, plan
from llmguard.types import Observation

SINKS = {"ops": {"kind": "slack", "url": "env:NOWHERE"}}
ALERTS = {"rules": [{"alert": "Blocks", "above": 1}], "sinks": SINKS}


class Kept:
    """A monitor that goes by what it is told."""

    name = "alerts"

    def __init__(self, plan: Plan) -> None:
        self.plans = [plan]
        self.ended = 0

    def observe(self, seen: Observation) -> None:
        del seen

    def change(self, plan: Plan) -> None:
        if not plan.routing.group_wait_s:
            raise ConfigurationError("never")
        self.plans.append(plan)

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        self.ended += 1
        return True


def policy(**alerts: Any) -> Policy:
    return Policy.parse({"name": "p", "alerts": {**ALERTS, **alerts}})


@pytest.fixture
def _entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("alerts", f"{__name__}:Kept", "llmguard.monitors")
    monkeypatch.setattr(EntryPoint, "load", lambda _: Kept)
    monkeypatch.setattr("llmguard.policy_monitors.entry_points", lambda **_: (entry,))


def test_what_a_policy_says_as_plain_values() -> None:
    said = policy(
        every_s=3.0,
        outbox="a.sqlite",
        group_by=["model"],
        group_wait_s=1.0,
        group_interval_s=2.0,
        repeat_s=4.0,
        inhibit=[{"source": {"severity": "critical"}, "target": ["severity!=critical"], "equal": ["model"]}],
        silences=[{"match": {"model": "a"}, "from": "1970-01-01T00:00Z", "until": "1970-01-01T00:01Z", "reason": "r"}],
    )
    assert plan(said) == Plan(
        (Rule("Blocks", above=1.0),),
        SINKS,
        said.ref,
        Routing(("model",), 1.0, 2.0, 4.0),
        (Inhibition(matchers({"severity": "critical"}), matchers(["severity!=critical"]), ("model",)),),
        (Silence(matchers({"model": "a"}), 0.0, 60.0, "r"),),
        "a.sqlite",
        3.0,
    )


@pytest.mark.usefixtures("_entry")
def test_one_monitor_goes_on_from_policy_to_policy_until_one_asks_for_none() -> None:
    monitors = PolicyMonitors(wanted=True)
    (first,) = monitors.of(policy())
    assert isinstance(first, Kept)
    (second,) = monitors.of(policy(repeat_s=5.0))
    monitors.settle((second,))
    assert (first is second, len(first.plans), first.ended) == (True, 2, 0)
    with pytest.raises(ConfigurationError, match="never"):
        monitors.of(policy(group_wait_s=0.0))
    for none in (policy(rules=[]), policy(sinks={})):
        assert monitors.of(none) == ()
    assert (len(first.plans), first.plans[-1].rules, first.ended) == (3, (), 0)
    monitors.settle(())
    monitors.settle(())
    assert first.ended == 1
    assert monitors.of(policy()) != (first,)


@pytest.mark.usefixtures("_entry")
def test_a_guard_that_wants_none_has_none() -> None:
    assert PolicyMonitors(wanted=False).of(policy()) == ()


@pytest.mark.parametrize("found", [(), ("a:b", "c:d")])
def test_without_exactly_one_entry_point_there_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...]
) -> None:
    entries = tuple(EntryPoint("alerts", value, "llmguard.monitors") for value in found)
    monkeypatch.setattr("llmguard.policy_monitors.entry_points", lambda **_: entries)
    with pytest.raises(ConfigurationError, match=f"{len(found)} are installed"):
        PolicyMonitors(wanted=True).of(policy())


def test_an_entry_point_that_makes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("alerts", "builtins:repr", "llmguard.monitors")
    monkeypatch.setattr("llmguard.policy_monitors.entry_points", lambda **_: (entry,))
    with pytest.raises(ConfigurationError, match="makes no monitor"):
        PolicyMonitors(wanted=True).of(policy())


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"every_s": 0.0}, "every_s"),
        ({"every_s": float("nan")}, "every_s"),
        ({"rules": (Rule("A", above=1, sinks=("x",)),)}, "'x'"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(wrong: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        Plan(**{"rules": (), "sinks": {}, **wrong})
