"""``llmguard alerts list``, ``retry`` and ``test`` as a user meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
from alert_sinks import Bench, group
from typer.testing import CliRunner

from llmguard.cli.alerts import app
from llmguard.cli.main import Commands
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.sink import GONE, REFUSED, RETRY, Verdict

whole = typer.Typer(cls=Commands)
whole.add_typer(app, name="alerts")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(whole, ["alerts", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One that waits, one dead one."""
    made = Bench(tmp_path)
    made.sink.answer = lambda one, _: Verdict(REFUSED, "status 400") if one.key == "bad" else Verdict(RETRY, "Timeout")
    made.put(group("bad"), group("late", severity="critical", over=True))
    made.run(made.clock() + 20)
    return made


def test_list(bench: Bench) -> None:
    said = run("list", "--outbox", bench.outbox.path)
    assert said.exit_code == 0, said.output
    rows = [line for line in said.output.splitlines() if "msg_" in line]
    assert len(rows) == 2
    assert all(word in rows[0] for word in ("dead", "warning", "Blocks: firing", "status 400"))
    assert all(
        word in rows[1] for word in ("waiting", "critical", "Blocks: over", "Timeout", "1970-01-12 13:46:40+00:00")
    )
    assert re.search(r"ops: 1 waiting, 1 dead; failed \d times in a row", said.output)


def test_list_in_json_and_of_the_dead_alone(bench: Bench) -> None:
    said = run("list", "--outbox", bench.outbox.path, "--json", "--dead")
    (one,) = [json.loads(line) for line in said.output.splitlines()]
    assert (one["state"], one["reason"], one["sink"]) == ("dead", "status 400", "ops")
    assert len(run("list", "--outbox", bench.outbox.path, "--json").output.splitlines()) == 2
    assert run("list", "--outbox", bench.outbox.path, "--json", "--sink", "no").output == ""


def test_list_tells_what_was_dropped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_messages=1)
    bench.put(group("a"), group("b"))
    assert "1 messages had to make room" in run("list", "--outbox", bench.outbox.path).output


def test_retry(bench: Bench) -> None:
    dead = bench.outbox.messages(dead=True)[0].id
    assert "1 messages are tried again" in run("retry", dead, "--outbox", bench.outbox.path).output
    assert bench.outbox.messages(dead=True) == []
    assert "2 messages are tried again" in run("retry", "--all", "--outbox", bench.outbox.path).output
    assert "0 messages" in run("retry", "--all", "--sink", "no", "--outbox", bench.outbox.path).output
    assert run("retry", "msg_no", "--outbox", bench.outbox.path).exit_code == 1


def test_a_sink_that_is_gone_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda _, __: Verdict(GONE, "status 410")
    bench.put(group())
    bench.deliver()
    said = run("list", "--outbox", bench.outbox.path).output
    assert "gone: status 410; `retry --all --sink ops` tries it again" in said
    assert run("retry", "--all", "--sink", "ops", "--outbox", bench.outbox.path).exit_code == 0
    bench.sink.answer = lambda _, __: Verdict("delivered")
    bench.deliver()
    assert bench.sink.told == [("g", False)]


def test_the_outbox_of_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    policy = tmp_path / "policy.yaml"
    policy.write_text("name: shop\nversion: '1'\n")
    said = run("list", "--policy", policy)
    assert (said.exit_code, "nothing has been told yet" in said.output) == (2, True)
    Outbox(tmp_path / "llmguard" / "shop.alerts.sqlite").put([("ops", group())])
    assert "Blocks: firing" in run("list", "--policy", policy).output
    policy.write_text("name: shop\nversion: '1'\nalerts:\n  outbox: other.sqlite\n")
    monkeypatch.chdir(tmp_path)
    Outbox("other.sqlite").put([("pager", group())])
    assert "pager: 1 waiting" in run("list", "--policy", policy).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list"], "give --policy FILE, or --outbox FILE"),
        (["list", "--policy", "p", "--outbox", "o"], "give --policy FILE, or --outbox FILE"),
        (["retry", "--outbox", "o"], "give the ids of messages, or --all"),
        (["retry", "x", "--all", "--outbox", "o"], "give the ids of messages, or --all"),
        (["list", "--outbox", "nowhere.sqlite"], "nowhere.sqlite: there is no such outbox"),
    ],
)
def test_what_is_asked_for_wrongly(arguments: list[str], message: str) -> None:
    said = run(*arguments)
    assert said.exit_code == 2
    assert message in said.output


class Receiver(BaseHTTPRequestHandler):
    """Answers with the status of its server."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers["webhook-id"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    made.seen, made.status = [], 204
    thread = Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def policy(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + "QUJD" * 10)
    path = tmp_path / "policy.yaml"
    path.write_text(
        "name: shop\nversion: '1'\nalerts:\n  sinks:\n    hook: {kind: webhook, "
        f"url: 'http://127.0.0.1:{server.server_port}/x', secret: 'env:HOOK_SECRET', allow: [127.0.0.0/8]}}\n"
    )
    return path


def test_a_test_notice(policy: Path, server: Any) -> None:
    said = run("test", "hook", "--policy", policy)
    assert (said.exit_code, said.output) == (
        0,
        "hook: a test notice: delivered\nhook: that it is over: delivered\n",
    ), said.output
    assert len({id_ for id_, _ in server.seen}) == 2
    assert "Nothing is wrong" in json.dumps(server.seen)


def test_a_test_notice_that_is_refused(policy: Path, server: Any) -> None:
    server.status = 400
    said = run("test", "hook", "--policy", policy)
    assert said.exit_code == 1
    assert re.fullmatch(r"hook: a test notice: refused: .*400.*\n", said.output), said.output
    assert len(server.seen) == 1


def test_a_sink_that_is_none(policy: Path) -> None:
    said = run("test", "hock", "--policy", policy)
    assert said.exit_code == 2
    assert "there is no sink 'hock'" in said.output
    assert "hook" in said.output
