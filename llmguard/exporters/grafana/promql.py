"""Expressions of PromQL over the metrics that llmguard emits, under the names that Prometheus has for them."""

from __future__ import annotations

from llmguard import semconv
from llmguard.exporters.prometheus_families import COUNTER, GAUGE, HISTOGRAM, family_name, label_name
from llmguard.signals import MetricRow

#: The variables of a dashboard that narrow a metric down, by the label that it has to have for that.
VARIABLES = {
    semconv.POLICY_ID: "policy",
    semconv.REQUEST_MODEL: "model",
    semconv.PROMPT_VERSION: "prompt_version",
}
#: What a rate is taken over; Grafana puts in at least four scrapes.
RATE = "$__rate_interval"
#: All that a dashboard shows.
RANGE = "$__range"
_SERVICE = 'job=~"$service"'


def metric(row: MetricRow) -> str:
    """The name of a metric; of a histogram without the ending of its parts."""
    kind = row.kind if row.kind in (COUNTER, HISTOGRAM) else GAUGE
    name = family_name(row.name, row.unit, kind)
    return f"{name}_total" if kind == COUNTER else name


def label(attribute: str) -> str:
    """The name of a label, or a list of them with commas between."""
    return ", ".join(label_name(one.strip()) for one in attribute.split(","))


def legend(*attributes: str) -> str:
    """What a series is called: the values of labels."""
    return " ".join(f"{{{{{label(attribute)}}}}}" for attribute in attributes)


def series(row: MetricRow, part: str = "", **equal: str) -> str:
    """A selector of what a dashboard is narrowed down to.

    Args:
        row: the metric.
        part: ``bucket``, ``sum`` or ``count`` of a histogram.
        equal: values by the last words of their label, or ``le``; ``a|b`` are alternatives, ``!a`` is anything else,
            ``$a`` is a variable of the dashboard.
    """
    name = metric(row) + (f"_{part}" if part else "")
    narrowed = [f'{label(key)}=~"${VARIABLES[key]}"' for key in row.attributes if key in VARIABLES]
    return f"{name}{{{', '.join([_SERVICE, *narrowed, *(_equal(row, *one) for one in equal.items())])}}}"


def _equal(row: MetricRow, short: str, values: str) -> str:
    (attribute,) = [name for name in (*row.attributes, "_le") if label(name).endswith(f"_{short}")]
    attribute = attribute.lstrip("_")
    pattern = "|" in values or values.startswith("$")
    if values.startswith("!"):
        return f'{label(attribute)}{"!~" if pattern else "!="}"{values[1:]}"'
    return f'{label(attribute)}{"=~" if pattern else "="}"{values}"'


def named(name: str, part: str = "") -> str:
    """A selector of a metric of an upstream server, which only the service narrows down."""
    return f"{name}{f'_{part}' if part else ''}{{{_SERVICE}}}"


def rate(selector: str, by: str = "") -> str:
    """How many a second."""
    return f"{_sum(by)}(rate({selector}[{RATE}]))"


def increase(selector: str, by: str = "", over: str = RANGE) -> str:
    """How many."""
    return f"{_sum(by)}(increase({selector}[{over}]))"


def share(part: str, whole: str, by: str = "", over: str = RATE) -> str:
    """The part of a count in another; 0, not nothing, where there is a whole and no part.

    Args:
        part: a selector.
        whole: likewise.
        by: labels that both have.
        over: the time that is looked at.
    """
    all_ = increase(whole, by, over)
    return f"({increase(part, by, over)} or {all_} * 0) / ({all_} > 0)"


def ratio(one: str, other: str) -> str:
    """One expression by another, where that is more than 0."""
    return f"{one} / ({other} > 0)"


def mean(row: MetricRow, by: str = "", over: str = RATE, **equal: str) -> str:
    """The mean of a histogram."""
    sums, counts = series(row, "sum", **equal), series(row, "count", **equal)
    return ratio(increase(sums, by, over), increase(counts, by, over))


def quantile(of: float, buckets: str, by: str = "", over: str = RATE) -> str:
    """A quantile of a histogram, as exact as its buckets.

    Args:
        of: from 0 to 1.
        buckets: a selector of them.
        by: labels.
        over: the time that is looked at.
    """
    return f"histogram_quantile({of}, {_sum(f'le, {by}' if by else 'le')}(rate({buckets}[{over}])))"


def heat(buckets: str) -> str:
    """How many fell into each bucket of a histogram."""
    return increase(buckets, "le", RATE)


def _sum(by: str) -> str:
    return f"sum by ({label(by)}) " if by else "sum"
