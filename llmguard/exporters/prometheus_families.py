"""Figures as Prometheus has them: families of samples, made from OpenTelemetry's, and added up over processes."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

Labels = tuple[tuple[str, str], ...]

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
_KINDS = frozenset({COUNTER, GAUGE, HISTOGRAM})
# https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-metadata-1
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "1": ""}
_UNITS |= {"min": "minutes", "h": "hours", "d": "days", "%": "percent", "KiBy": "kibibytes", "MiBy": "mebibytes"}
_annotation = re.compile(r"\{.*\}")
_not_in_name = re.compile(r"[^a-zA-Z0-9:]+")
_not_in_label = re.compile(r"[^a-zA-Z0-9]+")
_SCOPE = "otel_scope_name"


class Exemplar(NamedTuple):
    """One measurement that a bucket or a counter stands for, and its trace.

    Attributes:
        bucket: index of its bucket; 0 of a counter.
        value: that was measured.
        at: when, in seconds since 1970.
        trace: id of the trace, 32 hexadecimal digits.
        span: id of the span, 16 of them.
    """

    bucket: int
    value: float
    at: float
    trace: str
    span: str


class Sample(NamedTuple):
    """The value of one set of labels.

    Attributes:
        value: of a counter or gauge; the sum of a histogram.
        counts: of a histogram, how many fell into each bucket alone.
        bounds: of its buckets, without the last, endless one.
        exemplars: at most one a bucket.
    """

    value: float
    counts: tuple[int, ...] = ()
    bounds: tuple[float, ...] = ()
    exemplars: tuple[Exemplar, ...] = ()


class Family(NamedTuple):
    """The samples of one name.

    Attributes:
        name: with its unit, without ``_total``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: what it tells.
        unit: that the name ends in, or "".
        adds: whether values of several processes add up; of gauges that don't, the highest counts.
        samples: by their labels.
    """

    name: str
    kind: str
    help: str
    unit: str
    adds: bool
    samples: dict[Labels, Sample]


Families = dict[str, Family]


def families(data: MetricsData | None) -> Families:
    """What a metric reader collected, by name; of two kinds under one name the first."""
    made: Families = {}
    for resource in data.resource_metrics if data is not None else ():
        info = _labels(resource.resource.attributes)
        made["target_info"] = Family("target_info", GAUGE, "Target metadata", "", False, {info: Sample(1.0)})
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                family = _family(metric, scope.scope.name)
                if family is not None and _alike(made.setdefault(family.name, family), family):
                    made[family.name].samples.update(family.samples)
    return made


def family_name(metric: str, unit: str, kind: str) -> str:
    """The name of an instrument's family, without ``_total``."""
    name = _not_in_name.sub("_", metric)
    if kind == COUNTER:
        name = name.removesuffix("_total")
    unit = _unit(unit)
    return f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name


def label_name(attribute: str) -> str:
    """The name of an attribute's label."""
    name = _not_in_label.sub("_", attribute)
    return f"_{name}" if name[:1].isdigit() else name


def _family(metric: Metric, scope: str) -> Family | None:
    from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum

    data = metric.data
    unit = _unit(metric.unit or "")
    if isinstance(data, Sum) and data.is_monotonic:
        kind, adds = COUNTER, True
    elif isinstance(data, Sum | Gauge):
        kind, adds = GAUGE, isinstance(data, Sum)
    elif isinstance(data, Histogram):
        kind, adds = HISTOGRAM, True
    else:  # exponential histograms have no text form
        return None
    name = family_name(metric.name, metric.unit or "", kind)
    samples = {_labels(point.attributes or {}, scope): _sample(point) for point in data.data_points}
    return Family(name, kind, metric.description or "", unit, adds, samples)


def _sample(point: Any) -> Sample:
    bounds = tuple(getattr(point, "explicit_bounds", ()))
    latest: dict[int, Exemplar] = {}
    for one in sorted(point.exemplars, key=lambda one: one.time_unix_nano):
        if one.trace_id:
            bucket = bisect_left(bounds, one.value)
            seen = (one.time_unix_nano / 1e9, f"{one.trace_id:032x}", f"{one.span_id or 0:016x}")
            latest[bucket] = Exemplar(bucket, float(one.value), *seen)
    exemplars = tuple(latest[bucket] for bucket in sorted(latest))
    if hasattr(point, "bucket_counts"):
        return Sample(float(point.sum), tuple(point.bucket_counts), bounds, exemplars)
    return Sample(float(point.value), exemplars=exemplars)


def _unit(unit: str) -> str:
    unit = _annotation.sub("", unit)
    known = _UNITS.get(unit)
    return _not_in_name.sub("_", unit).strip("_") if known is None else known


def _labels(attributes: Mapping[str, Any], scope: str = "") -> Labels:
    said: dict[str, str] = {_SCOPE: scope} if scope else {}
    for key, value in sorted(attributes.items()):
        name = label_name(key)
        written = str(value).lower() if isinstance(value, bool) else str(value)
        # https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-attributes
        said[name] = f"{said[name]};{written}" if name in said else written
    return tuple(sorted(said.items()))


def _alike(one: Family, other: Family) -> bool:
    return one.kind == other.kind


def total(many: Iterable[Families]) -> Families:
    """The figures of several processes as one."""
    made: Families = {}
    for one in many:
        for name, family in one.items():
            if name not in made:
                made[name] = family._replace(samples=dict(family.samples))
            elif _alike(made[name], family):
                samples = made[name].samples
                for labels, sample in family.samples.items():
                    samples[labels] = _sum(samples[labels], sample, family.adds) if labels in samples else sample
    return made


def _sum(one: Sample, other: Sample, adds: bool) -> Sample:
    if not adds:
        return max(one, other, key=lambda sample: sample.value)
    if one.bounds != other.bounds:  # of another version of the program
        return one
    latest = {exemplar.bucket: exemplar for exemplar in sorted(one.exemplars + other.exemplars, key=lambda e: e.at)}
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Sample(one.value + other.value, counts, one.bounds, tuple(latest[key] for key in sorted(latest)))


def lasting(these: Families) -> Families:
    """What stays of a process that has ended: what it counted, not how it was."""
    return {name: family for name, family in these.items() if family.kind != GAUGE}


def as_json(these: Families) -> list[Any]:
    """As JSON values."""
    return [
        [*family[:5], [[labels, *sample] for labels, sample in family.samples.items()]] for family in these.values()
    ]


def from_json(said: Sequence[Any]) -> Families:
    """What `as_json` gave.

    Raises:
        ValueError: it is something else.
    """
    try:
        made = [_read(*family) for family in said]
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError("these are no figures") from error
    return {family.name: family for family in made}


def _read(name: str, kind: str, about: str, unit: str, adds: bool, samples: Sequence[Any]) -> Family:
    if kind not in _KINDS:
        raise ValueError("these are no figures")
    read = {}
    for labels, value, counts, bounds, exemplars in samples:
        key = tuple((str(label), str(said)) for label, said in labels)
        read[key] = Sample(float(value), tuple(counts), tuple(bounds), tuple(Exemplar(*one) for one in exemplars))
    return Family(name, kind, about, unit, adds, read)
