"""A few threads at a time for work that lets go of the interpreter.

RE2 and numpy let go of the interpreter for a few microseconds at a time. Threads that all want it snatch it from each
other at each such gap, and the switches cost more than the work: eight threads get a third done of what one does alone.
So threads with short texts take turns, and those with longer ones, whose scans are worth running side by side, as many
at a time as there are processors. Who has to wait is not woken by a release: a lock that hands itself over costs two
switches a turn as well. One of those who wait looks again now and then; the others sleep behind it.
"""

from __future__ import annotations

import os
import threading
import time
from asyncio import _get_running_loop  # documented for those who write event loops; costs next to nothing

_FIRST_S = 0.0002
_LONGEST_S = 0.004
_PATIENCE_S = 0.25


class Turns:
    """Locks that are asked for, waited for within reason, and never needed.

    Work goes ahead without a turn on a thread that runs an event loop, which must not sleep, and after
    a quarter of a second, since whoever has the turn may hang. A forked child starts with all of them free.

    Args:
        at_once: how many threads have a turn at the same time.
    """

    __slots__ = ("__weakref__", "_at_once", "_door", "_locks")

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._free()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._free)

    def _free(self) -> None:
        self._locks = [threading.Lock() for _ in range(self._at_once)]
        self._door = threading.Lock()

    def take(self) -> threading.Lock | None:
        """A turn, to be given back by its ``release``; None when there is none to be had."""
        if (ours := self._try()) is not None:
            return ours
        if _get_running_loop() is not None:
            return None
        until = time.monotonic() + _PATIENCE_S
        if not self._door.acquire(timeout=_PATIENCE_S):
            return None
        try:
            pause = _FIRST_S
            while (ours := self._try()) is None and time.monotonic() < until:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_S)
        finally:
            self._door.release()
        return ours

    def _try(self) -> threading.Lock | None:
        for lock in self._locks:
            if lock.acquire(blocking=False):
                return lock
        return None
