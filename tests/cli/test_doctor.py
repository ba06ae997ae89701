"""``llmguard doctor`` as a user meets it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from llmguard.cli.main import app
from llmguard.inference.choice import runtimes
from llmguard.inference.devices import Device, why_not
from llmguard.inference.processor import processor

needs_runtime = pytest.mark.skipif(not runtimes(), reason="no runtime is installed")


def run(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["doctor", *arguments])


@needs_runtime
def test_what_is_printed() -> None:
    result = run()
    assert result.exit_code == 0
    for words in ("Python", "CPU", processor().name, "by affinity and quota", "GPU", "auto", "precision"):
        assert words in result.stdout
    flat = "".join(result.stdout.split())
    for problem in why_not(Device("cuda")):
        assert "".join(problem.split()) in flat


@needs_runtime
def test_json() -> None:
    result = run("--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values["selections"][0]["runtime"] in runtimes()
    assert values["processor"]["cores"] == processor().cores


def test_without_a_runtime_it_ends_with_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmguard.inference.doctor.runtimes", lambda: ())
    result = run()
    assert result.exit_code == 2
    assert "none" in result.stdout
    assert "llmguard[cpu]" in "".join(result.stdout.split())
