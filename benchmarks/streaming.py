"""What a guarded stream costs a chunk, an event and in memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable

from benchmarks.texts import CLEAN
from benchmarks.timing import row
from llmguard import Guard, TelemetrySettings
from llmguard.integrations.http import HttpCall, HttpGuard
from llmguard.waiting import drive

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
        held &= _events(guard)
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


def _events(guard: Guard) -> bool:
    """What a streamed exchange costs an event, all of it: taking apart, checking, writing."""
    pieces = [TEXT[at : at + CHUNK] for at in range(0, 2_400, CHUNK)]
    events = [_event({"role": "assistant", "content": ""}), *[_event({"content": piece}) for piece in pieces]]
    http = HttpGuard(guard)
    asked = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello."}]}).encode()

    def read() -> float:
        call = http.open("POST", "/v1/chat/completions")
        assert isinstance(call, HttpCall)
        drive(call.request((), asked))
        stream = call.begin(200, ((b"content-type", b"text/event-stream"),))
        assert stream is not None
        took = _timed(lambda: [drive(stream.feed(event)) for event in events] and drive(stream.close()))
        call.close()
        return took

    each = min([read() for _ in range(20)]) / len(events)
    alone = min([_timed(lambda: _read(guard, pieces)) for _ in range(20)]) / len(pieces)
    figures = f"{each / 30e-6:.1f} of the bound, {each / alone:.2f} of the stream alone"
    return row("an event of an exchange, OpenAI chat", f"{each * 1e6:.1f} us", figures, "< 30 us", holds=each < 30e-6)


def _event(delta: dict[str, str]) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    made = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: %s\n\n" % json.dumps(made).encode()
