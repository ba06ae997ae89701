"""Panels of a dashboard: what they show, in which unit, from where on it is bad, and what to do then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, prometheus, stat, statetimeline, table
from grafana_foundation_sdk.builders import timeseries as chart_builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat_kinds
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from llmguard import semconv
from llmguard.exporters.grafana import promql

PanelBuilder: TypeAlias = Builder[model.Panel]

SOURCE = model.DataSourceRef("prometheus", "${datasource}")
GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"
#: Units as Grafana calls them.
SECONDS, SHARE, PER_SECOND, COUNT, USD, PLAIN = "s", "percentunit", "cps", "short", "currencyUSD", "none"
#: What a policy does, how a detector ends and what became of a message look the same on every board.
COLOURS = {
    promql.legend(semconv.ACTION): {"allow": GREEN, "flag": YELLOW, "redact": ORANGE, "block": RED},
    promql.legend(semconv.OUTCOME): {
        "pass": GREEN,
        "hit": ORANGE,
        "skipped": GREY,
        "error": RED,
        "timeout": "dark-red",
        "open": "purple",
    },
    promql.legend(semconv.ALERT_OUTCOME): {
        "delivered": GREEN,
        "retry": YELLOW,
        "refused": RED,
        "gone": "dark-red",
        "expired": "purple",
        "dropped": ORANGE,
    },
    promql.legend(semconv.ALERT_SEVERITY): {"critical": "dark-red", "error": RED, "warning": YELLOW, "info": BLUE},
}


class Query(NamedTuple):
    """An expression, and what its series are called.

    Attributes:
        expr: in PromQL.
        legend: with labels in double braces; "" where they are plain.
    """

    expr: str
    legend: str = ""


class Limits(NamedTuple):
    """From where on a value is worth a look, and from where on it is bad; not where it is None."""

    look: float | None = None
    bad: float | None = None


def chart(
    title: str,
    what: str,
    unit: str,
    *queries: Query,
    limits: Limits | None = None,
    stacked: bool = False,
    exemplars: bool = False,
    most: float | None = None,
    width: int = 12,
) -> PanelBuilder:
    """Lines over time.

    Args:
        title: of the panel.
        what: it shows, and what to do about it.
        unit: of the values.
        queries: what is shown.
        limits: drawn as lines.
        stacked: whether the lines add up.
        exemplars: whether single calls are shown, which lead to their traces; of histograms alone.
        most: the end of the axis, where it has one.
        width: of 24.
    """
    panel = chart_builder.Panel().title(title).description(what).datasource(SOURCE).unit(unit).min(0)
    panel.height(8).span(width).line_width(1).fill_opacity(40 if stacked else 8)
    panel.show_points(kinds.VisibilityMode.AUTO)
    panel.legend(common.VizLegendOptions().show_legend(True).placement(kinds.LegendPlacement.BOTTOM))
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    if most is not None:
        panel.max(most)
    if limits is not None:
        panel.thresholds(_thresholds(limits))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    for name, colour in COLOURS.get(queries[0].legend, {}).items():
        panel.override_by_name(name, [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    for target in _targets(queries, exemplars=exemplars):
        panel.with_target(target)
    return panel


def figure(title: str, what: str, unit: str, query: Query, *, limits: Limits | None = None) -> PanelBuilder:
    """One number, of all that the dashboard shows."""
    panel = stat.Panel().title(title).description(what).datasource(SOURCE).unit(unit).height(4).span(4)
    panel.thresholds(_thresholds(limits or Limits())).no_value("no data").graph_mode(kinds.BigValueGraphMode.NONE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.color_mode(kinds.BigValueColorMode.VALUE if limits else kinds.BigValueColorMode.NONE)
    return panel.with_target(_target(query, "A").instant())


def heat_map(title: str, what: str, unit: str, query: Query, *, exemplars: bool = True) -> PanelBuilder:
    """How often which value was measured, over time."""
    panel = heatmap.Panel().title(title).description(what).datasource(SOURCE).height(8).span(12)
    panel.calculate(False).cell_gap(1).show_legend()
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(kinds.AxisPlacement.LEFT))
    panel.color(heatmap.HeatmapColorOptions().mode(heat_kinds.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    panel.mode(kinds.TooltipDisplayMode.SINGLE)
    target = _target(Query(query.expr, query.legend or "{{le}}"), "A").format(PromQueryFormat.HEATMAP)
    return panel.with_target(target.exemplar(exemplars))


def bars(title: str, what: str, unit: str, query: Query, *, limits: Limits | None = None) -> PanelBuilder:
    """One bar for each series, of all that the dashboard shows."""
    panel = bargauge.Panel().title(title).description(what).datasource(SOURCE).unit(unit).min(0).height(8).span(12)
    panel.thresholds(_thresholds(limits or Limits())).display_mode(kinds.BarGaugeDisplayMode.GRADIENT)
    panel.orientation(kinds.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.with_target(_target(query, "A").instant())


def timeline(title: str, what: str, query: Query, states: dict[str, tuple[str, str]]) -> PanelBuilder:
    """Which state something was in, over time.

    Args:
        title: of the panel.
        what: it shows, and what to do about it.
        query: whose values are states.
        states: what each value is called, and its colour.
    """
    panel = statetimeline.Panel().title(title).description(what).datasource(SOURCE).height(8).span(12)
    results = {
        value: model.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(states.items())
    }
    panel.mappings([model.ValueMap(options=results)]).show_value(kinds.VisibilityMode.NEVER).merge_values(True)
    return panel.with_target(_target(query, "A"))


def grid(title: str, what: str, columns: Sequence[tuple[str, str, str]], by: str) -> PanelBuilder:
    """A table: a row for each value of a label.

    Args:
        title: of the panel.
        what: it shows, and what to do about it.
        columns: the expression, the heading and the unit of each.
        by: the label.
    """
    panel = table.Panel().title(title).description(what).datasource(SOURCE).height(8).span(24)
    names = {"Time": "", by: by.rpartition("_")[2]}
    for number, (expr, heading, unit) in enumerate(columns):
        ref = chr(ord("A") + number)
        panel.with_target(_target(Query(expr), ref).instant().format(PromQueryFormat.TABLE))
        panel.override_by_name(heading, [model.DynamicConfigValue("unit", unit)])
        names[f"Value #{ref}" if len(columns) > 1 else "Value"] = heading
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    shown = {"excludeByName": {"Time": True}, "renameByName": {name: to for name, to in names.items() if to}}
    return panel.with_transformation(model.DataTransformerConfig("organize", options=shown))


def quantiles(buckets: str) -> list[Query]:
    """The median and the tail of a histogram."""
    return [Query(promql.quantile(of, buckets), f"{of * 100:.0f} of 100") for of in (0.5, 0.95, 0.99)]


def _targets(queries: Sequence[Query], *, exemplars: bool) -> list[prometheus.Dataquery]:
    made = [_target(query, chr(ord("A") + number)).range() for number, query in enumerate(queries)]
    # One set of exemplars a panel: those of the other quantiles are the same.
    return [target.exemplar(exemplars and not number) for number, target in enumerate(made)]


def _target(query: Query, ref: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(SOURCE)
    return target.legend_format(query.legend) if query.legend else target


def _thresholds(limits: Limits) -> Builder[model.ThresholdsConfig]:
    steps = [model.Threshold(None, GREEN)]
    steps += [model.Threshold(value, colour) for value, colour in zip(limits, (YELLOW, RED), strict=True) if value]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
