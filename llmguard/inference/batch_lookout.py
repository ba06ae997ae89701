"""A thread that answers requests the moment they are too late, while another thread is busy with a batch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from llmguard.inference.batch_request import Request
from llmguard.inference.batching import Queue

T = TypeVar("T")

#: Seconds after which a thread that has nothing to do ends.
IDLE_S = 10.0
#: The shortest wait: a clock that is read a little later must not make a loop spin.
TICK_S = 0.0005


class Lookout(Generic[T]):
    """Sleeps until the next request in a queue would be late, and refuses it.

    Args:
        lock: of the queue.
        queue: what waits.
        refuse: answers requests; called without the lock, with the reason ``deadline``.
    """

    def __init__(
        self, lock: threading.Lock, queue: Queue[T], refuse: Callable[[Sequence[Request[T]], str], None]
    ) -> None:
        self._lock = lock
        self._woken = threading.Condition(lock)
        self._queue = queue
        self._refuse = refuse
        self._thread: threading.Thread | None = None
        self._until = math.inf
        self._ended = False

    def alert(self, now: float) -> None:
        """There may be a request with a deadline earlier than those before; the caller holds the lock."""
        moment = self._queue.expires(now)
        if moment is None:
            return
        if self._thread is not None:
            if moment < self._until:
                self._woken.notify()
            return
        thread = threading.Thread(target=self._watch, name="llmguard-deadlines", daemon=True)
        try:
            thread.start()
        except (
            RuntimeError
        ):  # the interpreter ends, or the system has no more threads: the next batch will find it late
            return
        self._thread = thread

    def end(self) -> None:
        """Let the thread end when nothing waits; the caller holds the lock."""
        self._ended = True
        self._woken.notify()

    def _watch(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                late = self._queue.expire(now)
                if not late and not self._sleep(now):
                    self._thread = None
                    return
            self._refuse(late, "deadline")

    def _sleep(self, now: float) -> bool:
        moment = self._queue.expires(now)
        if moment is None and self._ended and not self._queue.waiting:
            return False
        self._until = math.inf if moment is None else moment
        woken = self._woken.wait(IDLE_S if moment is None else max(TICK_S, moment - now))
        return woken or moment is not None or self._queue.waiting > 0
