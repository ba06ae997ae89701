"""How messages get into the outbox: made of groups, written after what they don't make superfluous, and what goes."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.notice import SEVERITIES, Group
from llmguard.exporters.alerts.outbox_damage import TROUBLE
from llmguard.exporters.alerts.outbox_file import OutboxFile
from llmguard.exporters.alerts.outbox_rows import COLUMNS, Message, encoded, message, superseded_by

_INSERT = (
    "INSERT INTO messages(id, sink, grp, body, severity, over, dead, outdated, attempts, due, since, created, reason, "
    "size) VALUES(?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?)"
)
# Enough for the parts of a large group; what lies farther back is told again, which does no harm.
_BACK = 32
_LAST = f"SELECT {COLUMNS} FROM messages WHERE sink = ? AND grp = ? AND dead = 0 ORDER BY seq DESC LIMIT {_BACK}"  # noqa: S608
_BEFORE = (
    "SELECT 1 FROM messages WHERE sink = :sink AND grp = :key AND dead = 0 "
    "UNION ALL SELECT 1 FROM sinks WHERE name = :sink AND gone != '' LIMIT 1"
)
# Dead and outdated or over, then other dead ones, then those that wait.
_IN_TURN = ("dead = 1 AND (over = 1 OR outdated = 1)", "dead = 1", "dead = 0")
_AT_A_TIME = 64


class Put:
    """Messages that one caller puts."""

    __slots__ = ("messages", "written")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.written = False


def made(sink: str, group: Group, now: float) -> Message:
    """The message that tells a sink of a group, due at once.

    Raises:
        ConfigurationError: the group has a time that is no finite number, or an unknown severity.
    """
    try:
        body, severity = encoded(group), group.severity
    except (ValueError, TypeError):
        raise ConfigurationError(
            f"a group needs times that are finite numbers, labels that are strings, and a severity out of {SEVERITIES}"
        ) from None
    id_ = f"msg_{secrets.token_hex(16)}"
    sink, key = _whole(sink), _whole(group.key)
    return Message(0, id_, sink, key, body, severity, group.resolved, False, False, 0, now, now, now, "")


def _whole(text: str) -> str:
    """Without lone surrogates, which SQLite does not take."""
    return text.encode("utf-8", "replace").decode()


def insert(connection: sqlite3.Connection, messages: Sequence[Message]) -> int:
    """Write them after what is there; how many of that they have superseded."""
    superseded = 0
    gone = dict(connection.execute("SELECT name, gone FROM sinks WHERE gone != ''"))
    for one in messages:
        due = one.due
        if waiting := [message(row) for row in connection.execute(_LAST, (one.sink, one.key))]:
            old = superseded_by(one.group, waiting)
            connection.executemany("DELETE FROM messages WHERE seq = ?", [(seq,) for seq in old])
            superseded += len(old)
            # Not before those that go before it.
            due = max([due, *(before.due for before in waiting if before.seq not in old)])
        why = gone.get(one.sink, "")
        connection.execute(
            _INSERT,
            (
                *(one.id, one.sink, one.key, one.body, one.severity, one.over, bool(why)),
                *(due, one.since, one.created, why, one.size),
            ),
        )
    return superseded


def first_in_line(file: OutboxFile, held: Iterable[Message]) -> list[Message]:
    """Of what waits in memory for one sink, that which nothing has to go before, there or in the file."""
    first: dict[str, Message] = {}
    for one in held:
        first.setdefault(one.key, one)
    try:
        with file.reading() as connection:
            return [one for one in first.values() if not connection.execute(_BEFORE, one.__dict__).fetchone()]
    except TROUBLE:  # an alert out of its turn is better than none
        return list(first.values())


def make_room(connection: sqlite3.Connection, max_messages: int, max_bytes: int) -> list[Message]:
    """Delete messages until no more than these are left, in the transaction that is open.

    Args:
        connection: of the outbox.
        max_messages: how many may be left.
        max_bytes: how much.

    Returns:
        What was deleted.
    """
    dropped: list[Message] = []
    count, size = connection.execute("SELECT rows, bytes FROM totals").fetchone()
    for which in _IN_TURN:
        while count > max_messages or size > max_bytes:
            going = connection.execute(
                f"SELECT {COLUMNS}, size FROM messages WHERE {which} ORDER BY seq LIMIT ?",  # noqa: S608
                (min(max(count - max_messages, 1), _AT_A_TIME),),
            ).fetchall()
            if not going:
                break
            connection.executemany("DELETE FROM messages WHERE seq = ?", [(row[0],) for row in going])
            dropped += [message(row[:-1]) for row in going]
            count, size = count - len(going), size - sum([row[-1] for row in going])
    if dropped:
        connection.execute("UPDATE totals SET dropped = dropped + ?", (len(dropped),))
    return dropped
