"""Figures as text that Prometheus reads: its own format 0.0.4, or OpenMetrics 1.0, which has exemplars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from llmguard.exporters.prometheus_families import COUNTER, HISTOGRAM, Exemplar, Families, Family, Labels, Sample

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


def written(families: Families, openmetrics: bool) -> bytes:
    """The text of figures.

    Args:
        families: of them.
        openmetrics: whether in that format.
    """
    lines = [line for family in families.values() if family.samples for line in _family(family, openmetrics)]
    if openmetrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def wants_openmetrics(accept: str) -> bool:
    """Whether an ``Accept`` header asks for OpenMetrics; Prometheus lists it before its own format."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "application/openmetrics-text" in kinds


def _family(family: Family, openmetrics: bool) -> Iterator[str]:
    name = family.name
    sample = f"{name}_total" if family.kind == COUNTER else name
    told = name if openmetrics else sample
    # OpenMetrics keeps the ending _info for a type of its own.
    kind = "info" if openmetrics and name.endswith("_info") else family.kind
    told = told.removesuffix("_info") if kind == "info" else told
    yield f"# HELP {told} {family.help.translate(_LABEL if openmetrics else _HELP)}"
    yield f"# TYPE {told} {kind}"
    if openmetrics and family.unit:
        yield f"# UNIT {told} {family.unit}"
    for labels, value in family.samples.items():
        if family.kind == HISTOGRAM:
            yield from _histogram(name, labels, value, openmetrics)
        else:
            exemplars = value.exemplars if openmetrics and family.kind == COUNTER else ()
            yield f"{sample}{_braced(labels)} {_number(value.value)}{_exemplar(exemplars[:1])}"


def _histogram(name: str, labels: Labels, sample: Sample, openmetrics: bool) -> Iterator[str]:
    seen = 0
    for bucket, count in enumerate(sample.counts):
        seen += count
        bound = _number(sample.bounds[bucket]) if bucket < len(sample.bounds) else "+Inf"
        shown = _exemplar(one for one in sample.exemplars if openmetrics and one.bucket == bucket)
        yield f"{name}_bucket{_braced((*labels, ('le', bound)))} {seen}{shown}"
    yield f"{name}_sum{_braced(labels)} {_number(sample.value)}"
    yield f"{name}_count{_braced(labels)} {seen}"


def _braced(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_LABEL)}"' for name, value in labels) + "}"


def _exemplar(exemplars: Iterable[Exemplar]) -> str:
    for one in exemplars:
        return f' # {{trace_id="{one.trace}",span_id="{one.span}"}} {_number(one.value)} {one.at:.3f}'
    return ""


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
