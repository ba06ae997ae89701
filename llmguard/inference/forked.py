"""A native object that does not survive a fork, and what a forked child does about it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from llmguard.errors import InferenceError

T = TypeVar("T")

_alive: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


class PerProcess(Generic[T]):
    """Holds one object and, in a forked child, makes it anew for the first who asks.

    A fork copies the memory of a runtime but not its threads, so whatever waits for one of them waits for ever.

    Args:
        make: makes the object; called at once, and again in each child that asks.
        forbidden: why a child can't make its own; "" if it can.
    """

    def __init__(self, make: Callable[[], T], *, forbidden: str = "") -> None:
        self._make = make
        self._forbidden = forbidden
        self._lock = threading.Lock()
        self._closed = False
        self._forked = False
        self._value: T | None = make()
        _alive.add(self)

    def get(self) -> T:
        """The object of this process.

        Raises:
            InferenceError: it is closed, or this is a forked child that can't have one.
        """
        value = self._value
        if value is not None:
            return value
        with self._lock:
            if self._closed:
                raise InferenceError("the session is closed")
            if self._forked and self._forbidden:
                raise InferenceError(self._forbidden)
            if self._value is None:
                self._value = self._make()
            return self._value

    def close(self) -> None:
        """Let go of the object; whoever uses it at this moment ends first."""
        with self._lock:
            self._closed = True
            self._value = None

    def forget(self) -> None:
        """Begin anew in a child, where no other thread is and the lock may have been held by one."""
        self._lock = threading.Lock()
        self._forked = True
        if self._value is not None:
            # Never freed here, not even at exit: the destructor would wait for threads that a child does not have.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._value))
            self._value = None


def _begin_anew() -> None:
    for holder in list(_alive):
        holder.forget()


with contextlib.suppress(AttributeError):  # Windows has no fork
    os.register_at_fork(after_in_child=_begin_anew)
