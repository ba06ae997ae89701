"""The monitor that a policy's key ``alerts`` asks for: found by its entry point, kept while policies change."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.plan import Plan
from llmguard.exporters.alerts.routing import Routing
from llmguard.policy import Policy
from llmguard.types import Monitor

GROUP = "llmguard.monitors"
ALERTS = "alerts"
_ENDING_S = 5.0


@runtime_checkable
class Planned(Monitor, Protocol):
    """A monitor that goes by what a policy says. Its entry point is called with the first `Plan`."""

    def change(self, plan: Plan) -> None:
        """Go by another one; raises `ConfigurationError` and changes nothing where it can't."""
        ...

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """End; whether nothing is left undone."""
        ...


class PolicyMonitors:
    """The monitors of one guard's policy, one policy after the other. One thread at a time.

    Args:
        wanted: whether there are any, whatever the policy says.
    """

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._alerts: Planned | None = None

    def of(self, policy: Policy) -> tuple[Monitor, ...]:
        """Those that a policy asks for; what it leaves as it was goes on. `settle` ends the others.

        Raises:
            ConfigurationError: what it says about sinks or the outbox is wrong; nothing is changed.
        """
        said = plan(policy)
        if not self._wanted or not said.rules or not said.sinks:
            if self._alerts is not None and said.sinks:
                self._alerts.change(said)  # its end tells them that what fired is over
            return ()
        if self._alerts is None:
            self._alerts = _made(said)
        else:
            self._alerts.change(said)
        return (self._alerts,)

    def settle(self, in_force: tuple[Monitor, ...]) -> None:
        """End what the policy that is in force now does not ask for; all of them where there is none."""
        if self._alerts is not None and self._alerts not in in_force:
            self._alerts.shutdown(_ENDING_S)
            self._alerts = None


def plan(policy: Policy) -> Plan:
    """What a policy says about alerts, as plain values."""
    said = policy.alerts
    return Plan(
        tuple([one.rule for one in said.rules]),
        said.sinks,
        policy.ref,
        Routing(tuple(said.group_by), said.group_wait_s, said.group_interval_s, said.repeat_s),
        tuple([one.inhibition for one in said.inhibit]),
        tuple([one.silence for one in said.silences]),
        said.outbox,
        said.every_s,
    )


def _made(said: Plan) -> Planned:
    entries = tuple(entry_points(group=GROUP, name=ALERTS))
    if len({entry.value for entry in entries}) != 1:
        raise ConfigurationError(
            f"a policy with alerts needs one entry point {ALERTS!r} in the group {GROUP!r}, and {len(entries)} are "
            "installed: install llmguard anew, and nothing that brings another"
        )
    (entry, *_) = entries
    made = entry.load()(said)
    if not isinstance(made, Planned):
        raise ConfigurationError(f"the entry point {entry.value!r} makes no monitor with change and shutdown")
    return made
