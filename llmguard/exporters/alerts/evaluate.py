"""Rules at a time: which of them hold, since when, and what is told of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from llmguard.exporters.alerts.counters import Counters, Group, Watch, watch
from llmguard.exporters.alerts.measure import GAUGES
from llmguard.exporters.alerts.notice import NAME, SEVERITY, Notice
from llmguard.exporters.alerts.rule import Rule
from llmguard.exporters.alerts.windows import Window, quantile
from llmguard.exporters.record import Record
from llmguard.readings import Alert, Reading
from llmguard.types import PolicyRef

INACTIVE, PENDING, FIRING, RESOLVED = "inactive", "pending", "firing", "resolved"
_NO_POLICY = PolicyRef("", "", "")
_MAX_ALERTS = 1000
_MOST = 1e300


class State(NamedTuple):
    """How a rule stands for one set of values of its labels.

    Attributes:
        rule: which one.
        labels: of its notice.
        state: ``inactive`` (nothing to see), ``pending`` (it holds, but not for long enough), ``firing``, or
            ``resolved`` (it fired until the last evaluation).
        value: that was compared; NaN where there is none.
    """

    rule: Rule
    labels: Mapping[str, str]
    state: str
    value: float


class _Value(NamedTuple):
    value: float
    told: bool
    trace: str = ""


@dataclass
class _Active:
    since: float
    state: str
    notice: Notice
    value: float


class Evaluator:
    """Evaluates rules over records, as Prometheus evaluates them over metrics. Thread-safe; it has no clock.

    Args:
        rules: of one policy.
        policy: that they stand in; notices name it.
    """

    def __init__(self, rules: Iterable[Rule], policy: PolicyRef = _NO_POLICY) -> None:
        self._lock = Lock()
        self._policy = policy
        self._rules = tuple(rules)
        self._counters = Counters(_watches(self._rules))
        self._active: list[dict[Group, _Active]] = [{} for _ in self._rules]
        self._over: list[Notice] = []
        self._alerts: dict[tuple[str, ...], Alert] = {}

    def observe(self, record: Record, now: float) -> None:
        """Count one record; see `Counters.observe`."""
        with self._lock:
            self._counters.observe(record, now)

    def hear(self, alert: Alert) -> None:
        """Take in what a monitor tells; rules of kind drift and fairness without bounds are about that."""
        labels = next((gauge.labels for gauge in GAUGES.values() if gauge.event == alert.event), None)
        if labels is None:
            return
        key = (alert.event, *[str(alert.attributes.get(name, "")) for name in labels.values()])
        with self._lock:
            self._alerts.pop(key, None)
            if not alert.resolved:
                if len(self._alerts) >= _MAX_ALERTS:
                    del self._alerts[next(iter(self._alerts))]
                self._alerts[key] = alert

    def change(self, rules: Iterable[Rule], policy: PolicyRef) -> None:
        """Go on with other rules. Those that stay keep their counts and states; what fired of the others is over."""
        with self._lock:
            before = list(zip(self._rules, self._active, strict=True))
            self._rules, self._policy = tuple(rules), policy
            self._active = []
            for rule in self._rules:
                index = next((index for index, (old, _) in enumerate(before) if old == rule), None)
                self._active.append({} if index is None else before.pop(index)[1])
            self._over += [one.notice for _, active in before for one in active.values() if one.state == FIRING]
            self._counters.count(_watches(self._rules))

    def evaluate(self, now: float, readings: Sequence[Reading] = ()) -> list[Notice]:
        """What is to be told: all that fires now, and once what is over since the last time.

        Args:
            now: seconds since 1970, of the same clock as in `observe`.
            readings: values of monitors now; rules of kind drift and fairness with bounds are about them.
        """
        with self._lock:
            at = self._counters.time(now)
            notices = [_ended(notice, now) for notice in self._over]
            self._over = []
            for rule, active in zip(self._rules, self._active, strict=True):
                values = self._values(rule, at, readings)
                told = {group: value for group, value in values.items() if value.told}
                for group in [group for group in active if group not in told]:
                    one = active[group]
                    if one.state == FIRING:
                        one.notice = _ended(one.notice, now)
                        one.state, one.value = RESOLVED, values[group].value if group in values else math.nan
                        notices.append(one.notice)
                    else:
                        del active[group]
                for group, value in told.items():
                    self._step(rule, active, group, value, at, now)
                notices += [one.notice for one in active.values() if one.state == FIRING]
            return notices

    def states(self) -> list[State]:
        """How each rule stood at the last evaluation."""
        with self._lock:
            return [
                State(rule, one.notice.labels, one.state, one.value)
                for rule, active in zip(self._rules, self._active, strict=True)
                for one in active.values() or [_nothing(rule)]
            ]

    def _step(
        self, rule: Rule, active: dict[Group, _Active], group: Group, value: _Value, at: float, now: float
    ) -> None:
        one = active.get(group)
        if one is None or one.state == RESOLVED:
            one = active[group] = _Active(at, PENDING, Notice({}, {}, now), value.value)
        if one.state == PENDING and at - one.since >= rule.for_s:
            one.state, one.notice = FIRING, Notice({}, {}, now)
        one.value = value.value
        one.notice = Notice(_labels(rule, group), self._annotations(rule, value), one.notice.started)

    def _values(self, rule: Rule, at: float, readings: Sequence[Reading]) -> dict[Group, _Value]:
        if rule.kind in GAUGES:
            return self._of_a_monitor(rule, readings)
        if rule.burn is not None:
            long, short = (self._shares(rule, window_s, at) for window_s in (rule.burn.long_s, rule.burn.short_s))
            return {
                group: value._replace(told=value.told and group in short and short[group].told)
                for group, value in long.items()
            }
        if rule.kind == "ratio":
            return self._shares(rule, rule.window_s, at)
        counted = _watch(rule, rule.window_s)
        values: dict[Group, _Value] = {}
        early = rule.lacking and not self._counters.whole(counted, at)
        for group, window in self._counters.read(counted).items():
            value = _read(rule, window, at)
            values[group] = _Value(value, rule.beyond(value) and not early, window.trace)
        return values

    def _shares(self, rule: Rule, window_s: float, at: float) -> dict[Group, _Value]:
        of = self._counters.read(_watch(rule, window_s))
        values: dict[Group, _Value] = {}
        for group, window in self._counters.read(_among(rule, window_s)).items():
            all_of_them = window.sums(at)[0]
            some = of[group].sums(at)[0] if group in of else 0.0
            share = some / all_of_them if all_of_them else math.nan
            told = all_of_them >= rule.at_least and rule.beyond(share)
            values[group] = _Value(share, told, of[group].trace if group in of else "")
        return values

    def _of_a_monitor(self, rule: Rule, readings: Sequence[Reading]) -> dict[Group, _Value]:
        gauge = GAUGES[rule.kind]
        worst: Callable[[float, float], float] = min if rule.below is not None else max
        values: dict[Group, _Value] = {}
        for labels, value in self._told(rule, readings):
            if all(labels.get(gauge.labels[name], "") in words for name, words in rule.of.items()):
                group = tuple(labels.get(gauge.labels[name], "") for name in rule.by)
                value = worst(value, values[group].value) if group in values else value
                values[group] = _Value(value, (rule.above is None and rule.below is None) or rule.beyond(value))
        return values

    def _told(self, rule: Rule, readings: Sequence[Reading]) -> Iterator[tuple[Mapping[str, str], float]]:
        gauge = GAUGES[rule.kind]
        if rule.above is not None or rule.below is not None:
            for reading in readings:
                if reading.metric == gauge.metric.name and not math.isnan(reading.value):
                    yield reading.labels, reading.value
            return
        for alert in self._alerts.values():
            if alert.event == gauge.event:
                labels = {name: str(said) for name, said in alert.attributes.items()}
                yield labels, _number(alert.attributes.get(gauge.score))

    def _annotations(self, rule: Rule, value: _Value) -> dict[str, str]:
        said = {
            "summary": rule.summary,
            "runbook_url": rule.runbook,
            "policy": " ".join(filter(None, self._policy)),
            "window": rule.looks_back,
            "value": "" if math.isnan(value.value) else f"{value.value:.6g}",
            "trace_id": value.trace,
        }
        return {name: text for name, text in said.items() if text}


def _watch(rule: Rule, window_s: float) -> Watch:
    return watch(rule.value, rule.of, rule.by, window_s)


def _among(rule: Rule, window_s: float) -> Watch:
    value, chosen = rule.total
    return watch(value, chosen, rule.by, window_s)


def _watches(rules: Iterable[Rule]) -> Iterator[Watch]:
    for rule in rules:
        if rule.kind in GAUGES:
            continue
        for window_s in (rule.burn.long_s, rule.burn.short_s) if rule.burn is not None else (rule.window_s,):
            yield _watch(rule, window_s)
            if rule.among is not None:
                yield _among(rule, window_s)


def _read(rule: Rule, window: Window, at: float) -> float:
    sums = window.sums(at)
    if rule.quantile is not None:
        return quantile(rule.quantile, sums, rule.measure.metric.buckets)
    return sums[0] / rule.window_s if rule.kind == "rate" else sums[0]


def _number(said: object) -> float:
    """What a monitor tells, which any package may bring."""
    if isinstance(said, int | float) and not isinstance(said, bool) and abs(said) < _MOST:
        return float(said)
    return math.nan


def _labels(rule: Rule, group: Group) -> dict[str, str]:
    said = {NAME: rule.alert, SEVERITY: rule.severity, **rule.labels, **dict(zip(rule.by, group, strict=True))}
    return {name: value for name, value in said.items() if value}


def _nothing(rule: Rule) -> _Active:
    return _Active(0.0, INACTIVE, Notice(_labels(rule, ("",) * len(rule.by)), {}, 0.0), math.nan)


def _ended(notice: Notice, now: float) -> Notice:
    return Notice(notice.labels, notice.annotations, notice.started, max(now, notice.started))
