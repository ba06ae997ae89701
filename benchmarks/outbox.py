"""Alerts through the outbox: put on the disk, then delivered to a sink in this process, by the second."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.timing import row
from llmguard.exporters.alerts.delivery import Delivery
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.outbox_rows import encoded
from llmguard.exporters.alerts.sink import DELIVERED, Verdict

BOUND = 2000
ALERTS = 4096
BATCH = 64
THREADS = 16
ROUNDS = 3


class Here:
    """Takes everything at once."""

    name, most, pause_s = "here", 50, 0.0

    def __init__(self) -> None:
        self.taken = 0

    def send(self, message: str, group: Group, now: float) -> Verdict:
        del message, group, now
        self.taken += 1
        return Verdict(DELIVERED)

    def close(self) -> None:
        """Nothing is open."""


def _groups() -> list[tuple[str, Group]]:
    labels = {"alertname": "Blocks", "severity": "critical", "team": "safety"}
    said = {
        "summary": "More than 5 % of the prompts are blocked",
        "value": "0.071",
        "policy": "shop 7",
        "window": "300 s",
    }
    return [
        ("here", Group(f"group-{n}", labels, (Notice({**labels, "model": f"m-{n}"}, said, 1.7e9),)))
        for n in range(ALERTS)
    ]


def main() -> bool:
    told = _groups()
    held = True
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        floor = _fsyncs(where / "bare", told[:BATCH])
        row(f"bare SQLite, {BATCH} inserts a commit (WAL, FULL)", f"{floor:,.0f} /s", "by the clock")
        for what, size in ((f"put {BATCH} at a time, delivered", BATCH), ("  512 at a time", 512)):
            rate, cpu = max(_batches(where / f"{size}-{n}", told, size) for n in range(ROUNDS))
            ratio = (
                f"{rate / BOUND:.1f} of the bound, {rate / floor:.2f} of bare inserts; {cpu:,.0f} /s of processor time"
            )
            held &= row(what, f"{rate:,.0f} /s", ratio, f">= {BOUND:,} /s", holds=rate >= BOUND)
        rate = max(_threads(where / f"threads-{n}", told) for n in range(ROUNDS))
        row(f"put one at a time by {THREADS} threads, delivered", f"{rate:,.0f} /s", "group commit")
        rate = max(_batches(where / f"one-{n}", told[:512], 1)[0] for n in range(ROUNDS))
        row("put one at a time by one thread, delivered", f"{rate:,.0f} /s", "one wait for the disk each")
    return held


def _fsyncs(path: Path, told: list[tuple[str, Group]]) -> float:
    bare = sqlite3.connect(path, isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE bare(seq INTEGER PRIMARY KEY, body TEXT)")
    rates = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(0, ALERTS, BATCH):
            bare.execute("BEGIN IMMEDIATE")
            bare.executemany("INSERT INTO bare(body) VALUES(?)", [(encoded(group),) for _, group in told])
            bare.execute("COMMIT")
        rates.append(ALERTS / (time.perf_counter() - begun))
    bare.close()
    return max(rates)


def _batches(path: Path, told: list[tuple[str, Group]], size: int) -> tuple[float, float]:
    """Put and delivered in turn on one thread: by the clock, and by the processor time of this process."""
    sink, outbox = Here(), Outbox(path)
    delivery = Delivery(outbox, [sink])
    begun, used = time.perf_counter(), time.process_time()
    for start in range(0, len(told), size):
        outbox.put(told[start : start + size])
        while delivery.turn("here") == 0.0:
            pass
    took, cpu = time.perf_counter() - begun, time.process_time() - used
    assert sink.taken == len(told)
    delivery.shutdown()
    return len(told) / took, len(told) / cpu


def _threads(path: Path, told: list[tuple[str, Group]]) -> float:
    sink, outbox = Here(), Outbox(path)
    delivery = Delivery(outbox, [sink])
    delivery.start()

    def work(first: int) -> None:
        for one in told[first::THREADS]:
            outbox.put([one])

    begun = time.perf_counter()
    threads = [threading.Thread(target=work, args=(first,)) for first in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert delivery.force_flush()
    took = time.perf_counter() - begun
    assert sink.taken == len(told)
    delivery.shutdown()
    return len(told) / took


if __name__ == "__main__":
    main()
