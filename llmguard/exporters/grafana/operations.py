"""The board for whoever is on call: alerts and their delivery, errors, held-back streams, and the model servers."""

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
    SECONDS,
    SHARE,
    Limits,
    PanelBuilder,
    Query,
    bars,
    chart,
    figure,
    heat_map,
    quantiles,
)
from llmguard.exporters.grafana.upstream import tgi, triton, vllm

_SENT = q.series(signals.ALERTS)
_UNSENT = q.series(signals.ALERTS, outcome="!delivered")
_LOST = q.series(signals.ALERTS, outcome="refused|gone|expired|dropped")
_DELIVERY = q.series(signals.ALERT_DURATION, "bucket")
_CALLS = q.series(signals.CALL_DURATION, "count")
_FAILED = q.series(signals.CALL_DURATION, "count", type="!|abandoned")
_UNGUARDED = q.series(signals.UNGUARDED)
_OWN = q.series(signals.ERRORS)
_BAD = q.series(signals.DETECTOR_DURATION, "count", outcome="error|timeout|open")
_HELD = q.series(signals.STREAM_HELD, "bucket")


def operations() -> model.Dashboard:
    """The board."""
    return board(
        "operations",
        "Operations",
        "What needs a hand: alerts that don't get through, calls that fail or go around the guard, streams that are "
        "held back, and the model servers behind.",
        [
            Row("All of the time that is shown", _figures()),
            Row("Alerts and their delivery", _alerts()),
            Row("Errors", _errors()),
            Row("Held back in streams", _held()),
            Row("Upstream: vLLM", vllm()),
            Row("Upstream: Text Generation Inference", tgi()),
            Row("Upstream: Triton", triton()),
        ],
    )


def _figures() -> Sequence[PanelBuilder]:
    return [
        figure(
            "Up",
            "Share of the scrapes that worked, the worst target's. Below 1 a process was down, or too busy to answer.",
            SHARE,
            Query(f"min(avg_over_time({q.named('up')}[{q.RANGE}]))"),
        ),
        figure(
            "Alerts lost",
            "Messages about alerts that their receiver did not get: refused, no longer wanted, too old or too many. "
            "`llmguard alerts list` names them, `llmguard alerts retry` sends them again.",
            COUNT,
            Query(_some(_LOST, _SENT)),
            limits=Limits(1, 1),
        ),
        figure(
            "Not guarded",
            "Requests and answers in no known wire format, refused or passed as they are. More than 0 passed: somebody "
            "goes around the guard.",
            COUNT,
            Query(_some(_UNGUARDED, _CALLS)),
            limits=Limits(1, 100),
        ),
        figure(
            "Failed calls",
            "Calls of models that ended in an error.",
            COUNT,
            Query(_some(_FAILED, _CALLS)),
            limits=Limits(1, 100),
        ),
        figure(
            "Detector failures",
            "Runs of detectors that raised, ran late or met an open breaker: texts that nobody looked at, or calls "
            "that were blocked for it. The board Detectors says whose.",
            COUNT,
            Query(_some(_BAD, q.series(signals.DETECTOR_DURATION, "count"))),
            limits=Limits(1, 100),
        ),
        figure(
            "Errors of telemetry",
            "Of llmguard's own telemetry: figures, records or alerts that were lost. The log names each once.",
            COUNT,
            Query(_some(_OWN, q.series(signals.DECISIONS))),
            limits=Limits(1, 100),
        ),
    ]


def _some(part: str, whole: str) -> str:
    """How many there were; 0, not nothing, where there is a whole and no part."""
    return f"{q.increase(part)} or {q.increase(whole)} * 0"


def _alerts() -> Sequence[PanelBuilder]:
    return [
        chart(
            "Alerts that fire",
            "By the policy's rules, as Prometheus evaluates them: `llmguard alerts rules` writes its file. The summary "
            "and the runbook are in Alertmanager.",
            COUNT,
            Query('count by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}} {{severity}}"),
            limits=Limits(1),
            width=8,
        ),
        chart(
            "Alerts, by severity",
            "Messages that were delivered, a second. Many at once: group them (group_by), or raise a threshold.",
            PER_SECOND,
            Query(q.rate(q.series(signals.ALERTS, outcome="delivered"), s.ALERT_SEVERITY), q.legend(s.ALERT_SEVERITY)),
            stacked=True,
            width=8,
        ),
        chart(
            "Attempts to deliver, by what became of them",
            "Retries are the outbox at work: the receiver is down or asks for patience. Refused and gone are settings "
            "to mend: `llmguard alerts test` tries a sink.",
            PER_SECOND,
            Query(q.rate(_SENT, s.ALERT_OUTCOME), q.legend(s.ALERT_OUTCOME)),
            stacked=True,
            width=8,
        ),
        chart(
            "Failed attempts, by sink",
            "Share of the attempts that were not taken. A sink at 1 has a dead receiver, a wrong URL or a wrong key.",
            SHARE,
            Query(q.share(_UNSENT, _SENT, s.ALERT_SINK), q.legend(s.ALERT_SINK)),
            limits=Limits(0.1, 0.5),
            most=1,
        ),
        chart(
            "How long an attempt takes",
            "95 of 100 took no longer, by sink. Near the sink's timeout, its receiver hangs.",
            SECONDS,
            Query(q.quantile(0.95, _DELIVERY, s.ALERT_SINK), q.legend(s.ALERT_SINK)),
            limits=Limits(2, 10),
        ),
    ]


def _errors() -> Sequence[PanelBuilder]:
    return [
        chart(
            "Failed calls, by type",
            "Calls a second that ended in an error: the provider's code, the status of HTTP, or the exception. 429 is "
            "a quota, 5xx the server, a timeout its queue.",
            PER_SECOND,
            Query(q.rate(_FAILED, s.ERROR_TYPE), q.legend(s.ERROR_TYPE)),
            stacked=True,
        ),
        chart(
            "Not guarded, by why",
            "Requests and answers that no wire format could read. `route` and `path` are unknown addresses, `body`, "
            "`encoding` and `size` unreadable requests, `answer` what the server said. Any that `passed` was not "
            "looked at: set --unmatched refuse.",
            PER_SECOND,
            Query(
                q.rate(_UNGUARDED, f"{s.UNGUARDED_REASON}, {s.UNGUARDED_OUTCOME}"),
                q.legend(s.UNGUARDED_REASON, s.UNGUARDED_OUTCOME),
            ),
            stacked=True,
        ),
        chart(
            "Detector failures, by outcome",
            "Runs a second that raised, ran past their deadline or met an open breaker.",
            PER_SECOND,
            Query(q.rate(_BAD, s.OUTCOME), q.legend(s.OUTCOME)),
            stacked=True,
        ),
        bars(
            "Telemetry's own errors and reloads of the policy",
            "By component, and by what became of a reload. A failed reload keeps the old policy: `llmguard policy "
            "check` says what is wrong with the file.",
            COUNT,
            Query(
                f"{q.increase(_OWN, s.COMPONENT)} or {q.increase(q.series(signals.RELOADS), s.RELOAD_OUTCOME)}",
                q.legend(s.COMPONENT, s.RELOAD_OUTCOME),
            ),
        ),
    ]


def _held() -> Sequence[PanelBuilder]:
    return [
        chart(
            "How long pieces are held back",
            "What the guard adds to each piece of a stream. A rule of a document's scope holds all of it back: "
            "`stream: windowed` looks at windows in its place. The points lead to traces.",
            SECONDS,
            *quantiles(_HELD),
            limits=Limits(0.25, 1),
            exemplars=True,
        ),
        heat_map(
            "Held back",
            "How many pieces waited how long. Two bands are two kinds of rules: those that see ahead, and those that "
            "wait for an end.",
            SECONDS,
            Query(q.heat(_HELD)),
        ),
    ]
