"""``llmguard alerts rules`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from llmguard.cli.main import app

POLICY = """\
name: bot
alerts:
  every_s: 15
  rules:
    - {alert: Blocks, of: {action: block}, above: 5, by: model}
    - {alert: PerTenant, above: 100, by: tenant}
    - {alert: Nobody, kind: absence, severity: critical}
"""


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["alerts", "rules", *map(str, arguments)])


def written(tmp_path: Path, text: str = POLICY) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def test_rules_are_printed_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    result = run(written(tmp_path))
    assert result.exit_code == 0
    (group,) = yaml.safe_load(result.stdout)["groups"]
    assert (group["name"], group["interval"]) == ("llmguard: bot", "15s")
    assert [rule["alert"] for rule in group["rules"]] == ["Blocks", "Nobody"]
    assert result.stdout.startswith("# Left out: \"PerTenant\": 'tenant' is no label of llmguard_decisions_total")
    assert "the alert 'PerTenant' is left out: 'tenant' is no label" in result.stderr


def test_as_json(tmp_path: Path) -> None:
    result = run(written(tmp_path), "--format", "json")
    assert json.loads(result.stdout) == yaml.safe_load(run(written(tmp_path)).stdout)
    assert "PerTenant" in result.stderr


def test_a_preset_without_rules_has_an_empty_group() -> None:
    result = run("default")
    assert yaml.safe_load(result.stdout)["groups"][0]["rules"] == []
    assert result.stderr == ""


def test_what_is_wrong_is_said_and_ends_with_2(tmp_path: Path) -> None:
    path = written(tmp_path, POLICY.replace("above: 5", "abov: 5"))
    result = run(path)
    assert result.exit_code == 2
    assert result.stderr == f"llmguard: {path}:5: unknown key 'abov' in alerts.rules[0] (did you mean 'above'?)\n"
