"""What wrapping adds to a call beyond its checks: a wrapped call against the same call between two checks by hand.

Both are made in turn, one by one, and what is compared is the fast half of each: a busy machine slows single calls.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable

import httpx

from benchmarks.texts import CLEAN
from benchmarks.timing import row
from llmguard import Guard, TelemetrySettings

TEXT = (CLEAN * 4)[:800]
LIMIT = 50e-6
CALLS = 1_000
REQUEST = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}}],
    }
).encode()


def main() -> bool:
    """Print the rows."""
    held = True
    for enabled in (False, True):
        with Guard(telemetry=TelemetrySettings(enabled=enabled)) as guard:
            guard.warm()
            told = "telemetry on" if enabled else "telemetry off"
            held &= _row(f"a wrapped httpx client, OpenAI chat, {told}", _client(guard))
            held &= _row(f"a guarded function, {told}", _function(guard))
    return held


def serve(_: httpx.Request) -> httpx.Response:
    """Answers at once, as a transport does: its body is still to be read."""
    return httpx.Response(200, headers={"content-type": "application/json"}, stream=httpx.ByteStream(ANSWER))


def _client(guard: Guard) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    bare = httpx.Client(base_url="http://model", transport=httpx.MockTransport(serve))
    made = guard.wrap(bare)

    def call(client: httpx.Client) -> httpx.Response:
        return client.post("/v1/chat/completions", json=REQUEST)

    def by_hand() -> None:
        guard.check(TEXT)
        call(bare)
        guard.check(TEXT, stage="output")

    return lambda: call(bare), by_hand, lambda: call(made)


def _function(guard: Guard) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
    def model(question: str) -> str:
        return question

    made = guard.wrap(model)

    def by_hand() -> None:
        guard.check(TEXT)
        model(TEXT)
        guard.check(TEXT, stage="output")

    return lambda: model(TEXT), by_hand, lambda: made(TEXT)


def _row(what: str, calls: tuple[Callable[[], object], Callable[[], object], Callable[[], object]]) -> bool:
    bare, by_hand, wrapped = _medians(calls)
    added = wrapped - by_hand
    figures = f"bare {bare * 1e6:.0f}, checks by hand {by_hand * 1e6:.0f}, wrapped {wrapped * 1e6:.0f} us"
    share = f"< 50 us: {added / LIMIT:.1f} of it"
    return row(what, f"{added * 1e6:.0f} us", figures, share, holds=added < LIMIT)


def _medians(calls: tuple[Callable[[], object], ...]) -> list[float]:
    """Seconds of each at the median of the faster half."""
    took: list[list[float]] = [[] for _ in calls]
    gc.collect()
    gc.disable()
    try:
        for _ in range(CALLS):
            for call, seen in zip(calls, took, strict=True):
                call()  # again, since the one before may have driven it out of the processor's caches
                started = time.perf_counter()
                call()
                seen.append(time.perf_counter() - started)
    finally:
        gc.enable()
    return [statistics.median(sorted(seen)[: CALLS // 2]) for seen in took]
