"""From a guard's check to what a receiver gets: real sockets, a real Alertmanager, and processes that are killed."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from alertmanager_server import alertmanager
from fakes import Words
from hooks import Hook
from receivers import status

from llmguard import Guard

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
RULE = {"alert": "Blocks", "of": {"stage": "input", "action": "block"}, "above": 0, "window_s": 1, "severity": "error"}


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)


def policy(folder: Path, *rules: dict[str, Any], **sinks: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "shop",
        "version": "3",
        "rules": [{"detector": "keywords", "action": "block"}],
        "detectors": {"keywords": {"deny": ["project heron"]}},
        "alerts": {
            "outbox": str(folder / "alerts.sqlite"),
            "every_s": 0.1,
            "group_wait_s": 0.1,
            "group_interval_s": 0.2,
            "rules": list(rules or (RULE,)),
            "sinks": {name: {"allow": ["127.0.0.1"], **sink} for name, sink in sinks.items()},
        },
    }


def hook(receiver: Hook) -> dict[str, Any]:
    return {"kind": "webhook", "url": receiver.url, "secret": "env:HOOK_SECRET"}


def states(bodies: list[Any]) -> list[tuple[str, str]]:
    """The alerts of webhooks, ours and Alertmanager's, in the order in which they were told."""
    return [
        (alert["labels"]["alertname"], alert["status"]) for body in bodies for alert in body.get("data", body)["alerts"]
    ]


def test_from_a_check_over_a_rule_to_a_receiver_and_that_it_is_over(tmp_path: Path) -> None:
    import standardwebhooks

    rules = [{**RULE, "by": ["model"]}, {**RULE, "alert": "Never", "above": 1000}]
    with Hook() as receiver, Guard(policy(tmp_path, *rules, hook=hook(receiver))) as guard:
        guard.check("When does project heron begin?")
        bodies = receiver.until(lambda bodies: ("Blocks", "resolved") in states(bodies))
    assert states(bodies) == [("Blocks", "firing"), ("Blocks", "resolved")]
    first = receiver.seen[0]
    standardwebhooks.Webhook(SECRET).verify(first.body, first.headers)
    (alert,) = bodies[0]["data"]["alerts"]
    assert alert["annotations"]["policy"].startswith("shop 3 ")
    assert alert["severity"] == "error"


def test_other_sinks_are_told_while_one_is_down(tmp_path: Path) -> None:
    with Hook(status(503)) as down, Hook() as up:
        with Guard(policy(tmp_path, down=hook(down), up=hook(up))) as guard:
            guard.check("project heron")
            up.until(lambda bodies: ("Blocks", "firing") in states(bodies))
            down.until(lambda bodies: bool(bodies))
        ids = {seen.headers["webhook-id"] for seen in up.seen}
    assert len(ids) == len(up.seen)


def test_a_real_alertmanager_is_told_that_it_fires_and_that_it_is_over_and_tells_its_receiver(tmp_path: Path) -> None:
    with Hook() as receiver, alertmanager(receiver.url, tmp_path) as server:
        sink = {"kind": "alertmanager", "url": server.url}
        with Guard(policy(tmp_path, {**RULE, "labels": {"team": "safety"}}, prometheus=sink)) as guard:
            guard.check("project heron")
            receiver.until(lambda bodies: ("Blocks", "firing") in states(bodies))
            (alert,) = server.alerts()
            assert alert["labels"] == {"alertname": "Blocks", "severity": "error", "team": "safety"}
            assert alert["annotations"]["policy"].startswith("shop 3 ")
            bodies = receiver.until(lambda bodies: ("Blocks", "resolved") in states(bodies))
    assert states(bodies)[:2] == [("Blocks", "firing"), ("Blocks", "resolved")]


_VICTIM = """
import json, sys
from llmguard import Guard
guard = Guard(json.loads(sys.argv[1]))
guard.check("project heron")
print("checked", flush=True)
sys.stdin.read()
"""


def _killed(said: dict[str, Any], folder: Path, *, when: str) -> None:
    """Run a process that is killed as soon as a file of this pattern is there and, for the outbox, holds a message."""
    command = [sys.executable, "-c", _VICTIM, json.dumps(said)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "checked\n"
            end = time.monotonic() + 60.0
            while not list(folder.glob(when)):
                assert time.monotonic() < end
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)


@pytest.mark.parametrize(
    ("when", "wait_s"),
    [
        pytest.param("alerts.sqlite.firing/fires-*.json", 600.0, id="after the rule fired"),
        # The killed process had the sink to itself for three quarters of a minute.
        pytest.param("alerts.sqlite.firing/told.json", 0.0, id="after it was put", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_is_killed_between_rule_and_delivery_tells_after_its_restart(
    tmp_path: Path, when: str, wait_s: float
) -> None:
    with Hook(status(503)) as down:
        said = policy(tmp_path, hook=hook(down))
        said["alerts"]["group_wait_s"] = wait_s
        _killed(said, tmp_path, when=when)
    with Hook() as receiver:
        said = policy(tmp_path, hook=hook(receiver))
        with Guard(said):
            bodies = receiver.until(lambda bodies: ("Blocks", "resolved") in states(bodies))
    assert states(bodies)[0] == ("Blocks", "firing")
    assert states(bodies)[-1] == ("Blocks", "resolved")


def test_workers_that_share_an_outbox_tell_once(tmp_path: Path) -> None:
    rule = {**RULE, "window_s": 3600}
    with Hook() as receiver:
        said = policy(tmp_path, rule, hook=hook(receiver))
        command = [sys.executable, "-c", _VICTIM, json.dumps(said)]
        workers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
            for _ in range(3)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "checked\n"
            receiver.until(lambda bodies: ("Blocks", "firing") in states(bodies))
        finally:
            for worker in workers:
                worker.communicate("", timeout=60)
        assert [worker.returncode for worker in workers] == [0, 0, 0]
        assert states(receiver.bodies) == [("Blocks", "firing")]


CANARY = "kanarienvogel4711"


class Raising(Words):
    """Raises with what it was given."""

    def detect(self, texts: Any) -> Any:
        raise KeyError(texts[0].content)


def test_a_secret_that_goes_through_everything_is_in_nothing_that_leaves_or_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from telemetry_sdk import Sdk

    by = ["detector", "category", "model", "prompt", "prompt_version"]
    rules = [
        *({**RULE, "alert": f"At{stage}", "of": {"stage": stage}} for stage in ("input", "output", "tool_call")),
        {**RULE, "alert": "Found", "of": {"detector": "keywords"}, "by": by},
        {**RULE, "alert": "Failed", "of": {"outcome": "error"}, "by": ["detector"]},
        {**RULE, "alert": "Ratio", "kind": "ratio", "of": {"action": "block"}, "among": {}},
    ]
    sdk = Sdk()
    with Hook() as receiver, Hook(status(400, CANARY.encode())) as refusing:
        said = policy(tmp_path, *rules, hook=hook(receiver), refusing=hook(refusing))
        said["rules"] = [
            {"detector": "keywords", "action": "block"},
            {"detector": "raising", "action": "block", "on_failure": "open"},
        ]
        said["detectors"] = {"keywords": {"deny": [CANARY]}}
        providers = {"meter_provider": sdk.meters, "logger_provider": sdk.loggers, "tracer_provider": sdk.tracers}
        with (
            Guard(said, detectors=[Raising("raising", "bad")], **providers) as guard,
            guard.tenant(CANARY),
            guard.conversation(CANARY),
            guard.cohort(plan=CANARY),
            guard.prompt("greeting", version="7"),
        ):
            for stage in ("input", "output", "tool_call", "tool_result", "context"):
                guard.check(f"a {CANARY} b", stage=stage)
            guard._telemetry.monitors.flush()  # type: ignore[union-attr]
            receiver.until(lambda bodies: {name for name, _ in states(bodies)} >= {rule["alert"] for rule in rules})
            refusing.until(lambda bodies: bool(bodies))
            files = [file for file in tmp_path.rglob("*") if file.is_file()]
            held = {file.name: file.read_bytes() for file in files}
        assert any(name.endswith("-wal") for name in held)
    held |= {f"{file.name} at the end": file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    sent = [seen.line.encode() + repr(seen.headers).encode() + seen.body for seen in [*receiver.seen, *refusing.seen]]
    metrics = sdk.reader.get_metrics_data()
    assert metrics is not None
    told = [repr(vars(record.log_record)) for record in sdk.log_exporter.get_finished_logs()]
    assert any("llmguard.alert.dispatched" in event for event in told)
    written = [*held.values(), *sent, *(text.encode() for text in (caplog.text, metrics.to_json(), *told))]
    assert len(sent) >= 2
    assert [part for part in written if CANARY.encode() in part] == []


@pytest.mark.parametrize("last", ["guard.close()", "pass", "del guard"])
def test_what_a_short_script_did_is_told_at_its_end_or_at_the_next_start(tmp_path: Path, last: str) -> None:
    with Hook() as receiver:
        said = policy(tmp_path, {**RULE, "window_s": 3600}, hook=hook(receiver))
        said["alerts"] |= {"every_s": 100.0, "group_wait_s": 100.0}
        code = (
            "import json, sys\nfrom llmguard import Guard\nguard = Guard(json.loads(sys.argv[1]))\n"
            f"guard.check('project heron')\n{last}\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(said)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        if last != "del guard":
            assert states(receiver.bodies) == [("Blocks", "firing")]
        with Guard(said):
            receiver.until(lambda bodies: ("Blocks", "firing") in states(bodies))
    assert states(receiver.bodies) == [("Blocks", "firing")]


def test_what_a_drift_monitor_notices_is_told_where_a_rule_says_so(tmp_path: Path) -> None:
    from llmguard.detectors.drift import DriftMonitor

    drift = DriftMonitor(reference=300, window=256, features=["length"])
    rules = [{"alert": "Drifts", "kind": "drift", "of": {"feature": "input.length"}}]
    with Hook() as receiver, Guard(policy(tmp_path, *rules, hook=hook(receiver)), monitors=[drift]) as guard:
        guard.check_batch([f"question {number}" for number in range(300)])
        guard.check_batch([f"a question that is much longer than those before it, {number}" for number in range(300)])
        bodies = receiver.until(lambda bodies: ("Drifts", "firing") in states(bodies))
    (alert,) = bodies[0]["data"]["alerts"]
    assert alert["labels"]["feature"] == "input.length"
    assert alert["labels"]["monitor"] == drift.name
