"""A dashboard put together: its rows of panels, and the variables that its expressions use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import Dataquery

from llmguard import semconv, signals
from llmguard.exporters.grafana.panels import SOURCE, PanelBuilder
from llmguard.exporters.grafana.promql import label, metric

TAG = "llmguard"
# Spans of checks that blocked, in Grafana's explorer, by the source of traces that was picked.
_TRACES = (
    "/explore?schemaVersion=1&panes=%7B%22llmguard%22:%7B%22datasource%22:%22${traces}%22,%22queries%22:%5B%7B"
    "%22refId%22:%22A%22,%22datasource%22:%7B%22type%22:%22tempo%22,%22uid%22:%22${traces}%22%7D,"
    "%22queryType%22:%22traceql%22,%22query%22:%22%7B span.llmguard.action = %5C%22block%5C%22 %7D%22%7D%5D,"
    "%22range%22:%7B%22from%22:%22${__from}%22,%22to%22:%22${__to}%22%7D%7D%7D"
)
_used = re.compile(r"\$(\w+)")
# The variable's name, what a person reads, the metric whose label it lists, and that label.
_LISTED = (
    ("service", "Service", signals.DECISIONS, "job"),
    ("policy", "Policy", signals.DECISIONS, semconv.POLICY_ID),
    ("model", "Model", signals.DECISIONS, semconv.REQUEST_MODEL),
    ("prompt_version", "Prompt version", signals.DECISIONS, semconv.PROMPT_VERSION),
    ("detector", "Detector", signals.DETECTOR_DURATION, semconv.DETECTOR),
)


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: Sequence[PanelBuilder]


def board(name: str, title: str, what: str, rows: Sequence[Row]) -> model.Dashboard:
    """A dashboard.

    Args:
        name: of its file and its address.
        title: that a person reads.
        what: it is for.
        rows: from the top.
    """
    made = dashboard.Dashboard(f"llmguard / {title}").uid(f"llmguard-{name}").description(what)
    made.tags([TAG]).time("now-1h", "now").refresh("30s").timezone("browser").editable()
    made.tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.link(
        dashboard.DashboardLink("llmguard").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).icon("dashboard")
        .tooltip("The other boards").url("").include_vars(True).keep_time(True).as_dropdown(False).target_blank(False)
    )  # fmt: skip
    made.link(
        dashboard.DashboardLink("Traces of blocks").type(model.DashboardLinkType.LINK).url(_TRACES).tags([])
        .tooltip("Checks that blocked, in the traces").icon("external link").as_dropdown(False).target_blank(True)
        .include_vars(False).keep_time(False)
    )  # fmt: skip
    number = 0
    used: set[str] = set()
    for row in rows:
        number += 1
        made.with_row(dashboard.Row(row.title).id(number))
        for builder in row.panels:
            number += 1
            panel = builder.build()
            panel.id_val = number
            used |= set(_used.findall(" ".join(expressions(panel))))
            made.with_panel(_Built(panel))
    for variable in _variables(used):
        made.with_variable(variable)
    return made.build()


def expressions(panel: model.Panel) -> list[str]:
    """What a panel asks Prometheus."""
    return [target.expr for target in panel.targets or () if isinstance(target, Dataquery)]


class _Built(Builder[model.Panel]):
    """A panel that is built already, as a builder."""

    def __init__(self, panel: model.Panel) -> None:
        self._panel = panel

    def build(self) -> model.Panel:
        return self._panel


def _variables(used: set[str]) -> list[dashboard.QueryVariable | dashboard.DatasourceVariable]:
    made: list[dashboard.QueryVariable | dashboard.DatasourceVariable] = [
        dashboard.DatasourceVariable("datasource").label("Metrics").type("prometheus"),
        dashboard.DatasourceVariable("traces").label("Traces").type("tempo"),
    ]
    for name, title, row, attribute in _LISTED:
        if name not in used:
            continue
        # The services are the frame; all else is listed within those that were picked.
        within = "" if name == "service" else '{job=~"$service"}'
        query = f"label_values({metric(row)}{'_count' if row.buckets else ''}{within}, {label(attribute)})"
        made.append(
            dashboard.QueryVariable(name).label(title).datasource(SOURCE).query({"query": query, "refId": name})
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True).include_all(True).all_value(".*")
            .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        )  # fmt: skip
    return made
