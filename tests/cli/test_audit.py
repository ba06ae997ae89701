"""``llmguard audit`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from llmguard.cli.audit import app
from llmguard.cli.main import Commands
from llmguard.exporters import jsonl
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.audit_verify import verify
from llmguard.exporters.record import Found, Record
from llmguard.types import PolicyRef

whole = typer.Typer(cls=Commands)
whole.add_typer(app, name="audit")

NAMES = ("SIGNING", "PUBLIC", "ENCRYPTION")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(whole, ["audit", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    for name in NAMES:
        monkeypatch.delenv(f"LLMGUARD_AUDIT_{name}_KEY", raising=False)


def said() -> list[Record]:
    found = (Found("pii", "EMAIL_ADDRESS", 1.0, 15, "redact", ()),)
    policy = PolicyRef("shop", "7", "abc")
    return [
        Record(1_700_000_000_000_000_000 + at, "check", "input", "redact", True, policy, found, conversation=f"c{at}")
        for at in range(5)
    ]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    writer = AuditLog(tmp_path / "log")
    writer.export(said())
    writer.shutdown()
    return tmp_path / "log"


def test_a_whole_log_verifies(log: Path) -> None:
    result = run("verify", log)
    assert result.exit_code == 0
    assert "as it was written: 5 records (0 erased) in 1 files" in result.stdout
    head = result.stdout.split("head ")[1].strip()
    assert run("verify", log, "--head", head).exit_code == 0
    n, _, hashed = head.partition(":")
    assert run("verify", log, "--head", f"{int(n) + 1}:{hashed}").exit_code == 1
    for wrong in ("six", f"{'9' * 5000}:{hashed}", f"{n}:{hashed[:-1]}"):
        result = run("verify", log, "--head", wrong)
        assert result.exit_code == 2
        assert result.stderr == "llmguard: --head must be SEQUENCE:HASH, as verify prints it\n"
    assert json.loads(run("verify", log, "--json").stdout)["records"] == 5


def test_what_is_wrong_is_named(log: Path) -> None:
    file = log / "audit-00000001.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"c3"', b'"c9"'))
    result = run("verify", log)
    assert result.exit_code == 1
    assert "audit-00000001.jsonl: sequence 5: changed: " in result.stdout
    problems = json.loads(run("verify", log, "--json").stdout)["problems"]
    assert [problem["sequence"] for problem in problems] == [5]


def test_entries_are_shown(log: Path) -> None:
    result = run("show", log, "--last", 2)
    assert result.exit_code == 0
    assert "c4" in result.stdout
    assert "c2" not in result.stdout
    assert "pii/EMAIL_ADDRESS" in result.stdout
    assert "shop 7" in result.stdout
    assert "2023-11-14 22:13:20" in result.stdout
    only = run("show", log, "--conversation", "c1", "--json")
    assert [json.loads(line)["n"] for line in only.stdout.splitlines()] == [3]
    assert "file" in run("show", log).stdout


def test_records_are_copied_in_the_clear(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    result = run("export", log, "--out", out)
    assert (result.exit_code, result.stdout) == (0, f"{out}: 5 records\n")
    assert list(jsonl.read(out)) == said()
    assert run("export", log, "--out", tmp_path / "none" / "x").exit_code == 2


def test_a_conversation_is_erased(log: Path) -> None:
    result = run("erase", log, "c2")
    assert (result.exit_code, result.stdout) == (0, f"{log}: 1 records erased\n")
    assert verify(log).erased == 1
    assert "record, erased" in run("show", log).stdout


def test_keys_are_made_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in run("key").stdout.splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    writer = AuditLog(tmp_path)
    writer.export(said())
    writer.shutdown()
    assert "2 of 2 checkpoints signed by a known key" in run("verify", tmp_path).stdout
    assert "c4" in run("show", tmp_path).stdout
    monkeypatch.delenv("LLMGUARD_AUDIT_ENCRYPTION_KEY")
    result = run("show", tmp_path)
    assert result.exit_code == 2
    assert "LLMGUARD_AUDIT_ENCRYPTION_KEY" in result.stderr


@pytest.mark.parametrize("command", [("verify",), ("show",), ("export", "--out", "x"), ("erase", "c1")])
def test_a_directory_without_a_log_is_said_in_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(command[0], tmp_path, *command[1:])
    assert result.exit_code == 2
    assert result.stderr == f"llmguard: {tmp_path}: audit: there is no log\n"
