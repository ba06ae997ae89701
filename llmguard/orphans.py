"""What the garbage collector found is ended by a thread of its own.

A finaliser runs wherever the interpreter happens to be, also in the middle of code that holds a lock. Whoever ends a
span there may wait for that lock for ever. `queue.SimpleQueue` is the one queue whose ``put`` may be called there.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

# A process that ends does not wait longer than this for a slow exporter.
_PATIENCE_S = 1.0


class Orphans:
    """Calls what it is given, in order, on a thread that starts with the first `watch`; a forked child has its own."""

    def __init__(self) -> None:
        self._reset()
        atexit.register(self.flush, _PATIENCE_S)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._queue: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._lock = threading.Lock()
        self._running = False

    def watch(self) -> None:
        """Make sure that the thread runs. Not for finalisers."""
        if self._running:
            return
        with self._lock:
            if self._running:
                return
            thread = threading.Thread(target=self._serve, args=(self._queue,), name="llmguard-orphans", daemon=True)
            with suppress(RuntimeError):  # an interpreter that ends starts no thread, and drops all there is anyway
                thread.start()
                self._running = True

    def add(self, work: Callable[[], object]) -> None:
        """Have something done soon; it must not raise. For finalisers."""
        self._queue.put(work)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until what was added is done, at most so many seconds."""
        if not self._running:
            return
        done = threading.Event()
        self._queue.put(done.set)
        done.wait(timeout)

    @staticmethod
    def _serve(queue: SimpleQueue[Callable[[], object]]) -> None:
        while True:
            queue.get()()


ORPHANS = Orphans()
"""Those of this process."""
