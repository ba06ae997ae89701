"""One kind of observation over time: rows come in, a reference is made or given, and windows are compared with it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors import drift_state
from llmguard.detectors.drift_alarms import Alarms, Change
from llmguard.detectors.drift_bins import Layout
from llmguard.detectors.drift_columns import Columns
from llmguard.detectors.drift_features import Spec
from llmguard.detectors.drift_options import Span
from llmguard.detectors.drift_panes import LEAST, PANES, Panes
from llmguard.detectors.drift_state import Column, Table
from llmguard.detectors.drift_summary import Summary

# Rows that are counted together: the more, the less each costs.
_ROWS = 512


class Rows:
    """The observations of one kind. Not thread-safe: its monitor takes care of that.

    Args:
        specs: of the columns; more may come by `column`.
        reference: how long the first calls make it.
        window: what is compared with it.
        level: chance of a false alarm a call.
        clock: monotonic seconds.
        adapt: after an alarm the calls that follow make a new reference.

    Attributes:
        columns: in the order of a row.
        origin: of the reference, see `drift_state.Table`.
        calls: how many rows there were.
    """

    def __init__(
        self,
        specs: Sequence[Spec],
        reference: Span,
        window: Span,
        level: float,
        clock: Callable[[], float],
        *,
        adapt: bool = False,
    ) -> None:
        self._span, self._window = reference, window
        self._alarms = Alarms(level)
        self._clock = clock
        self._adapt = adapt
        self.columns = Columns()
        self.origin = drift_state.OWN
        self.calls = 0
        self._rows = array("d")
        self._in_pane = self._counted = self._grown = 0
        self._seen: list[Summary] = []
        self._before: list[Summary] = []
        self._growing: list[Summary] = []
        self._reference: list[Summary | None] = []
        self._panes: Panes | None = None
        self._last, self._elapsed, self._pane_began, self._window_began = clock(), 0.0, 0.0, 0.0
        self._began = (0, 0.0)
        self._late: dict[int, float] = {}
        self._pane_calls = math.ceil(window.calls / PANES) if window.calls else 0
        self._pane_seconds = window.seconds / PANES if window.seconds else 0.0
        for spec in specs:
            self.column(spec)

    def column(self, spec: Spec) -> int:
        """Add a column, for which the calls before this have no value. Its place in a row."""
        self._fold()
        at = self.columns.add(spec)
        for summaries in (self._seen, self._before, self._growing):
            summaries.append(self.columns.empty(at))
        self._reference.append(None)
        if self._panes is not None:
            self._panes = Panes(self._reference, self._panes)
        return at

    def add(self, row: Sequence[float]) -> list[Change]:
        """Take a row into account, one number a column.

        Returns:
            What has changed by it: mostly nothing.
        """
        self._rows.extend(row)
        self._in_pane += 1
        self.calls += 1
        panes, turned = self._panes, 0
        if panes is None:
            if self._reference_is_there():
                self._start()
                return []
        elif self._pane_calls:
            turned = int(self._in_pane >= self._pane_calls)
        else:
            self._tick()
            turned = int((self._elapsed - self._pane_began) / self._pane_seconds)
            self._pane_began += turned * self._pane_seconds
        if panes is not None and turned:
            return self._end_pane(panes, turned)
        if self._in_pane - self._counted >= _ROWS:
            self._fold()
        return []

    def _tick(self) -> None:
        """Time goes on by what the clock went forward; one that is set back stands still."""
        now = self._clock()
        self._elapsed += max(0.0, now - self._last)
        self._last = now

    def _reference_is_there(self) -> bool:
        if self._span.calls is not None:
            return self.calls - self._began[0] >= self._span.calls
        self._tick()
        return self._elapsed - self._began[1] >= (self._span.seconds or 0.0)

    def _start(self) -> None:
        """What has been seen so far is the reference from now on."""
        self._fold()
        self._reference = [own.copy() for own in self._growing]
        self._pass_on()
        self._before = self._empty()
        self._begin()

    def given(self, reference: Mapping[str, Summary], origin: str) -> None:
        """Compare with a reference from elsewhere.

        Args:
            reference: summaries by feature; features that it lacks are not compared.
            origin: tells it from others.

        Raises:
            ConfigurationError: a feature has other bins there.
        """
        self._fold()
        made: list[Summary | None] = []
        for at, spec in enumerate(self.columns.specs):
            found = reference.get(spec.name)
            own = self.columns.empty(at) if found is not None and found.n else None
            if found is not None and own is not None:
                own.merge(found)
                self.columns.learn(at)
            made.append(own)
        self._reference, self.origin = made, origin
        self._begin()

    def restore(self, table: Table) -> None:
        """Go on from what was saved; of the last window the panes are empty.

        Args:
            table: that was saved; columns that this has not are left out.

        Raises:
            ConfigurationError: a feature has other bins now.
        """
        compared = any(column.reference is not None for column in table.columns.values())
        for at, spec in enumerate(self.columns.specs):
            column = table.columns.get(spec.name)
            if column is not None:
                (self._seen if compared else self._growing)[at].merge(column.seen)
                self.columns.learn(at)
                if compared:
                    self._before[at].merge(column.recent)
        self.calls = table.calls
        if compared:
            references = {name: column.reference for name, column in table.columns.items()}
            self.given({name: own for name, own in references.items() if own is not None}, table.origin)

    def reference(self) -> dict[str, Summary]:
        """What is compared with, by feature; empty where that is still in the making."""
        if self._panes is None:
            return {}
        pairs = zip(self.columns.specs, self._reference, strict=True)
        return {spec.name: own for spec, own in pairs if own is not None}

    def compared(self) -> list[tuple[str, Layout, NDArray[np.int64], NDArray[np.int64], float]]:
        """What can be compared: name, bins, counts of the reference and the last windows, the former's deviation."""
        self._fold()
        made = []
        for at, (name, reference) in enumerate(zip(self._names(), self._reference, strict=True)):
            if self._panes is None or reference is None:
                continue
            before, growing = self._before[at].counts, self._growing[at].counts
            recent = np.zeros(max(len(before), len(growing)), np.int64)
            recent[: len(before)] += before
            recent[: len(growing)] += growing
            if recent.any():
                made.append((name, reference.layout, reference.counts.copy(), recent, reference.std))
        return made

    @property
    def drifting(self) -> tuple[str, ...]:
        """The features that drift now."""
        return self._alarms.drifting

    def table(self) -> Table:
        """All that is known, as it may be saved."""
        self._fold()
        columns = {}
        for at, (name, reference) in enumerate(zip(self._names(), self._reference, strict=True)):
            seen, recent = self._seen[at].copy(), self._before[at].copy()
            seen.merge(self._growing[at])
            recent.merge(self._growing[at])
            columns[name] = Column(seen, recent, reference.copy() if reference is not None else None)
        return Table(columns, self.origin, self.calls)

    def _names(self) -> list[str]:
        return [spec.name for spec in self.columns.specs]

    def _empty(self) -> list[Summary]:
        return [self.columns.empty(at) for at in range(len(self.columns))]

    def _begin(self) -> None:
        self._panes = Panes(self._reference)
        self._alarms.clear()
        self._in_pane = self._counted = 0
        self._pane_began = self._window_began = self._elapsed

    def _pass_on(self) -> None:
        for seen, growing in zip(self._seen, self._growing, strict=True):
            seen.merge(growing)
        self._growing = self._empty()
        self._grown = 0

    def _block(self) -> NDArray[np.float64]:
        return np.frombuffer(self._rows).reshape(-1, len(self.columns)).copy()

    def _fold(self) -> None:
        """Count the rows that wait into the summaries, and into the pane where they are not in it."""
        if not self._rows:
            return
        block = self._block()
        self._rows = array("d")
        places = self.columns.places(block)
        if self._panes is not None and (late := self._in_pane - self._counted):
            self._panes.add(places[-late:])
        self._counted = self._in_pane
        for at, growing in enumerate(self._growing):
            own = places[:, at]
            there = own >= 0
            values = block[there, at]
            growing.missing += len(block) - len(values)
            if len(values):
                growing.add(values, own[there])
        self._grown += len(block)

    def _end_pane(self, panes: Panes, turned: int) -> list[Change]:
        if len(self._rows) >= _ROWS * len(self.columns):
            self._fold()
        elif late := self._in_pane - self._counted:
            panes.add(self.columns.places(self._block()[-late:]))
        changes = self._alarms.look(panes, self._names(), self._in_pane, self.calls)
        panes.turn(turned)
        self._in_pane = self._counted = 0
        if self._window_is_full():
            self._fold()
            self._before = self._growing
            self._pass_on()
            self._window_began = self._elapsed
            self._complete(panes)
        if self._adapt and any(change.drifting for change in changes):
            self._anew()
        return changes

    def _complete(self, panes: Panes) -> None:
        """Give columns that had no values when the reference was made one of their own first values, once it is due."""
        self._tick()
        due = []
        for at, reference in enumerate(self._reference if self.origin == drift_state.OWN else ()):
            count = self._seen[at].n
            if (reference is None or reference.n < LEAST) and count >= LEAST:
                waited = self._elapsed - self._late.setdefault(at, self._elapsed)
                if waited >= self._span.seconds if self._span.seconds else count >= (self._span.calls or 0):
                    due.append(at)
        for at in due:
            self._reference[at], self._before[at] = self._seen[at].copy(), self.columns.empty(at)
        if due:
            self._panes = Panes(self._reference, panes)

    def _window_is_full(self) -> bool:
        if self._window.calls is not None:
            return self._grown + len(self._rows) // max(1, len(self.columns)) >= self._window.calls
        return self._elapsed - self._window_began >= (self._window.seconds or 0.0)

    def _anew(self) -> None:
        self._fold()
        self._pass_on()
        self._panes, self.origin, self._late = None, drift_state.OWN, {}
        self._reference = [None] * len(self.columns)
        self._before = self._empty()
        self._alarms.clear()
        self._began = (self.calls, self._elapsed)
