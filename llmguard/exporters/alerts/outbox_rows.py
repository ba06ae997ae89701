"""One message in the outbox, and how it is written there: JSON of a group, no secret and no part of any text."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmguard.exporters.alerts.notice import SEVERITIES, Group, Notice

COLUMNS = "seq, id, sink, grp, body, severity, over, dead, outdated, attempts, due, since, created, reason"
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_TYPES = (int, str, str, str, str, str, int, int, int, int, float, float, float, str)
# What a row takes beside its body: ids, numbers, and its places in the indexes.
_ROW = 400


class DamagedError(sqlite3.DatabaseError):
    """The file says what nobody has written."""


@dataclass(frozen=True)
class Message:
    """One message for one sink.

    Attributes:
        seq: its place: of two of the same group and sink, the lower one goes first.
        id: the same each time it is tried.
        sink: the name of the receiver.
        key: of the group.
        body: the group in JSON.
        severity: the worst of what it tells.
        over: whether all of it is over.
        dead: whether nobody tries it any more; else it waits.
        outdated: dead, and a later message of its group has been delivered since.
        attempts: how often it was tried.
        due: when it may be tried next, in seconds since 1970; likewise the next two.
        since: when it began to be tried.
        created: when it was put.
        reason: why the last attempt failed, in fixed words.
    """

    seq: int
    id: str
    sink: str
    key: str
    body: str
    severity: str
    over: bool
    dead: bool
    outdated: bool
    attempts: int
    due: float
    since: float
    created: float
    reason: str

    @cached_property
    def group(self) -> Group:
        """What it tells.

        Raises:
            ValueError: the body was damaged.
        """
        return _decoded(self.body)

    @cached_property
    def size(self) -> int:
        """Bytes that it takes in the file, about."""
        return len(self.body.encode("utf-8", "replace")) + _ROW

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        try:
            group = json.loads(self.body)
        except ValueError:
            group = None
        return {
            "id": self.id,
            "sink": self.sink,
            "state": "dead" if self.dead else "waiting",
            "outdated": self.outdated,
            "severity": self.severity,
            "resolved": self.over,
            "attempts": self.attempts,
            "due": self.due,
            "created": self.created,
            "reason": self.reason,
            "group": group,
        }


def message(row: tuple[Any, ...]) -> Message:
    """A row of `COLUMNS`.

    Raises:
        DamagedError: it was damaged.
    """
    if not sound(row):
        raise DamagedError("a row is damaged")
    seq, id_, sink, key, body, severity, over, dead, outdated, *rest = row
    return Message(seq, id_, sink, key, body, severity, bool(over), bool(dead), bool(outdated), *rest)


def sound(row: tuple[Any, ...]) -> bool:
    """Whether a row of `COLUMNS` holds what they are for."""
    return tuple(map(type, row)) == _TYPES


def encoded(group: Group) -> str:
    """A group in JSON.

    Raises:
        ValueError: a time is no finite number, or a severity is none.
    """
    if not all(notice.severity in SEVERITIES for notice in group.notices):
        raise ValueError("has notices with a severity that is none")
    notices = [
        {
            "labels": dict(notice.labels),
            "annotations": dict(notice.annotations),
            "started": notice.started,
            "ended": notice.ended,
        }
        for notice in group.notices
    ]
    return _encode({"key": group.key, "labels": dict(group.labels), "notices": notices})


def superseded_by(newer: Group, waiting: Iterable[Message]) -> list[int]:
    """Which messages need not go out any more: all that they tell is told by a newer one, and no later than its turn.

    Args:
        newer: of the same sink and group.
        waiting: the newest first.
    """
    states = _states(newer)
    changed: set[str] = set()
    old = []
    for one in waiting:
        try:
            said = _states(one.group)
        except ValueError:  # damaged: nobody knows what it would say in between
            break
        if all(states.get(key) == state and key not in changed for key, state in said.items()):
            old.append(one.seq)
        else:
            changed |= {key for key, state in said.items() if states.get(key) != state}
    return old


def _states(group: Group) -> dict[str, tuple[float, bool]]:
    return {one.fingerprint: (one.started, one.resolved) for one in group.notices}


def _decoded(body: str) -> Group:
    try:
        said = json.loads(body)
        notices = tuple(
            [
                Notice(_words(one["labels"]), _words(one["annotations"]), float(one["started"]), float(one["ended"]))
                for one in said["notices"]
            ]
        )
        group = Group(str(said["key"]), _words(said["labels"]), notices)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"is no group of notices: {type(error).__name__}") from None
    if not notices:
        raise ValueError("has no notices")
    if not all(
        one.severity in SEVERITIES and math.isfinite(one.started) and math.isfinite(one.ended) for one in notices
    ):
        raise ValueError("has notices with a severity or a time that is none")
    return group


def _words(said: object) -> Mapping[str, str]:
    if not isinstance(said, dict):
        raise TypeError("no labels")
    return {str(name): str(value) for name, value in said.items()}
