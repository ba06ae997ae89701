"""One thread at a time for work of microseconds.

RE2 and numpy let go of the interpreter for a few microseconds at a time. Threads that all want it snatch it from each
other at each such gap, and the switches cost more than the work: eight threads get a third done of what one does alone.
So threads with short texts take turns. Who has to wait sleeps, and is not woken by a release: a lock that hands itself
over costs two switches a turn as well.
"""

from __future__ import annotations

import os
import threading
import time
from asyncio import _get_running_loop  # documented for those who write event loops; costs next to nothing

_FIRST_S = 0.0002
_LONGEST_S = 0.01
_PATIENCE_S = 0.25


class Turns:
    """A lock that is asked for, waited for within reason, and never needed.

    Work goes ahead without a turn on a thread that runs an event loop, which must not sleep, and after
    a quarter of a second, since whoever has the turn may hang. A forked child starts with it free.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._free()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._free)

    def _free(self) -> None:
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether the turn is ours; who gets True must `give` it back."""
        if self._lock.acquire(blocking=False):
            return True
        if _get_running_loop() is not None:
            return False
        until = time.monotonic() + _PATIENCE_S
        pause = _FIRST_S
        while time.monotonic() < until:
            time.sleep(pause)
            if self._lock.acquire(blocking=False):
                return True
            pause = min(2 * pause, _LONGEST_S)
        return False

    def give(self) -> None:
        """Let another thread have the turn."""
        self._lock.release()
