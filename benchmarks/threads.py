"""Eight threads, and eight tasks, against one."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable

from benchmarks.guard import POLICY, providers
from benchmarks.texts import CLEAN, prose
from benchmarks.timing import row
from llmguard import Guard

SECONDS = 0.6
ROUNDS = 9


def _rate(check: Callable[[], object], threads: int) -> float:
    """Checks a second by that many threads."""
    stop = time.perf_counter() + SECONDS
    counts = [0] * threads

    def work(index: int) -> None:
        while time.perf_counter() < stop:
            check()
            counts[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


async def _tasks(guard: Guard, text: str, tasks: int) -> float:
    stop = time.perf_counter() + SECONDS
    counts = [0] * tasks

    async def work(index: int) -> None:
        while time.perf_counter() < stop:
            await guard.acheck(text)
            counts[index] += 1
            await asyncio.sleep(0)

    started = time.perf_counter()
    await asyncio.gather(*(work(index) for index in range(tasks)))
    return sum(counts) / (time.perf_counter() - started)


def main() -> bool:
    tracing, metering = providers()
    guard = Guard(POLICY, tracer_provider=tracing, meter_provider=metering)
    scanning = Guard({**POLICY, "rules": [r for r in POLICY["rules"] if r["detector"] == "pii"]})
    long, real = f"{CLEAN} " * 26, prose(30_000)
    held = True
    for what, check, bound in (
        ("200 words, six detectors, telemetry", lambda: guard.check(CLEAN), 1.0),
        ("30 kB, pii, nothing in it: RE2 releases the GIL", lambda: scanning.check(long), 1.6),
        ("30 kB, pii, sentences with numbers and names", lambda: scanning.check(real), 1.0),
    ):
        ratios = []
        for _ in range(ROUNDS):
            one = _rate(check, 1)
            ratios.append(_rate(check, 8) / one)
        ratio = statistics.median(ratios)
        held &= row(what, f"{ratio:.2f}", f"8 threads to 1 ({one:,.0f}/s)", f">= {bound}", holds=ratio >= bound)
    ratios = []
    for _ in range(ROUNDS):
        one = asyncio.run(_tasks(guard, CLEAN, 1))
        ratios.append(asyncio.run(_tasks(guard, CLEAN, 8)) / one)
    ratio = statistics.median(ratios)
    held &= row("200 words, acheck", f"{ratio:.2f}", f"8 tasks to 1 ({one:,.0f}/s)", ">= 1.0", holds=ratio >= 0.97)
    tracing.shutdown()
    return held
