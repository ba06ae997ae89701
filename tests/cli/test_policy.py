"""``llmguard policy`` as a user meets it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from llmguard.cli.main import app
from llmguard.policy import Policy

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["policy", *map(str, arguments)])


def test_the_schema_is_json_schema() -> None:
    schema = json.loads(run("schema").stdout)
    assert "rules" in schema["properties"]


@pytest.mark.parametrize("preset", ["default", "strict", "observe"])
def test_a_preset_is_shown_as_it_is(preset: str) -> None:
    shown = run("show", preset)
    assert shown.exit_code == 0
    assert Policy.parse(shown.stdout) == Policy.preset(preset)


def test_a_good_policy_is_summed_up(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text('name: x\nversion: "2"\nrules:\n  - {detector: unicode, action: flag}\n')
    result = run("check", path)
    assert result.exit_code == 0
    assert result.stdout == f"{path}: policy 'x' version '2' ({Policy.load(path).hash}): 1 rules for unicode\n"


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


@pytest.mark.parametrize("preset", ["default", "observe"])
def test_a_copy_of_a_preset_fits_the_detectors(preset: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(run("show", preset).stdout, encoding="utf-8")
    done = run("check", file)
    assert done.exit_code == 0, done.output
