"""Threads for detectors that may be slow, and may never come back."""

from __future__ import annotations

import contextvars
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from llmguard.errors import LlmGuardError

T = TypeVar("T")


class Workers:
    """A pool of daemon threads that replaces a thread which hangs.

    ``concurrent.futures.ThreadPoolExecutor`` joins its threads when the interpreter ends, so one
    detector that hangs would keep the process alive, and a few would use the pool up. Here a caller
    that has stopped waiting says so with ``abandon``; the thread is then no longer counted, and
    ends when its task does.

    A forked child starts with a pool of its own.

    Args:
        size: how many threads at most work at the same time; by default one a processor and four more.
        lost: how many hung threads are borne before ``submit`` refuses.
    """

    def __init__(self, size: int | None = None, lost: int = 64) -> None:
        self._size = size or (os.cpu_count() or 1) + 4
        self._lost_limit = lost
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[Task[Any] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._lost = 0
        self._closed = False

    def submit(self, function: Callable[[], T]) -> Task[T]:
        """Run ``function`` on a thread of the pool, in a copy of the caller's context.

        Raises:
            LlmGuardError: the pool is closed, or too many of its threads hang.
        """
        if os.getpid() != self._pid:
            self._reset()
        task = Task(function, contextvars.copy_context())
        with self._lock:
            if self._closed:
                raise LlmGuardError("the guard is closed")
            if self._lost >= self._lost_limit:
                raise LlmGuardError(f"{self._lost} detector threads hang; no more are started until one comes back")
            self._tasks.put(task)
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < self._size:
                self._threads += 1
                self._start()
        return task

    def abandon(self, task: Task[Any]) -> None:
        """Stop waiting for a task: it is dropped when it has not begun, and its thread written off when it has."""
        if task.future.cancel():
            return
        with self._lock:
            if task.lost or task.ended:
                return
            task.lost = True
            self._lost += 1
            if self._tasks.empty():
                self._threads -= 1
            else:
                self._start()

    def close(self) -> None:
        """Let the idle threads end, and refuse new tasks."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for _ in range(self._threads):
                self._tasks.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._work, name="llmguard-worker", daemon=True).start()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task.run()
            with self._lock:
                task.ended = True
                if task.lost:
                    self._lost -= 1
                    return
                if self._tasks.empty():
                    self._idle += 1


class Task(Generic[T]):
    """One submitted call: its ``future`` holds the result or the exception."""

    __slots__ = ("_context", "_function", "ended", "future", "lost")

    def __init__(self, function: Callable[[], T], context: contextvars.Context) -> None:
        self._function = function
        self._context = context
        self.future: Future[T] = Future()
        self.ended = False
        self.lost = False

    def run(self) -> None:
        """Call the function, unless the future was cancelled before."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self._context.run(self._function)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the future
            self.future.set_exception(error)
        else:
            self.future.set_result(result)
