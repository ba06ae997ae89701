"""``llmguard policy`` as a user meets it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from llmguard.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["policy", *map(str, arguments)])


def test_the_schema_is_json_schema() -> None:
    schema = json.loads(run("schema").stdout)
    assert "rules" in schema["properties"]


@pytest.mark.parametrize("preset", ["default", "strict", "observe"])
def test_a_preset_shown_is_a_policy_that_checks(tmp_path: Path, preset: str) -> None:
    shown = run("show", preset)
    assert shown.exit_code == 0
    assert "rules" in yaml.safe_load(shown.stdout)
    path = tmp_path / "copy.yaml"
    path.write_text(shown.stdout)
    checked = run("check", path)
    assert checked.exit_code == 0, checked.stderr
    assert checked.stdout.startswith(f"{path}: ")


def test_an_unknown_preset() -> None:
    result = run("show", "defualt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean 'default'" in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: x\nrules:\n  - {detector: pii, acton: block}\n", ":3: "),
        ("name: x\nrules:\n  - {detector: pij, action: block}\n", "did you mean 'pii'"),
        ("name: x\nrules:\n  - {detector: pii, action: block}\ndetectors:\n  pii: {languagse: [en]}\n", "languagse"),
        ("rules: [", "bad.yaml"),
    ],
)
def test_what_is_wrong_in_a_policy_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    result = run("check", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert result.stderr.startswith("llmguard: ")
    assert result.stderr.count("\n") == 1
