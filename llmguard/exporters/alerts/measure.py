"""What rules can count: the figures of a record, the labels that each has, and the metric that shows the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from llmguard import semconv as s
from llmguard import signals
from llmguard.exporters.record import CALL, CHECK, Record

Seen = Iterable[tuple[tuple[str, ...], float]]

#: What rules call the labels, and their attributes in telemetry; a tenant stands on no metric.
ATTRIBUTES: Mapping[str, str] = {
    "stage": s.STAGE,
    "action": s.ACTION,
    "enforced": s.ENFORCED,
    "policy": s.POLICY_ID,
    "model": s.REQUEST_MODEL,
    "prompt": s.PROMPT_NAME,
    "prompt_version": s.PROMPT_VERSION,
    "tenant": "",
    "detector": s.DETECTOR,
    "category": s.CATEGORY,
    "outcome": s.OUTCOME,
}
_WHOSE = ("model", "prompt", "prompt_version", "tenant")
_CHECK = ("stage", "action", "enforced", "policy", *_WHOSE)
_FINDING = ("detector", "category", "stage", "action", "policy", *_WHOSE)
_RUN = ("detector", "outcome", "stage", "policy", *_WHOSE)
_SCORE = ("detector", "stage", "policy", *_WHOSE)


class Measure(NamedTuple):
    """One figure that rules can count.

    Attributes:
        kind: of the records that it is in.
        labels: by which it can be chosen and told apart.
        seen: the values of the labels and the amounts that one record has.
        metric: that shows the same.
        part: of the metric that is counted: ``""``, ``_sum`` or ``_count``; of a distribution ``_bucket``.
        only: attributes that its series have.
    """

    kind: str
    labels: tuple[str, ...]
    seen: Callable[[Record], Seen]
    metric: signals.MetricRow
    part: str = ""
    only: Mapping[str, str] = {}

    @property
    def spread(self) -> bool:
        """Whether it is a distribution, of which a rule looks at a quantile, and no sum."""
        return self.part == "_bucket"


def _whose(record: Record) -> tuple[str, str, str, str]:
    return record.model, record.prompt[0], record.prompt[1], record.tenant


def _check(record: Record) -> tuple[str, ...]:
    enforced = "true" if record.enforced else "false"
    return (record.stage, record.action, enforced, record.policy.name, *_whose(record))


def _decisions(record: Record) -> Seen:
    return ((_check(record), 1.0),)


def _check_seconds(record: Record) -> Seen:
    return ((_check(record), record.seconds),)


def _findings(record: Record) -> Seen:
    if not record.findings:
        return ()
    about = (record.policy.name, *_whose(record))
    return [((one.detector, one.category, record.stage, one.action, *about), 1.0) for one in record.findings]


def _runs(record: Record) -> Seen:
    about = (record.stage, record.policy.name, *_whose(record))
    return [((ran.detector, ran.outcome, *about), 1.0) for ran in record.runs]


def _run_seconds(record: Record) -> Seen:
    about = (record.stage, record.policy.name, *_whose(record))
    return [((ran.detector, ran.outcome, *about), ran.seconds) for ran in record.runs]


def _scores(record: Record) -> Seen:
    highest: dict[str, float] = {}
    for one in record.findings:
        highest[one.detector] = max(one.score, highest.get(one.detector, 0.0))
    about = (record.stage, record.policy.name, *_whose(record))
    return [((detector, *about), score) for detector, score in highest.items()]


def _calls(record: Record) -> Seen:
    return ((_whose(record), 1.0),)


def _number(name: str) -> Callable[[Record], Seen]:
    def seen(record: Record) -> Seen:
        number = record.numbers.get(name)
        return ((_whose(record), number),) if number is not None else ()

    return seen


def _tokens(kind: str) -> Measure:
    only = {s.TOKEN_TYPE: kind}
    return Measure(CALL, _WHOSE, _number(f"{kind}_tokens"), signals.TOKEN_USAGE, "_sum", only)


#: By the word that a rule's ``value`` says.
MEASURES: Mapping[str, Measure] = {
    "decisions": Measure(CHECK, _CHECK, _decisions, signals.DECISIONS),
    "findings": Measure(CHECK, _FINDING, _findings, signals.FINDINGS),
    "runs": Measure(CHECK, _RUN, _runs, signals.DETECTOR_DURATION, "_count"),
    "calls": Measure(CALL, _WHOSE, _calls, signals.CALL_DURATION, "_count"),
    "cost": Measure(CALL, _WHOSE, _number("cost"), signals.COST),
    "input_tokens": _tokens("input"),
    "output_tokens": _tokens("output"),
    "latency": Measure(CALL, _WHOSE, _number("latency"), signals.CALL_DURATION, "_bucket"),
    "time_to_first_chunk": Measure(
        CALL, _WHOSE, _number("time_to_first_chunk"), signals.TIME_TO_FIRST_CHUNK, "_bucket"
    ),
    "guard_duration": Measure(CHECK, _CHECK, _check_seconds, signals.GUARD_DURATION, "_bucket"),
    "detector_duration": Measure(CHECK, _RUN, _run_seconds, signals.DETECTOR_DURATION, "_bucket"),
    "score": Measure(CHECK, _SCORE, _scores, signals.DETECTOR_SCORE, "_bucket"),
}


class Gauge(NamedTuple):
    """A value that a monitor tells of itself, and what it tells when it changes.

    Attributes:
        metric: its gauge.
        event: of its alerts.
        score: attribute of the alerts that holds how far it has gone.
        labels: what rules call its labels, and their attributes.
    """

    metric: signals.MetricRow
    event: str
    score: str
    labels: Mapping[str, str]


#: By the kind of the rules that are about them.
GAUGES: Mapping[str, Gauge] = {
    "drift": Gauge(
        signals.DRIFT_SCORE,
        s.EVENT_DRIFT,
        s.DRIFT_SCORE,
        {
            "monitor": s.MONITOR,
            "feature": s.DRIFT_FEATURE,
            "statistic": s.DRIFT_STATISTIC,
            "reference": s.DRIFT_REFERENCE,
        },
    ),
    "fairness": Gauge(
        signals.FAIRNESS_DISPARITY,
        s.EVENT_FAIRNESS,
        s.FAIRNESS_DISPARITY,
        {"monitor": s.MONITOR, "outcome": s.FAIRNESS_OUTCOME, "group": s.FAIRNESS_GROUP},
    ),
}


def counted(of: Mapping[str, Any]) -> str:
    """What is counted where a rule says no ``value``: what has these labels, and else decisions."""
    if "outcome" in of:
        return "runs"
    return "findings" if "category" in of or "detector" in of else "decisions"
