"""The file of the outbox: opened, made, and set aside when it is damaged; one connection a process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet, finalize

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.outbox_damage import UNREADABLE, as_text, damaged, readable, renamed
from llmguard.exporters.alerts.outbox_rows import COLUMNS, DamagedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSION = 1
# "llgO": tells our files from other databases.
_APPLICATION = 0x6C6C674F
_MODE = 0o600
_BUSY_S = 2.0
_LEAST_PAGE = 512
_SCHEMA = f"""
CREATE TABLE messages(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, sink TEXT NOT NULL, grp TEXT NOT NULL,
    body TEXT NOT NULL, severity TEXT NOT NULL, over INTEGER NOT NULL, dead INTEGER NOT NULL,
    outdated INTEGER NOT NULL, attempts INTEGER NOT NULL, due REAL NOT NULL, since REAL NOT NULL,
    created REAL NOT NULL, reason TEXT NOT NULL, size INTEGER NOT NULL);
CREATE INDEX in_turn ON messages(sink, dead);
CREATE INDEX by_due ON messages(sink, dead, due);
CREATE INDEX the_dead ON messages(dead) WHERE dead = 1;
CREATE INDEX by_group ON messages(sink, grp, dead);
CREATE TABLE sinks(
    name TEXT PRIMARY KEY, owner TEXT NOT NULL DEFAULT '', until REAL NOT NULL DEFAULT 0,
    paused REAL NOT NULL DEFAULT 0, streak INTEGER NOT NULL DEFAULT 0, gone TEXT NOT NULL DEFAULT '');
CREATE TABLE totals(rows INTEGER NOT NULL, bytes INTEGER NOT NULL, dropped INTEGER NOT NULL);
INSERT INTO totals VALUES(0, 0, 0);
CREATE TRIGGER put AFTER INSERT ON messages BEGIN
    UPDATE totals SET rows = rows + 1, bytes = bytes + new.size; END;
CREATE TRIGGER gone AFTER DELETE ON messages BEGIN
    UPDATE totals SET rows = rows - 1, bytes = bytes - old.size; END;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {VERSION};
"""  # noqa: S608 - only our own numbers are part of it


class OutboxFile:
    """A connection that transactions are made on, one at a time; any number of threads and processes.

    A fork waits for the transaction under way and closes the connection: SQLite's must not be carried across one.

    Args:
        path: of the file; made, with its directory, for its owner alone.

    Attributes:
        path: see above.
        lock: held during a transaction.
        aside: damaged files that were given another name.

    Raises:
        ConfigurationError: the file is something else, of a newer llmguard, or can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.aside: list[Path] = []
        self._open: list[sqlite3.Connection] = []
        self._seen: os.stat_result | None = None
        self._durable: bool | None = None
        # At the interpreter's end threads may still use it, and SQLite needs no goodbye.
        finalize(self, _close, self._open).atexit = False
        _files.add(self)
        try:
            with self.lock:
                try:
                    self._connection()
                except UNREADABLE as error:
                    if not damaged(error):
                        raise
                    self.set_aside()
        except UNREADABLE as error:
            raise ConfigurationError(f"can't be opened: {error}", source=str(path)) from None
        except OSError as error:
            raise ConfigurationError(f"can't be written: {error.strerror}", source=str(path)) from None

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A connection to read by.

        Raises:
            sqlite3.Error: it can't be read.
            OSError: likewise.
            ConfigurationError: something else has taken the file's place.
        """
        with self.lock:
            yield self._connection()

    @contextmanager
    def writing(self, *, durable: bool) -> Generator[sqlite3.Connection]:
        """A transaction, which is undone if anything is raised.

        Args:
            durable: whether it is on the disk, and not only with the system, when it ends.

        Raises:
            sqlite3.Error: the disk is full, another process has held the file for two seconds, ...
            OSError: likewise.
            ConfigurationError: something else has taken the file's place.
        """
        with self.lock:
            connection = self._connection()
            if durable is not self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # the first error says more
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                raise

    def set_aside(self) -> int:
        """Give a damaged file another name, and begin a new one with what can still be read of it.

        Returns:
            How many messages could be read; the file keeps all that is in it.
        """
        with self.lock, _alone(self.path):
            mine = self._seen
            self.close()
            if mine is None or not _same(mine, self.path):
                return 0  # another process was faster
            aside = renamed(self.path)
            self.aside.append(aside)
            rows = readable(aside)
            connection = self._connect()
            marks = ",".join("?" * (COLUMNS.count(",") + 2))
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(f"INSERT INTO messages({COLUMNS}, size) VALUES({marks})", rows)
            return len(rows)

    def close(self) -> None:
        """Close the connection; the next transaction opens one again."""
        with self.lock:
            _close(self._open)
            self._seen = None

    def _connection(self) -> sqlite3.Connection:
        if self._open and self._seen is not None and _same(self._seen, self.path):
            return self._open[0]
        self.close()
        with _alone(self.path):
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        _make(self.path)
        self._seen = self.path.stat()
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.text_factory = as_text
        try:
            _check(connection, self.path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA journal_size_limit = {8 << 20}")
        except BaseException:
            connection.close()
            raise
        self._open.append(connection)
        self._durable = None
        return connection


def _make(path: Path) -> None:
    """Make an empty file; it is opened by SQLite alone, whose locks go when anybody in the process closes it."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives the files that it makes beside this one the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), _MODE))
    elif 0 < path.stat().st_size < _LEAST_PAGE:
        raise _foreign(path)


def _foreign(path: Path) -> ConfigurationError:
    return ConfigurationError("is no outbox of alerts: give another path, or move it away", source=str(path))


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables in an empty file; refuse what is not ours."""
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        if damaged(error):
            raise _foreign(path) from None
        raise
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise ConfigurationError("is a database of something else: give another path", source=str(path))
        connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
    elif version > VERSION:
        raise ConfigurationError(
            f"was written by a newer llmguard (schema {version}, this one knows {VERSION}): "
            "upgrade llmguard, or give another path",
            source=str(path),
        )
    else:
        connection.execute(f"SELECT {COLUMNS}, size FROM messages INDEXED BY in_turn WHERE sink = '' LIMIT 0")  # noqa: S608
        connection.execute("SELECT name, owner, until, paused, streak, gone, dropped FROM sinks, totals LIMIT 0")
        # 20 ms where 10,000 messages wait, and most of the time none does.
        if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise DamagedError("its pages or indexes contradict each other")


def _same(seen: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(seen, path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Whoever makes the file or gives it another name is the only one that does."""
    if fcntl is None:
        yield
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # a child that was forked meanwhile would keep it
        os.close(handle)


def _close(connections: list[sqlite3.Connection]) -> None:
    while connections:
        with contextlib.suppress(sqlite3.Error):
            connections.pop().close()


_files: WeakSet[OutboxFile] = WeakSet()
_held: list[OutboxFile] = []


def _before_fork() -> None:
    for file in list(_files):
        file.lock.acquire()
        file.close()
        _held.append(file)


def _after_fork() -> None:
    while _held:
        _held.pop().lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
