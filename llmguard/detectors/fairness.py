"""Does a guard, or the model behind it, treat groups of people alike? A monitor that compares them over many calls."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from llmguard import semconv
from llmguard.detectors import state_file
from llmguard.detectors.fairness_alerts import alert, leading, reading
from llmguard.detectors.fairness_counts import ANY, Counts, Key
from llmguard.detectors.fairness_lexicon import Lexicon, bundled, read
from llmguard.detectors.fairness_options import (
    COHORT,
    checked_bounds,
    checked_references,
    checked_stages,
    checked_window,
    number,
    whole,
)
from llmguard.detectors.fairness_outcomes import Outcomes
from llmguard.detectors.fairness_report import Bounds, FairnessReport, report
from llmguard.detectors.fairness_state import (
    FORMAT,
    MAX_DIMENSIONS,
    VERSION,
    Windows,
    bounded,
    from_body,
    summed,
    to_body,
)
from llmguard.detectors.telling import tell
from llmguard.errors import ConfigurationError
from llmguard.readings import Alert, Reading
from llmguard.types import Observation, Role, Stage

#: Of a cohort's names the first so many characters count.
_NAME = 64
_KEPT_ALERTS = 1000


class FairnessMonitor:
    """Compares how often groups of people are blocked and refused, how toxic and how long their texts are.

    A check counts to the groups that its texts mention, by a lexicon of identity terms, and to the cohorts that the
    caller names (``guard.cohort(plan="free")``). Each group is compared with all others of its dimension, or with a
    reference group, at the end of each window, by tests that hold for all comparisons together. It keeps counts alone,
    never a text. Thread-safe; a forked child begins anew.

    Args:
        name: in alerts and metrics.
        lexicon: a YAML file of identity terms, or a `Lexicon`; the bundled one if None.
        window: how many observations, or how much time, make a window.
        minimum: observations that each side of a comparison needs before anything is said of it.
        confidence: of intervals; 1 minus it is the chance that a window without differences is told to have any.
        difference: a notable difference of rates or scores is at least this.
        ratio: and the larger is at least so many times the smaller; 1.25 is the four-fifths rule.
        references: the group that the others of a dimension are compared with, by dimension. Texts that mention it
            beside another one then count to neither.
        stages: the stages that count, by outcome; if not given, input and output for ``block``, and output.
        toxicity: name of the detector whose highest score is a text's toxicity.
        toxic_from: count texts from this score on in place of the mean of the scores.
        refusal: name of the detector that finds refusals, by the category ``REFUSAL``.
        max_cohorts: of a cohort's values in each of the first eight dimensions; all others, but for a reference group,
            count as ``other``.
        on_alert: told each alert, on the thread that noticed; when it raises, `observe` does once all have been told.
        clock: seconds that only matter by their differences.

    Raises:
        ConfigurationError: an argument is wrong, or the lexicon can't be read.
    """

    def __init__(
        self,
        *,
        name: str = "fairness",
        lexicon: Lexicon | str | os.PathLike[str] | None = None,
        window: int | timedelta = 10_000,
        minimum: int = 100,
        confidence: float = 0.95,
        difference: float = 0.02,
        ratio: float = 1.25,
        references: Mapping[str, str] | None = None,
        stages: Mapping[str, Iterable[Stage | str]] | None = None,
        toxicity: str = "toxicity",
        toxic_from: float | None = None,
        refusal: str = "refusal",
        max_cohorts: int = 20,
        on_alert: Callable[[Alert], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for option, value in (("name", name), ("toxicity", toxicity), ("refusal", refusal)):
            if not isinstance(value, str) or not value:
                raise ConfigurationError(f"fairness: {option} must be a name, not {value!r}")
        if toxic_from is not None:
            number("toxic_from", toxic_from, 0, 1)
        self.name = name
        self._lexicon = bundled() if lexicon is None else lexicon if isinstance(lexicon, Lexicon) else read(lexicon)
        self._calls, self._seconds = checked_window(window)
        self._bounds = checked_bounds(Bounds(minimum, confidence, difference, ratio))
        self._references = checked_references({} if references is None else references, self._lexicon)
        self._outcomes = Outcomes(checked_stages({} if stages is None else stages), toxicity, toxic_from, refusal)
        self._max_cohorts = whole("max_cohorts", max_cohorts, 1)
        self._hearers: list[Callable[[Alert], object]] = [] if on_alert is None else [on_alert]
        self._clock = clock
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._telling = threading.RLock()
        self._windows = Windows(Counts(), None)
        self._cohorts: dict[str, set[str]] = {}
        self._last = self._clock()
        self._said: FairnessReport | None = None
        self._firing: set[tuple[str, str]] = set()
        self._alerts: deque[Alert] = deque(maxlen=_KEPT_ALERTS)
        self._pid = os.getpid()

    def _begin_anew_if_forked(self) -> None:
        """The parent tells what it has counted, and one of its threads may have held a lock when it forked."""
        if os.getpid() != self._pid:
            self._reset()

    def observe(self, seen: Observation) -> None:
        """Count one check; what has no outcome that counts changes nothing."""
        decision = seen.decision
        if decision is None:
            return
        values = list(self._outcomes.of(seen, decision))
        if not values:
            return
        self._begin_anew_if_forked()
        keys = self._mentioned(seen)
        with self._lock:
            over = self._pass_time()
            keys += self._counted_to(seen.cohort)
            self._windows.running.add(dict.fromkeys(keys), values)
            if self._windows.running.seen >= self._calls:
                self._close()
                over = True
        if over:
            self._tell()

    def report(self, *, running: bool | None = None) -> FairnessReport:
        """What the last full window says of each group.

        Args:
            running: whether the window that is not over yet is meant; if None, only as long as no other is there.
        """
        self._begin_anew_if_forked()
        with self._lock:
            windows = self._windows
            if running is None:
                running = windows.closed is None
            counts = (windows.running if running else windows.closed or Counts()).copy()
        return report(
            counts,
            full=not running,
            bounds=self._bounds,
            references=self._references,
            toxicity_is_rate=self._outcomes.toxicity_is_rate,
        )

    def readings(self) -> Sequence[Reading]:
        """The disparity of every group that has enough observations, for the gauge ``llmguard.fairness.disparity``."""
        self._begin_anew_if_forked()
        with self._lock:
            over = self._pass_time()
        if over:
            self._tell()
        said = self._said or self.report()
        return [reading(self.name, one) for one in said.disparities]

    def alerts(self) -> tuple[Alert, ...]:
        """The last alerts, at most 1000, the newest last."""
        self._begin_anew_if_forked()
        return tuple(self._alerts)

    def subscribe(self, hear: Callable[[Alert], object]) -> None:
        """Have each further alert told to ``hear``, on the thread that noticed."""
        self._hearers.append(hear)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what is known to a file: aside, and then in its place.

        Raises:
            ConfigurationError: it can't be written; an old file is as it was.
        """
        self._begin_anew_if_forked()
        with self._lock:
            body = to_body(self._windows, self._settings())
        state_file.write(path, FORMAT, VERSION, body)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go on from what `save` wrote, in place of what is known.

        Raises:
            ConfigurationError: the file is no such state, damaged, or of a monitor with other options; nothing has
                changed.
        """
        self._take([self._read(path)], afresh=True)

    def merge(self, *paths: str | os.PathLike[str]) -> None:
        """Add what other monitors with the same options have saved; neither order nor grouping changes the sums.

        Raises:
            ConfigurationError: as for `restore`.
        """
        self._take([self._read(path) for path in paths], afresh=False)

    def _read(self, path: str | os.PathLike[str]) -> Windows:
        return from_body(state_file.read(path, FORMAT, VERSION), self._settings(), str(path))

    def _take(self, states: Sequence[Windows], *, afresh: bool) -> None:
        self._begin_anew_if_forked()
        with self._lock:
            own = [] if afresh else [self._windows]
            self._windows, self._cohorts = bounded(summed([*own, *states]), self._max_cohorts, self._references)
        self._tell()

    def _settings(self) -> dict[str, object]:
        return {"lexicon": self._lexicon.digest, "references": self._references, **self._outcomes.settings()}

    def _mentioned(self, seen: Observation) -> list[Key]:
        """The groups that the texts mention; what the operator wrote says nothing of the caller."""
        content = "\n".join([text.content for text in seen.texts if text.role is not Role.SYSTEM])
        found: dict[str, list[Key]] = {}
        for place in self._lexicon.groups_in(content):
            key = self._lexicon.groups[place]
            found.setdefault(key[0], []).append(key)
        keys: list[Key] = []
        for dimension, groups in found.items():
            reference = self._references.get(dimension)
            if reference is None or len(groups) == 1 or (dimension, reference) not in groups:
                keys += groups
                keys.append((dimension, ANY))
        return keys

    def _counted_to(self, cohort: Mapping[str, str]) -> list[Key]:
        """The cohorts that an observation counts to; under the lock."""
        keys: list[Key] = []
        for name, value in cohort.items():
            if not (isinstance(name, str) and isinstance(value, str) and name and value):
                continue
            dimension, group = COHORT + _named(name), _named(value)
            known = self._cohorts.get(dimension)
            if known is None:
                if len(self._cohorts) >= MAX_DIMENSIONS:
                    continue
                known = self._cohorts[dimension] = set()
            if group not in known:
                if len(known) >= self._max_cohorts and group != self._references.get(dimension):
                    group = semconv.OTHER
                else:
                    known.add(group)
            keys += ((dimension, group), (dimension, ANY))
        return keys

    def _pass_time(self) -> bool:
        """Close the window if its time is up; under the lock. A clock that goes backwards stands still."""
        now, running = self._clock(), self._windows.running
        running.seconds += max(0.0, now - self._last)
        self._last = now
        if running.seconds < self._seconds:
            return False
        self._close()
        return True

    def _close(self) -> None:
        self._windows = Windows(Counts(), self._windows.running)

    def _tell(self) -> None:
        """Compare the groups of the last full window, and tell what is new."""
        with self._telling:
            self._said = None
            if self._windows.closed is None:
                return
            said = self._said = self.report(running=False)
            first = leading(said.disparities)
            told = []
            for one in said.disparities:
                key = (one.outcome, one.name)
                if one in first if key not in self._firing else not one.notable:
                    self._firing ^= {key}
                    told.append(alert(self.name, one, said.seen))
            self._alerts.extend(told)
            tell(told, self._hearers)


def _named(text: str) -> str:
    """The part of a cohort's name or value that counts; exporters can't encode lone surrogates."""
    return text[:_NAME].encode("utf-8", "replace").decode()
