"""That the page on alerts and the example do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from llmguard import Policy

PAGE = Path("docs/alerts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_policy_of_the_page_is_one() -> None:
    (policy,) = [text for kind, text in BLOCKS if kind == "yaml"]
    said = Policy.parse(policy).alerts
    assert [rule.alert for rule in said.rules] == ["Blocks", "Drifts"]
    assert sorted(said.sinks) == ["chat", "pager"]


def test_the_block_of_the_page_prints_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + "a2tr" * 8)
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(code, "docs/alerts.md", "exec"), {})  # noqa: S102 - the page is ours
    assert printed.getvalue().splitlines() == re.findall(r"^\s*print\(.*\)\s+# (.*)$", code, re.MULTILINE)


def test_the_example_tells_its_receiver_that_it_fires_and_that_it_is_over() -> None:
    done = subprocess.run(
        [sys.executable, "examples/alerts.py"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("ManyBlocks")]
    assert told == ["ManyBlocks is firing (critical, signed)", "ManyBlocks is resolved (critical, signed)"]
    assert "50% in 2 s, policy shop 3 " in done.stdout
