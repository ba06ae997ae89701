"""What a policy says about alerts: how it is read, what is wrong with it and where, and what it takes over."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
import yaml

from llmguard import ConfigurationError, Policy
from llmguard.exporters.alerts.matching import Matcher
from llmguard.exporters.alerts.measure import MEASURES
from llmguard.exporters.alerts.rule import KINDS, Burn, Rule
from llmguard.exporters.alerts.settings import Settings
from llmguard.exporters.alerts.sink_check import SECRETS
from llmguard.exporters.alerts.sinks import KINDS as SINKS
from llmguard.exporters.alerts.sinks import keys
from llmguard.policy_alerts import AlertRule, AlertSettings, BurnSettings, Selection, SilenceRule

PAGE = Path(__file__).parent.parent / "docs" / "alert_rules.md"
EXAMPLE = """\
name: bot
alerts:
  outbox: alerts.sqlite
  group_by: [alertname, model]
  group_wait_s: 5
  rules:
    - alert: Blocks
      kind: ratio
      of: {stage: input, action: [block, redact], enforced: true}
      among: {stage: input}
      above: 0.05
      window_s: 600
      for_s: 60
      by: model
      severity: critical
      labels: {team: safety}
      runbook: https://example.com/blocks
      summary: Many inputs are blocked
      sinks: [ops]
    - {alert: Burning, kind: burn, of: {action: block}, among: {}, burn: {objective: 0.99}}
    - {alert: Drifts, kind: drift}
  inhibit: [{source: {severity: critical}, target: ['severity=~"warning|info"'], equal: [model]}]
  silences: [{match: {alertname: Blocks}, from: 2026-01-01T00:00Z, until: "2026-01-01T03:00+01:00", reason: x}]
  sinks:
    ops: {kind: slack, url: env:SLACK_URL}
"""


def test_a_policy_says_rules_as_they_are_evaluated() -> None:
    alerts = Policy.parse(EXAMPLE).alerts
    blocks, burning, drifts = [one.rule for one in alerts.rules]
    assert blocks == Rule(
        "Blocks",
        "ratio",
        {"stage": ("input",), "action": ("block", "redact"), "enforced": ("true",)},
        {"stage": ("input",)},
        above=0.05,
        window_s=600,
        for_s=60,
        by=("model",),
        severity="critical",
        labels={"team": "safety"},
        runbook="https://example.com/blocks",
        summary="Many inputs are blocked",
        sinks=("ops",),
    )
    assert (burning.burn, burning.among, drifts.kind) == (Burn(0.99), {}, "drift")
    (inhibit,), (silence,) = alerts.inhibit, alerts.silences
    assert inhibit.inhibition.source == (Matcher("severity", "=", "critical"),)
    assert inhibit.inhibition.target == (Matcher("severity", "=~", "warning|info"),)
    assert (silence.silence.end - silence.silence.start, silence.silence.reason) == (7200, "x")
    assert alerts.sinks == {"ops": {"kind": "slack", "url": "env:SLACK_URL"}}
    assert (alerts.outbox, alerts.group_by, alerts.group_wait_s) == ("alerts.sqlite", ("alertname", "model"), 5)


def test_without_any_nothing_is_told() -> None:
    assert Policy.parse({}).alerts == AlertSettings()
    assert not AlertSettings().rules


def test_alerts_are_part_of_what_a_policy_says() -> None:
    one, other = Policy.parse(EXAMPLE), Policy.parse(EXAMPLE.replace("0.05", "0.06"))
    assert one.hash == Policy.parse(yaml.safe_load(EXAMPLE)).hash != other.hash
    copy = one.model_copy(update={"version": "2"})
    assert copy.alerts == one.alerts
    assert [rule.rule for rule in copy.alerts.rules] == [rule.rule for rule in one.alerts.rules]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("  rules:", "  ruls:", "6: unknown key 'ruls' in alerts (did you mean 'rules'?)"),
        ("kind: ratio", "knd: ratio", "8: unknown key 'knd' in alerts.rules[0] (did you mean 'kind'?)"),
        ("kind: ratio", "kind: ration", "8: alerts.rules[0].kind: unknown word 'ration' (did you mean 'ratio'?)"),
        ("of: {stage", "of: {stag", "9: unknown key 'stag' in alerts.rules[0].of (did you mean 'stage'?)"),
        (
            "{stage: input, a",
            "{stage: inptu, a",
            "9: alerts.rules[0].of.stage: unknown word 'inptu' (did you mean 'input'?)",
        ),
        ("enforced: true", "enforced: 1", "9: alerts.rules[0].of.enforced: 1 must be true or false"),
        ("[block, redact]", "[block, block]", "9: alerts.rules[0].of.action: 'block' stands twice"),
        ("enforced: true", "outcome: error", "9: alerts.rules[0].of: runs, which the rule counts, has no label 'act"),
        ("among: {stage: input}", "among: {cost: 1}", "10: unknown key 'cost' in alerts.rules[0].among (known: "),
        ("      among: {stage: input}\n", "", "7: alerts.rules[0]: a ratio needs among: what `of` is a share of"),
        ("above: 0.05", "above: high", "11: alerts.rules[0].above: 'high' must be a number"),
        ("above: 0.05", "above: .nan", "11: alerts.rules[0].above: nan must be a finite number"),
        ("window_s: 600", "window_s: 0", "12: alerts.rules[0].window_s: 0 must be at least 1"),
        ("by: model", "by: modle", "14: alerts.rules[0].by: decisions, which the rule counts, has no label 'modle'"),
        ("critical\n", "urgent\n", "15: alerts.rules[0].severity: unknown word 'urgent' (known: critical, error, "),
        ("team: safety", "a.b: x", "16: alerts.rules[0].labels: 'a.b' must be letters, digits and _"),
        ("[ops]", "[opps]", "19: alerts.rules[0].sinks: there is no sink 'opps' (did you mean 'ops'?)"),
        ("objective: 0.99", "objective: 1", "20: alerts.rules[1].burn.objective: 1 must be less than 1"),
        (
            "objective: 0.99",
            "objective: 0.9",
            "20: alerts.rules[1].burn: burn.factor: 14.4 times the 0.1 that burn.objective allows",
        ),
        (
            "objective: 0.99",
            "objective: 0.99, long_s: 60",
            "20: alerts.rules[1].burn: burn.short_s: 300 must be less than burn.long_s, 60",
        ),
        (
            "objective: 0.99",
            "objective: 0.99, short_s: 9000",
            "20: alerts.rules[1].burn.short_s: 9000 must be less than burn.long_s, 3600",
        ),
        ("{objective: 0.99}", "{}", "20: alerts.rules[1].burn needs the key 'objective'"),
        (
            "alert: Drifts",
            "alert: Drifts, value: cost",
            "21: alerts.rules[2].value: a rule of kind drift is about what",
        ),
        ("alert: Drifts", "alert: Burning", "21: alerts.rules[2].alert: 'Burning' stands twice with the same severity"),
        ("source: {severity: critical}", "source: {}", "22: alerts.inhibit[0]: an inhibition needs conditions"),
        ('severity=~"w', "severity w", "22: alerts.inhibit[0].target: "),
        ("source: {severity: critical}", "source: 3", "22: alerts.inhibit[0].source: 3: must be a mapping of labels"),
        ("00:00Z", "00:00", "23: alerts.silences[0].from: '2026-01-01T00:00' needs its time zone"),
        (
            "from: 2026-01-01T00:00Z",
            "from: 2026-01-01",
            "23: alerts.silences[0].from: '2026-01-01' needs its time zone, as",
        ),
        ("2026-01-01T00:00Z", "tomorrow", "23: alerts.silences[0].from: 'tomorrow' is no date and time such as"),
        ("2026-01-01T00:00Z", "2026-02-01T00:00Z", "23: alerts.silences[0]: a silence must end after it begins"),
        ("reason: x", "reson: x", "23: unknown key 'reson' in alerts.silences[0] (did you mean 'reason'?)"),
        ("ops: {", "o.s: {", "25: alerts.sinks.o.s: the name of a sink has letters, digits, - and _"),
        ("kind: slack, ", "", "25: alerts.sinks.ops: needs the key 'kind': one of alertmanager, email, "),
        ("kind: slack", "kind: slak", "25: alerts.sinks.ops.kind: unknown word 'slak' (did you mean 'slack'?)"),
        ("url: env", "ur: env", "25: alerts.sinks.ops.ur: a sink of this kind has no such key (did you mean 'url'?)"),
        (
            "env:SLACK_URL",
            "https://x",
            "25: alerts.sinks.ops.url: is a secret, which a policy never holds: put it into an",
        ),
        ("env:SLACK_URL", "'env:'", "25: alerts.sinks.ops.url: is a secret, which a policy never holds"),
        ("env:SLACK_URL", "4711", "25: alerts.sinks.ops.url: is a secret, which a policy never holds"),
        (
            "slack, url: env:SLACK_URL",
            "webhook, secret: env:A, url: https://me:canary@x/y",
            "25: alerts.sinks.ops.url: holds a password: put the whole URL into an environment variable or a file, and",
        ),
        (
            "slack, url: env:SLACK_URL",
            "alertmanager, url: [https://x, https://me@x]",
            "25: alerts.sinks.ops.url: holds a password",
        ),
        (
            "slack, url: env:SLACK_URL",
            "webhook, url: https://x, secret: [env:A, whsec_x]",
            "25: alerts.sinks.ops.secret: is a secret, which a policy never holds",
        ),
        ("group_wait_s: 5", "group_wait_s: -1", "5: alerts.group_wait_s: -1 must be at least 0"),
    ],
)
def test_what_is_wrong_names_file_line_key_and_word(old: str, new: str, problem: str) -> None:
    assert EXAMPLE.count(old) == 1
    with pytest.raises(ConfigurationError) as caught:
        Policy.parse(EXAMPLE.replace(old, new), "policy.yaml")
    assert str(caught.value).startswith(f"policy.yaml:{problem}")


@pytest.mark.parametrize("key", ["url", "ulr"])
def test_no_error_shows_what_may_be_a_secret(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Policy.parse(EXAMPLE.replace("url: env:SLACK_URL", f"{key}: https://hooks.example.com/canary-4711"))
    assert "canary" not in str(caught.value)
    hook = "kind: webhook, secret: env:A, url: https://hooks.example.com/canary-4711"
    assert "canary" not in repr(Policy.parse(EXAMPLE.replace("kind: slack, url: env:SLACK_URL", hook)))


class Asked(Settings):
    """Notes which settings a sink asks for as secrets."""

    asked: set[str]

    def secret(self, key: str, default: str | None = None) -> str:
        self.asked.add(key)
        return "https://hooks.example.com"

    def secrets(self, key: str) -> list[str]:
        self.asked.add(key)
        return ["whsec_" + "A" * 32]


@pytest.mark.parametrize("kind", SINKS)
def test_what_sinks_ask_for_as_secrets_is_what_a_policy_refuses(kind: str) -> None:
    said = {"host": "smtp.example", "from": "a@b.c", "to": "d@e.f", "username": "me", "url": "https://hooks.example"}
    settings = Asked("ops", {key: value for key, value in said.items() if key in keys(kind)}, keys(kind))
    settings.asked = set()
    importlib.import_module(f"llmguard.exporters.alerts.{kind}").made(settings).close()
    assert settings.asked == SECRETS[kind]
    for key in settings.asked:
        with pytest.raises(ConfigurationError, match=f"alerts.sinks.ops.{key}: is a secret"):
            Policy.parse({"alerts": {"sinks": {"ops": {"kind": kind, key: "canary"}}}})


BASE = """\
alerts:
  group_wait_s: 1
  repeat_s: 60
  rules:
    - {alert: Blocks, above: 1}
    - {alert: Cost, value: cost, above: 100}
  silences: [{match: {alertname: A}, from: 2026-01-01T00:00Z, until: 2026-01-02T00:00Z}]
  sinks:
    ops: {kind: slack, url: env:A}
    pager: {kind: pagerduty, routing_key: env:B}
"""
OWN = """\
extends: base.yaml
alerts:
  group_wait_s: 2
  rules:
    - {alert: Slow, value: guard_duration, above: 0.1}
    - {alert: Blocks, above: 5, sinks: pager}
    - {alert: Blocks, above: 9, severity: critical}
  sinks:
    ops: {kind: teams, url: env:C}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def test_a_policy_takes_over_the_alerts_of_what_it_extends(base: Path) -> None:
    (base / "own.yaml").write_text(OWN)
    alerts = Policy.load(base / "own.yaml").alerts
    assert [(one.alert, one.above) for one in alerts.rules] == [
        ("Slow", 0.1),
        ("Blocks", 5),
        ("Blocks", 9),
        ("Cost", 100),
    ]
    assert {name: settings["kind"] for name, settings in alerts.sinks.items()} == {"ops": "teams", "pager": "pagerduty"}
    assert (alerts.group_wait_s, alerts.repeat_s, len(alerts.silences)) == (2, 60, 1)


@pytest.mark.parametrize(
    ("own", "old", "new", "where"),
    [
        (OWN, "above: 100", "above: high", "base.yaml:6: alerts.rules[3].above"),
        (OWN, "{alertname: A}", "3", "base.yaml:7: alerts.silences[0].match"),
        (OWN, "pagerduty,", "pager,", "base.yaml:10: alerts.sinks.pager.kind"),
        (OWN, "repeat_s: 60", "repeat_s: 0", "base.yaml:3: alerts.repeat_s"),
        (OWN.replace("9,", "'9',"), "60", "60", "own.yaml:7: alerts.rules[2].above"),
        (OWN.replace("env:C", "env:C, x: 1"), "60", "60", "own.yaml:9: alerts.sinks.ops.x"),
        ("extends: base.yaml\nalerts: {rules: 3}", "60", "60", "own.yaml:2: alerts.rules must be a list"),
        ("extends: base.yaml\nalerts: []", "60", "60", "own.yaml:2: alerts must be a mapping"),
        ("extends: base.yaml\nalerts:\n  sinks: 3", "60", "60", "own.yaml:3: alerts.sinks must be a mapping of names"),
    ],
)
def test_an_error_names_the_file_that_is_wrong(base: Path, own: str, old: str, new: str, where: str) -> None:
    (base / "own.yaml").write_text(own)
    (base / "base.yaml").write_text(BASE.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        Policy.load(base / "own.yaml")
    assert where in str(caught.value)


def test_the_json_schema_knows_what_there_is() -> None:
    schema = json.loads(json.dumps(Policy.json_schema()))["$defs"]
    assert schema["SilenceRule"]["required"] == ["match", "from", "until"]
    assert set(
        schema["AlertSettings"]["properties"]["sinks"]["additionalProperties"]["properties"]["kind"]["enum"]
    ) == set(SINKS)
    rule = schema["AlertRule"]["properties"]
    assert set(rule["kind"]["enum"]) == set(KINDS)
    assert set(rule["value"]["anyOf"][0]["enum"]) == set(MEASURES)


def test_every_label_can_be_selected() -> None:
    labels = {label for measure in MEASURES.values() for label in measure.labels}
    assert labels <= set(Selection.model_fields)


def test_the_page_names_every_key_and_its_examples_are_policies() -> None:
    text = PAGE.read_text()
    for model in (AlertRule, BurnSettings, Selection):
        for key in model.model_fields:
            assert f"`{key}`" in text, key
    for word in (*KINDS, *MEASURES):
        assert f"`{word}`" in text, word
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        assert Policy.parse(example).alerts.rules
    assert SilenceRule.model_fields["start"].alias == "from"
