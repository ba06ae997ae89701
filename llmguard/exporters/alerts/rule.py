"""One rule: what is counted over which window, and from where on somebody is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts import rule_parts as parts
from llmguard.exporters.alerts.measure import GAUGES, MEASURES, Measure, counted
from llmguard.exporters.alerts.notice import SEVERITIES
from llmguard.exporters.alerts.rule_parts import Selection

KINDS = ("threshold", "rate", "ratio", "burn", "absence", "drift", "fairness")
#: Shorter ones would be told of single decisions, longer ones are reports.
SHORTEST_S, LONGEST_S = 1.0, 31 * 86400.0


@dataclass(frozen=True)
class Burn:
    """How fast the errors that an objective allows are used up, over two windows.

    The long window says that it matters, the short one that it still goes on: multi-window burn rates of Google's SRE
    workbook, chapter "Alerting on SLOs", whose first row these defaults are.

    Attributes:
        objective: share that has to be right, in (0, 1).
        long_s: seconds.
        short_s: seconds; a twelfth of the long window does well.
        factor: how many times faster than the objective allows.
    """

    objective: float
    long_s: float = 3600.0
    short_s: float = 300.0
    factor: float = 14.4

    def __post_init__(self) -> None:
        parts.number("burn.objective", self.objective, 0.0, 1.0)
        parts.number("burn.factor", self.factor, 0.0)
        _window("burn.long_s", self.long_s)
        _window("burn.short_s", self.short_s)
        if self.short_s >= self.long_s:
            raise ConfigurationError(f"burn.short_s: {self.short_s:g} must be less than burn.long_s, {self.long_s:g}")
        if self.most >= 1.0:
            raise ConfigurationError(
                f"burn.factor: {self.factor:g} times the {1 - self.objective:g} that burn.objective allows to fail is "
                f"{self.most:g}, which no share exceeds: at most {1 / (1 - self.objective):g}"
            )

    @property
    def most(self) -> float:
        """The share above which it burns too fast."""
        return round(self.factor * (1.0 - self.objective), 12)


@dataclass(frozen=True)
class Rule:
    """When somebody is told.

    Attributes:
        alert: its name, the label ``alertname``.
        kind: one of `KINDS`.
        of: what is looked at: for each label the values that count; all without.
        among: of a ratio and a burn rate, what ``of`` is a share of.
        value: what is counted, one of `MEASURES`; by default `runs` where ``of`` names an outcome, ``findings`` where
            it names a category or a detector, and else ``decisions``.
        quantile: of a distribution, in (0, 1).
        above: told when the value is more than that.
        below: told when the value is less than that.
        at_least: of a ratio and a burn rate, how many there must be in the window to speak of a share.
        window_s: seconds.
        burn: of kind burn.
        for_s: seconds that it has to last.
        by: labels; each of their values is looked at by itself.
        severity: one of `SEVERITIES`.
        labels: of its notices.
        runbook: an address for whoever is told.
        summary: one line for them.
        sinks: names of those that are told; all without.

    Raises:
        ConfigurationError: something of it is wrong, or does not go together.
    """

    alert: str
    kind: str = "threshold"
    of: Selection = field(default_factory=dict)
    among: Selection | None = None
    value: str = ""
    quantile: float | None = None
    above: float | None = None
    below: float | None = None
    at_least: int = 1
    window_s: float = 300.0
    burn: Burn | None = None
    for_s: float = 0.0
    by: tuple[str, ...] = ()
    severity: str = "warning"
    labels: Mapping[str, str] = field(default_factory=dict)
    runbook: str = ""
    summary: str = ""
    sinks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts.word("alert", self.alert)
        parts.one_of("kind", self.kind, KINDS)
        parts.one_of("severity", self.severity, SEVERITIES)
        _window("window_s", self.window_s)
        parts.number("for_s", self.for_s, 0.0, LONGEST_S, least=True)
        if not isinstance(self.at_least, int) or isinstance(self.at_least, bool) or self.at_least < 1:
            raise ConfigurationError(f"at_least: {parts.shown(self.at_least)} must be a whole number, at least 1")
        for name in ("runbook", "summary"):
            parts.word(name, getattr(self, name), empty=True)
        parts.selection("of", self.of)
        if self.among is not None:
            parts.selection("among", self.among)
        parts.words("by", self.by)
        parts.words("sinks", self.sinks)
        parts.labels(self.labels, self.by)
        if self.kind in GAUGES:
            self._of_a_monitor(tuple(GAUGES[self.kind].labels))
        else:
            self._of_records()
        self._bounds()
        self._possible()

    @property
    def measure(self) -> Measure:
        """What is counted; not of rules about monitors."""
        return MEASURES[self.value]

    @property
    def total(self) -> tuple[str, Selection]:
        """What a ratio or a burn rate is a share of: which figure, and which of it."""
        among = self.among or {}
        return (self.value if self.value == "runs" else counted(among)), among

    @property
    def at(self) -> float:
        """The bound that it is told at."""
        if self.burn is not None:
            return self.burn.most
        bound = self.above if self.above is not None else self.below
        return 0.0 if bound is None else bound

    @property
    def lacking(self) -> bool:
        """Whether it is told of too little, which can be said when a whole window has gone by."""
        sums = self.kind in ("threshold", "rate") and self.quantile is None
        return self.kind == "absence" or (self.below is not None and sums)

    @property
    def looks_back(self) -> str:
        """Its window, for people; "" where a monitor has one of its own."""
        if self.kind in GAUGES:
            return ""
        return (
            f"{self.burn.long_s:g} s and {self.burn.short_s:g} s" if self.burn is not None else f"{self.window_s:g} s"
        )

    def beyond(self, value: float) -> bool:
        """Whether somebody is told at this value; never at NaN."""
        if self.kind == "absence":
            return value == 0.0
        if self.burn is not None:
            return value > self.burn.most
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    def _of_a_monitor(self, labels: Sequence[str]) -> None:
        parts.known("of", self.of, labels, f"a rule of kind {self.kind}")
        parts.known("by", self.by, labels, f"a rule of kind {self.kind}")
        for name in ("among", "quantile", "burn", "at_least", "window_s"):
            self._without(name)
        if self.value:
            raise ConfigurationError(f"value: a rule of kind {self.kind} is about what a monitor tells: leave it out")
        if not self.by:
            object.__setattr__(self, "by", tuple(name for name in labels if name not in self.labels))

    def _of_records(self) -> None:
        shares = self.kind in ("ratio", "burn")
        if self.value:
            parts.one_of("value", self.value, tuple(MEASURES))
        elif shares or self.kind == "absence":
            object.__setattr__(self, "value", counted(self.of))
        else:
            object.__setattr__(self, "value", counted({**self.of, **dict.fromkeys(self.by)}))
        parts.closed("of", self.of)
        what = f"{self.value}, which the rule counts,"
        parts.known("of", self.of, self.measure.labels, what)
        parts.known("by", self.by, self.measure.labels, what)
        if self.burn is not None:
            self._without("window_s")
        if not shares:
            self._without("among")
            self._without("at_least")
        else:
            if self.value not in ("decisions", "findings", "runs"):
                raise ConfigurationError(f"value: a {self.kind} is about decisions, findings or runs, not {self.value}")
            if self.among is None:
                raise ConfigurationError(f"a {self.kind} needs among: what `of` is a share of, {{}} for all decisions")
            parts.closed("among", self.among)
            name, _ = self.total
            parts.known("among", self.among, MEASURES[name].labels, f"{name}, which `among` counts,")
            parts.known("by", self.by, MEASURES[name].labels, f"{name}, which `among` counts,")
        if self.measure.spread:
            if self.kind != "threshold":
                raise ConfigurationError(f"value: {self.value} is a distribution, which goes with threshold alone")
            object.__setattr__(self, "quantile", 0.95 if self.quantile is None else self.quantile)
            parts.number("quantile", self.quantile, 0.0, 1.0)
        else:
            self._without("quantile")
        if (self.kind == "burn") is not (self.burn is not None):
            raise ConfigurationError(
                "a burn needs the key burn: {objective: 0.99}" if self.burn is None else f"{self.kind} takes no burn"
            )

    def _bounds(self) -> None:
        for name in ("above", "below"):
            if (bound := getattr(self, name)) is not None:
                parts.number(name, bound, -math.inf)
        given = (self.above is not None) + (self.below is not None)
        if self.kind in ("absence", "burn"):
            if given:
                raise ConfigurationError(f"a rule of kind {self.kind} takes neither above nor below")
        elif given != 1 and (self.kind not in GAUGES or given):
            raise ConfigurationError(f"a rule of kind {self.kind} needs above or below, one of them")

    def _possible(self) -> None:
        """Refuse bounds that no value can reach, as those in other units are."""
        if self.kind in GAUGES:
            return
        if self.below is not None and self.below <= 0.0:
            raise ConfigurationError(f"below: {self.below:g} must be more than 0: nothing that is counted is less")
        if self.quantile is not None:
            metric = self.measure.metric
            if self.above is not None and self.above >= metric.buckets[-1]:
                last = f"{metric.buckets[-1]:g}, where quantiles of {metric.name} ({metric.unit}) end"
                raise ConfigurationError(f"above: {self.above:g} must be less than {last}")
        elif self.kind == "ratio" and self._part():
            if self.above is not None and self.above >= 1.0:
                raise ConfigurationError(f"above: {self.above:g} must be less than 1: it is a share, 0.05 for 5 %")
            if self.below is not None and self.below > 1.0:
                raise ConfigurationError(f"below: {self.below:g} must be at most 1: it is a share, 0.05 for 5 %")

    def _part(self) -> bool:
        """Whether all that ``of`` counts is counted by ``among`` too."""
        name, among = self.total
        return name == self.value and all(
            label in self.of and set(self.of[label]) <= set(words) for label, words in among.items()
        )

    def _without(self, name: str) -> None:
        if getattr(self, name) != getattr(Rule, name):
            what = f"of {self.value}" if name == "quantile" else f"of kind {self.kind}"
            raise ConfigurationError(f"{name}: a rule {what} takes none")


def _window(name: str, value: object) -> None:
    parts.number(name, value, SHORTEST_S, LONGEST_S, least=True)
