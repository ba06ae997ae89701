"""Work that may wait a moment: kept in a queue and done by a thread of its own, off the caller's path."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# Long enough for several calls to be served in one go, short next to any collection interval.
_PAUSE_S = 0.05
# About a millisecond of work: how long the thread may keep the others from running.
_SLICE = 16


class Later(Generic[T]):
    """Hands items to a function soon after they were added; `flush` does it at once.

    An add costs well under a microsecond. The queue is bounded: past the bound the caller does a share of
    the work itself, and where what waits takes too much room, as much of it as makes room; nothing is dropped. A forked
    child starts with an empty queue, since the parent still has what was in it.

    Args:
        work: called with each item in turn, by one thread at a time; it must not raise. It may add and flush.
        limit: how many items may wait.
        size: what an item takes; the same whenever it is asked. None where all are small.
        room: how much all that wait may take together.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        limit: int = 4096,
        *,
        size: Callable[[T], int] | None = None,
        room: int = 0,
    ) -> None:
        self._work = work
        self._limit = limit
        self._size, self._room = size, room
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._items: deque[T] = deque()
        self._taken = 0
        self._counting = threading.Lock()
        # What is done may itself add, flush, or drop the last reference to who flushes at its end.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._awake = False
        self._thread: threading.Thread | None = None

    def add(self, item: T) -> None:
        """Queue an item."""
        if os.getpid() != self._pid:
            self._reset()
        if self._size is not None:
            self._take(self._size(item))
        self._items.append(item)
        if not self._awake:
            self._rouse()
        elif len(self._items) > self._limit:
            self._do(_SLICE)
        while self._taken > self._room and self._items:
            self._do(1)

    def flush(self) -> None:
        """Do all that is queued, on this thread, and wait for what another one is doing."""
        if os.getpid() != self._pid:
            self._reset()
        self._do(len(self._items))

    def _do(self, most: int) -> None:
        with self._lock:
            for _ in range(most):
                try:
                    item = self._items.popleft()
                except IndexError:
                    return
                if self._size is not None:
                    self._take(-self._size(item))
                self._work(item)

    def _take(self, size: int) -> None:
        with self._counting:
            self._taken += size

    def _rouse(self) -> None:
        self._awake = True
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="llmguard-later", daemon=True)
                self._thread.start()
        self._wake.set()

    def _serve(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._items:
                time.sleep(_PAUSE_S)
                for _ in range(0, len(self._items), _SLICE):
                    self._do(_SLICE)
                    time.sleep(0)
            self._awake = False
            if self._items:  # added after the last look, while the adder still saw us awake
                self._awake = True
                self._wake.set()
