"""The command as it is installed: its version, its help, and what it says when its packages are missing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import llmguard
from llmguard.cli.main import Commands, app
from llmguard.errors import ConfigurationError, DetectorError, LlmGuardError


def test_version_and_help() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"llmguard {llmguard.__version__}\n")
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    for command in ("check", "eval", "policy", "detectors"):
        assert command in shown.stdout


def test_an_unknown_command() -> None:
    result = CliRunner().invoke(app, ["chekc"])
    assert result.exit_code == 2
    assert "chekc" in result.stderr


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_package_is_one_line(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from llmguard.cli import run; run()"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("llmguard: ")
    assert result.stderr.endswith("pip install 'llmguard[cli]'\n")
    assert repr(package) in result.stderr


def test_the_console_script_runs() -> None:
    script = "import sys; sys.argv = ['llmguard', '--version']; from llmguard.cli import run; run()"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == f"llmguard {llmguard.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigurationError("what", source="f", line=2), 2), (DetectorError("d", "raised"), 1)]
)
def test_errors_of_ours_are_one_line(error: LlmGuardError, code: int) -> None:
    other = typer.Typer(cls=Commands)

    @other.callback()
    def start() -> None:
        """Makes `fail` a subcommand."""

    @other.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(other, ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"llmguard: {error}\n")


def test_text_that_the_terminal_cannot_show_is_escaped() -> None:
    script = (
        "import sys; sys.argv = ['llmguard', 'check', 'caf\\u00e9 \\U0001f600', '--policy', 'observe'];"
        "from llmguard.cli import run; run()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={"PYTHONIOENCODING": "ascii"}
    )
    assert result.returncode == 0, result.stderr
    assert r"caf\xe9 \U0001f600" in result.stdout


def test_detectors_lists_what_is_registered() -> None:
    result = CliRunner().invoke(app, ["detectors", "--json"])
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert {"pii", "secrets", "unicode", "keywords", "injection_rules", "token_stats"} <= set(rows)
    assert "EMAIL_ADDRESS" in rows["pii"]["categories"]
    table = CliRunner().invoke(app, ["detectors"], env={"COLUMNS": "200"})
    assert table.exit_code == 0
    assert "injection_rules" in table.stdout
