"""Whether inputs, answers and calls are still as they were: features of every call, held against a reference."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from llmguard import semconv
from llmguard.detectors import drift_alerts, drift_options
from llmguard.detectors import drift_features as features_of
from llmguard.detectors.drift_features import CALL, DEFAULT, NAN, OWN, SOURCES, Category, Numeric
from llmguard.detectors.drift_learnt import Embed, learners, learnt, restore
from llmguard.detectors.drift_options import FOREVER, PreviousPrompt
from llmguard.detectors.drift_panes import PANES
from llmguard.detectors.drift_prompts import key as prompt_key
from llmguard.detectors.drift_prompts import label, parts
from llmguard.detectors.drift_recorded import Recorded
from llmguard.detectors.drift_state import State, seen_in
from llmguard.detectors.drift_summary import Summary, kll
from llmguard.detectors.drift_table import Rows
from llmguard.detectors.telling import tell
from llmguard.kernels import deviations
from llmguard.readings import Alert, Reading
from llmguard.types import Observation

if TYPE_CHECKING:
    from llmguard.detectors.drift_report import Report

__all__ = ["Category", "DriftMonitor", "Numeric", "PreviousPrompt", "State"]

_KEPT_ALERTS = 1000
_MOST_TABLES = 64
_MOST_DETECTORS = 64


class DriftMonitor:
    """Follows features of every call, and tells when one is no longer as in the reference.

    Thread-safe. Memory does not grow with the calls: each feature has a histogram, exact moments and a sketch of its
    quantiles. A forked process keeps the reference, and begins to count anew.

    Args:
        reference: what calls are compared with: the first so many calls, the first so much time, a file that
            `save` wrote (all that its monitor had seen), a `State`, or `PreviousPrompt`.
        features: names of `KNOWN` features, and own ones: `Numeric`, `Category`.
        window: how many calls, or how much time, are compared at most. A sudden drift is noticed after a 64th of it.
        false_alarms: how many in 10,000 calls may be false at most, over all features together.
        adapt: after an alarm, what follows makes a new reference.
        on_drift: told each alert.
        name: in telemetry and alerts.
        embed: a vector for a text, for the feature ``topic``; by default guard-mini's.
        clock: monotonic seconds.

    Raises:
        ConfigurationError: an option is wrong, or the reference can't be read.
        MissingExtraError: a package is not installed.
    """

    def __init__(
        self,
        reference: int | timedelta | str | Path | State | PreviousPrompt = 5000,
        *,
        features: Iterable[str | Numeric | Category] = DEFAULT,
        window: int | timedelta = 4096,
        false_alarms: float = 0.2,
        adapt: bool = False,
        on_drift: Callable[[Alert], object] | None = None,
        name: str = "drift",
        embed: Embed | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = drift_options.named(name)
        kll()
        deviations.compiled()
        self._features = features_of.checked(features)
        self._window = drift_options.span("window", window, PANES)
        self._first, self._previous, given = drift_options.reference(reference)
        self._given = given
        self._origin = given.digest()[:16] if given is not None else ""
        self._adapt, self._clock = adapt, clock
        self._hearers: list[Callable[[Alert], object]] = [on_drift] if on_drift is not None else []
        self._alerts: deque[Alert] = deque(maxlen=_KEPT_ALERTS)
        learn = max(64, min(512, (self._first.calls or 1024) // 2))
        self._learners = {source: learners(self._features, source, learn, embed) for source in ("input", "output")}
        self._specs = {source: features_of.specs(self._features, source) for source in SOURCES}
        self._recorded = Recorded(self._specs[OWN])
        active = sum(bool(self._specs[source] or self._learners.get(source)) for source in SOURCES)
        self._level = drift_options.level(false_alarms, active)
        self._scores = "scores" in self._features
        self._places: dict[str, dict[str, int]] = {}
        self._tables: dict[str, Rows] = {}
        self._lock, self._learning = threading.Lock(), threading.Lock()
        self._pid = os.getpid()
        restore(self._learners.values(), given.learnt if given is not None else {})

    def observe(self, seen: Observation) -> None:
        """Take a check, or a call that has ended, into account."""
        source = CALL if seen.decision is None else seen.decision.stage.value
        specs = self._specs.get(source)
        own = self._learners.get(source, ())
        if specs is None or not (specs or own or self._scores):
            return
        self._own_process()
        values: list[float | str | None] = [spec.of(seen) if spec.of is not None else None for spec in specs]
        if own:
            text = "\n".join([text.content for text in seen.texts])
            with self._learning:
                for learner in own:
                    values += learner.values(text)
        self._add(source, values, features_of.scores(seen) if self._scores else {}, seen.prompt)

    def record(self, values: Mapping[str, float | str | None]) -> None:
        """Take values of own features into account that no observation holds, those of one call.

        Args:
            values: by feature; those that are left out are missing.

        Raises:
            ConfigurationError: there is no such feature, or its value is of another kind.
        """
        row = self._recorded.row(values)
        self._own_process()
        self._add(OWN, row, {}, ("", "", ""))

    def _add(
        self, source: str, values: list[float | str | None], found: Mapping[str, float], prompt: tuple[str, str, str]
    ) -> None:
        with self._lock:
            key = source if self._previous is None else prompt_key(source, prompt)
            rows = self._tables.get(key)
            if rows is None:
                rows = self._new(source, key)
            row: Sequence[float] = rows.columns.row(values)
            if self._scores:
                row = self._with_scores(rows, source, key, row, found)
            changes = rows.add(row)
            named = [change._replace(feature=label(key, change.feature)) for change in changes]
            told = [drift_alerts.alert(self.name, change, rows.origin, self._window) for change in named]
        self._alerts.extend(told)
        tell(told, self._hearers)

    def _with_scores(
        self, rows: Rows, source: str, key: str, row: Sequence[float], found: Mapping[str, float]
    ) -> Sequence[float]:
        places = self._places.setdefault(key, {})
        for detector in found:
            if detector not in places and len(places) < _MOST_DETECTORS:
                places[detector] = rows.column(features_of.score_spec(source, detector))
        made = [*row, *[NAN] * (len(rows.columns.specs) - len(row))]
        for detector, score in found.items():
            if detector in places:
                made[places[detector]] = score
        return made

    def _new(self, source: str, key: str, *, restored: bool = False) -> Rows:
        specs = [*self._specs[source], *[spec for own in self._learners.get(source, ()) for spec in own.specs]]
        first = self._first if self._previous is None else FOREVER
        rows = Rows(specs, first, self._window, self._level, self._clock, adapt=self._adapt)
        if self._given is not None:
            table = self._given.tables.get(key)
            if table is not None:
                self._compare(rows, source, key, seen_in(table), self._origin)
        elif self._previous is not None and not restored:
            of = parts(key)
            for before, held in reversed(self._tables.items()):
                if parts(before) == of and held.calls >= self._previous.calls:
                    self._compare(rows, source, key, seen_in(held.table()), before)
                    break
        if len(self._tables) >= _MOST_TABLES:
            oldest = next(iter(self._tables))
            for kept in (self._tables, self._places):
                kept.pop(oldest, None)
        self._tables[key] = rows
        return rows

    def _compare(self, rows: Rows, source: str, key: str, reference: Mapping[str, Summary], origin: str) -> None:
        self._columns_of(rows, source, key, reference)
        rows.given(reference, origin)

    def _columns_of(self, rows: Rows, source: str, key: str, columns: Iterable[str]) -> None:
        """Make the columns of detectors that another state knows."""
        start = f"{source}.score."
        for name in columns:
            if self._scores and name.startswith(start):
                detector = name.removeprefix(start)
                self._places.setdefault(key, {})[detector] = rows.column(features_of.score_spec(source, detector))

    def _own_process(self) -> None:
        """In a forked process: the parent has what was counted, so only what was learnt stays."""
        if os.getpid() == self._pid:
            return
        self._lock, self._learning = threading.Lock(), threading.Lock()
        self._pid = os.getpid()
        parents, self._tables, self._places = self._tables, {}, {}
        with self._lock:
            for key, rows in parents.items():
                if self._previous is None and (reference := rows.reference()):
                    self._compare(self._new(key, key), key, key, reference, rows.origin)

    def alerts(self) -> tuple[Alert, ...]:
        """The last alerts, at most 1000, the newest last."""
        return tuple(self._alerts)

    def subscribe(self, hear: Callable[[Alert], object]) -> None:
        """Have each further alert told to ``hear``, on the thread that noticed."""
        self._hearers.append(hear)

    @property
    def drifting(self) -> tuple[str, ...]:
        """The features that drift now."""
        self._own_process()
        with self._lock:
            return tuple([label(key, name) for key, rows in self._tables.items() for name in rows.drifting])

    def readings(self) -> list[Reading]:
        """How far the last window of each feature is from its reference, as `llmguard.drift.score`."""
        self._own_process()
        with self._lock:
            compared = [
                (rows.origin, label(key, one[0]), *one[1:])
                for key, rows in self._tables.items()
                for one in rows.compared()
            ]
        return drift_alerts.readings(self.name, compared)

    def scores(self) -> dict[str, dict[str, float]]:
        """The same by feature and statistic."""
        found: dict[str, dict[str, float]] = {}
        for one in self.readings():
            found.setdefault(one.labels[semconv.DRIFT_FEATURE], {})[one.labels[semconv.DRIFT_STATISTIC]] = one.value
        return found

    def state(self) -> State:
        """All that it knows, a copy."""
        self._own_process()
        with self._lock:
            tables = {key: rows.table() for key, rows in self._tables.items()}
        return State(tables, learnt(self._learners.values()))

    def save(self, path: str | Path) -> None:
        """Write the state: aside, and put in the file's place when it is on the disk.

        Raises:
            ConfigurationError: the file can't be written; an old one is as it was.
        """
        self.state().save(path)

    def restore(self, state: str | Path | State) -> None:
        """Go on from what was saved; what this monitor has seen is forgotten. The panes of the last window begin empty.

        Raises:
            ConfigurationError: the file can't be read or its features have other bins; all is as it was.
        """
        state = state if isinstance(state, State) else State.load(state)
        self._own_process()
        with self._learning, self._lock:
            # In copies first, since what was learnt may be refused half way.
            own = {source: tuple(map(copy, group)) for source, group in self._learners.items()}
            restore(own.values(), state.learnt)
            before = self._tables, self._places
            self._tables, self._places = {}, {}
            try:
                for key, table in state.tables.items():
                    source, _ = parts(key)
                    if source not in self._specs:
                        continue
                    rows = self._new(source, key, restored=True)
                    self._columns_of(rows, source, key, table.columns)
                    rows.restore(table)
            except BaseException:
                self._tables, self._places = before
                raise
            self._learners = own

    def report(self) -> Report:
        """Its reference and its last windows for Evidently, whose report says how they differ.

        Raises:
            ConfigurationError: there is no reference yet, or nothing behind it.
            MissingExtraError: evidently is not installed.
        """
        from llmguard.detectors.drift_report import windows

        return windows(self.state())
