"""Dynamic batching: what concurrent callers ask of a model runs together.

Threads and event loops submit items and get futures. A caller that blocks anyway, and finds the model idle, runs its
items on its own thread (two hand-overs less); whoever comes meanwhile waits in the queue, so the next batch gathers
by itself. What runs next is decided by `batching.Queue`; here are the threads: one that runs batches, and one that
answers the late while a batch runs. Both are started when first needed and end when idle.

A run that was begun is never broken off: a deadline says when the answer must be there, and an answer that comes later
than foretold is still delivered. When a batch fails, its items run again one by one, so that only the one that is to
blame fails; after 8 failures without a success the model is to blame, and the rest fails too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

from llmguard.inference import batch_process
from llmguard.inference.batch_lookout import IDLE_S, TICK_S, Lookout
from llmguard.inference.batch_observer import Observer, Reporter
from llmguard.inference.batch_request import Batch, Request
from llmguard.inference.batch_run import Call, Runs, refusal
from llmguard.inference.batching import Limits, Queue
from llmguard.inference.run_time import RunTime

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Runs what many callers submit in batches. Thread-safe; a forked child has a queue of its own.

    Args:
        run: answers a batch, one result an item, in order; called by one thread at a time.
        length: an item's tokens.
        max_items: of a batch.
        max_tokens: of a batch: items times the longest, padding included. A longer item runs alone.
        preferred: sizes at which a batch runs without waiting longer.
        max_delay_s: how long the first item of a batch waits for company; 0 never waits.
        queue_limit: items that may wait.
        observer: is told of batches, waiting items and refusals.
        name: for messages and the observer.

    Raises:
        ConfigurationError: a number is out of range.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Sequence[R]],
        *,
        length: Callable[[T], int],
        max_items: int,
        max_tokens: int,
        preferred: Sequence[int] = (),
        max_delay_s: float = 0.0,
        queue_limit: int = 4096,
        observer: Observer | None = None,
        name: str = "",
    ) -> None:
        self._runs: Runs[T, R] = Runs(run)
        self._length = length
        self._limits = Limits(max_items, max_tokens, tuple(preferred), max_delay_s, queue_limit)
        self._told = Reporter(observer, name)
        self._name = name
        self._closed = False
        self.begin_anew()
        batch_process.join(self)

    def begin_anew(self) -> None:
        """Empty queue, no threads: for a forked child, where what was submitted before is the parent's."""
        self._time = RunTime()
        self._queue: Queue[T] = Queue(self._limits, self._time)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._quiet = threading.Condition(self._lock)
        self._worker: threading.Thread | None = None
        self._lookout = Lookout(self._lock, self._queue, self._refuse)
        self._runner: int | None = None
        self._ends = 0.0
        self._reported = 0

    def submit(self, items: Sequence[T], *, deadline: float | None = None, tenant: str = "") -> Future[list[R]]:
        """Have the items answered; returns at once.

        The future holds the answers in order, or `DeadlineError`, `OverloadError`, `InferenceError` or what ``run``
        raised for one of the items. Cancel it to take back what has not run. In asyncio, await
        ``asyncio.wrap_future(...)`` of it.

        Args:
            items: any number.
            deadline: when the answer must be there, in `time.monotonic` seconds.
            tenant: whose they are; tenants take turns.
        """
        call = self._call(items, deadline, tenant)
        if call.items:
            self._enqueue(call)
        return call.future

    def answer(self, items: Sequence[T], *, deadline: float | None = None, tenant: str = "") -> list[R]:
        """Have the items answered, and wait; on this thread where the model is idle and they fit one batch.

        Args:
            items: any number.
            deadline: when the answer must be there, in `time.monotonic` seconds.
            tenant: whose they are; tenants take turns.

        Raises:
            DeadlineError: the answer would come too late.
            OverloadError: too many items wait.
            InferenceError: the answers are none, or the batcher is closed.
            Exception: what ``run`` raised.
        """
        call = self._call(items, deadline, tenant)
        if not call.items:
            return []
        with self._lock:
            batch = self._queue.alone(call) if self._runner is None and not self._closed else None
            if batch is not None and self._queue.late(call, call.arrived):
                batch = None
            elif batch is not None:
                call.waiting = 0
                self._begin(batch, call.arrived)
        if batch is None:
            self._enqueue(call)
        else:
            try:
                self._execute(batch)
            finally:
                self._end()
        try:
            return call.future.result()
        except BaseException:
            call.future.cancel()
            raise

    def close(self, *, drain: bool = False, timeout_s: float = 5.0) -> bool:
        """Refuse new items and end; safe to call twice.

        Args:
            drain: run what waits; otherwise it is answered with `InferenceError`.
            timeout_s: how long to wait for the batch that runs.

        Returns:
            Whether nothing runs any more, so that the model may be closed.
        """
        with self._lock:
            self._closed = True
            waited = [] if drain else self._queue.clear()
            self._work.notify_all()
            self._lookout.end()
        self._refuse(waited, "closed")
        with self._lock:
            if self._runner == threading.get_ident():
                return False
            return self._quiet.wait_for(lambda: self._runner is None and not self._queue.waiting, timeout_s)

    def _call(self, items: Sequence[T], deadline: float | None, tenant: str) -> Call[T, R]:
        lengths = [self._length(item) for item in items]
        call: Call[T, R] = Call(items, lengths, deadline=deadline, tenant=tenant, arrived=time.monotonic())
        if not items:
            call.future.set_result([])
        return call

    def _enqueue(self, call: Call[T, R]) -> None:
        reason = ""
        shed: list[Request[T]] = []
        with self._lock:
            now = time.monotonic()
            busy_s = max(0.0, self._ends - now) if self._runner is not None else 0.0
            if self._closed:
                reason = "closed"
                shed.append(call)
            elif self._queue.late(call, now, busy_s):
                reason = "deadline"
                shed.append(call)
            else:
                reason, shed = "full", self._queue.offer(call, now)
                if self._worker is None:
                    shed += self._start()
                elif self._runner is None:
                    self._work.notify()
                else:
                    self._lookout.alert(now)
        if call not in shed:
            call.future.add_done_callback(lambda future: self._cancelled(call) if future.cancelled() else None)
        self._refuse(shed, reason)

    def _start(self) -> list[Request[T]]:
        """Start the thread that runs batches; what has to be given up if there can be none."""
        thread = threading.Thread(target=self._serve, name="llmguard-batches", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends, or the system has no more threads
            return self._queue.clear()
        self._worker = thread
        return []

    def _cancelled(self, call: Call[T, R]) -> None:
        call.withdraw()
        with self._lock:
            self._queue.drop(call)
        self._report()

    def _begin(self, batch: Batch[T], now: float) -> None:
        self._runner = threading.get_ident()
        self._ends = now + self._time.seconds(batch.tokens)

    def _end(self) -> None:
        with self._lock:
            self._runner = None
            if self._queue.waiting:
                self._work.notify()
            else:
                self._quiet.notify_all()

    def _serve(self) -> None:
        """The thread that runs batches."""
        while True:
            batch: Batch[T] | None = None
            with self._lock:
                now = time.monotonic()
                late = self._queue.expire(now)
                if self._runner is None:
                    batch, more = self._queue.take(now, drain=self._closed)
                    late += more
                if batch is not None:
                    self._begin(batch, now)
                    self._lookout.alert(now)
                elif not late and not self._pause(now):
                    self._worker = None
                    self._quiet.notify_all()
                    return
            self._refuse(late, "deadline")
            if batch is not None:
                # What ended the run was told to the callers; this thread has to serve the next.
                with contextlib.suppress(BaseException):
                    self._execute(batch)
                self._end()
            # Nothing of the last batch is kept alive while the thread waits.
            batch = None

    def _pause(self, now: float) -> bool:
        """Wait until there may be something to run; False when the thread may end."""
        moments = [self._queue.expires(now)]
        if self._runner is None:
            moments.append(self._queue.ripens())
        elif self._closed and not self._queue.waiting:
            return False
        known = [moment for moment in moments if moment is not None]
        if known:
            self._work.wait(max(TICK_S, min(known) - now))
            return True
        if self._closed and not self._queue.waiting:
            return False
        return self._work.wait(IDLE_S) or self._queue.waiting > 0

    def _execute(self, batch: Batch[T]) -> None:
        started = time.monotonic()
        queued = [started - item.request.arrived for item in batch.items] if self._told.on else []
        self._report()
        try:
            took, late = self._runs.execute(batch.items)
            with self._lock:
                if took >= 0:
                    self._time.learn(batch.tokens, took, started + took)
        finally:
            with self._lock:
                for item in batch.items:
                    # A failed item fails its whole request.
                    if item.request.waiting and _call(item.request).answered:
                        self._queue.drop(item.request)
        self._told.batch(len(batch.items), batch.tokens, queued)
        self._refuse(late, "deadline")

    def _refuse(self, requests: Sequence[Request[T]], reason: str) -> None:
        """Answer requests that are in the queue no more."""
        for request in requests:
            if _call(request).fail(refusal(reason, self._name, self._limits.queue_limit)):
                self._told.shed(reason)
        self._report()

    def _report(self) -> None:
        """Tell how many items more or fewer wait than was told last."""
        if self._told.on:
            with self._lock:
                delta = self._queue.waiting - self._reported
                self._reported += delta
            if delta:
                self._told.queue(delta)


def _call(request: Request[Any]) -> Call[Any, Any]:
    return cast("Call[Any, Any]", request)  # nothing else is ever put into the queue
