"""Sinks that do as they are told, and groups of notices to tell them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from llmguard.exporters.alerts.courier import Courier, Pace
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.sink import DELIVERED, Verdict
from llmguard.readings import Dispatched

WEEK = 7 * 86_400.0
TAKEN = Verdict(DELIVERED)


def group(key: str = "g", *, over: bool = False, severity: str = "warning", started: float = 1.0, **more: str) -> Group:
    """One alert that fires, or is over."""
    labels = {"alertname": "Blocks", "severity": severity, "model": key}
    return Group(
        key, {"alertname": "Blocks"}, (Notice(labels, {"summary": "s", **more}, started, 2.0 if over else 0.0),)
    )


class Clock:
    """Tells the time that it was set to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Answers by a function of the message's group and the time, and keeps what it was sent."""

    most = 50

    def __init__(
        self, name: str = "ops", answer: Callable[[Group, float], Verdict] = lambda _, __: TAKEN, pause_s: float = 0.0
    ) -> None:
        self.name = name
        self.answer = answer
        self.pause_s = pause_s
        self.seen: list[tuple[str, Group, float]] = []
        self.taken: list[tuple[str, Group]] = []
        self.closed = 0
        self.ended = threading.Event()

    def send(self, message: str, group: Group, now: float) -> Verdict:
        self.seen.append((message, group, now))
        verdict = self.answer(group, now)
        if verdict.outcome == DELIVERED:
            self.taken.append((message, group))
        return verdict

    def close(self) -> None:
        self.closed += 1
        self.ended.set()

    @property
    def told(self) -> list[tuple[str, bool]]:
        """What it took: the group, and whether it is over."""
        return [(group.key, group.resolved) for _, group in self.taken]


class Hanging(Scripted):
    """Answers when it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.entered = threading.Event()
        self.go = threading.Event()

    def send(self, message: str, group: Group, now: float) -> Verdict:
        self.entered.set()
        self.go.wait(60)
        return super().send(message, group, now)


class Bench:
    """An outbox, one sink and its courier, with a clock that stands still unless it is moved."""

    def __init__(self, path: Path, sink: Scripted | None = None, pace: Pace | None = None, **options: int) -> None:
        self.clock = Clock()
        self.outbox = Outbox(path / "alerts.sqlite", fsync=False, **options)
        self.sink = sink or Scripted()
        self.dispatched: list[Dispatched] = []
        self.failed: list[str] = []
        self.courier = self.another()

    def another(self, sink: Scripted | None = None) -> Courier:
        """One more courier, as another process has it."""
        return Courier(
            self.outbox,
            sink or self.sink,
            Pace(),
            told=self.dispatched.append,
            failed=lambda _, error: self.failed.append(type(error).__name__),
            clock=self.clock,
        )

    def put(self, *groups: Group, sink: str = "") -> list[str]:
        return self.outbox.put([(sink or self.sink.name, one) for one in groups], self.clock())

    def deliver(self) -> float:
        """Deliver all that is due; seconds until more is."""
        while (wait := self.courier.turn()) == 0.0:
            pass
        return wait

    def run(self, until: float, most: int = 100_000) -> None:
        """Deliver, and move the clock to when something is due, until then."""
        for _ in range(most):
            wait = self.deliver()
            if self.clock.now + wait > until:
                self.clock.now = until
                return
            self.clock.now += max(wait, 0.001)
        raise AssertionError("nothing ever ends")

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(one.outcome for one in self.dispatched)


def keys(groups: Iterable[Group]) -> list[str]:
    return [one.key for one in groups]
