"""That messages go out by themselves: a thread a sink, over real HTTP, through forks and stops."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from alert_sinks import Clock, Hanging, Scripted, group
from fakes import Words
from telemetry_sdk import Sdk

from llmguard import ConfigurationError, Guard, signals
from llmguard.exporters.alerts.courier import Pace
from llmguard.exporters.alerts.delivery import Delivery
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.sink import DELIVERED, GONE, RETRY, Verdict
from llmguard.readings import Dispatched, Dispatching
from llmguard.types import Observation

unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "a.sqlite", fsync=False)


def test_what_is_put_goes_out_to_each_sink(outbox: Outbox) -> None:
    ops, pager = Scripted("ops"), Scripted("pager")
    delivery = Delivery(outbox, [ops, pager])
    outbox.put([("ops", group("before"))])
    delivery.start()
    outbox.put([("ops", group("a")), ("pager", group("b")), ("nobody", group("c"))])
    assert delivery.force_flush()
    assert ops.told == [("before", False), ("a", False)]
    assert pager.told == [("b", False)]
    assert delivery.shutdown()
    assert delivery.shutdown()
    assert delivery.force_flush()
    assert (ops.closed, pager.closed) == (1, 1)
    assert [one.sink for one in outbox.messages()] == ["nobody"]


def test_a_receiver_that_hangs_delays_no_other(outbox: Outbox) -> None:
    stuck, free = Hanging("stuck"), Scripted("free")
    delivery = Delivery(outbox, [stuck, free])
    delivery.start()
    outbox.put([("stuck", group("a"))])
    assert stuck.entered.wait(30)
    taken = threading.Event()
    free.answer = lambda *_: [Verdict(DELIVERED), taken.set()][0]  # type: ignore[return-value]
    outbox.put([("free", group("a"))])
    assert taken.wait(30)
    assert not delivery.force_flush(0.1)
    assert not delivery.shutdown(0.1)
    assert free.ended.wait(30)
    assert not stuck.ended.is_set()
    assert [one.sink for one in outbox.messages()] == ["stuck"]
    stuck.go.set()
    assert stuck.ended.wait(30)
    assert stuck.told == [("a", False)]


def test_what_stays_is_for_the_next_process(outbox: Outbox) -> None:
    down = Scripted("ops", lambda *_: Verdict(RETRY, "status 503"))
    delivery = Delivery(outbox, [down])
    delivery.start()
    (id_,) = outbox.put([("ops", group("a"))])
    assert not delivery.shutdown()
    outbox.put([("ops", group("b"))])
    assert len(down.seen) == 1
    up = Scripted("ops")
    clock = Clock(time.time() + 60)
    later = Delivery(Outbox(outbox.path), [up], clock=clock)
    later.start()
    assert later.shutdown()
    assert next(message for message, _ in up.taken) == id_
    assert up.told == [("a", False), ("b", False)]


def test_two_that_deliver_send_nothing_twice(outbox: Outbox) -> None:
    one, other = Scripted("ops"), Scripted("ops")
    deliveries = [Delivery(outbox, [one], poll_s=0.01), Delivery(Outbox(outbox.path), [other], poll_s=0.01)]
    for delivery in deliveries:
        delivery.start()
    ids = [id_ for n in range(40) for id_ in outbox.put([("ops", group(f"g-{n % 7}", over=n % 14 > 6))])]
    while outbox.messages():
        for delivery in deliveries:
            delivery.force_flush()
    for delivery in deliveries:
        delivery.shutdown()
    sent = [message for message, _ in one.taken + other.taken]
    assert Counter(sent).most_common(1)[0][1] == 1
    assert set(sent) <= set(ids)
    assert len(sent) == 40 - outbox.counts.superseded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sinks": [Scripted("a"), Scripted("a")]}, "two sinks are named 'a'"),
        ({"sinks": [object()]}, "object is no sink: it needs name"),
        ({"sinks": [], "poll_s": 0}, "poll_s must be seconds, more than 0, not 0"),
        ({"sinks": [], "poll_s": float("nan")}, "poll_s must be seconds"),
        ({"sinks": [], "pace": Pace(give_up_s=-1.0)}, "give_up_s must be seconds, more than 0, not -1"),
    ],
)
def test_arguments_that_are_none(outbox: Outbox, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Delivery(outbox, **options)


# Over HTTP


class Receiver(BaseHTTPRequestHandler):
    """Does as its server is told."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status, headers = self.server.script(body)  # type: ignore[attr-defined]
        self.server.seen.append((self.headers["webhook-id"], body, status))  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.seen: list[tuple[str, str, int]] = []
        self.script: Callable[[str], tuple[int, dict[str, str]]] = lambda _: (204, {})


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class Posting(Scripted):
    """A plain sink that posts the key of the group."""

    def __init__(self, name: str, port: int, timeout_s: float = 30.0) -> None:
        super().__init__(name, self.post)
        self.port = port
        self.timeout_s = timeout_s

    def send(self, message: str, group: Group, now: float) -> Verdict:
        self.id = message
        return super().send(message, group, now)

    def post(self, group: Group, _: float) -> Verdict:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout_s)) as connection:
            try:
                connection.request("POST", "/", group.key, {"webhook-id": self.id})
                answer = connection.getresponse()
            except OSError as error:
                return Verdict(RETRY, type(error).__name__)
            after = answer.headers["Retry-After"]
            outcome = {204: DELIVERED, 410: GONE, 429: RETRY}[answer.status]
            return Verdict(outcome, f"status {answer.status}", float(after) if after else None)


def test_retry_after_over_http(outbox: Outbox, server: Server) -> None:
    clock = Clock()
    sink = Posting("ops", server.server_port)
    delivery = Delivery(outbox, [sink], clock=clock)
    server.script = lambda _: (429, {"Retry-After": "37"})
    outbox.put([("ops", group("a"))], clock())
    assert delivery.turn("ops") == 0.0
    assert delivery.turn("ops") == 37.0
    clock.now += 36.0
    assert delivery.turn("ops") == 1.0
    server.script = lambda _: (204, {})
    clock.now += 1.0
    assert delivery.turn("ops") == 0.0
    assert [(body, status) for _, body, status in server.seen] == [("a", 429), ("a", 204)]
    assert len({id_ for id_, _, _ in server.seen}) == 1
    assert outbox.messages() == []


def test_gone_over_http(outbox: Outbox, server: Server) -> None:
    sink = Posting("ops", server.server_port)
    delivery = Delivery(outbox, [sink])
    server.script = lambda _: (410, {})
    delivery.start()
    outbox.put([("ops", group("a"))])
    assert delivery.force_flush()
    outbox.put([("ops", group("b"))])
    assert delivery.shutdown()
    assert len(server.seen) == 1
    assert [(one.key, one.dead) for one in outbox.messages()] == [("a", True), ("b", True)]


def test_a_receiver_that_never_answers_over_http(outbox: Outbox, server: Server) -> None:
    clock = Clock()
    go = threading.Event()
    server.script = lambda _: [(204, {}), go.wait(30)][0]  # type: ignore[return-value]
    sink = Posting("ops", server.server_port, timeout_s=0.05)
    delivery = Delivery(outbox, [sink], clock=clock)
    outbox.put([("ops", group("a"))], clock())
    assert delivery.turn("ops") == 0.0
    (one,) = outbox.messages()
    assert (one.reason, one.attempts) == ("TimeoutError", 1)
    go.set()
    sink.timeout_s = 30.0
    clock.now += 2.0
    assert delivery.turn("ops") == 0.0
    assert outbox.messages() == []


# Forks, and the end


@unix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_delivers_too_and_the_parent_goes_on(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.sqlite", fsync=False)
    sink = Scripted("ops")
    delivery = Delivery(outbox, [sink])
    delivery.start()
    outbox.put([("ops", group("parent"))])
    assert delivery.force_flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert outbox.file._open == []  # SQLite's connections must not cross a fork
            outbox.put([("ops", group("child"))])
            if delivery.force_flush() and sink.told == [("parent", False), ("child", False)]:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    outbox.put([("ops", group("later"))])
    assert delivery.shutdown()
    assert sink.told == [("parent", False), ("later", False)]


@unix
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_while_others_put(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.sqlite", fsync=False)
    ids: list[str] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            ids.extend(outbox.put([("ops", group(f"p-{len(ids)}"))]))

    thread = threading.Thread(target=work)
    thread.start()
    children = []
    for n in range(5):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                outbox.put([("ops", group(f"c-{n}-{m}")) for m in range(3)])
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 5
    stop.set()
    thread.join()
    kept = outbox.messages(limit=100_000)
    assert {one.id for one in kept} >= set(ids)
    assert len(kept) == len(ids) + 15


SCRIPT = """
import sys
from pathlib import Path
from alert_sinks import Scripted, group
from llmguard.exporters.alerts.delivery import Delivery
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.sink import RETRY, Verdict

outbox = Outbox(sys.argv[1])
class Printing(Scripted):
    def send(self, message, group, now):
        print(group.key, flush=True)
        return super().send(message, group, now)
    def close(self):
        print("closed", flush=True)
down = Scripted("down", lambda *_: Verdict(RETRY, "no"))
delivery = Delivery(outbox, [Printing("ops"), down])
delivery.start()
outbox.put([("ops", group("last")), ("down", group("stays"))])
"""


def test_at_the_end_of_the_interpreter_nothing_is_lost(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "a.sqlite")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["tests/support", *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["last", "closed"]
    assert [one.key for one in Outbox(tmp_path / "a.sqlite").messages()] == ["stays"]


# Telemetry


class Sender:
    """A monitor that delivers."""

    name = "sender"

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    def observe(self, seen: Observation) -> None:
        """Nothing."""

    def on_dispatch(self, hear: Callable[[Dispatched], object]) -> None:
        self.delivery.on_dispatch(hear)

    def on_failure(self, failed: Callable[[str, Exception], object]) -> None:
        self.delivery.on_failure(failed)


def test_a_guard_tells_of_each_attempt(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.sqlite", max_messages=2, fsync=False)
    clock = Clock()

    def answer(group: Group, _: float) -> Verdict:
        if group.key == "broken":
            raise RuntimeError("canary-4711")
        return Verdict(DELIVERED)

    delivery = Delivery(outbox, [Scripted("ops", answer)], clock=clock)
    sender = Sender(delivery)
    assert isinstance(sender, Dispatching)
    with closing(Sdk()) as sdk:
        policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": "flag"}]}
        providers = {"tracer_provider": sdk.tracers, "meter_provider": sdk.meters, "logger_provider": sdk.loggers}
        with Guard(policy, detectors=[Words("words", "bad")], monitors=[sender], **providers):
            outbox.put([("ops", group("a", severity="critical")), ("ops", group("broken"))], clock())
            while delivery.turn("ops") == 0.0:
                pass
            outbox.put([("ops", group(f"more-{n}")) for n in range(2)], clock())
            assert sdk.sums(signals.ALERTS) == {
                ("ops", "delivered", "critical"): 1,
                ("ops", "retry", "warning"): 1,
                ("ops", "dropped", "warning"): 1,
            }
            assert sdk.sums(signals.ERRORS) == {("alerts",): 1}
            timed = sdk.metrics()[signals.ALERT_DURATION.name].data.data_points
            assert [tuple(point.attributes[key] for key in signals.ALERT_DURATION.attributes) for point in timed] == [
                ("ops", "delivered", "critical"),
                ("ops", "retry", "warning"),
            ]
            told = sdk.events("llmguard.alert.dispatched")
            (row,) = [row for row in signals.EVENTS if row.name == "llmguard.alert.dispatched"]
            assert all(set(one) == set(row.attributes) for one in told)
            assert [(one["llmguard.alert.outcome"], one["llmguard.alert.attempts"]) for one in told] == [
                ("delivered", 1),
                ("retry", 1),
                ("dropped", 1),
            ]
            assert "canary" not in sdk.all_told()
