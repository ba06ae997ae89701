"""What a rule takes, and what it says of what it does not take."""

from __future__ import annotations

import math
from typing import Any

import pytest

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.measure import GAUGES, MEASURES
from llmguard.exporters.alerts.rule import Burn, Rule


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({"above": 1}, "decisions"),
        ({"above": 1, "of": {"stage": ("input",)}}, "decisions"),
        ({"above": 1, "of": {"category": ("EMAIL_ADDRESS",)}}, "findings"),
        ({"above": 1, "by": ("detector",)}, "findings"),
        ({"above": 1, "of": {"outcome": ("error",)}}, "runs"),
        ({"kind": "rate", "above": 1, "value": "cost"}, "cost"),
        ({"kind": "absence"}, "decisions"),
    ],
)
def test_what_is_counted_follows_from_the_labels(said: dict[str, Any], value: str) -> None:
    assert Rule("A", **said).value == value


@pytest.mark.parametrize(
    ("of", "among", "total"),
    [
        ({"action": ("block",)}, {}, "decisions"),
        ({"category": ("BAD",)}, {"stage": ("input",)}, "decisions"),
        ({"category": ("BAD",)}, {"detector": ("pii",)}, "findings"),
        ({"outcome": ("error",)}, {}, "runs"),
        ({"outcome": ("error",)}, {"detector": ("pii",)}, "runs"),
    ],
)
def test_what_a_share_is_of(of: dict[str, Any], among: dict[str, Any], total: str) -> None:
    assert Rule("A", "ratio", of, among, above=0.1).total == (total, among)


def test_defaults() -> None:
    assert Rule("A", above=1.0, value="latency").quantile == 0.95
    assert Rule("A", above=1.0).quantile is None
    assert Rule("A", "drift").by == tuple(GAUGES["drift"].labels)
    assert Rule("A", "fairness", by=("group",)).by == ("group",)
    assert Burn(0.99).most == 0.144


def test_what_is_beyond() -> None:
    assert [Rule("A", above=2).beyond(value) for value in (1, 2, 3, math.nan)] == [False, False, True, False]
    assert [Rule("A", below=2).beyond(value) for value in (1, 2, 3, math.nan)] == [True, False, False, False]
    assert [Rule("A", "absence").beyond(value) for value in (0, 1)] == [True, False]
    burn = Rule("A", "burn", among={}, burn=Burn(0.9, factor=2))
    assert [burn.beyond(value) for value in (0.2, 0.21)] == [False, True]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"alert": ""}, "alert: '' must be 1 to 512 characters"),
        ({"alert": 3}, "alert: 3 must be text"),
        ({"alert": "a\nb"}, "alert: 'a\\nb' must be"),
        ({"kind": "treshold"}, "kind: unknown word 'treshold' (did you mean 'threshold'?)"),
        ({"severity": "critica"}, "severity: unknown word 'critica' (did you mean 'critical'?)"),
        ({"value": "costs"}, "value: unknown word 'costs' (did you mean 'cost'?)"),
        ({"above": None}, "a rule of kind threshold needs above or below, one of them"),
        ({"below": 2}, "a rule of kind threshold needs above or below, one of them"),
        ({"above": math.nan}, "above: nan must be a finite number"),
        ({"above": 10**400}, "above: "),
        ({"above": True}, "above: True must be a finite number"),
        ({"window_s": 0}, "window_s: 0 must be at least 1"),
        ({"window_s": 1e9}, "window_s: 1e+09 must be at least 1 and at most"),
        ({"for_s": -1}, "for_s: -1 must be at least 0"),
        ({"at_least": 0}, "at_least: 0 must be a whole number, at least 1"),
        (
            {"of": {"stag": ("input",)}},
            "of: decisions, which the rule counts, has no label 'stag' (did you mean 'stage'?)",
        ),
        (
            {"of": {"category": ("A",)}, "value": "decisions"},
            "of: decisions, which the rule counts, has no label 'category'",
        ),
        ({"of": {"stage": ("inptu",)}}, "of.stage: unknown word 'inptu' (did you mean 'input'?)"),
        ({"of": {"outcome": ("eror",)}}, "of.outcome: unknown word 'eror' (did you mean 'error'?)"),
        ({"of": {"stage": ()}}, "of.stage must not be empty"),
        ({"of": {"stage": "input"}}, "of.stage: 'input' must be a tuple of different words"),
        ({"of": "input"}, "of: 'input' must be a mapping of labels"),
        ({"by": ("model", "model")}, "by: ('model', 'model') must be a tuple of different words"),
        ({"by": ("cost",)}, "by: decisions, which the rule counts, has no label 'cost'"),
        ({"by": ("stage",), "value": "cost"}, "by: cost, which the rule counts, has no label 'stage'"),
        ({"among": {}}, "among: a rule of kind threshold takes none"),
        ({"quantile": 0.5}, "quantile: a rule of decisions takes none"),
        ({"quantile": 1.0, "value": "latency"}, "quantile: 1 must be more than 0 and less than 1"),
        ({"kind": "rate", "value": "latency"}, "value: latency is a distribution, which goes with threshold alone"),
        ({"kind": "ratio"}, "a ratio needs among"),
        (
            {"kind": "ratio", "among": {}, "value": "cost"},
            "value: a ratio is about decisions, findings or runs, not cost",
        ),
        ({"kind": "ratio", "among": {"category": ("A",)}, "by": ("enforced",)}, "by: findings, which `among` counts,"),
        ({"kind": "ratio", "among": {"modle": ("A",)}}, "among: decisions, which `among` counts, has no label 'modle'"),
        ({"kind": "burn", "among": {}}, "a burn needs the key burn: {objective: 0.99}"),
        (
            {"kind": "burn", "among": {}, "burn": Burn(0.9, factor=2)},
            "a rule of kind burn takes neither above nor below",
        ),
        ({"burn": Burn(0.9, factor=2)}, "threshold takes no burn"),
        ({"kind": "absence"}, "a rule of kind absence takes neither above nor below"),
        ({"kind": "drift", "value": "cost"}, "value: a rule of kind drift is about what a monitor tells: leave it out"),
        ({"kind": "drift", "of": {"stage": ("input",)}}, "of: a rule of kind drift has no label 'stage'"),
        ({"kind": "fairness", "below": 1}, "a rule of kind fairness needs above or below, one of them"),
        ({"labels": {"a b": "c"}}, "labels: 'a b' must be letters, digits and _, a letter first"),
        ({"labels": {"severity": "c"}}, "labels: 'severity' says the rule itself"),
        ({"labels": {"model": "c"}, "by": ("model",)}, "labels: 'model' says the rule itself"),
        ({"labels": {"team": ""}}, "labels.team: '' must be 1 to 512 characters"),
        ({"labels": ["team"]}, "labels: ['team'] must be a mapping"),
        ({"sinks": ["a"]}, "sinks: ['a'] must be a tuple of different words"),
        ({"runbook": "x\n"}, "runbook: 'x\\n' must be 0 to 512 characters"),
        ({"at_least": 5}, "at_least: a rule of kind threshold takes none"),
        ({"kind": "drift", "at_least": 5}, "at_least: a rule of kind drift takes none"),
        ({"kind": "fairness", "window_s": 60}, "window_s: a rule of kind fairness takes none"),
        (
            {"kind": "burn", "among": {}, "burn": Burn(0.9, factor=2), "above": None, "window_s": 60},
            "window_s: a rule of kind burn takes none",
        ),
        ({"above": None, "below": 0}, "below: 0 must be more than 0"),
        (
            {"value": "guard_duration", "above": 250},
            "above: 250 must be less than 2.5, where quantiles of llmguard.guard.d",
        ),
        ({"value": "score", "above": 1}, "above: 1 must be less than 1, where quantiles of llmguard.detector.score"),
        ({"kind": "ratio", "of": {"action": ("block",)}, "among": {}}, "above: 1 must be less than 1: it is a share"),
        (
            {"kind": "ratio", "of": {"outcome": ("error",)}, "among": {}, "above": 5},
            "above: 5 must be less than 1: it is a share",
        ),
        (
            {"kind": "ratio", "of": {"action": ("block",)}, "among": {}, "above": None, "below": 95},
            "below: 95 must be at most 1: it is a share",
        ),
    ],
)
def test_what_is_wrong_is_named(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Rule(**{"alert": "A", "above": 1.0, **said})
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("of", "among", "above"),
    [
        ({"category": ("BAD",)}, {}, 2.0),  # several in a decision
        ({"stage": ("output",)}, {"stage": ("input",)}, 1.0),  # of others
        ({"stage": ("input", "output")}, {"stage": ("input",)}, 1.5),  # of more
        ({"stage": ("input",)}, {"stage": ("input",)}, 0.999),
    ],
)
def test_what_is_no_part_of_the_rest_may_be_more(
    of: dict[str, tuple[str, ...]], among: dict[str, tuple[str, ...]], above: float
) -> None:
    assert Rule("A", "ratio", of, among, above=above).beyond(above + 1)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"objective": 1.0}, "burn.objective: 1 must be more than 0 and less than 1"),
        ({"objective": 0.0}, "burn.objective: 0 must be more than 0"),
        ({"factor": 0}, "burn.factor: 0 must be more than 0"),
        ({"long_s": 60, "short_s": 60}, "burn.short_s: 60 must be less than burn.long_s, 60"),
        ({"objective": 0.5, "factor": 2}, "burn.factor: 2 times the 0.5 that burn.objective allows to fail is 1"),
    ],
)
def test_what_is_wrong_with_a_burn_rate_is_named(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Burn(**{"objective": 0.99, **said})
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("value", MEASURES)
def test_every_figure_has_a_metric_of_its_kind(value: str) -> None:
    measure = MEASURES[value]
    assert measure.spread is (measure.part == "_bucket")
    assert (measure.metric.kind == "histogram") is bool(measure.part)
    assert len(set(measure.labels)) == len(measure.labels)
