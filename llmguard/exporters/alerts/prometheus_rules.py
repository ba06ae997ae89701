"""The rules as a rule file of Prometheus, in the names that its endpoint here shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.measure import ATTRIBUTES, GAUGES, MEASURES
from llmguard.exporters.alerts.notice import SEVERITY
from llmguard.exporters.alerts.rule import Rule
from llmguard.exporters.alerts.rule_parts import Selection
from llmguard.exporters.prometheus_families import COUNTER, family_name, label_name
from llmguard.signals import MetricRow
from llmguard.types import PolicyRef

_OTHER_THAN_WORDS = re.compile(r"[^A-Za-z0-9_]")


class RuleFile(NamedTuple):
    """A rule file, and what could not be written into it.

    Attributes:
        name: of its group.
        every_s: seconds between two evaluations.
        rules: as Prometheus reads them.
        left_out: names of alerts, and why they are none of them.
    """

    name: str
    every_s: float
    rules: tuple[Mapping[str, Any], ...]
    left_out: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"groups": [{"name": self.name, "interval": duration(self.every_s), "rules": list(self.rules)}]}

    def as_json(self) -> str:
        """As JSON, which Prometheus reads too."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n"

    def as_yaml(self) -> str:
        """As YAML; a comment says what was left out, and why."""
        import yaml

        comments = [f"# Left out: {json.dumps(name)}: {problem}\n" for name, problem in self.left_out]
        return "".join(comments) + yaml.safe_dump(self.as_dict(), sort_keys=False, allow_unicode=True, width=1000)


def rule_file(rules: Iterable[Rule], policy: PolicyRef, every_s: float = 10.0) -> RuleFile:
    """The rules as Prometheus reads them; those that it can't evaluate are left out, and named.

    Args:
        rules: of one policy.
        policy: that they stand in.
        every_s: seconds between two evaluations.
    """
    written: list[Mapping[str, Any]] = []
    left_out: list[tuple[str, str]] = []
    for rule in rules:
        try:
            written.append(_rule(rule, policy))
        except ConfigurationError as error:
            left_out.append((rule.alert, error.message))
    return RuleFile(f"llmguard: {policy.name}", every_s, tuple(written), tuple(left_out))


def duration(seconds: float) -> str:
    """Seconds as Prometheus writes them; it knows no fractions, but milliseconds."""
    return f"{seconds:.0f}s" if seconds == int(seconds) else f"{max(1, round(seconds * 1000))}ms"


def expression(rule: Rule) -> str:
    """The condition of a rule in PromQL.

    Raises:
        ConfigurationError: it is about something that no metric tells.
    """
    if rule.kind in GAUGES:
        return _of_a_monitor(rule)
    if rule.kind == "burn" and rule.burn is not None:
        return " and ".join(
            f"({_share(rule, window)} > {_number(rule.burn.most)})" for window in (rule.burn.long_s, rule.burn.short_s)
        )
    if rule.kind == "ratio":
        return f"{_share(rule, rule.window_s)} {_bound(rule)}"
    if rule.measure.spread:
        counts = _summed(_increase(rule.value, rule.of, rule.window_s), ("le", *_names(rule)))
        return f"histogram_quantile({_number(rule.quantile or 0.0)}, {counts}) {_bound(rule)}"
    total = _summed(_increase(rule.value, rule.of, rule.window_s), _names(rule))
    if not rule.by:
        total = f"({total} or vector(0))"  # what was never counted has no series
    if rule.kind == "rate":
        total = f"{total} / {_number(rule.window_s)}"
    condition = f"{total} {_bound(rule)}"
    # Nothing is missing where nobody has looked for that long.
    return f"{condition} and on () count(up offset {duration(rule.window_s)}) > 0" if rule.lacking else condition


def _rule(rule: Rule, policy: PolicyRef) -> Mapping[str, Any]:
    attributes = GAUGES[rule.kind].labels if rule.kind in GAUGES else ATTRIBUTES
    labels = {SEVERITY: rule.severity} | {name: _plain(value) for name, value in rule.labels.items()}
    labels |= {name: f"{{{{ $labels.{label_name(attributes[name])} }}}}" for name in rule.by}
    annotations = {"summary": rule.summary, "runbook_url": rule.runbook}
    annotations = {name: _plain(text) for name, text in annotations.items() if text}
    if rule.looks_back:
        annotations["window"] = rule.looks_back
    annotations |= {"policy": _plain(" ".join(filter(None, policy))), "value": "{{ $value }}"}
    written = {"alert": rule.alert, "expr": expression(rule)}
    if rule.for_s:
        written["for"] = duration(rule.for_s)
    return {**written, "labels": labels, "annotations": annotations}


def _share(rule: Rule, window_s: float) -> str:
    of = _summed(_increase(rule.value, rule.of, window_s), _names(rule))
    name, chosen = rule.total
    among = _summed(_increase(name, chosen, window_s), _names(rule))
    enough = f"({among} >= {rule.at_least})" if rule.at_least > 1 else among
    return f"(({of} or {among} * 0) / {enough})" if rule.beyond(0.0) else f"({of} / {enough})"


def _increase(value: str, of: Selection, window_s: float) -> str:
    """How much was added within the window, by series.

    ``increase`` does not see what a series starts with: a first block would be none. So where Prometheus has
    looked at the process for that long, a series that is younger counts as a whole.
    """
    measure = MEASURES[value]
    only = {label_name(name): (word,) for name, word in measure.only.items()}
    labels = {_attribute(name, value, measure.metric): words for name, words in of.items()}
    series = f"{_metric(measure.metric)}{measure.part}{_selector({**only, **labels})}"
    over = duration(window_s)
    new = f"({series} unless {series} offset {over}) and on (job, instance) (up offset {over})"
    return f"({new}) or increase({series}[{over}])"


def _of_a_monitor(rule: Rule) -> str:
    gauge = GAUGES[rule.kind]
    if rule.above is None and rule.below is None:
        raise ConfigurationError(
            f"without above or below, a rule of kind {rule.kind} is told when the monitor alerts, which no metric tells"
        )
    labels = {label_name(gauge.labels[name]): words for name, words in rule.of.items()}
    names = ", ".join(label_name(gauge.labels[name]) for name in rule.by)
    most = "max" if rule.above is not None else "min"
    return f"{most} by ({names}) ({_metric(gauge.metric)}{_selector(labels)}) {_bound(rule)}"


def _names(rule: Rule) -> tuple[str, ...]:
    values = (rule.value, *(rule.total[:1] if rule.among is not None else ()))
    return tuple(dict.fromkeys(_attribute(name, value, MEASURES[value].metric) for name in rule.by for value in values))


def _attribute(name: str, value: str, metric: MetricRow) -> str:
    if ATTRIBUTES[name] not in metric.attributes:
        raise ConfigurationError(f"{name!r} is no label of {_metric(metric)}, which tells {value}")
    return label_name(ATTRIBUTES[name])


def _metric(row: MetricRow) -> str:
    return family_name(row.name, row.unit, row.kind) + ("_total" if row.kind == COUNTER else "")


def _summed(series: str, names: Sequence[str]) -> str:
    return f"sum by ({', '.join(names)}) ({series})" if names else f"sum({series})"


def _selector(labels: Mapping[str, Sequence[str]]) -> str:
    if not labels:
        return ""
    said = [
        f"{name}={json.dumps(words[0], ensure_ascii=False)}"
        if len(words) == 1
        else f"{name}=~{json.dumps('|'.join(map(_literal, words)), ensure_ascii=False)}"
        for name, words in labels.items()
    ]
    return f"{{{', '.join(said)}}}"


def _literal(word: str) -> str:
    return _OTHER_THAN_WORDS.sub(lambda found: f"\\{found[0]}" if found[0].isascii() else found[0], word)


def _bound(rule: Rule) -> str:
    if rule.kind == "absence":
        return "== 0"
    return f"{'>' if rule.above is not None else '<'} {_number(rule.at)}"


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _plain(text: str) -> str:
    """A text in which nothing is a template."""
    return text.replace("{{", '{{ "{{" }}')
