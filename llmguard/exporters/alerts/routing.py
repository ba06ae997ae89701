"""Who is told what, and when: groups, waits, repeats and ends as Alertmanager means them. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.inhibition import Inhibition, Inhibitions
from llmguard.exporters.alerts.notice import NAME, Group, Notice, fingerprint
from llmguard.exporters.alerts.silences import Silence, silenced

#: In place of labels to group by: all of them, so that each alert is a group of its own.
ALL = "..."
#: How many alerts are followed for one sink; further ones wait until others are over.
MOST = 10_000


@dataclass(frozen=True)
class Routing:
    """When groups of alerts are told.

    Attributes:
        group_by: labels whose values the alerts of a group share; ``...`` stands for all.
        group_wait_s: how long the first alert of a group waits for others.
        group_interval_s: the time between two messages about the same group.
        repeat_s: after which what still fires is told again.

    Raises:
        ConfigurationError: a time is none, or too short for its purpose.
    """

    group_by: tuple[str, ...] = (NAME,)
    group_wait_s: float = 10.0
    group_interval_s: float = 60.0
    repeat_s: float = 4 * 3600.0

    def __post_init__(self) -> None:
        for name in ("group_wait_s", "group_interval_s", "repeat_s"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise ConfigurationError(f"{name} must be seconds, at least 0, not {value!r}")
        if not self.group_interval_s or not self.repeat_s:
            raise ConfigurationError("group_interval_s and repeat_s must be more than 0")

    def group(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels of the group that an alert with these belongs to."""
        if ALL in self.group_by:
            return dict(labels)
        return {name: labels[name] for name in self.group_by if name in labels}


class Receiver(NamedTuple):
    """What the router knows of a sink.

    Attributes:
        most: notices in one message, at most.
        repeat_s: a shorter time after which it must be told again of what fires; 0.0 where it need not.
    """

    most: int
    repeat_s: float = 0.0


def in_time(routing: Routing, receivers: Mapping[str, Receiver]) -> None:
    """Refuse pauses between messages in which a receiver forgets what fires.

    Raises:
        ConfigurationError: there is such a receiver; names it.
    """
    for name, receiver in receivers.items():
        if 0 < receiver.repeat_s < routing.group_interval_s:
            raise ConfigurationError(
                f"the sink {name!r} must be told every {receiver.repeat_s:g} s of what fires, and group_interval_s "
                f"lets {routing.group_interval_s:g} s pass: make it {receiver.repeat_s:g} or less, or the sink's "
                "hold_s longer"
            )


class Firing(NamedTuple):
    """An alert that fires, and who is to be told."""

    notice: Notice
    sinks: tuple[str, ...]


class Told(NamedTuple):
    """What one sink has been told of one alert: that it fires, lastly at ``at``, in seconds since 1970."""

    sink: str
    notice: Notice
    at: float


class Message(NamedTuple):
    """What one sink is to be told now."""

    sink: str
    group: Group


@dataclass
class _Known:
    notice: Notice
    told: float | None = None


@dataclass
class _Followed:
    """The alerts of one group, for one sink."""

    labels: Mapping[str, str]
    next: float
    flushed: bool = False
    known: dict[str, _Known] = field(default_factory=dict)


class Router:
    """Follows what fires, and says who is to be told.

    A message holds all of a group, as Alertmanager's do, where the sink takes that many; otherwise what has changed, in
    parts. What is silenced or inhibited is not told, but that it is over is, once, to whoever was told that it fires.

    Args:
        routing: when.
        receivers: the sinks, by name.
        inhibitions: which alerts keep others from being told.
        silences: of which alerts nothing is told for a while.
        told: what `told` gave before a restart or a change of the rules.
        now: seconds since 1970.

    Attributes:
        left: how many alerts were not followed at the last `update`, since a sink has too many.
    """

    def __init__(
        self,
        routing: Routing,
        receivers: Mapping[str, Receiver],
        inhibitions: Collection[Inhibition] = (),
        silences: Collection[Silence] = (),
        *,
        told: Iterable[Told] = (),
        now: float = 0.0,
    ) -> None:
        self.routing = routing
        self.left = 0
        self._receivers = dict(receivers)
        self._inhibitions = tuple(inhibitions)
        self._silences = tuple(silences)
        self._firing: list[Mapping[str, str]] = []
        self._groups: dict[tuple[str, str], _Followed] = {}
        for one in told:
            if one.sink in self._receivers:
                group = self._group(one.sink, one.notice, now)
                group.flushed = True
                group.known[one.notice.fingerprint] = _Known(one.notice, one.at)

    def update(self, firing: Iterable[Firing], now: float) -> None:
        """Take in all that fires now; what fired and is not among it is over.

        Args:
            firing: each alert once.
            now: seconds since 1970, no less than before.
        """
        firing = list(firing)
        self._firing = [one.notice.labels for one in firing]
        self.left = 0
        counts = dict.fromkeys(self._receivers, 0)
        for (sink, _), group in self._groups.items():
            counts[sink] += len(group.known)
        still: set[tuple[str, str]] = set()
        for notice, sinks in firing:
            for sink in sinks:
                if sink in self._receivers:
                    still.add((sink, notice.fingerprint))
                    counts[sink] += self._follow(sink, notice, now, counts[sink] < MOST)
        for (sink, _), group in self._groups.items():
            for mark, known in list(group.known.items()):
                if (sink, mark) in still or known.notice.resolved:
                    continue
                if known.told is not None:
                    known.notice = replace(known.notice, ended=max(now, known.notice.started, 1.0))
                else:
                    del group.known[mark]

    def due(self, now: float, *, hurry: bool = False) -> list[Message]:
        """What is to be told now, which counts as told from here on.

        Args:
            now: seconds since 1970.
            hurry: wait for nothing, since this is the end.
        """
        inhibitions = Inhibitions(self._inhibitions, self._firing) if self._inhibitions else None
        messages: list[Message] = []
        for (sink, key), group in list(self._groups.items()):
            if self._at(group, now) > now and not hurry:
                continue
            if not group.known:
                del self._groups[sink, key]
                continue
            messages += self._flush(sink, key, group, inhibitions, now)
            group.flushed = True
            group.next = now + self.routing.group_interval_s
        return messages

    def told(self) -> list[Told]:
        """What has been told of what still fires, or is over and not yet told so: for the next `Router`."""
        return [
            Told(sink, known.notice, known.told)
            for (sink, _), group in self._groups.items()
            for known in group.known.values()
            if known.told is not None
        ]

    def _group(self, sink: str, notice: Notice, now: float) -> _Followed:
        labels = self.routing.group(notice.labels)
        place = (sink, fingerprint(labels))
        if place not in self._groups:
            self._groups[place] = _Followed(labels, now + self.routing.group_wait_s)
        return self._groups[place]

    def _follow(self, sink: str, notice: Notice, now: float, room: bool) -> int:
        """Take in one that fires; how many more are followed."""
        place = (sink, fingerprint(self.routing.group(notice.labels)))
        followed = self._groups.get(place)
        known = followed.known.get(notice.fingerprint) if followed is not None else None
        if known is not None:
            # It goes on since it began, also when it is seen anew after a restart or in another process.
            known.notice = replace(notice, started=min(notice.started, known.notice.started))
            return 0
        if not room:
            self.left += 1
            return 0
        group = self._group(sink, notice, now)
        group.known[notice.fingerprint] = _Known(notice)
        if not group.flushed:
            group.next = min(group.next, max(now, notice.started + self.routing.group_wait_s))
        return 1

    def _at(self, group: _Followed, now: float) -> float:
        """When it is looked at next; a clock that was set back does not put it off."""
        longest = max(self.routing.group_wait_s, self.routing.group_interval_s)
        group.next = min(group.next, now + longest)
        return group.next

    def _flush(
        self, sink: str, key: str, group: _Followed, inhibitions: Inhibitions | None, now: float
    ) -> Iterator[Message]:
        receiver = self._receivers[sink]
        over = [known for known in group.known.values() if known.notice.resolved]
        firing = [
            known
            for known in group.known.values()
            if not known.notice.resolved and not self._muted(known.notice.labels, inhibitions, now)
        ]
        repeat_s = min(self.routing.repeat_s, receiver.repeat_s or math.inf)
        # One that was told in the future was told before the clock was set back.
        fresh = [known for known in firing if known.told is None or not 0 <= now - known.told < repeat_s]
        changed = [*fresh, *over]
        if not changed:
            return
        tell = [*firing, *over] if len(firing) + len(over) <= receiver.most else changed
        tell.sort(key=lambda known: (known.notice.resolved, known.notice.started, known.notice.fingerprint))
        for start in range(0, len(tell), receiver.most):
            part = tell[start : start + receiver.most]
            notices = tuple([known.notice for known in part])
            yield Message(sink, Group(key, group.labels, notices))
            for known in part:
                if known.notice.resolved:
                    del group.known[known.notice.fingerprint]
                else:
                    known.told = now

    def _muted(self, labels: Mapping[str, str], inhibitions: Inhibitions | None, now: float) -> bool:
        return silenced(self._silences, labels, now) or (inhibitions is not None and inhibitions.hold(labels))
