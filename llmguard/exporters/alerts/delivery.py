"""When messages about alerts are delivered: a thread a sink, so that one that is down never delays another."""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from weakref import WeakSet

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.courier import Courier, Pace
from llmguard.exporters.alerts.listeners import Listeners
from llmguard.exporters.alerts.outbox import COMPONENT, Outbox
from llmguard.exporters.alerts.outbox_claims import sinks as states
from llmguard.exporters.alerts.outbox_damage import TROUBLE
from llmguard.exporters.alerts.outbox_rows import Message
from llmguard.exporters.alerts.sink import Sink
from llmguard.readings import Dispatched

_AT_EXIT_S = 5.0


class Delivery:
    """Delivers the messages of an outbox to their sinks.

    Each sink has a thread, from `start` on; in a forked child from the first message that it puts. A message that
    is refused for good is dead; one that fails is tried again, see `Courier`, and is dead when that has gone on for
    too long. A sink that says that it is gone (410) gets nothing more, and all its messages are dead, until
    `outbox_claims.retry` says otherwise. Messages are delivered at least once, by the same id each time.

    At the interpreter's end what is due is tried for at most five seconds; the rest waits in the file.

    Args:
        outbox: where messages wait; several processes may deliver from the same file.
        sinks: by different names.
        pace: when things are tried again, and when no more.
        poll_s: how often a thread looks for what other processes have put, in seconds.
        clock: seconds since 1970.

    Raises:
        ConfigurationError: two sinks have the same name, or an argument is none of those.
    """

    def __init__(
        self,
        outbox: Outbox,
        sinks: Iterable[Sink],
        *,
        pace: Pace | None = None,
        poll_s: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        pace = pace or Pace()
        for option, value in (*pace._asdict().items(), ("poll_s", poll_s)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigurationError(f"{option} must be seconds, more than 0, not {value!r}")
        self.outbox = outbox
        self._poll_s = min(poll_s, threading.TIMEOUT_MAX)
        self._dispatched: Listeners[[Dispatched]] = Listeners()
        self._failed: Listeners[[str, Exception]] = Listeners()
        self._posts: dict[str, _Post] = {}
        for sink in sinks:
            if not isinstance(sink, Sink):
                raise ConfigurationError(
                    f"{type(sink).__name__} is no sink: it needs name, most, pause_s, send and close"
                )
            if sink.name in self._posts:
                raise ConfigurationError(f"two sinks are named {sink.name!r}: give each its own")
            self._posts[sink.name] = _Post(
                Courier(
                    outbox,
                    sink,
                    pace,
                    told=self._dispatched.tell,
                    failed=self._failed.tell,
                    clock=clock,
                    stopping=lambda: self._stopping,
                )
            )
        self._started = self._stopping = self._done = False
        outbox.on_put(self._wake)
        outbox.on_drop(self._tell_dropped)
        outbox.on_failure(self._failed.tell)
        _deliveries.add(self)

    def on_dispatch(self, hear: Callable[[Dispatched], object]) -> None:
        """Have each attempt told to ``hear``; the first who listens and is alive is told."""
        self._dispatched.add(hear)

    def on_failure(self, failed: Callable[[str, Exception], object]) -> None:
        """Have each failure of the outbox and each error of a sink told to ``failed``; likewise."""
        self._failed.add(failed)

    def start(self) -> None:
        """Begin to deliver, also what an earlier process has left."""
        self._started = True
        self._wake(self._posts)

    def turn(self, sink: str) -> float:
        """Deliver some of what is due at a sink, on this thread; for who needs no threads.

        Returns:
            After how many seconds it is of use to look again; 0.0 where more may be due.
        """
        return self._posts[sink].courier.turn()

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Have all that is due tried, and wait for it.

        Args:
            timeout_s: after which it waits no longer.

        Returns:
            Whether nothing waits any more for these sinks.
        """
        if self._stopping:
            return self._done
        until = time.monotonic() + timeout_s
        self.start()
        asked = [(post, post.ask()) for post in self._posts.values()]
        done = all([post.answered(number, until - time.monotonic()) for post, number in asked])
        try:
            waiting = sum(one.waiting for one in states(self.outbox.file) if one.name in self._posts)
        except TROUBLE as error:
            self.outbox.trouble(error)
            return False
        return done and not waiting and self.outbox.flush()

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Try what is due, stop, and close sinks and outbox; what waits stays there. A second time does nothing.

        Returns:
            Whether nothing waits any more, and every thread has ended; the same each time.
        """
        if self._stopping:
            return self._done
        until = time.monotonic() + timeout_s
        flushed = self.force_flush(timeout_s) if self._started else self.outbox.flush()
        self._stopping = True
        for post in self._posts.values():
            if not post.end():
                self._close(post)
        ended = [post.ended(until - time.monotonic()) for post in self._posts.values()]
        self.outbox.close()
        self._done = all(ended) and flushed
        return self._done

    def _wake(self, sinks: Collection[str]) -> None:
        if not self._started or self._stopping:
            return
        for name in sinks:
            if (post := self._posts.get(name)) is not None:
                try:
                    post.wake(self._serve)
                except RuntimeError as error:  # no thread can be started; what waits is in the file
                    self._failed.tell(COMPONENT, error)

    def _serve(self, post: _Post) -> None:
        while not self._stopping:
            number = post.asked
            try:
                wait = post.courier.turn()
            except Exception as error:  # noqa: BLE001 - the thread of a sink never ends
                self._failed.tell(COMPONENT, error)
                wait = self._poll_s
            if wait > 0:
                post.answer(number)
                post.woken.wait(min(wait, self._poll_s))
                post.woken.clear()
        self._close(post)

    def _close(self, post: _Post) -> None:
        try:
            post.courier.sink.close()
        except Exception as error:  # noqa: BLE001 - a sink that is broken keeps nothing from ending
            self._failed.tell(COMPONENT, error)

    def _tell_dropped(self, message: Message) -> None:
        self._dispatched.tell(Dispatched(message.sink, "dropped", message.severity, message.attempts))

    def _forked(self) -> None:
        for post in self._posts.values():
            post.begin()


class _Post:
    """A courier, and its thread."""

    def __init__(self, courier: Courier) -> None:
        self.courier = courier
        self.begin()

    def begin(self) -> None:
        self.woken = threading.Event()
        self.asked = self._answered = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def wake(self, serve: Callable[[_Post], None]) -> None:
        with self._changed:
            if self._thread is None:
                name = f"llmguard-alerts-{self.courier.sink.name}"
                thread = threading.Thread(target=serve, args=(self,), name=name, daemon=True)
                thread.start()
                self._thread = thread
        self.woken.set()

    def ask(self) -> int:
        """Have the thread look for what is due; the number by which `answered` knows of it."""
        with self._changed:
            self.asked += 1
            number = self.asked
        self.woken.set()
        return number

    def answer(self, number: int) -> None:
        """Nothing is due any more, for those who asked up to this number."""
        with self._changed:
            self._answered = number
            self._changed.notify_all()

    def answered(self, number: int, timeout_s: float) -> bool:
        """Wait for the answer; whether there was one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._answered >= number, max(timeout_s, 0.0))

    def end(self) -> bool:
        """Whether there is a thread, which ends now and closes the sink as soon as that no longer sends."""
        with self._changed:
            self.woken.set()
            return self._thread is not None

    def ended(self, timeout_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is None or self._thread is threading.current_thread():
            return True
        self._thread.join(max(timeout_s, 0.0))
        return not self._thread.is_alive()


_deliveries: WeakSet[Delivery] = WeakSet()


def _forked() -> None:
    for delivery in list(_deliveries):
        delivery._forked()  # noqa: SLF001 - before any thread of the child's can use it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _at_exit() -> None:
    until = time.monotonic() + _AT_EXIT_S
    for delivery in list(_deliveries):
        delivery.shutdown(max(until - time.monotonic(), 0.0))
