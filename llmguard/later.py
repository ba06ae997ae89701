"""Work that may wait a moment: kept in a queue and done by a thread of its own, off the caller's path."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# Long enough for many calls to be told in one go, while their code is in the processor's caches; short next to any
# collection interval.
_PAUSE_S = 0.25
# Well under a millisecond of work: for so long the thread keeps the others from running.
_SLICE = 4
# Only a thread that sleeps is sure to let another one have the interpreter; a queue is not given more rests than these.
_REST_S = 0.0005
_RESTS = 128
# What a caller does where the queue is full.
_SHARE = 16


class Later(Generic[T]):
    """Hands items to a function soon after they were added, or as soon as many wait; `flush` does it at once.

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
        self._limit, self._many = limit, limit // 2
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
        self._hurry = threading.Event()
        self._awake = False
        self._thread: threading.Thread | None = None

    def add(self, item: T) -> None:
        """Queue an item."""
        if os.getpid() != self._pid:
            self._reset()
        if self._size is not None:
            self._take(self._size(item))
        self._items.append(item)
        waiting = len(self._items)
        if not self._awake:
            self._rouse()
        elif waiting > self._limit:
            self._do(_SHARE)
        elif waiting > self._many and not self._hurry.is_set():
            self._hurry.set()
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
                self._hurry.wait(_PAUSE_S)
                self._hurry.clear()
                waiting = len(self._items)
                size = max(_SLICE, waiting // _RESTS)
                for _ in range(0, waiting, size):
                    self._do(size)
                    time.sleep(_REST_S)
            self._awake = False
            if self._items:  # added after the last look, while the adder still saw us awake
                self._awake = True
                self._wake.set()
