"""The board of how good the answers are: drift, groundedness, fairness, and prompt versions beside one another."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard as model

from llmguard import semconv as s
from llmguard import signals
from llmguard.exporters.grafana import promql as q
from llmguard.exporters.grafana.board import Row, board
from llmguard.exporters.grafana.panels import (
    COUNT,
    PER_SECOND,
    PLAIN,
    SHARE,
    USD,
    Limits,
    PanelBuilder,
    Query,
    bars,
    chart,
    grid,
    heat_map,
)

_PSI = q.series(signals.DRIFT_SCORE, statistic="psi")
_OTHERS = q.series(signals.DRIFT_SCORE, statistic="!psi")
_UNLIKE = q.series(signals.FAIRNESS_DISPARITY)
_GROUND = "groundedness"
_UNGROUNDED = q.series(signals.FINDINGS, name=_GROUND, action="!allow")
# Every answer that is judged has a score: that of its least supported sentence.
_JUDGED = q.series(signals.DETECTOR_SCORE, "count", name=_GROUND)
_DOUBT = q.series(signals.DETECTOR_SCORE, "bucket", name=_GROUND)
_FINE = q.series(signals.DETECTOR_SCORE, "bucket", name=_GROUND, le="0.5")
# Checks of prompts that have a version.
_ALL = q.series(signals.DECISIONS, version="!")
_BLOCKED = q.series(signals.DECISIONS, version="!", action="block")
_FLAGGED = q.series(signals.DECISIONS, version="!", action="flag")
_CHANGED = q.series(signals.DECISIONS, version="!", action="redact")
_COST = q.series(signals.COST, version="!")
_VERSION = q.legend(s.PROMPT_VERSION)


def quality() -> model.Dashboard:
    """The board."""
    return board(
        "quality",
        "Quality",
        "Whether calls and answers are as they were, keep to their documents, treat people alike, and which version of "
        "a prompt does best. Drift and fairness need their monitors (docs/drift.md, docs/fairness.md).",
        [
            Row("Drift", _drift()),
            Row("Groundedness", _groundedness()),
            Row("Fairness", _fairness()),
            Row("Versions of prompts", _versions()),
            Row("Texts", _texts()),
        ],
    )


def _drift() -> Sequence[PanelBuilder]:
    feature = q.label(s.DRIFT_FEATURE)
    return [
        chart(
            "Drift, by feature",
            "The population stability index of the last window of calls beside the reference. From 0.1 on it is worth "
            "a look, from 0.25 on the calls have changed: look at which clients and prompts are new, then evaluate "
            "again, or take a new reference (docs/drift.md).",
            PLAIN,
            Query(f"max by ({feature}) ({_PSI})", q.legend(s.DRIFT_FEATURE)),
            limits=Limits(0.1, 0.25),
        ),
        bars(
            "By other statistics, now",
            "Wasserstein's distance is in standard deviations of the reference, the others end at 1, but for "
            "chi-square. The monitor's alarms are tests of their own: they come when a change is no chance.",
            PLAIN,
            Query(
                f"sort_desc(max by ({feature}, {q.label(s.DRIFT_STATISTIC)}) ({_OTHERS}))",
                q.legend(s.DRIFT_FEATURE, s.DRIFT_STATISTIC),
            ),
        ),
    ]


def _groundedness() -> Sequence[PanelBuilder]:
    return [
        chart(
            "Answers that leave their documents",
            "Share of the judged answers whose least supported sentence scores above 0.5, and the sentences for each "
            "answer that a rule acts on. If it rises, retrieval finds less, or the prompt or the model has changed: "
            "compare versions below.",
            SHARE,
            Query(f"1 - {q.ratio(q.increase(_FINE, '', q.RATE), q.increase(_JUDGED, '', q.RATE))}", "answers"),
            Query(
                f"({q.increase(_UNGROUNDED, '', q.RATE)} or {q.increase(_JUDGED, '', q.RATE)} * 0) / "
                f"({q.increase(_JUDGED, '', q.RATE)} > 0)",
                "sentences an answer",
            ),
            limits=Limits(0.1, 0.3),
        ),
        heat_map(
            "How doubtful they are",
            "The score of the least supported sentence of an answer: 1 is surely not in the documents. Put the "
            "threshold of the rule where there is little.",
            PLAIN,
            Query(q.heat(_DOUBT)),
        ),
    ]


def _fairness() -> Sequence[PanelBuilder]:
    group = q.legend(s.FAIRNESS_OUTCOME, s.FAIRNESS_GROUP)
    parts = f"{q.label(s.FAIRNESS_OUTCOME)}, {q.label(s.FAIRNESS_GROUP)}"
    return [
        chart(
            "How far groups are from the others",
            "How much more, or by how much less, of an outcome a group gets than the others, in the last full window. "
            "Small groups swing by chance; the monitor's alerts are tested for that. Look at the rule that does it, "
            "and at counterfactual checks (docs/fairness.md).",
            SHARE,
            Query(f"max by ({parts}) (abs({_UNLIKE}))", group),
            limits=Limits(0.02, 0.1),
        ),
        bars(
            "The furthest now",
            "Groups and outcomes, by the size of the difference.",
            SHARE,
            Query(f"topk(12, max by ({parts}) (abs({_UNLIKE})))", group),
            limits=Limits(0.02, 0.1),
        ),
    ]


def _versions() -> Sequence[PanelBuilder]:
    by, over = s.PROMPT_VERSION, q.RANGE
    return [
        grid(
            "Versions beside one another",
            "In all that is shown. A new version that is blocked, flagged or redacted clearly more often than the one "
            "before it, or that costs more, goes back. Few checks prove little.",
            [
                (q.increase(_ALL, by), "Checks", COUNT),
                (q.share(_BLOCKED, _ALL, by, over), "Blocked", SHARE),
                (q.share(_CHANGED, _ALL, by, over), "Redacted", SHARE),
                (q.share(_FLAGGED, _ALL, by, over), "Flagged", SHARE),
                (q.increase(_COST, by), "Cost", USD),
                (q.ratio(q.increase(_COST, by), q.increase(_ALL, by)), "Cost a check", USD),
            ],
            q.label(by),
        ),
        chart(
            "Block rate, by version",
            "Share of the checks of each version that were stopped.",
            SHARE,
            Query(q.share(_BLOCKED, _ALL, by), _VERSION),
            limits=Limits(0.05, 0.2),
        ),
        chart(
            "Traffic, by version",
            "Checks a second: how far a rollout is.",
            PER_SECOND,
            Query(q.rate(_ALL, by), _VERSION),
            stacked=True,
        ),
    ]


def _texts() -> Sequence[PanelBuilder]:
    stage = q.legend(s.STAGE)
    return [
        chart(
            f"{title}, by stage",
            what,
            PLAIN,
            Query(q.mean(row, s.STAGE), stage),
            width=8,
        )
        for title, what, row in (
            ("Entropy", "Bits a character, in the mean. Low is one thing over and over, high is no prose: keys, code.",
             signals.TOKEN_ENTROPY),
            ("Repetition", "Share of the runs of three words that came before. Rising at output: the model loops.",
             signals.TOKEN_REPETITION),
            ("Variety", "Distinct words by words. Falling at output: answers become copies of one another.",
             signals.TOKEN_VARIETY),
        )
    ]  # fmt: skip
