"""One sink's messages delivered in turn: what a verdict means for the message, and for the sink."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

from llmguard.exporters.alerts import sink as verdicts
from llmguard.exporters.alerts.outbox import COMPONENT, Outbox
from llmguard.exporters.alerts.outbox_claims import DEAD, DELIVERED, LONGEST_S, WAITING, Ending, Settled, claim, settle
from llmguard.exporters.alerts.outbox_damage import TROUBLE
from llmguard.exporters.alerts.outbox_rows import Message
from llmguard.exporters.alerts.sink import Sink, Verdict
from llmguard.exporters.untraced import untraced
from llmguard.readings import Dispatched

_MOST = 64
# Longer than a turn should last: what a killed process has sent and not yet written down is sent again.
_TURN_S = 0.25
_FIRST_S = 1.0
# A receiver that is down is tried once a minute, by one message or another.
_SINK_PAUSE_S = 60.0
_DOWN = 3
# Of a machine that slept for a week, or whose clock was set only after it began, the first failure is not the last.
_LEAST_ATTEMPTS = 10


class Pace(NamedTuple):
    """When things are tried again, and when no more.

    Attributes:
        longest_s: between two attempts to deliver a message, in seconds.
        give_up_s: how long a message is tried, at least ten times, before it is dead.
        lease_s: how long one process has a sink to itself without saying so again; at least twice as long as a
            sink takes for one message.
    """

    longest_s: float = 3600.0
    give_up_s: float = 8 * 86_400.0
    lease_s: float = 45.0


class PartlyDeliveredError(Exception):
    """Some have a message and others were refused it, which trying again would not mend."""


class Courier:
    """Delivers the messages of an outbox to one sink; used by one thread at a time.

    A message that failed is tried again after about 1, 2, 4, ... seconds, at most an hour, less a random part of up
    to half, or when the receiver asked for. After each failure the sink as a whole pauses, too, for at most a minute
    unless it asked for more; when it takes something after three failures in a row, all that waits is due at once.

    Args:
        outbox: where messages wait.
        sink: that takes them.
        pace: see there.
        told: told each attempt.
        failed: told ``alerts`` and the error when the sink raised.
        clock: seconds since 1970.
        stopping: whether no further message is begun.
    """

    def __init__(
        self,
        outbox: Outbox,
        sink: Sink,
        pace: Pace,
        *,
        told: Callable[[Dispatched], object],
        failed: Callable[[str, Exception], object],
        clock: Callable[[], float] = time.time,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.sink = sink
        self._outbox = outbox
        self._pace = pace
        self._told = told
        self._failed = failed
        self._clock = clock
        self._stopping = stopping
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._owner = secrets.token_hex(8)
        self._unsettled: list[Settled] = []
        self._end = Ending(0.0)
        self._troubles = self._streak = 0
        self._left_alone = 0.0

    def turn(self) -> float:
        """Deliver some of what is due.

        Returns:
            After how many seconds it is of use to look again; 0.0 where more may be due.
        """
        if os.getpid() != self._pid:
            self._begin()
        try:
            if not self._outbox.flush():
                self._deliver_held()
            if self._unsettled:
                self._settle()
            asked = claim(self._outbox.file, self.sink.name, self._owner, self._clock(), self._pace.lease_s, self._most)
            if not asked.messages:
                self._troubles = 0
                return max(asked.again - self._clock(), 0.0)
            self._deliver(asked.messages, asked.streak)
            self._settle()
        except TROUBLE as error:
            self._outbox.trouble(error)
            self._troubles += 1
            return min(2.0 ** min(self._troubles - 1, 10), _SINK_PAUSE_S)
        self._troubles = 0
        return 0.0

    @property
    def _most(self) -> int:
        return 1 if self.sink.pause_s > 0 else _MOST

    def _deliver(self, messages: tuple[Message, ...], streak: int) -> None:
        begun = self._clock()
        self._end = Ending(begun, streak=streak)
        for message in messages:
            now = self._clock()
            if self._stopping() or not begun <= now <= begun + min(_TURN_S, self._pace.lease_s / 2):
                return
            verdict, seconds = self._send(message, now)
            self._take(message, verdict, seconds)
            if verdict.outcome not in (verdicts.DELIVERED, verdicts.REFUSED) or self.sink.pause_s > 0:
                return

    def _deliver_held(self) -> None:
        """Deliver what waits in memory, while the file can't be written."""
        begun = self._clock()
        if begun < self._left_alone <= begun + LONGEST_S:
            return
        for message in self._outbox.held(self.sink.name):
            if self._stopping() or not begun <= self._clock() <= begun + _TURN_S:
                return
            verdict, seconds = self._send(message, self._clock())
            done = verdict.outcome in (verdicts.DELIVERED, verdicts.REFUSED)
            outcome = verdict.outcome if done else verdicts.RETRY
            self._told(Dispatched(self.sink.name, outcome, message.severity, self._streak + 1, seconds))
            self._streak = 0 if done else self._streak + 1
            pause = self.sink.pause_s if done else self._wait(verdict.after_s, self._streak, _SINK_PAUSE_S)
            self._left_alone = self._clock() + pause
            if done:
                self._outbox.release(message)
            if pause > 0:
                return

    def _take(self, message: Message, verdict: Verdict, seconds: float) -> None:
        now, end, outcome = self._clock(), self._end, verdict.outcome
        paused = now + self.sink.pause_s
        if outcome == verdicts.DELIVERED:
            self._unsettled.append(Settled(message, DELIVERED))
            self._end = end._replace(now=now, paused=paused, streak=0, recovered=end.recovered or end.streak >= _DOWN)
        elif outcome == verdicts.REFUSED:
            self._unsettled.append(Settled(message, DEAD, now, verdict.reason))
            self._end = end._replace(now=now, paused=paused, streak=0)
        elif outcome == verdicts.GONE:
            reason = verdict.reason or "gone"
            self._unsettled.append(Settled(message, DEAD, now, reason))
            self._end = end._replace(now=now, gone=reason)
        else:
            streak = end.streak + 1
            due = now + self._wait(verdict.after_s, message.attempts + 1, self._pace.longest_s)
            pause = max(self._wait(verdict.after_s, streak, _SINK_PAUSE_S), self.sink.pause_s)
            old = now - message.since >= self._pace.give_up_s and message.attempts + 1 >= _LEAST_ATTEMPTS
            outcome = "expired" if old else verdicts.RETRY
            if old:
                self._unsettled.append(Settled(message, DEAD, now, f"gave up: {verdict.reason}"))
            else:
                self._unsettled.append(Settled(message, WAITING, due, verdict.reason))
            expired = now - self._pace.give_up_s if old else 0.0
            self._end = end._replace(now=now, paused=now + pause, streak=streak, expired=expired)
        self._told(Dispatched(self.sink.name, outcome, message.severity, message.attempts + 1, seconds))

    def _send(self, message: Message, now: float) -> tuple[Verdict, float]:
        begun = time.perf_counter()
        try:
            with untraced():
                verdict = Verdict(*self.sink.send(message.id, message.group, now))  # raises where it is none
        except Exception as error:  # noqa: BLE001 - a sink that is broken keeps no other from its messages
            self._failed(COMPONENT, error)
            verdict = Verdict(verdicts.RETRY, type(error).__name__)
        else:
            if verdict.outcome == verdicts.DELIVERED and verdict.reason:
                self._failed(COMPONENT, PartlyDeliveredError(verdict.reason))
        return verdict, time.perf_counter() - begun

    def _settle(self) -> None:
        self._left_alone = self._end.paused
        expired = settle(self._outbox.file, self.sink.name, self._owner, self._unsettled, self._end)
        self._unsettled = []
        for one in expired:
            self._told(Dispatched(self.sink.name, "expired", one.severity, one.attempts))

    @staticmethod
    def _wait(after_s: float | None, times: int, longest_s: float) -> float:
        """Seconds until the next attempt."""
        if after_s is not None and after_s > 0:  # a NaN is not
            return min(after_s, LONGEST_S)
        return min(_FIRST_S * 2.0 ** min(times - 1, 40), longest_s) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
