"""What rules ask for, counted while records come in: so many numbers as rules look at, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from llmguard.exporters.alerts.measure import MEASURES, Measure
from llmguard.exporters.alerts.rule_parts import Selection
from llmguard.exporters.alerts.windows import Window
from llmguard.exporters.record import OTHER, Record

#: So many values of its labels a rule looks at by themselves; the rest are ``other`` together.
MAX_GROUPS = 100
_MAX_KNOWN = 4096
# Threads that ask the clock one after the other may come in the other order; a clock that is set back is more.
_JITTER_S = 1.0

Group = tuple[str, ...]


class Watch(NamedTuple):
    """One thing to count over one window.

    Attributes:
        value: one of `MEASURES`.
        of: for each label the values that count.
        by: labels, each of whose values is counted by itself.
        window_s: seconds.
    """

    value: str
    of: tuple[tuple[str, tuple[str, ...]], ...]
    by: tuple[str, ...]
    window_s: float


def watch(value: str, of: Selection, by: tuple[str, ...], window_s: float) -> Watch:
    """A watch; the same for the same selection in any order."""
    return Watch(value, tuple(sorted((name, tuple(sorted(words))) for name, words in of.items())), by, window_s)


class _Figure:
    """One figure that is counted, and where what it is counted in has been found before."""

    __slots__ = ("asked", "known", "measure", "watches")

    def __init__(self, measure: Measure, watches: Sequence[Watch]) -> None:
        self.measure = measure
        self.watches = watches
        self.known: dict[object, tuple[Window, ...]] = {}
        names = {name for watch in watches for name in (*watch.by, *dict(watch.of))}
        places = [place for place, label in enumerate(measure.labels) if label in names]
        # Only the labels that a watch asks for: a tenant that none does makes nothing new.
        self.asked: Callable[[Group], object] = itemgetter(*places) if places else lambda key: ()


class Counters:
    """Sliding counters over records. One thread at a time.

    A record costs one look-up for each figure that is counted, however many rules there are, and one addition for
    each rule that counts it. Time stands still while a clock that was set back catches up: it never goes back.

    Args:
        watches: what is counted.
    """

    def __init__(self, watches: Iterable[Watch] = ()) -> None:
        self._series: dict[Watch, dict[Group, Window]] = {}
        self._since: dict[Watch, float] = {}
        self._new: list[Watch] = []
        self._figures: dict[str, list[_Figure]] = {}
        self._groups: dict[Group, set[Group]] = {}
        self._offset = 0.0
        self._newest = float("-inf")
        self.count(watches)

    def count(self, watches: Iterable[Watch]) -> None:
        """Count these from now on; what was counted before of the same goes on."""
        wanted = dict.fromkeys(watches)
        self._new = [one for one in wanted if one not in self._since]
        self._since = {one: since for one, since in self._since.items() if one in wanted}
        self._series = {one: self._series.get(one) or _start(one) for one in wanted}
        self._groups = {one.by: self._groups.get(one.by, set()) for one in wanted}
        self._figures = {}
        for value in dict.fromkeys(one.value for one in wanted):
            figure = _Figure(MEASURES[value], [one for one in wanted if one.value == value])
            self._figures.setdefault(MEASURES[value].kind, []).append(figure)

    def observe(self, record: Record, now: float) -> None:
        """Count one record.

        Args:
            record: a check, or a whole call.
            now: seconds since 1970, of the same clock each time.
        """
        at = self.time(now)
        for figure in self._figures.get(record.kind, ()):
            known, asked = figure.known, figure.asked
            for key, amount in figure.measure.seen(record):
                windows = known.get(asked(key))
                if windows is None:
                    windows = self._remember(figure, key)
                for window in windows:
                    window.add(at, amount, record.trace)

    def time(self, now: float) -> float:
        """The time of the counters: that of the clock, as long as it is not set back."""
        if self._offset and now > self._newest - _JITTER_S:
            self._offset = 0.0  # it was put right again
        at = now + self._offset
        if at < self._newest:
            if self._newest - at > _JITTER_S:
                self._offset += self._newest - at
            return self._newest
        self._newest = at
        if self._new:
            self._since.update(dict.fromkeys(self._new, at))
            self._new = []
        return at

    def read(self, watch: Watch) -> Mapping[Group, Window]:
        """The windows of a watch, by the values of its labels; without labels there is always one."""
        return self._series[watch]

    def whole(self, watch: Watch, at: float) -> bool:
        """Whether a whole window has gone by since it is counted."""
        return at - self._since.get(watch, at) >= watch.window_s

    def _remember(self, figure: _Figure, key: Group) -> tuple[Window, ...]:
        if len(figure.known) >= _MAX_KNOWN:
            figure.known.clear()
        labels = dict(zip(figure.measure.labels, key, strict=True))
        windows = tuple(
            [
                self._window(watch, tuple([labels[name] for name in watch.by]))
                for watch in figure.watches
                if all([labels[name] in words for name, words in watch.of])
            ]
        )
        figure.known[figure.asked(key)] = windows
        return windows

    def _window(self, watch: Watch, group: Group) -> Window:
        # All watches let the same groups through: what is a share of what must not differ.
        through, windows = self._groups[watch.by], self._series[watch]
        if group not in through and len(through) >= MAX_GROUPS:
            group = (OTHER,) * len(watch.by)
        else:
            through.add(group)
        if group not in windows:
            windows[group] = _window(watch)
        return windows[group]


def _start(watch: Watch) -> dict[Group, Window]:
    return {} if watch.by else {(): _window(watch)}


def _window(watch: Watch) -> Window:
    measure = MEASURES[watch.value]
    return Window(watch.window_s, measure.metric.buckets if measure.spread else ())
