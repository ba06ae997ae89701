"""``llmguard serve`` as a process of its own, on real sockets."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from asgi_calls import Model, served
from typer.testing import CliRunner

from llmguard.cli import serve
from llmguard.cli.main import app

START = [sys.executable, "-c", "from llmguard.cli import run; run()", "serve"]
OPTIONS = ["--port", "0", "--dialect", "openai.chat", "--access-log"]
PATH = "/v1/chat/completions"
POLICY = """
name: served
rules:
  - {detector: keywords, stage: [input, output], action: redact}
detectors:
  keywords: {deny: [heron]}
"""


def test_it_guards_until_it_is_told_to_stop(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    answer = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}}],
    }
    model = Model(json.dumps(answer).encode())
    with served(model, lifespan="off") as (upstream, _):
        process = subprocess.Popen(
            [*START, "--upstream", upstream, "--policy", str(policy), *OPTIONS],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            url, begun = _running(process)
            with httpx.Client(base_url=url, timeout=60) as client:
                assert client.get("/healthz").text == "ok\n"
                asked = {"model": "m", "messages": [{"role": "user", "content": "project heron"}]}
                got = client.post(PATH, json=asked, params={"key": "k-7731"})
                assert got.status_code == 200
                assert re.fullmatch("[0-9a-f]{32}", got.headers["x-request-id"])
                assert client.post("/v1/messages", json=asked).status_code == 404
                figures = client.get("/metrics")
                assert figures.status_code in (200, 404)
                if figures.status_code == 200:
                    assert "llmguard_decisions" in figures.text
            process.send_signal(signal.SIGTERM)
            said = begun + process.communicate(timeout=60)[0]
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert process.returncode in (0, -signal.SIGTERM)
    assert "guarding http://127.0.0.1" in said
    assert "heron" not in said
    assert b"heron" not in b"".join(model.asked)
    assert f"POST {PATH} " in said
    assert "k-7731" not in said


def _running(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """The URL that it says it runs at, and all that it said up to there."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if running := re.search(r"running on (http://[\d.]+:\d+)", line):
            return running[1], said
    raise AssertionError(said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--upstream", "localhost:8000"], "an upstream's URL looks like http://host:8000"),
        (["--upstream", "http://x", "--policy", "nonesuch"], "nonesuch"),
        (["--upstream", "http://x", "--dialect", "openai.chats"], "openai.chat"),
        (["--upstream", "http://x", "--timeout", "0"], "total must be more than nothing"),
        (["--upstream", "http://x", "--health-path", "health"], "begins with a slash"),
        ([], "--upstream"),
    ],
)
def test_wrong_options_end_with_one_line(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["serve", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_without_the_packages_it_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(app, ["serve", "--upstream", "http://x"])
    assert done.exit_code == 2
    assert "llmguard[proxy]" in done.output


def test_figures_need_the_parts_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.prometheus", None)
    assert serve._figures() == (None, None)
