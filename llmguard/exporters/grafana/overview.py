"""The first board: what is decided, how models answer, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.models import dashboard as model

from llmguard import semconv as s
from llmguard import signals
from llmguard.exporters.grafana import promql as q
from llmguard.exporters.grafana.board import Row, board
from llmguard.exporters.grafana.panels import (
    PER_SECOND,
    SECONDS,
    SHARE,
    USD,
    Limits,
    PanelBuilder,
    Query,
    bars,
    chart,
    figure,
    quantiles,
)

_ALL = q.series(signals.DECISIONS)
_BLOCKED = q.series(signals.DECISIONS, action="block", enforced="true")
_SHADOW = q.series(signals.DECISIONS, action="!allow", enforced="false")
_CALLS = q.series(signals.CALL_DURATION, "count")
# A reader who left is no error; see the telemetry contract.
_FAILED = q.series(signals.CALL_DURATION, "count", type="!|abandoned")
_CALL = q.series(signals.CALL_DURATION, "bucket")
_FIRST = q.series(signals.TIME_TO_FIRST_CHUNK, "bucket")
_FURTHER = q.series(signals.TIME_PER_OUTPUT_CHUNK, "bucket")
_GUARD = q.series(signals.GUARD_DURATION, "bucket")
_TOKENS = q.series(signals.TOKEN_USAGE, "sum")
_WRITTEN = q.series(signals.TOKEN_USAGE, "sum", type="output")
_COST = q.series(signals.COST)


def overview() -> model.Dashboard:
    """The board."""
    return board(
        "overview",
        "Overview",
        "What the guard decides, how the models answer and what that costs. Begin here; the other boards say why.",
        [
            Row("All of the time that is shown", _figures()),
            Row("Decisions", _decisions()),
            Row("Calls of models", _calls()),
            Row("Tokens and cost", _tokens()),
        ],
    )


def _figures() -> Sequence[PanelBuilder]:
    return [
        figure(
            "Checks",
            "Texts and calls that the guard has decided on. If this stands still while the application has users, "
            "they go around the guard: look at its base URL, and at Operations, Not guarded.",
            "short",
            Query(q.increase(_ALL)),
        ),
        figure(
            "Block rate",
            "Share of the checks that were stopped. A sudden rise is an attack, a new client, or a rule that is too "
            "strict: Findings below and the board Detectors say which.",
            SHARE,
            Query(q.share(_BLOCKED, _ALL, over=q.RANGE)),
            limits=Limits(0.05, 0.2),
        ),
        figure(
            "Calls",
            "Calls of models that llmguard has seen end, whatever ended them.",
            "short",
            Query(q.increase(_CALLS)),
        ),
        figure(
            "Failed calls",
            "Share of the calls that ended in an error of the provider, of HTTP or of the network. Operations, Errors "
            "has them by type. A call that the guard stopped is none of them.",
            SHARE,
            Query(q.share(_FAILED, _CALLS, over=q.RANGE)),
            limits=Limits(0.01, 0.05),
        ),
        figure(
            "Cost",
            "What the calls cost by your table of prices, in USD. Models that are not in it, and calls whose tokens "
            "the provider did not count, cost nothing here.",
            USD,
            Query(q.increase(_COST)),
        ),
        figure(
            "Check, 95 of 100",
            "95 of 100 checks took no longer. Above 50 ms users begin to notice: Detectors says which one it is.",
            SECONDS,
            Query(q.quantile(0.95, _GUARD, over=q.RANGE)),
            limits=Limits(0.05, 0.25),
        ),
    ]


def _decisions() -> Sequence[PanelBuilder]:
    return [
        chart(
            "Decisions",
            "Checks a second by what was decided. The sum is the traffic; watch red and orange grow against green.",
            PER_SECOND,
            Query(q.rate(_ALL, s.ACTION), q.legend(s.ACTION)),
            stacked=True,
        ),
        chart(
            "Block rate by stage and policy",
            "Share of the checks that were stopped. Blocks at input are users or attackers, at context and tool_result "
            "documents and tools that carry instructions, at output the model itself.",
            SHARE,
            Query(q.share(_BLOCKED, _ALL, f"{s.STAGE}, {s.POLICY_ID}"), q.legend(s.STAGE, s.POLICY_ID)),
            limits=Limits(0.05, 0.2),
            most=1,
        ),
        bars(
            "Findings",
            "What was found most often, by detector and category. A category that is new here deserves a look at its "
            "traces; one that is always on top and always allowed may want a rule.",
            "short",
            Query(
                f"topk(12, {q.increase(q.series(signals.FINDINGS), f'{s.DETECTOR}, {s.CATEGORY}')})",
                q.legend(s.DETECTOR, s.CATEGORY),
            ),
        ),
        chart(
            "Decided but not enforced",
            "Share of the checks whose decision was only told, since the policy is in shadow or canary mode, by what "
            "would have been done. Small and steady for a week: enforce it. Empty where every policy enforces.",
            SHARE,
            Query(
                f"{q.increase(_SHADOW, s.ACTION, q.RATE)} / on () group_left () ({q.increase(_ALL, '', q.RATE)} > 0)",
                q.legend(s.ACTION),
            ),
        ),
        chart(
            "How long a check takes",
            "What the guard adds to a call, without its streams. The points are single checks: click one for its "
            "trace. If it grows with the traffic, look at the queue on the board Detectors.",
            SECONDS,
            *quantiles(_GUARD),
            limits=Limits(0.05, 0.25),
            exemplars=True,
        ),
        chart(
            "How long a check takes, by stage",
            "95 of 100 checks took no longer, at each stage.",
            SECONDS,
            Query(q.quantile(0.95, _GUARD, s.STAGE), q.legend(s.STAGE)),
            limits=Limits(0.05, 0.25),
        ),
    ]


def _calls() -> Sequence[PanelBuilder]:
    return [
        chart(
            "Calls",
            "Calls a second by model.",
            PER_SECOND,
            Query(q.rate(_CALLS, s.REQUEST_MODEL), q.legend(s.REQUEST_MODEL)),
            stacked=True,
        ),
        chart(
            "How long a call takes",
            "Without the checks. The points are single calls: click one for its trace. If this grows and the time to "
            "the first chunk does not, answers have become longer.",
            SECONDS,
            *quantiles(_CALL),
            exemplars=True,
        ),
        chart(
            "Time to the first chunk",
            "How long streams take to begin. If it grows, requests wait at the server: Operations has the queues of "
            "vLLM, TGI and Triton.",
            SECONDS,
            *quantiles(_FIRST),
            limits=Limits(1, 5),
            exemplars=True,
        ),
        chart(
            "Time per token",
            "From one chunk of a stream to the next, which is a token or a few. If it grows, the server's batches are "
            "full, or the model has been changed.",
            SECONDS,
            *quantiles(_FURTHER),
            limits=Limits(0.1, 0.5),
            exemplars=True,
        ),
    ]


def _tokens() -> Sequence[PanelBuilder]:
    return [
        chart(
            "Throughput",
            "Tokens a second, by kind, where the provider counts them.",
            PER_SECOND,
            Query(q.rate(_TOKENS, s.TOKEN_TYPE), q.legend(s.TOKEN_TYPE)),
            stacked=True,
        ),
        chart(
            "Tokens a second of a call",
            "Tokens that were written, by the time that the calls took: what one user sees. It falls when the server "
            "is full.",
            PER_SECOND,
            Query(
                q.ratio(
                    q.rate(_WRITTEN, s.REQUEST_MODEL), q.rate(q.series(signals.CALL_DURATION, "sum"), s.REQUEST_MODEL)
                ),
                q.legend(s.REQUEST_MODEL),
            ),
        ),
        chart(
            "Cost",
            "USD an hour at this rate, by model. A rise without more calls means longer prompts, or dearer models.",
            USD,
            Query(f"{q.rate(_COST, s.REQUEST_MODEL)} * 3600", q.legend(s.REQUEST_MODEL)),
            stacked=True,
        ),
        chart(
            "Tokens of a call",
            "The mean, by kind. Prompts that grow are conversations that are never cut, or documents nobody reads.",
            "short",
            Query(q.mean(signals.TOKEN_USAGE, s.TOKEN_TYPE), q.legend(s.TOKEN_TYPE)),
        ),
    ]
