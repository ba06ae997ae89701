"""That Prometheus takes the rules, that the endpoint has their names, and that both say the same of the same calls."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.trace import INVALID_SPAN

from llmguard import ConfigurationError
from llmguard.call_metrics import Call, Called
from llmguard.exporters.alerts.evaluate import FIRING, PENDING, Evaluator, State
from llmguard.exporters.alerts.measure import ATTRIBUTES
from llmguard.exporters.alerts.prometheus_rules import expression, rule_file
from llmguard.exporters.alerts.rule import Burn, Rule
from llmguard.exporters.prometheus import Prometheus
from llmguard.exporters.prometheus_families import label_name
from llmguard.exporters.record import record
from llmguard.instruments import Instruments
from llmguard.prices import Prices, Tokens
from llmguard.readings import Reading
from llmguard.types import Action, Decision, DetectorRun, Finding, Observation, Outcome, PolicyRef, Stage

POLICY = PolicyRef("p", "3", "00ff")
START = 1_800_000_000.0  # with STEP, the end of a part of every window here
STEP = 15
STEPS = 160

RULES = (
    Rule("Any", of={"action": ("block",)}, above=0, window_s=60),
    Rule("Blocks", of={"stage": ("input",), "action": ("block", "redact")}, above=12, by=("model",), for_s=30),
    Rule("Few", below=20, window_s=60, of={"policy": ("p",)}),
    Rule("FewOf", below=2, window_s=60, by=("model", "prompt_version")),
    Rule("Shadow", "rate", {"enforced": ("false",)}, above=0.06, severity="info"),
    Rule("Found", "rate", {"category": ("BAD", "O.D|D")}, above=0.03, window_s=180, by=("detector", "category")),
    Rule("Share", "ratio", {"action": ("block",)}, {}, above=0.3, by=("stage",), labels={"team": "a{{b}}"}),
    Rule("Enough", "ratio", {"action": ("block",)}, {}, above=0.3, at_least=30, window_s=180, by=("model",)),
    Rule("Rarely", "ratio", {"action": ("block",)}, {"stage": ("input",)}, below=0.05, window_s=60, by=("model",)),
    Rule("Failing", "ratio", {"outcome": ("error",)}, {}, above=0.25, by=("detector",), window_s=180, for_s=60),
    Rule("PerCheck", "ratio", {"category": ("BAD",)}, {"stage": ("input",)}, above=0.5, window_s=60),
    Rule("Burning", "burn", {"action": ("block",)}, {}, burn=Burn(0.9, 900, 60, 2.5)),
    Rule("Silent", "absence", {"stage": ("output",)}, window_s=60),
    Rule("SilentModel", "absence", {}, window_s=60, by=("model",)),
    Rule("SilentCalls", "absence", value="calls", window_s=60),
    Rule("Slow", value="guard_duration", quantile=0.9, above=0.4, by=("stage",), window_s=180),
    Rule("SlowDetector", value="detector_duration", above=0.5, by=("detector",), window_s=60),
    Rule("Fast", value="latency", quantile=0.5, below=0.6, window_s=60, by=("model",)),
    Rule("First", value="time_to_first_chunk", above=0.9),
    Rule("Sure", value="score", quantile=0.5, above=0.5, window_s=60, of={"detector": ("one",)}),
    Rule("Cost", value="cost", above=0.00030005, by=("model",), window_s=60),
    Rule("Tokens", "rate", value="output_tokens", above=2.4, window_s=60),
    Rule("Input", value="input_tokens", above=60, window_s=60),
    Rule("Drifts", "drift", {"statistic": ("psi",)}, above=0.25, for_s=45),
    Rule("Unfair", "fairness", by=("outcome",), above=0.2),
)

DRIFT = {name: f"llmguard.drift.{name}" for name in ("feature", "statistic", "reference")} | {
    "monitor": "llmguard.monitor.name"
}
FAIRNESS = {name: f"llmguard.fairness.{name}" for name in ("outcome", "group")} | {"monitor": "llmguard.monitor.name"}


def promtool(*arguments: object) -> str:
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed")
        pytest.skip("promtool is not installed: it comes with Prometheus")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def decided(draw: random.Random, busy: float) -> Decision:
    stage = draw.choice((Stage.INPUT, Stage.INPUT, Stage.OUTPUT))
    action = draw.choices((Action.ALLOW, Action.REDACT, Action.BLOCK), (6, 2, 8 * busy))[0]
    findings = tuple(
        Finding(draw.choice(("BAD", "O.D|D", "FINE")), draw.random(), None, draw.choice(("one", "two")), action=action)
        for _ in range(draw.randrange(3) if action is not Action.ALLOW else 0)
    )
    runs = tuple(
        DetectorRun(name, "1", draw.choices((Outcome.PASS, Outcome.ERROR), (8, 4 * busy))[0], 0.0, draw.random() * busy)
        for name in ("one", "two")
    )
    shadow = draw.random() < 0.15
    return Decision(action, ("",), findings, stage, POLICY, not shadow, runs=runs, seconds=draw.random() * busy)


class Service:
    """Makes the same decisions and calls known to the instruments and to the evaluator."""

    def __init__(self) -> None:
        self.prometheus = Prometheus()
        self.meters = self.prometheus.meter_provider(shutdown_on_exit=False)
        self.instruments = Instruments(self.meters.get_meter("llmguard"))
        self.evaluator = Evaluator(RULES, POLICY)
        self.prices = Prices({"a": {"input": 1.0, "output": 2.0}, "b": {"input": 3.0, "output": 1.0}})
        self.gauges: list[Reading] = []
        self.instruments.read(self.readings)

    def readings(self) -> Sequence[Reading]:
        return self.gauges

    def check(self, decision: Decision, model: str, version: str, at: float) -> None:
        self.instruments.record(decision, INVALID_SPAN, model, version, self.failed)
        self.observe(Observation(decision, (), model, ("name", version, ""), at=at))

    def call(self, model: str, seconds: float, tokens: Tokens, at: float) -> None:
        call = Call("openai", "chat", model, "localhost", 80)
        self.instruments.called(
            Called(call, seconds, seconds / 2, model, "", tokens, self.prices, "1", True, INVALID_SPAN, self.failed)
        )
        cost = self.prices.cost((model,), tokens)
        numbers = {"latency": seconds, "time_to_first_chunk": seconds / 2, "cost": cost}
        numbers |= {"input_tokens": tokens.input, "output_tokens": tokens.output}
        self.observe(Observation(None, (), model, ("name", "1", ""), numbers=numbers, at=at))  # type: ignore[arg-type]

    def observe(self, seen: Observation) -> None:
        self.evaluator.observe(record(seen), seen.at)

    def failed(self, component: str, error: Exception) -> None:
        raise AssertionError(component) from error

    def scraped(self) -> dict[str, str]:
        lines = [line for line in self.prometheus.scrape().body.decode().splitlines() if line[:1] != "#"]
        samples = [line.rpartition(" ") for line in lines if "{" in line]
        return {f'{series[:-1]},job="llmguard",instance="i"}}': value for series, _, value in samples}


class Counted:
    """Tokens as a provider counts them."""

    def __init__(self, input: int, output: int) -> None:  # noqa: A002 - the protocol's name
        self.input, self.output, self.cached, self.reasoning = input, output, None, None


def lived(service: Service, draw: random.Random) -> tuple[dict[str, list[str]], list[list[State]]]:
    """Forty minutes with quiet, busy and silent times: what was scraped, and how the rules stood."""
    scraped: dict[str, list[str]] = {}
    stood: list[list[State]] = []
    busy = 0.0
    for step in range(STEPS):
        busy = draw.choice((0.1, 0.5, 1.0)) if step % 8 == 0 else busy
        silent = step % 50 > 42
        for second in sorted(draw.choices(range(1, STEP + 1), k=0 if silent else draw.randrange(1, 12))):
            at = START + STEP * (step - 1) + second
            model, version = draw.choice(("a", "a", "b", "")), draw.choice("12")
            if model == "b" and step % 60 > 50:
                continue
            service.check(decided(draw, busy), model, version, at)
            if model and draw.random() < 0.4:
                tokens = Counted(draw.randrange(20), draw.randrange(30))
                service.call(model, draw.random() * 2 * busy, tokens, at)
        drift = {"llmguard.monitor.name": "d", "llmguard.drift.feature": "length", "llmguard.drift.statistic": "psi"}
        unfair = {"llmguard.monitor.name": "f", "llmguard.fairness.outcome": "blocked", "llmguard.fairness.group": "g"}
        drift["llmguard.drift.reference"] = "file"
        service.gauges = [
            Reading("llmguard.drift.score", 0.5 * draw.random(), drift),
            Reading("llmguard.drift.score", 9.0, {**drift, "llmguard.drift.statistic": "ks"}),
            Reading("llmguard.fairness.disparity", 0.3 * draw.random(), unfair),
        ][: 3 if step % 40 > 5 else 0]
        for series, value in service.scraped().items():
            scraped.setdefault(series, ["_"] * step).append(value)
        for values in scraped.values():
            values += ["stale"] * (step + 1 - len(values))  # as Prometheus marks a series that is gone
        service.evaluator.evaluate(START + STEP * step, service.gauges)
        stood.append([state for state in service.evaluator.states() if state.state in (PENDING, FIRING)])
    return scraped, stood


def as_alerts(states: Iterable[State]) -> list[dict[str, Any]]:
    alerts = []
    for state in states:
        rule = state.rule
        attributes = {"drift": DRIFT, "fairness": FAIRNESS}.get(rule.kind, ATTRIBUTES)
        theirs = {label_name(attributes[name]): state.labels[name] for name in rule.by if name in state.labels}
        # Of a label that is not there, the series ALERTS (no alert that is sent) has the template.
        bare = {
            name: f"{{{{ $labels.{label_name(attributes[name])} }}}}" for name in rule.by if name not in state.labels
        }
        labels = {**state.labels, **theirs, **bare, "alertstate": state.state}
        said = ", ".join(f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
        alerts.append({"labels": f"ALERTS{{{said}}}", "value": 1})
    return alerts


def test_prometheus_says_the_same_of_the_same_calls(tmp_path: Path) -> None:
    service = Service()
    scraped, stood = lived(service, random.Random(3))
    service.meters.shutdown()
    (tmp_path / "rules.yaml").write_text(rule_file(RULES, POLICY).as_yaml())
    series = [{"series": name, "values": " ".join(values)} for name, values in scraped.items()]
    series.append({"series": 'up{job="llmguard", instance="i"}', "values": f"1x{STEPS}"})
    # The longest window, and what has to last: before, Prometheus has not seen enough.
    first = 960 // STEP
    asked = [
        {"expr": "ALERTS", "eval_time": f"{STEP * step}s", "exp_samples": as_alerts(states)}
        for step, states in enumerate(stood)
        if step >= first
    ]
    test = {"interval": f"{STEP}s", "input_series": series, "promql_expr_test": asked}
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP}s", "tests": [test]}
    (tmp_path / "test.yaml").write_text(json.dumps(whole))
    promtool("test", "rules", tmp_path / "test.yaml")
    # The comparison says nothing about a rule that never fires, or always does.
    for rule in RULES:
        fired = sum(any(one.rule is rule and one.state == FIRING for one in states) for states in stood[first:])
        assert 0 < fired < STEPS - first, rule.alert


def test_a_first_block_counts_where_increase_sees_none(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rule_file(RULES[:1], POLICY).as_yaml())
    series = 'llmguard_decisions_total{llmguard_action="block", job="llmguard", instance="i"}'
    test = {
        "interval": "15s",
        "input_series": [
            {"series": series, "values": "_ _ _ _ _ _ 1 1 1 1 1 1 1"},
            {"series": 'up{job="llmguard", instance="i"}', "values": "1x20"},
        ],
        "promql_expr_test": [
            {"expr": "count(ALERTS)", "eval_time": "75s", "exp_samples": []},
            {"expr": "count(ALERTS)", "eval_time": "90s", "exp_samples": [{"value": 1}]},
            {"expr": "count(ALERTS)", "eval_time": "135s", "exp_samples": [{"value": 1}]},
            {"expr": "count(ALERTS)", "eval_time": "150s", "exp_samples": []},
        ],
    }
    # A process that has counted for days is no alert when Prometheus first sees it.
    old = {**test, "input_series": [{"series": series, "values": "900x20"}, test["input_series"][1]]}  # type: ignore[index]
    old["promql_expr_test"] = [
        {"expr": "count(ALERTS)", "eval_time": f"{at}s", "exp_samples": []} for at in (0, 15, 60, 75, 300)
    ]
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test, old]}
    (tmp_path / "test.yaml").write_text(json.dumps(whole))
    promtool("test", "rules", tmp_path / "test.yaml")


HOSTILE = ('a"b', "a\\b", "{{ $value }}", "a|b.*", "ü€😀", "x: y # z", "'", "a}b")


def test_whatever_words_say_promtool_takes_them(tmp_path: Path) -> None:
    rules = [
        Rule(
            f"A {word}",
            of={"model": (word,), "policy": HOSTILE},
            above=1e-9,
            labels={"team": word},
            summary=word,
            runbook=word,
            window_s=1.5,
            for_s=0.5,
        )
        for word in HOSTILE
    ]
    written = rule_file(rules, PolicyRef("p {{", "{{", ""), 0.25)
    assert not written.left_out
    for name, text in (("rules.yaml", written.as_yaml()), ("rules.json.yaml", written.as_json())):
        (tmp_path / name).write_text(text)
        assert "8 rules found" in promtool("check", "rules", tmp_path / name)
        assert yaml.safe_load(text) == written.as_dict()


def test_words_are_taken_literally(tmp_path: Path) -> None:
    rules = [Rule("A", of={"model": HOSTILE}, by=("model",), above=0, window_s=60)]
    (tmp_path / "rules.yaml").write_text(rule_file(rules, POLICY).as_yaml())
    names = [*HOSTILE, "aab", "ab", "a"]
    words = [json.dumps(name, ensure_ascii=False) for name in names]
    series = [
        {"series": f"llmguard_decisions_total{{gen_ai_request_model={word}}}", "values": "0+1x20"} for word in words
    ]
    expected = [{"labels": f"{{model={json.dumps(name, ensure_ascii=False)}}}", "value": 1} for name in HOSTILE]
    asked = {"expr": "count by (model) (ALERTS)", "eval_time": "120s", "exp_samples": expected}
    test = {"interval": "15s", "input_series": series, "promql_expr_test": [asked]}
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "test.yaml").write_text(json.dumps(whole, ensure_ascii=False))
    promtool("test", "rules", tmp_path / "test.yaml")


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            Rule("A", of={"tenant": ("t",)}, above=1),
            "'tenant' is no label of llmguard_decisions_total, which tells decisions",
        ),
        (Rule("A", by=("prompt",), above=1), "'prompt' is no label of llmguard_decisions_total, which tells decisions"),
        (
            Rule("A", "ratio", {"category": ("B",)}, {}, above=0.1, by=("model",)),
            "'model' is no label of llmguard_findings_total, which tells findings",
        ),
        (
            Rule("A", value="latency", of={"prompt_version": ("1",)}, above=1),
            "'prompt_version' is no label of gen_ai_client_operation_duration_seconds, which tells latency",
        ),
        (
            Rule("A", "drift"),
            "without above or below, a rule of kind drift is told when the monitor alerts, which no metric tells",
        ),
    ],
)
def test_what_no_metric_tells_is_left_out_and_said(rule: Rule, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        expression(rule)
    assert str(caught.value) == problem
    written = rule_file([rule, RULES[0]], POLICY)
    assert written.left_out == (("A", problem),)
    assert [one["alert"] for one in written.rules] == ["Any"]
    assert written.as_yaml().startswith(f'# Left out: "A": {problem}\ngroups:\n')


def test_a_rule_as_it_is_written() -> None:
    rule = Rule(
        "Blocks",
        "ratio",
        {"action": ("block",)},
        {},
        above=0.05,
        for_s=90,
        severity="critical",
        labels={"team": "safety"},
        runbook="https://example.com/blocks",
        summary="Many blocks",
    )
    written = rule_file([rule], POLICY, 15).as_dict()
    (group,) = written["groups"]
    assert (group["name"], group["interval"]) == ("llmguard: p", "15s")
    (said,) = group["rules"]
    assert said == {
        "alert": "Blocks",
        "expr": expression(rule),
        "for": "90s",
        "labels": {"severity": "critical", "team": "safety"},
        "annotations": {
            "summary": "Many blocks",
            "runbook_url": "https://example.com/blocks",
            "window": "300 s",
            "policy": "p 3 00ff",
            "value": "{{ $value }}",
        },
    }


def test_a_policy_without_alerts_is_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(rule_file([], POLICY).as_yaml())
    promtool("check", "rules", tmp_path / "rules.yaml")
