"""The figures of model servers that dashboards are made of, picked out of their page and added to ours."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmguard.exporters.prometheus import Scrape
from llmguard.exporters.prometheus_text import OPENMETRICS

#: vLLM, Text Generation Inference, Triton.
_NAME = r"(?P<name>(?:vllm:|vllm_|tgi_|nv_)[\w:]*)"
# A line that Prometheus can't read would cost the whole page, ours included.
_TYPE = r"(?:counter|gauge|histogram|summary|untyped)\Z"
_TOLD = re.compile(rf"# (?P<what>HELP|UNIT|TYPE(?= \S+ {_TYPE})) {_NAME} (?P<rest>.*)", re.ASCII)
_SAMPLE = re.compile(
    rf"{_NAME}(?P<labels>\{{(?:[A-Za-z_]\w*=\"(?:[^\"\\]|\\.)*\"(?:, ?)?)*\}})?[ \t]+"
    r"(?P<value>[-+]?(?i:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf|nan))(?:[ \t]+-?\d+)?[ \t]*",
    re.ASCII,
)
_END = b"# EOF\n"


def added(own: Scrape, page: bytes) -> bytes:
    """Our figures, and behind them those of a page that are about one of those servers.

    Args:
        own: in Prometheus' own text format, or in OpenMetrics, into which theirs are put, too.
        page: in Prometheus' own text format.
    """
    if own.content_type != OPENMETRICS:
        return own.body + passed_on(page)
    return own.body.removesuffix(_END) + passed_on(page, openmetrics=True) + _END


def passed_on(page: bytes, openmetrics: bool = False) -> bytes:
    """The lines of a page in Prometheus' text format that are about one of those servers' own figures."""
    lines = [line.removesuffix("\r") for line in page.decode("utf-8", "replace").split("\n")]
    told = [match for line in lines if (match := _TOLD.fullmatch(line) or _SAMPLE.fullmatch(line))]
    kept = _as_openmetrics(told) if openmetrics else [match[0] for match in told]
    return "".join([f"{line}\n" for line in kept]).encode()


def _as_openmetrics(told: list[re.Match[str]]) -> Iterator[str]:
    # There a counter's samples end in _total, and its name does not; times are seconds; _created belongs to counters.
    types = {match["name"]: match["rest"] for match in told if match.re is _TOLD and match["what"] == "TYPE"}
    counters = {name for name, kind in types.items() if kind == "counter"}
    for match in told:
        name = match["name"]
        if name.endswith("_created"):
            continue
        if match.re is _SAMPLE:
            yield f"{name}{match['labels'] or ''} {match['value']}"
        elif match["what"] == "HELP":
            yield f"# HELP {_family(name, counters)} {match['rest']}"
        elif match["what"] == "TYPE":
            unnamed = match["rest"] == "untyped" or (name in counters and not name.endswith("_total"))
            yield f"# TYPE {_family(name, counters)} {'unknown' if unnamed else match['rest']}"


def _family(name: str, counters: set[str]) -> str:
    return name.removesuffix("_total") if name in counters else name
