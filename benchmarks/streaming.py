"""What a guarded stream costs a chunk and in memory, and what a wrapped client adds to a call."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator

import httpx

from benchmarks.texts import CLEAN
from benchmarks.timing import row
from llmguard import Guard, TelemetrySettings

TEXT = CLEAN * 4
CHUNK = 4
STREAMS = 1_000


def main() -> bool:
    """Print the rows."""
    quiet = TelemetrySettings(enabled=False)
    pieces = [TEXT[at : at + CHUNK] for at in range(0, len(TEXT), CHUNK)]
    held = True
    with Guard(telemetry=quiet) as guard:
        guard.warm()
        each = min(_timed(lambda: _read(guard, pieces)) for _ in range(20)) / len(pieces)
        held &= row("a chunk, default preset, no findings", f"{each * 1e6:.1f} us", "", "< 30 us", holds=each < 30e-6)
        late = _held_back(guard, pieces)
        row("held back, on average", f"{late:.1f}", "characters")
        held &= _many(guard, [TEXT[at : at + 40] for at in range(0, 2_000, 40)])
        held &= _wrapped(guard)
    return held


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _read(guard: Guard, pieces: list[str]) -> None:
    with guard.stream() as stream:
        for piece in pieces:
            stream.feed(piece)
        stream.close()


def _held_back(guard: Guard, pieces: list[str]) -> float:
    came = gone = total = 0
    with guard.stream() as stream:
        for piece in pieces:
            came += len(piece)
            gone += len(stream.feed(piece))
            total += came - gone
    return total / len(pieces)


def _many(guard: Guard, pieces: list[str]) -> bool:
    """A thousand streams side by side, each to its end."""
    tracemalloc.start()
    streams = [guard.stream() for _ in range(STREAMS)]
    for piece in pieces:
        for stream in streams:
            stream.feed(piece)
    size = tracemalloc.get_traced_memory()[0] / STREAMS
    tracemalloc.stop()
    said = {stream.close() is not None for stream in streams}
    kilobytes = size / 1024
    what = f"memory of a stream, {sum(map(len, pieces)):,} characters in"
    return row(
        what, f"{kilobytes:.1f} kB", f"{len(streams):,} streams to the end", "< 64 kB", holds=kilobytes < 64
    ) and (said == {True})


def _wrapped(guard: Guard) -> bool:
    """What a wrapped client adds to a call beyond the checks of its texts."""
    message = {"role": "assistant", "content": TEXT[:800]}
    answer = json.dumps(
        {"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    ).encode()
    body = {"model": "m", "messages": [{"role": "user", "content": TEXT[:800]}]}

    def serve(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "application/json"}, content=answer)

    with httpx.Client(base_url="http://model", transport=httpx.MockTransport(serve)) as bare:
        made = guard.wrap(bare)

        def call(client: httpx.Client) -> Iterator[float]:
            for _ in range(400):
                yield _timed(lambda: client.post("/v1/chat/completions", json=body))

        def checks() -> None:
            guard.check(TEXT[:800])
            guard.check(TEXT[:800], stage="output")

        list(call(made))
        plain, guarded = sorted(call(bare))[200], sorted(call(made))[200]
        beside = sorted(_timed(checks) for _ in range(400))[200]
    added = guarded - plain - beside
    figures = f"call {plain * 1e6:.0f}, guarded {guarded * 1e6:.0f}, its checks {beside * 1e6:.0f} us"
    return row(
        "a wrapped client adds beyond its checks", f"{added * 1e6:.0f} us", figures, "< 50 us", holds=added < 50e-6
    )
