"""Alerts of one guard: what it decides is counted, rules are looked at, and whoever is to be told is told."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import MethodType
from typing import NamedTuple
from weakref import WeakMethod, WeakSet, ref

from llmguard.exporters.alerts.delivery import Delivery
from llmguard.exporters.alerts.evaluate import State
from llmguard.exporters.alerts.firing import Board
from llmguard.exporters.alerts.listeners import Listeners
from llmguard.exporters.alerts.outbox import COMPONENT, Outbox
from llmguard.exporters.alerts.outbox_path import outbox_path
from llmguard.exporters.alerts.plan import Plan
from llmguard.exporters.alerts.rounds import Rounds
from llmguard.exporters.alerts.routing import Receiver, in_time
from llmguard.exporters.alerts.sink import Forgetting
from llmguard.exporters.alerts.sinks import build
from llmguard.exporters.record import record
from llmguard.readings import Alert, Dispatched, Reading
from llmguard.types import Observation

_STOPPING_S = 2.0


class _Way(NamedTuple):
    """How messages go out, and what of it two plans may share."""

    outbox: Outbox
    delivery: Delivery
    receivers: dict[str, Receiver]


class Alerts:
    """A monitor that tells people what the guard decides too often, too seldom, or not at all.

    A guard makes one of its policy's key ``alerts``. By hand it is ``Guard(monitors=[Alerts(Plan(...))])``.

    Texts are gone before `observe` returns; counted is what a `Record` holds. A thread looks at the rules every few
    seconds. What goes wrong counts in ``llmguard.telemetry.errors``, component ``alerts``, and is tried again.
    Processes that share an outbox tell together, see `Rounds`; each evaluates what it has seen itself. A forked child
    begins to count anew. At the interpreter's end, and at `shutdown`, nothing is waited for: what fires is put into
    the outbox, and delivered if that takes no more than a few seconds.

    Args:
        plan: who is told what.
        name: by which the guard tells its monitors apart.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: a sink's settings are wrong, or the outbox can't be written.
    """

    def __init__(self, plan: Plan, *, name: str = "alerts", clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._clock = clock
        self._plan = plan
        self._dispatched: Listeners[[Dispatched]] = Listeners()
        self._failed: Listeners[[str, Exception]] = Listeners()
        self._attended: list[Callable[[], Callable[[], Sequence[Reading]] | None]] = []
        self._closed = self._done = self._ending = False
        self._way = self._made(plan)
        self._board = _board(self._way.outbox)
        self._begin()
        _all.add(self)
        self._start()

    def _begin(self) -> None:
        self._looking = threading.Lock()
        self._changing = threading.Lock()
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._rounds = Rounds(self._plan, self._way.receivers, self._board, self._way.outbox.put, self._fail)

    @property
    def name(self) -> str:
        """By which the guard tells its monitors apart."""
        return self._name

    def observe(self, seen: Observation) -> None:
        """Count a check or a call."""
        if self._closed:
            return
        self._rounds.evaluator.observe(record(seen), self._clock())
        if self._ending:
            self._look(hurry=True, timeout_s=_STOPPING_S)  # a thread that the interpreter has stopped may be at it
        elif self._thread is None:
            self._start()

    def overhear(self, alert: Alert) -> None:
        """Take in what another monitor tells, for the rules of kind drift and fairness."""
        self._rounds.evaluator.hear(alert)

    def attend(self, readings: Callable[[], Sequence[Reading]]) -> None:
        """Read the values of monitors here, for the rules about them; a method is not kept alive."""
        kept = WeakMethod(readings) if isinstance(readings, MethodType) else lambda: readings
        self._attended = [*(known for known in self._attended if known() is not None), kept]

    def on_dispatch(self, hear: Callable[[Dispatched], object]) -> None:
        """Have each attempt to deliver told to ``hear``; the first who listens and is alive is told."""
        self._dispatched.add(hear)

    def on_failure(self, failed: Callable[[str, Exception], object]) -> None:
        """Have each failure told to ``failed``, with the component; likewise."""
        self._failed.add(failed)

    def states(self) -> list[State]:
        """How each rule stood in this process at the last look."""
        return self._rounds.evaluator.states()

    def change(self, plan: Plan) -> None:
        """Go on with another plan: rules that stay keep what they counted, and alerts that were told stay told.

        Raises:
            ConfigurationError: it is broken; nothing is changed.
        """
        with self._changing:
            if plan == self._plan or self._closed:
                return
            before, way, board = self._way, self._way, self._board
            if (plan.sinks, _path(plan)) != (self._plan.sinks, _path(self._plan)):
                way = self._made(plan)
                if way.outbox.path != before.outbox.path:
                    board = _board(way.outbox)
            else:
                in_time(plan.routing, way.receivers)
            with self._looking:
                self._plan, self._way, self._board = plan, way, board
                self._rounds.change(plan, way.receivers, board, way.outbox.put, self._clock())
            if way is not before:
                if self._thread is not None:
                    way.delivery.start()
                before.delivery.shutdown(_STOPPING_S)

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Look at the rules now, and try to deliver what is due.

        Args:
            timeout_s: after which a delivery is waited for no longer.

        Returns:
            Whether nothing waits to be delivered.
        """
        return self._look() and self._way.delivery.force_flush(timeout_s)

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Tell what fires and has not been told, and end; a second time does nothing.

        Args:
            timeout_s: after which a delivery is waited for no longer; what waits stays in the outbox.

        Returns:
            Whether nothing waits; the same each time.
        """
        if self._closed:
            return self._done
        self._closed = True
        until = time.monotonic() + timeout_s
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(timeout_s, 0.0))
        looked = self._look(hurry=True, timeout_s=max(until - time.monotonic(), 0.0))
        self._done = self._way.delivery.shutdown(max(until - time.monotonic(), 0.0)) and looked
        self._board.close()
        return self._done

    def __del__(self) -> None:
        if hasattr(self, "_rounds") and not self._closed:
            self._ending = True  # who tells it may go after it, and still tell of the last checks
            with suppress(Exception):
                self._stop.set()
                self._look(hurry=True)
                self._way.delivery.shutdown(0.0)

    def _made(self, plan: Plan) -> _Way:
        sinks = [build(name, settings) for name, settings in plan.sinks.items()]
        receivers = {
            sink.name: Receiver(sink.most, sink.repeat_s if isinstance(sink, Forgetting) else 0.0) for sink in sinks
        }
        in_time(plan.routing, receivers)
        outbox = Outbox(_path(plan))
        delivery = Delivery(outbox, sinks, clock=self._clock)
        delivery.on_dispatch(self._dispatched.tell)
        delivery.on_failure(self._failed.tell)
        return _Way(outbox, delivery, receivers)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closed:
                thread = threading.Thread(
                    target=_serve, args=(ref(self), self._stop), name="llmguard-alerts", daemon=True
                )
                thread.start()  # raises where there are too many; the next observation tries again
                self._thread = thread
                self._way.delivery.start()

    def _look(self, *, hurry: bool = False, timeout_s: float = -1) -> bool:
        """Look at the rules once; whether that went well."""
        if not self._looking.acquire(timeout=timeout_s):
            return False
        try:
            attended = [read() for known in self._attended if (read := known())] if self._rounds.reads else []
            self._rounds.look(self._clock(), [one for own in attended for one in own], hurry=hurry)
        except Exception as error:  # noqa: BLE001 - alerts never break anything else
            self._fail(error)
            return False
        else:
            return True
        finally:
            self._looking.release()

    def _fail(self, error: Exception) -> None:
        self._failed.tell(COMPONENT, error)

    def _forked(self) -> None:
        self._board.forked()
        self._begin()


def _path(plan: Plan) -> str:
    return str(outbox_path(plan.outbox, plan.policy.name).absolute())


def _board(outbox: Outbox) -> Board:
    return Board(outbox.path.with_name(f"{outbox.path.name}.firing"))


def _serve(alerts: ref[Alerts], stop: threading.Event) -> None:
    # Between two looks it keeps nothing alive.
    wait = 0.0
    while not stop.wait(wait):
        one = alerts()
        if one is None:
            return
        one._look()  # noqa: SLF001 - its own thread
        wait = one._plan.every_s  # noqa: SLF001 - likewise
        del one


_all: WeakSet[Alerts] = WeakSet()


def _forked() -> None:
    for alerts in list(_all):
        alerts._forked()  # noqa: SLF001 - before any thread of the child's can use it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _at_exit() -> None:
    for alerts in list(_all):
        alerts._ending = True  # noqa: SLF001 - guards that go later still tell of their last checks
        alerts._stop.set()  # noqa: SLF001 - likewise
        if not alerts._closed:  # noqa: SLF001 - likewise
            alerts._look(hurry=True, timeout_s=_STOPPING_S)  # noqa: SLF001 - likewise
