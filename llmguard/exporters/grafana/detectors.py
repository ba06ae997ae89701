"""The board of what the detectors do: how long they take, what they find, how they fail."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard as model

from llmguard import semconv as s
from llmguard import signals
from llmguard.exporters.grafana import promql as q
from llmguard.exporters.grafana.board import Row, board
from llmguard.exporters.grafana.panels import (
    COUNT,
    GREEN,
    PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    Limits,
    PanelBuilder,
    Query,
    bars,
    chart,
    grid,
    heat_map,
    quantiles,
    timeline,
)

_PICKED = "$detector"
_RUNS = q.series(signals.DETECTOR_DURATION, "count", name=_PICKED)
_HITS = q.series(signals.DETECTOR_DURATION, "count", name=_PICKED, outcome="hit")
_BAD = q.series(signals.DETECTOR_DURATION, "count", name=_PICKED, outcome="error|timeout|open")
_OPEN = q.series(signals.DETECTOR_DURATION, "count", name=_PICKED, outcome="open")
# Runs that took place: one that was skipped, or whose breaker is open, takes no time.
_TIMES = q.series(signals.DETECTOR_DURATION, "bucket", name=_PICKED, outcome="!skipped|open")
_SCORES = q.series(signals.DETECTOR_SCORE, "bucket", name=_PICKED)
_SIZES = q.series(signals.BATCH_SIZE, "bucket")
_WAITS = q.series(signals.BATCH_QUEUE_DURATION, "bucket")
_NAME = q.legend(s.DETECTOR)


def detectors() -> model.Dashboard:
    """The board."""
    return board(
        "detectors",
        "Detectors",
        "How long each detector takes, what it finds and how it fails; how full the batches of the models are.",
        [
            Row("Latency", _latency()),
            Row("What they find", _found()),
            Row("How they end", _outcomes()),
            Row("Batches of the models", _batches()),
        ],
    )


def _latency() -> Sequence[PanelBuilder]:
    return [
        chart(
            "How long a run takes",
            "All detectors that are picked. The points are single runs: click one for its trace.",
            SECONDS,
            *quantiles(_TIMES),
            limits=Limits(0.05, 0.25),
            exemplars=True,
        ),
        chart(
            "95 of 100 runs, by detector",
            "A detector that is slow alone has grown, or runs a model on a full machine: give it a deadline_ms, a "
            "smaller model or a device of its own. If all are slow, the machine is full.",
            SECONDS,
            Query(q.quantile(0.95, _TIMES, s.DETECTOR), _NAME),
            limits=Limits(0.05, 0.25),
            exemplars=True,
        ),
        grid(
            "Latency by detector",
            "In all that is shown. The tail against the median says whether a detector is slow, or waits.",
            [
                (q.quantile(0.5, _TIMES, s.DETECTOR, q.RANGE), "50 of 100", SECONDS),
                (q.quantile(0.95, _TIMES, s.DETECTOR, q.RANGE), "95 of 100", SECONDS),
                (q.quantile(0.99, _TIMES, s.DETECTOR, q.RANGE), "99 of 100", SECONDS),
                (q.increase(_RUNS, s.DETECTOR), "Runs", COUNT),
                (q.share(_HITS, _RUNS, s.DETECTOR, q.RANGE), "Hits", SHARE),
                (q.share(_BAD, _RUNS, s.DETECTOR, q.RANGE), "Failures", SHARE),
            ],
            q.label(s.DETECTOR),
        ),
    ]


def _found() -> Sequence[PanelBuilder]:
    return [
        heat_map(
            "Scores",
            "The highest score of each check in which something was found. A threshold belongs where there is little: "
            "much just below one means that the rule misses, much just above it that it hits too early.",
            "none",
            Query(q.heat(_SCORES)),
        ),
        chart(
            "Median score, by detector",
            "A detector whose scores sink slowly sees other texts than it was made for: look at Quality, Drift.",
            "none",
            Query(q.quantile(0.5, _SCORES, s.DETECTOR), _NAME),
            most=1,
        ),
        chart(
            "Hits",
            "Share of the runs that found something, by detector. A step up with no change of the policy is an attack "
            "or a new client; a fall to nothing may be a detector that has gone blind.",
            SHARE,
            Query(q.share(_HITS, _RUNS, s.DETECTOR), _NAME),
            most=1,
        ),
        bars(
            "Categories",
            "What was found most often, and what the policy made of it.",
            COUNT,
            Query(
                f"topk(15, {q.increase(q.series(signals.FINDINGS, name=_PICKED), f'{s.CATEGORY}, {s.ACTION}')})",
                q.legend(s.CATEGORY, s.ACTION),
            ),
        ),
    ]


def _outcomes() -> Sequence[PanelBuilder]:
    return [
        chart(
            "Outcomes",
            "Runs a second by how they ended. Skipped ones were spared, since another detector had blocked already.",
            PER_SECOND,
            Query(q.rate(_RUNS, s.OUTCOME), q.legend(s.OUTCOME)),
            stacked=True,
        ),
        chart(
            "Failures",
            "Share of the runs that raised, ran past their deadline or met an open breaker. Then the policy's "
            "on_failure decides: closed rules block calls, open ones let them through unlooked at. The logs and the "
            "event llmguard.detector.failure name the error.",
            SHARE,
            Query(q.share(_BAD, _RUNS, s.DETECTOR), _NAME),
            limits=Limits(0.001, 0.01),
        ),
        timeline(
            "Breakers",
            "A detector that failed several times in a row rests; then one run tries it again. Red for long: it does "
            "not come back by itself. Look at its model, its server and the memory of the machine.",
            Query(
                f"({q.increase(_OPEN, s.DETECTOR, q.RATE)} or {q.increase(_RUNS, s.DETECTOR, q.RATE)} * 0) > bool 0",
                _NAME,
            ),
            {"0": ("closed", GREEN), "1": ("open", RED)},
        ),
        chart(
            "Runs that met an open breaker",
            "How many runs a second were not made for that.",
            PER_SECOND,
            Query(f"{q.rate(_OPEN, s.DETECTOR)} or {q.rate(_RUNS, s.DETECTOR)} * 0", _NAME),
            stacked=True,
        ),
    ]


def _batches() -> Sequence[PanelBuilder]:
    encoder = q.legend(s.ENCODER)
    return [
        chart(
            "Windows in a forward pass",
            "The mean, by model. Near 1 with much waiting: texts come one by one, or the batcher's delay is too short.",
            COUNT,
            Query(q.mean(signals.BATCH_SIZE, s.ENCODER), encoder),
        ),
        heat_map(
            "Sizes of batches",
            "How often a forward pass held how many windows of text.",
            COUNT,
            Query(q.heat(_SIZES)),
            exemplars=False,
        ),
        chart(
            "Waiting for a forward pass",
            "If 95 of 100 windows wait longer than a pass takes, the model can't keep up: add threads, a device or a "
            "server for it, or let fewer rules ask for it.",
            SECONDS,
            *[Query(q.quantile(of, _WAITS, s.ENCODER), f"{encoder} {of * 100:.0f} of 100") for of in (0.5, 0.95, 0.99)],
            limits=Limits(0.05, 0.25),
        ),
        chart(
            "Windows that wait",
            "By model, now. A queue that only grows ends in deadlines.",
            COUNT,
            Query(f"sum by ({q.label(s.ENCODER)}) ({q.series(signals.QUEUE_SIZE)})", encoder),
            limits=Limits(64, 512),
        ),
    ]
