"""Processes that are killed at any moment: nothing that was put is lost, each group is told in order, ids stay."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmguard.exporters.alerts.outbox import Outbox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

# Puts messages for three groups of its own, and says which it has put; delivers whatever is there.
WORKER = """
import http.client, os, sys, time
from alert_sinks import group
from llmguard.exporters.alerts.courier import Pace
from llmguard.exporters.alerts.delivery import Delivery
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.sink import DELIVERED, RETRY, Verdict

path, port, who = sys.argv[1], int(sys.argv[2]), sys.argv[3]

class Posting:
    name, most, pause_s = "ops", 50, 0.0
    def send(self, message, group, now):
        (notice,) = group.notices
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", "/", f"{message} {group.key} {notice.started:.0f} {notice.resolved}")
            return Verdict(DELIVERED if connection.getresponse().status == 204 else RETRY, "status")
        except OSError as error:
            return Verdict(RETRY, type(error).__name__)
        finally:
            connection.close()
    def close(self):
        pass

outbox = Outbox(path, fsync=False)
delivery = Delivery(outbox, [Posting()], pace=Pace(lease_s=0.4), poll_s=0.02)
delivery.start()
if who == "drain":
    while not delivery.force_flush(0.2):
        pass
    delivery.shutdown()
    sys.exit(0)
os.write(1, b"begun\\n")
n = 0
while True:
    key, at = f"{who}-{n % 3}", time.time_ns() // 1000
    ids = outbox.put([("ops", group(key, started=at)), ("ops", group(key, started=at, over=True))])
    os.write(1, " ".join(ids).encode() + b"\\n")
    n += 1
    time.sleep(0.01)
"""


class Receiver(BaseHTTPRequestHandler):
    """Takes most of what it is sent."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length).decode()
        if len(body) < length:  # killed half way
            return
        with self.server.lock:  # type: ignore[attr-defined]
            refuses = self.server.chance.random() < 0.01  # type: ignore[attr-defined]
            if not refuses:
                self.server.seen.append(tuple(body.split()))  # type: ignore[attr-defined]
        self.send_response(503 if refuses else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.seen: list[tuple[str, str, str, str]] = []
        self.lock = threading.Lock()
        self.chance = random.Random(4711)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def begin(path: Path, port: int, who: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests/support", *sys.path])}
    command = [sys.executable, "-c", WORKER, str(path), str(port), who]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_nothing_is_lost_whenever_processes_are_killed(tmp_path: Path, server: Server, rounds: int) -> None:
    path = tmp_path / "a.sqlite"
    chance = random.Random(815)
    put: list[str] = []
    for _ in range(rounds):
        workers = [begin(path, server.server_port, who) for who in ("one", "two")]
        outs = []
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"begun\n"
        for worker in workers:
            time.sleep(chance.uniform(0.0, 0.25))
            worker.send_signal(signal.SIGKILL)
            outs.append(worker.communicate(timeout=30))
        for out, err in outs:
            assert err == b""
            put += [
                id_ for line in out.decode().splitlines(keepends=True) if line.endswith("\n") for id_ in line.split()
            ]
    drain = begin(path, server.server_port, "drain")
    assert (*drain.communicate(timeout=60), drain.returncode) == (b"", b"", 0)

    assert Outbox(path).messages() == []
    assert len(put) >= 2 * rounds
    assert set(put) <= {id_ for id_, *_ in server.seen}
    bodies: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    groups: defaultdict[str, list[tuple[int, bool]]] = defaultdict(list)
    for id_, key, started, over in server.seen:
        bodies[id_].add((key, started, over))
        groups[key].append((int(started), over == "True"))
    assert all(len(body) == 1 for body in bodies.values())
    for told in groups.values():
        assert told == sorted(told)
        assert len(set(told)) > 1
