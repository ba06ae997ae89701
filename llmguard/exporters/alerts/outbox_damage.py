"""When the file of the outbox is damaged, under which name it is kept, and what can still be read of it."""

from __future__ import annotations

import contextlib
import glob
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.outbox_rows import COLUMNS, DamagedError, sound

#: What SQLite raises; the second in place of an error whose words, of a broken schema, are no UTF-8.
UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
#: What can go wrong with the file while it is in use.
TROUBLE = (*UNREADABLE, OSError, ConfigurationError)
_ERROR = 1
# SQLITE_CORRUPT and SQLITE_NOTADB, https://www.sqlite.org/rescode.html
_DAMAGED = (11, 26)
_BESIDE = ("-wal", "-shm", "")
_KEPT = 3


def damaged(error: Exception) -> bool:
    """Whether the file itself is broken, so that trying again is of no use."""
    if isinstance(error, UnicodeDecodeError | DamagedError):
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # Its tables and indexes have all that we ask for.
    return code in _DAMAGED or (code == _ERROR and str(error).startswith("no such "))


def as_text(raw: bytes) -> str:
    """A flipped bit must not keep a row from being read, nor have SQLite quote it in an error."""
    return raw.decode("utf-8", "replace")


def renamed(path: Path) -> Path:
    """Give the file and those beside it another name, and keep the last three of that kind."""
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for end in _BESIDE:
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + end))
    for old in sorted(path.parent.glob(f"{glob.escape(path.name)}.damaged-*Z"))[:-_KEPT]:
        for end in _BESIDE:
            old.with_name(old.name + end).unlink(missing_ok=True)
    return aside


def readable(path: Path) -> list[tuple[object, ...]]:
    """The messages that a damaged file still shows, from its beginning and from its end, in order."""
    known: dict[int, tuple[object, ...]] = {}
    with contextlib.suppress(*UNREADABLE), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.text_factory = as_text
        for way in ("", "DESC"):
            with contextlib.suppress(*UNREADABLE):
                rows = old.execute(f"SELECT {COLUMNS}, size FROM messages ORDER BY seq {way}")  # noqa: S608
                for row in rows:
                    if sound(row[:-1]) and type(row[-1]) is int:
                        known.setdefault(row[0], row)
    return [known[seq] for seq in sorted(known)]
