"""A circuit breaker: after n failures in a row a detector rests, then one probe tells whether it is well again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Breaker:
    """Closed while things go well, open after ``failures`` failures in a row, half open for one probe.

    The pattern is Nygard's (Release It!, 2nd edition, chapter 5).

    Args:
        failures: how many in a row open it; at least 1.
        reset_s: seconds that it stays open before one probe may pass.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_count", "_failures", "_lock", "_opened", "_probing", "_reset_s")

    def __init__(self, failures: int, reset_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = failures
        self._reset_s = reset_s
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""
        opened = self._opened
        if opened is None:
            return "closed"
        return "half_open" if self._clock() - opened >= self._reset_s else "open"

    def allow(self) -> bool:
        """Whether a run may start; who gets True must answer with ``success``, ``failure`` or ``release``."""
        if self._opened is None:
            return True
        with self._lock:
            if self._opened is None:
                return True
            if self._probing or self._clock() - self._opened < self._reset_s:
                return False
            self._probing = True
            return True

    def success(self) -> None:
        """The run went well: close, and forget earlier failures."""
        if self._count or self._opened is not None:
            with self._lock:
                self._count = 0
                self._opened = None
                self._probing = False

    def failure(self) -> None:
        """The run failed: count it, and open when it is the last straw or the probe."""
        with self._lock:
            self._count += 1
            if self._probing or self._count >= self._failures:
                self._opened = self._clock()
                self._probing = False

    def release(self) -> None:
        """The run was called off before it could tell: let another probe pass."""
        if self._probing:
            with self._lock:
                self._probing = False
