"""What monitors tell of themselves: values to be read at any time, and alerts when something has changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a gauge.

    Attributes:
        metric: its name, one of those in `signals`.
        value: finite.
        labels: from closed sets, by the attribute's name.
    """

    metric: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that somebody should know; never holds any part of a text.

    Attributes:
        event: its name, one of those in `signals`.
        monitor: the name of who noticed.
        summary: one line for a person.
        attributes: of the event.
        resolved: whether this says that what was told before is over.
    """

    event: str
    monitor: str
    summary: str
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What became of a message about alerts, after an attempt to deliver it or when it was given up.

    Attributes:
        sink: the name of the receiver, as the policy has it.
        outcome: one of `OUTCOMES`.
        severity: the worst of what it tells: ``critical``, ``error``, ``warning`` or ``info``.
        attempts: how often it was tried so far.
        seconds: that this attempt took; 0.0 where there was none.
    """

    sink: str
    outcome: str
    severity: str
    attempts: int
    seconds: float = 0.0


#: It was taken; not yet, and is tried again; never will be; nothing more is wanted; too old; had to make room.
OUTCOMES = ("delivered", "retry", "refused", "gone", "expired", "dropped")


@runtime_checkable
class Gauged(Protocol):
    """A monitor that has values to be read."""

    def readings(self) -> Sequence[Reading]:
        """Its values now; called whenever metrics are collected."""
        ...


@runtime_checkable
class Alerting(Protocol):
    """A monitor that tells alerts."""

    def subscribe(self, hear: Callable[[Alert], object]) -> None:
        """Have each further alert told to ``hear``, on the thread that noticed; it must not raise."""
        ...


@runtime_checkable
class Hearing(Protocol):
    """A monitor that is told the alerts of the others, and may read their values."""

    def attend(self, readings: Callable[[], Sequence[Reading]]) -> None:
        """Read the values of all monitors here, at any time."""
        ...

    def overhear(self, alert: Alert) -> None:
        """Take an alert into account, on the thread that noticed."""
        ...


@runtime_checkable
class Dispatching(Protocol):
    """A monitor that sends messages to receivers."""

    def on_dispatch(self, hear: Callable[[Dispatched], object]) -> None:
        """Have each attempt told to ``hear``, on the thread that made it; it must not raise."""
        ...


@runtime_checkable
class Failing(Protocol):
    """A monitor that works on a thread of its own, where something may fail."""

    def on_failure(self, failed: Callable[[str, Exception], object]) -> None:
        """Have each failure told to ``failed``, with the name of the component that it counts to; it must not raise."""
        ...
