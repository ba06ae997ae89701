"""Who delivers for a sink now, what is due, and what became of it: one process at a time, by a lease that runs out."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import NamedTuple

from llmguard.exporters.alerts.outbox_file import OutboxFile
from llmguard.exporters.alerts.outbox_rows import COLUMNS, DamagedError, Message, message

DELIVERED, WAITING, DEAD = "delivered", "waiting", "dead"
#: Nothing is ever put off for longer, in seconds: what lies farther ahead was written by a clock that was wrong.
LONGEST_S = 86_400.0

_FIRST = "NOT EXISTS(SELECT 1 FROM messages e WHERE e.sink = m.sink AND e.grp = m.grp AND e.dead = 0 AND e.seq < m.seq)"
_DUE = (
    f"SELECT {COLUMNS} FROM messages m INDEXED BY in_turn "  # noqa: S608
    f"WHERE sink = :sink AND dead = 0 AND (due <= :now OR due > :never) AND {_FIRST} ORDER BY seq LIMIT :most"
)
_NEXT = f"SELECT min(due) FROM messages m WHERE sink = :sink AND dead = 0 AND {_FIRST}"  # noqa: S608
# Of a group none is due before those that go before it, so that these two nearly always say all.
_SPAN = (
    "SELECT (SELECT min(due) FROM messages WHERE sink = :sink AND dead = 0), "
    "(SELECT max(due) FROM messages WHERE sink = :sink AND dead = 0)"
)
_LATER = "UPDATE messages SET due = :due WHERE sink = :sink AND grp = :key AND dead = 0 AND seq > :seq AND due < :due"
_GONE = "UPDATE messages SET dead = 1, reason = :reason WHERE sink = :sink AND dead = 0"


class Claim(NamedTuple):
    """What is due at a sink, for whoever may deliver it now.

    Attributes:
        messages: of different groups; none while another process delivers, the sink is paused, or wants no more.
        again: when it is of use to look again, in seconds since 1970.
        streak: how many attempts in a row the sink has failed.
    """

    messages: tuple[Message, ...]
    again: float
    streak: int = 0


class Settled(NamedTuple):
    """What became of a message.

    Attributes:
        message: that was tried.
        state: `DELIVERED`, `WAITING` or `DEAD`.
        due: when it may be tried again, in seconds since 1970.
        reason: why it was not delivered, in fixed words.
    """

    message: Message
    state: str
    due: float = 0.0
    reason: str = ""


class Ending(NamedTuple):
    """How a turn at a sink ended.

    Attributes:
        now: seconds since 1970.
        paused: until when the sink is left alone, likewise.
        streak: how many attempts in a row it has failed.
        recovered: whether it had failed and works again, so that all that waits is due.
        gone: why it wants no more of anything, or "".
        expired: what has been tried since before then is dead, in seconds since 1970; 0.0 where nothing is too old.
    """

    now: float
    paused: float = 0.0
    streak: int = 0
    recovered: bool = False
    gone: str = ""
    expired: float = 0.0


class SinkState(NamedTuple):
    """What is known of one sink.

    Attributes:
        name: as in the policy.
        waiting: messages that wait for it.
        dead: that nobody tries any more.
        paused: until when it is left alone, in seconds since 1970.
        streak: how many attempts in a row it has failed.
        gone: why it wants no more of anything, or "".
    """

    name: str
    waiting: int
    dead: int
    paused: float
    streak: int
    gone: str


def claim(file: OutboxFile, sink: str, owner: str, now: float, lease_s: float, most: int) -> Claim:
    """Take a turn at a sink, where something is due and nobody else has one.

    Args:
        file: of the outbox.
        sink: its name.
        owner: who asks; the same one may ask again.
        now: seconds since 1970.
        lease_s: after which the turn is over, if it has not been ended by `settle`.
        most: how many messages at most.

    Raises:
        sqlite3.Error: the file can't be read or written.
        OSError: likewise.
        ConfigurationError: something else has taken its place.
    """
    with file.reading() as connection:  # which disturbs nobody, most of the time nothing is due
        known = _look(connection, sink, owner, now, lease_s, 1)
    if not known.messages and known.again > now:
        return known
    with file.writing(durable=False) as connection:
        known = _look(connection, sink, owner, now, lease_s, most)
        if not known.messages:
            if known.again <= now:
                raise DamagedError("its indexes contradict each other")
            return known
        readable = [one for one in known.messages if not _damaged(connection, one)]
        if readable:
            connection.execute(
                "INSERT INTO sinks(name, owner, until) VALUES(?, ?, ?) "
                "ON CONFLICT(name) DO UPDATE SET owner = excluded.owner, until = excluded.until",
                (sink, owner, now + lease_s),
            )
    return Claim(tuple(readable), now, known.streak)


def settle(file: OutboxFile, sink: str, owner: str, settled: Iterable[Settled], end: Ending) -> list[Message]:
    """End a turn at a sink.

    Where the turn has run out and another process has one, only what was delivered counts.

    Args:
        file: of the outbox.
        sink: its name.
        owner: who had the turn.
        settled: what became of the messages; one that is not among them waits as before.
        end: of the turn.

    Returns:
        What is dead now because it was too old.

    Raises:
        sqlite3.Error: the file can't be written; nothing of this was.
        OSError: likewise.
        ConfigurationError: something else has taken its place.
    """
    with file.writing(durable=False) as connection:
        row = connection.execute("SELECT owner FROM sinks WHERE name = ?", (sink,)).fetchone()
        mine = row is not None and row[0] == owner
        for one in settled:
            seq, key = one.message.seq, one.message.key
            if one.state == DELIVERED:
                connection.execute("DELETE FROM messages WHERE seq = ?", (seq,))
                connection.execute(
                    "UPDATE messages SET outdated = 1 WHERE sink = ? AND grp = ? AND dead = 1 AND seq < ?",
                    (sink, key, seq),
                )
            elif mine:
                connection.execute(
                    "UPDATE messages SET attempts = attempts + 1, due = ?, dead = ?, reason = ? WHERE seq = ?",
                    (one.due, one.state == DEAD, one.reason, seq),
                )
                if one.state == WAITING:
                    connection.execute(_LATER, {"due": one.due, "sink": sink, "key": key, "seq": seq})
        if not mine:
            return []
        connection.execute(
            "UPDATE sinks SET owner = '', until = 0, paused = ?, streak = ?, gone = ? WHERE name = ?",
            (end.paused, end.streak, end.gone, sink),
        )
        if end.gone:
            connection.execute(_GONE, {"sink": sink, "reason": end.gone})
        if end.recovered:
            connection.execute(
                "UPDATE messages SET due = ? WHERE sink = ? AND dead = 0 AND due > ?", (end.now, sink, end.now)
            )
        return _expire(connection, sink, end.expired) if end.expired else []


def retry(file: OutboxFile, now: float, *, ids: Collection[str] = (), sink: str = "") -> int:
    """Have messages tried again now, also dead ones, and their sinks as if they had never failed.

    A message keeps its place in its group, so all that waits in that is due, too. Dead ones that are outdated are left
    alone unless they are named: they would say again what is over.

    Args:
        file: of the outbox.
        now: seconds since 1970.
        ids: of the messages; all unless given.
        sink: only its.

    Returns:
        How many messages.

    Raises:
        sqlite3.Error: the file can't be written.
        OSError: likewise.
        ConfigurationError: something else has taken its place.
    """
    names = ",".join("?" * len(ids))
    where = f"{f'id IN ({names})' if ids else 'outdated = 0'} AND (sink = ? OR ? = '')"
    given = [*ids, sink, sink]
    with file.writing(durable=True) as connection:
        changed = connection.execute(
            "UPDATE messages SET dead = 0, outdated = 0, attempts = 0, due = ?, since = ? "  # noqa: S608
            f"WHERE {where}",
            (now, now, *given),
        ).rowcount
        if ids:
            connection.execute(
                "UPDATE messages SET due = ? WHERE dead = 0 AND due > ? "  # noqa: S608
                f"AND (sink, grp) IN (SELECT sink, grp FROM messages WHERE {where})",
                (now, now, *given),
            )
            mine = connection.execute(f"SELECT DISTINCT sink FROM messages WHERE {where}", given)  # noqa: S608
        else:
            mine = connection.execute("SELECT name FROM sinks WHERE name = ? OR ? = ''", (sink, sink))
        connection.executemany("UPDATE sinks SET gone = '', paused = 0, streak = 0 WHERE name = ?", mine.fetchall())
    return changed


def sinks(file: OutboxFile) -> list[SinkState]:
    """All sinks that something was put for or that have been tried.

    Raises:
        sqlite3.Error: the file can't be read.
        OSError: likewise.
        ConfigurationError: something else has taken its place.
    """
    with file.reading() as connection:
        known = {
            name: SinkState(name, 0, 0, paused, streak, gone)
            for name, paused, streak, gone in connection.execute("SELECT name, paused, streak, gone FROM sinks")
        }
        for name, dead, count in connection.execute("SELECT sink, dead, count(*) FROM messages GROUP BY sink, dead"):
            one = known.get(name, SinkState(name, 0, 0, 0.0, 0, ""))
            known[name] = one._replace(**{"dead" if dead else "waiting": count})
    return [known[name] for name in sorted(known)]


def _look(connection: sqlite3.Connection, sink: str, owner: str, now: float, lease_s: float, most: int) -> Claim:
    known = connection.execute(
        "SELECT owner, until, paused, streak, gone FROM sinks WHERE name = ?", (sink,)
    ).fetchone()
    who, until, paused, streak, gone = known or ("", 0.0, 0.0, 0, "")
    if gone:
        return Claim((), now + LONGEST_S)
    if who not in ("", owner) and now < until <= now + max(LONGEST_S, lease_s):
        return Claim((), until)
    if now < paused <= now + LONGEST_S:
        return Claim((), paused)
    asked = {"sink": sink, "now": now, "never": now + LONGEST_S, "most": most}
    first, last = connection.execute(_SPAN, asked).fetchone()
    if first is None:
        return Claim((), now + LONGEST_S)
    if now < first and last <= now + LONGEST_S:
        return Claim((), first)
    messages = tuple([message(row) for row in connection.execute(_DUE, asked)])
    if messages:
        return Claim(messages, now, streak)
    (due,) = connection.execute(_NEXT, asked).fetchone()
    return Claim((), now + LONGEST_S if due is None else due)


def _damaged(connection: sqlite3.Connection, one: Message) -> bool:
    """Whether nobody can say what it tells any more; then it is dead."""
    try:
        _ = one.group
    except ValueError:
        connection.execute("UPDATE messages SET dead = 1, reason = 'unreadable' WHERE seq = ?", (one.seq,))
        return True
    return False


def _expire(connection: sqlite3.Connection, sink: str, before: float) -> list[Message]:
    old = connection.execute(
        f"SELECT {COLUMNS} FROM messages WHERE sink = ? AND dead = 0 AND since < ?",  # noqa: S608
        (sink, before),
    ).fetchall()
    connection.executemany(
        "UPDATE messages SET dead = 1, reason = 'gave up: ' || reason WHERE seq = ?", [(row[0],) for row in old]
    )
    return [message(row) for row in old]
