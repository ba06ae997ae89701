"""``llmguard drift`` as a user meets it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmguard.cli.main import app
from llmguard.detectors.drift import Category, DriftMonitor, Numeric, State


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["drift", *map(str, arguments)])


@pytest.fixture
def states(tmp_path: Path) -> tuple[Path, Path]:
    paths = []
    for seed in (1, 2):
        monitor = DriftMonitor(200, window=128, features=[Numeric("value"), Category("word")])
        rng = random.Random(seed)
        for _ in range(500):
            monitor.record({"value": rng.gauss(10 * seed, 2), "word": rng.choice("ab")})
        monitor.save(tmp_path / f"{seed}.json")
        paths.append(tmp_path / f"{seed}.json")
    return paths[0], paths[1]


def test_states_are_merged(states: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("merge", *states, "--out", tmp_path / "both.json")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'both.json'}: 2 states (record 1000)\n"
    assert State.load(tmp_path / "both.json").tables["record"].calls == 1000


def test_a_state_is_shown(states: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run("show", states[0])
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if " value " in line)
    assert " 500 " in line
    assert " 200 " in line
    assert "psi" in line


def test_a_file_that_is_no_state_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("{}")
    result = run("show", path)
    assert result.exit_code == 2
    assert result.stderr == f"llmguard: {path}: no llmguard-drift state\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # evidently's and its dependencies' own
def test_a_report_is_evidentlys(states: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("evidently", exc_type=ImportError)
    out = tmp_path / "out.html"
    result = run("report", *states, "-o", out)
    assert result.exit_code == 0, result.output
    page = out.read_text("utf-8")
    assert "<html" in page
    assert "value" in page
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix == ".html"] == ["out.html"]
