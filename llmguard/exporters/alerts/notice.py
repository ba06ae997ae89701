"""What is told of an alert, and how several go out together. Holds no part of any text that was checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

SEVERITIES = ("critical", "error", "warning", "info")
NAME, SEVERITY = "alertname", "severity"


@dataclass(frozen=True)
class Notice:
    """One alert that fires, or that is over.

    Attributes:
        labels: what tells it from others, ``alertname`` and ``severity`` among them; names are letters, digits and
            ``_``, values come from closed sets. No score and no id of a trace, which would make each one new.
        annotations: what a person wants to know: ``summary``, ``runbook_url``, ``policy``, ``window``, ``value``,
            ``trace_id``.
        started: when it began to fire, in seconds since 1970.
        ended: when it was over, or 0.0 while it fires.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    started: float
    ended: float = 0.0

    @property
    def resolved(self) -> bool:
        """Whether it is over."""
        return self.ended > 0.0

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`; ``warning`` where nothing is said."""
        return self.labels.get(SEVERITY, "warning")

    @cached_property
    def fingerprint(self) -> str:
        """Its identity: the same labels have the same, 32 hexadecimal digits."""
        return fingerprint(self.labels)


@dataclass(frozen=True)
class Group:
    """Notices that go out as one message.

    Attributes:
        key: the same for all messages about the same group.
        labels: that its notices share, by which they were grouped.
        notices: at least one.
    """

    key: str
    labels: Mapping[str, str]
    notices: tuple[Notice, ...]

    @property
    def resolved(self) -> bool:
        """Whether all of it is over."""
        return all(notice.resolved for notice in self.notices)

    @property
    def severity(self) -> str:
        """The worst of what still fires, or of all once it is over."""
        firing = [notice for notice in self.notices if not notice.resolved] or self.notices
        return min((notice.severity for notice in firing), key=SEVERITIES.index)


def fingerprint(labels: Mapping[str, str]) -> str:
    """32 hexadecimal digits that are the same for the same labels in any order."""
    parts = (part for name in sorted(labels) for part in (name, labels[name]))
    return hashlib.sha256(b"\xff".join(part.encode("utf-8", "surrogatepass") for part in parts)).hexdigest()[:32]
