"""What becomes of batchers when their process forks or ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from typing import Protocol


class Member(Protocol):
    """Something with a queue and threads."""

    def begin_anew(self) -> None:
        """Forget queue and threads: this is a forked child, which has neither."""

    def close(self, *, drain: bool = False, timeout_s: float = 5.0) -> bool:
        """End."""
        ...


_alive: weakref.WeakSet[Member] = weakref.WeakSet()


def join(member: Member) -> None:
    """Have it looked after, for as long as somebody else holds it."""
    _alive.add(member)


def _after_fork() -> None:
    for member in list(_alive):
        member.begin_anew()


def _at_exit() -> None:
    # A native run that is under way while the interpreter is torn down can crash it: wait, but not for one that hangs.
    for member in list(_alive):
        member.close(timeout_s=1.0)


atexit.register(_at_exit)
with contextlib.suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
