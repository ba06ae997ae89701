"""Where messages about alerts wait until they are delivered: a file that survives a crash and stays bounded."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.outbox_damage import TROUBLE, UNREADABLE, damaged
from llmguard.exporters.alerts.outbox_file import OutboxFile
from llmguard.exporters.alerts.outbox_put import Put, first_in_line, insert, made, make_room
from llmguard.exporters.alerts.outbox_rows import COLUMNS, DamagedError, Message, message

#: What failures of the outbox and of deliveries count to.
COMPONENT = "alerts"
_LEAST_BYTES = 1 << 16


class Counts(NamedTuple):
    """What one process has done with an outbox.

    Attributes:
        put: messages that were taken.
        superseded: that had not been delivered when one came that tells all they do, which went in their place.
        dropped: that had to make room for newer ones, or were too large.
        held: that wait in memory, because the file can't be written.
        failures: how often the file could not be read or written.
    """

    put: int = 0
    superseded: int = 0
    dropped: int = 0
    held: int = 0
    failures: int = 0


class Outbox:
    """Keeps messages until they are delivered, in a file of SQLite (WAL) that any number of processes share.

    When `put` returns, the messages are on the disk; what several threads put at a time goes there together. A file
    that can't be written (full disk, locked for more than two seconds) makes nobody fail: the newest ``max_held``
    messages wait in memory, from where they are delivered, too, and go to the file as soon as it can be written
    again. A damaged file is given another name, and what can be read of it is taken over.

    Of one sink and one group, messages are delivered in the order in which they were put. One that has not been
    delivered is superseded by a later one of its group that tells all that it does, of each alert the same start and
    the same state, if none between them says otherwise. So each state is told at least once and in its turn, and
    repeats don't pile up.

    The file never holds more than ``max_messages`` or ``max_bytes``. To make room go, the oldest first: dead
    messages that are outdated or tell only that something is over; other dead ones; then those that wait. A message
    larger than half of ``max_bytes`` is not taken. Each is counted, in `counts`, and told to `on_drop`.

    Args:
        path: of the file, on a disk of this machine; made for its owner alone, as is its directory.
        max_messages: see above.
        max_bytes: likewise.
        max_held: see above; they take no more than ``max_bytes`` either.
        fsync: whether `put` waits for the disk. Without it a crash of the machine, not of the process, may lose
            the last seconds.

    Raises:
        ConfigurationError: an argument is none of those, or the file is not an outbox, of a newer llmguard, or
            can't be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_messages: int = 10_000,
        max_bytes: int = 64 << 20,
        max_held: int = 1000,
        fsync: bool = True,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ConfigurationError(f"path must name a file, not {path!r}")
        for option, value, least in (
            ("max_messages", max_messages, 1),
            ("max_bytes", max_bytes, _LEAST_BYTES),
            ("max_held", max_held, 0),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(f"{option} must be a whole number, at least {least}, not {value!r}")
        self.path = Path(os.fspath(path)).absolute()
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.file = OutboxFile(self.path)
        self._max_held = max_held
        self._fsync = fsync
        self._heard: list[Callable[[Collection[str]], object]] = []
        self._dropping: list[Callable[[Message], object]] = []
        self._failing: list[Callable[[str, Exception], object]] = []
        self._reset()
        # Nobody listens yet: told along with the first message.
        self._found = DamagedError("it was damaged when it was opened") if self.file.aside else None

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._coming: deque[Put] = deque()
        self._untold: deque[Callable[[], object]] = deque()
        self._held: deque[Message] = deque()
        self._put = self._superseded = self._dropped = self._failures = 0

    def _own(self) -> None:
        if os.getpid() != self._pid:
            self._reset()  # the parent still has what waits in memory

    @property
    def counts(self) -> Counts:
        """What this process has done with it."""
        return Counts(self._put, self._superseded, self._dropped, len(self._held), self._failures)

    def on_put(self, heard: Callable[[Collection[str]], object]) -> None:
        """Have the names of the sinks that something was put for told to ``heard``."""
        self._heard.append(heard)

    def on_drop(self, dropped: Callable[[Message], object]) -> None:
        """Have each message that is dropped told to ``dropped``."""
        self._dropping.append(dropped)

    def on_failure(self, failed: Callable[[str, Exception], object]) -> None:
        """Have each failure told to ``failed``, with the component that it counts to."""
        self._failing.append(failed)

    def put(self, told: Iterable[tuple[str, Group]], now: float | None = None) -> list[str]:
        """Take messages.

        Args:
            told: the name of a sink, and what to tell it; in order.
            now: seconds since 1970; the clock's unless given.

        Returns:
            The ids of the messages.

        Raises:
            ConfigurationError: a group or ``now`` has a time that is no finite number, or a group an unknown severity;
                none is taken.
        """
        now = time.time() if now is None else now
        if not isinstance(now, int | float) or not math.isfinite(now):
            raise ConfigurationError(f"now must be seconds since 1970, not {now!r}")
        messages = [made(sink, group, now) for sink, group in told]
        large = [one for one in messages if one.size > self.max_bytes // 2]
        put = Put([one for one in messages if one not in large] if large else messages)
        self._own()
        self._coming.append(put)
        with self.file.lock:
            if not put.written:  # else another thread has written it along with its own
                self._write()
            if self._found is not None:
                self._fail(self._found)
                self._found = None
        self._drop(large)
        self._tell()
        sinks = {one.sink for one in put.messages}
        for heard in self._heard:
            heard(sinks)
        return [one.id for one in messages]

    def flush(self) -> bool:
        """Write what waits in memory; whether nothing does any more."""
        self._own()
        with self.file.lock:
            if self._held:
                self._write()
            done = not self._held
        self._tell()
        return done

    def held(self, sink: str) -> list[Message]:
        """What waits in memory for a sink and may be delivered from there: nothing in the file has to go before it."""
        with self.file.lock:
            return first_in_line(self.file, [one for one in self._held if one.sink == sink])

    def release(self, one: Message) -> None:
        """Forget what was delivered from memory; if it has been written meanwhile, also there."""
        with self.file.lock:
            if one in self._held:
                self._held.remove(one)
                return
            with suppress(*TROUBLE), self.file.writing(durable=False) as connection:
                connection.execute("DELETE FROM messages WHERE id = ?", (one.id,))

    def messages(self, *, dead: bool | None = None, sink: str = "", limit: int = 1000) -> list[Message]:
        """What waits or is dead, the oldest first.

        Args:
            dead: only those that are, or that are not.
            sink: only its.
            limit: how many at most.

        Raises:
            ConfigurationError: the file can't be read.
        """
        where, given = ["1"], list[object]()
        if dead is not None:
            where.append("dead = ?")
            given.append(dead)
        if sink:
            where.append("sink = ?")
            given.append(sink)
        query = f"SELECT {COLUMNS} FROM messages WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?"  # noqa: S608
        with self._reading() as connection:
            return [message(row) for row in connection.execute(query, (*given, limit))]

    def dropped(self) -> int:
        """How many messages of all processes had to make room, ever.

        Raises:
            ConfigurationError: the file can't be read.
        """
        with self._reading() as connection:
            (count,) = connection.execute("SELECT dropped FROM totals").fetchone()
            return int(count)

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        try:
            with self.file.reading() as connection:
                yield connection
        except (*UNREADABLE, OSError) as error:
            raise ConfigurationError(f"can't be read: {error}", source=str(self.path)) from None

    def close(self) -> None:
        """Write what waits in memory, and close the file."""
        self.flush()
        self.file.close()

    def trouble(self, error: Exception) -> None:
        """Count and tell that the file could not be used; a damaged one is given another name."""
        self._stumble(error)
        self._tell()

    def _stumble(self, error: Exception) -> None:
        if damaged(error):
            try:
                self.file.set_aside()
            except TROUBLE as worse:
                error = worse
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        self._untold += [partial(failed, COMPONENT, error) for failed in self._failing]

    def _write(self) -> None:
        coming = [self._coming.popleft() for _ in range(len(self._coming))]
        fresh = [one for put in coming for one in put.messages]
        waiting = [*self._held, *fresh]
        for again in (True, False):
            try:
                with self.file.writing(durable=self._fsync) as connection:
                    superseded = insert(connection, waiting)
                    dropped = make_room(connection, self.max_messages, self.max_bytes)
            except TROUBLE as error:
                self._stumble(error)
                if again and damaged(error):
                    continue
                self._hold(fresh)
            except BaseException:
                self._coming.extendleft(reversed(coming))  # who was interrupted has taken what others put, too
                raise
            else:
                self._held.clear()
                self._superseded += superseded
                self._drop(dropped)
            break
        self._put += len(fresh)
        for put in coming:
            put.written = True

    def _hold(self, fresh: Iterable[Message]) -> None:
        self._held += fresh
        size, dropped = sum([one.size for one in self._held]), list[Message]()
        while self._held and (len(self._held) > self._max_held or size > self.max_bytes):
            dropped.append(self._held.popleft())
            size -= dropped[-1].size
        self._drop(dropped)

    def _drop(self, dropped: Sequence[Message]) -> None:
        self._dropped += len(dropped)
        self._untold += [partial(heard, one) for one in dropped for heard in self._dropping]

    def _tell(self) -> None:
        """Tell what has happened while the file was locked: those who hear it may have locks of their own."""
        while self._untold:
            with suppress(IndexError):  # another thread was faster
                self._untold.popleft()()
