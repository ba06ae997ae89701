"""When records leave: in batches, on a thread of their own, and never why a call fails or waits."""

from __future__ import annotations

import atexit
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from types import MethodType
from typing import NamedTuple
from weakref import WeakMethod, WeakSet

from llmguard.errors import ConfigurationError
from llmguard.exporters.record import Exporter, Record, record
from llmguard.exporters.untraced import untraced
from llmguard.types import Observation

Failed = Callable[[str, Exception], object]

COMPONENT = "exporter"
_TRIES = 5
_LONGEST_PAUSE_S = 60.0
_AT_EXIT_S = 10.0


class Counts(NamedTuple):
    """What became of the records of one processor, in this process.

    Attributes:
        exported: that the exporter took.
        dropped: that came while the queue was full, or after the end.
        lost: that the exporter refused five times, or still refused at the end.
        failures: how often the exporter raised.
    """

    exported: int = 0
    dropped: int = 0
    lost: int = 0
    failures: int = 0


class Processor:
    """A monitor that hands every check and call to an exporter, without its texts.

    It is given to a guard: ``Guard(monitors=[Processor(JsonlExporter("decisions.jsonl"))])``.

    Texts are gone before `observe` returns. Records wait in a bounded queue; what comes while it is full is dropped
    and counted. A batch that the exporter refuses is tried again after 1, 2, 4 and 8 seconds or so, then it is lost.
    Every failure and every record dropped from a full queue counts in ``llmguard.telemetry.errors``, component
    ``exporter``. A forked child begins with an empty queue, for the parent still has what was in it. At the
    interpreter's end it flushes.

    Args:
        exporter: that takes the records.
        name: by which the guard tells its monitors apart; made from the exporter's type unless given.
        max_batch: how many records at most go out at a time.
        max_queue: how many may wait.
        delay_s: how long a record waits for others, in seconds.

    Raises:
        ConfigurationError: an argument is none of those.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        name: str = "",
        max_batch: int = 512,
        max_queue: int = 4096,
        delay_s: float = 1.0,
    ) -> None:
        if not isinstance(exporter, Exporter):
            raise ConfigurationError(
                f"{type(exporter).__name__} is no exporter: it needs export, force_flush and shutdown"
            )
        for option, value, least in (("max_batch", max_batch, 1), ("max_queue", max_queue, max_batch)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(f"{option} must be a whole number, at least {least}, not {value!r}")
        if not isinstance(delay_s, int | float) or not 0 < delay_s <= threading.TIMEOUT_MAX:
            raise ConfigurationError(
                f"delay_s must be seconds, more than 0 and at most {threading.TIMEOUT_MAX:.0f}, not {delay_s!r}"
            )
        if not isinstance(name, str):
            raise ConfigurationError(f"name must be a string, not {name!r}")
        self.exporter = exporter
        self._name = name or type(exporter).__name__
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._delay_s = delay_s
        self._failed: list[Callable[[], Failed | None]] = []
        self._closed = self._done = False
        self._ending = False
        self._reset()
        _processors.add(self)

    def _reset(self) -> None:
        self._queue: deque[Record] = deque()
        self._batch: tuple[Record, ...] = ()
        self._tries = 0
        self._exported = self._dropped = self._lost = self._failures = 0
        self._exporting = threading.Lock()
        self._counting = threading.Lock()
        self._some = threading.Event()
        self._full = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """By which the guard tells its monitors apart."""
        return self._name

    @property
    def counts(self) -> Counts:
        """What became of the records so far."""
        return Counts(self._exported, self._dropped, self._lost, self._failures)

    def on_failure(self, failed: Failed) -> None:
        """Have each failure told to ``failed``, with the component; the first who listens and is alive is told."""
        kept = WeakMethod(failed) if isinstance(failed, MethodType) else lambda: failed
        self._failed = [*(known for known in self._failed if known() is not None), kept]

    def observe(self, seen: Observation) -> None:
        """Make a record, and have it exported soon."""
        if self._closed or len(self._queue) >= self._max_queue:
            with self._counting:
                self._dropped += 1
            if not self._closed:
                self._tell(queue.Full())
            return
        self._queue.append(record(seen))
        if self._ending:
            self.force_flush()
            return
        if self._thread is None:
            self._start()
        if not self._some.is_set():
            self._some.set()
        if len(self._queue) >= self._max_batch:
            self._full.set()

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Export all that waits, now and on this thread.

        Args:
            timeout_s: after which no further batch is begun; one that is under way is waited for no longer.

        Returns:
            Whether all of it is where it belongs.
        """
        until = _until(timeout_s)
        while self._queue or self._batch:
            left = until - time.monotonic()
            if left <= 0 or not self._export(left):
                return False
        # Nothing waits, but the last batch may still be under way.
        if not self._exporting.acquire(timeout=max(until - time.monotonic(), 0.0)):
            return False
        try:
            with untraced():
                return self.exporter.force_flush(max(until - time.monotonic(), 0.0))
        except Exception as error:  # noqa: BLE001 - an exporter never breaks anything else
            self._count_failure(error)
            return False
        finally:
            self._exporting.release()

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Take no more, export what waits, and shut the exporter down; a second time does nothing.

        Returns:
            Whether all of it is where it belongs; the same each time.
        """
        if self._closed:
            return self._done
        until = _until(timeout_s)
        self._closed = True
        done = self.force_flush(timeout_s)
        self._stop.set()
        self._full.set()
        self._some.set()
        if not self._exporting.acquire(timeout=max(until - time.monotonic(), 0.0)):
            return False
        self._lost += len(self._batch) + len(self._queue)
        self._batch = ()
        self._queue.clear()
        try:
            with untraced():
                self._done = self.exporter.shutdown(max(until - time.monotonic(), 0.0)) and done
        except Exception as error:  # noqa: BLE001 - an exporter never breaks anything else
            self._count_failure(error)
        finally:
            self._exporting.release()
        return self._done

    def _start(self) -> None:
        with self._counting:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="llmguard-exporter", daemon=True)
                thread.start()  # raises where there are too many; the next record tries again
                self._thread = thread

    def _serve(self) -> None:
        stop = self._stop
        while not stop.is_set():
            self._some.wait()
            self._some.clear()
            while (self._queue or self._batch) and not stop.is_set():
                if self._tries:
                    stop.wait(_pause(self._tries))
                elif len(self._queue) < self._max_batch:
                    self._full.wait(self._delay_s)
                self._full.clear()
                self._export()

    def _export(self, timeout_s: float = -1) -> bool:
        """Export one batch; whether the exporter took it."""
        if not self._exporting.acquire(timeout=timeout_s):
            return False
        try:
            waiting = self._queue
            if not self._batch:
                self._batch = tuple([waiting.popleft() for _ in range(min(self._max_batch, len(waiting)))])
            if self._batch:
                with untraced():
                    self.exporter.export(self._batch)
                self._exported += len(self._batch)
        except Exception as error:  # noqa: BLE001 - an exporter never breaks anything else
            self._count_failure(error)
            self._tries += 1
            if self._tries < _TRIES:
                return False
            self._lost += len(self._batch)
            self._batch, self._tries = (), 0
            return False
        else:
            self._batch, self._tries = (), 0
            return True
        finally:
            self._exporting.release()

    def _count_failure(self, error: Exception) -> None:
        self._failures += 1
        self._tell(error)

    def _tell(self, error: Exception) -> None:
        for kept in self._failed:
            if (failed := kept()) is not None:
                failed(COMPONENT, error)
                return


def _until(timeout_s: float) -> float:
    """When a wait that begins now ends; one without end is as long as the system lets it be."""
    return time.monotonic() + min(timeout_s, threading.TIMEOUT_MAX - 1)


def _pause(tries: int) -> float:
    """Seconds before a batch is tried again: doubled each time, from half to all of it."""
    return min(2.0 ** (tries - 1), _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load


_processors: WeakSet[Processor] = WeakSet()


def _forked() -> None:
    for processor in list(_processors):
        processor._reset()  # noqa: SLF001 - before any thread of the child's can use it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _at_exit() -> None:
    for processor in list(_processors):
        processor._ending = True  # noqa: SLF001 - guards that go later still tell of their last calls
        if not processor._closed:  # noqa: SLF001 - likewise
            processor.force_flush(_AT_EXIT_S)
