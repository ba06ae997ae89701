"""A thousand streams at a time through ``llmguard serve``, each to its end, and what one takes of its memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.proxy import Server, started
from benchmarks.texts import CLEAN
from benchmarks.timing import row

STREAMS = 1_000
#: That are over before it is measured: what a server holds for its first calls it holds once.
FIRST = 50
BOUND_KB = 64
#: Nothing that is told here takes that long, unless it has stopped.
_PATIENCE_S = 300
TEXT = (CLEAN * 4)[:2_000]
PIECES = [TEXT[at : at + 40] for at in range(0, len(TEXT), 40)]
_SERVE = ("-c", "from llmguard.cli import run; run()", "serve", "--unmatched", "pass", "--upstream")
#: Of a format, and of none, which is handed on as it is: what the connections take is taken by both.
GUARDED, HANDED_ON = "/v1/chat/completions", "/elsewhere"


class Seen(NamedTuple):
    """What some streams at a time showed.

    Attributes:
        ended: how many said all that they should, and ended.
        kilobytes: of resident memory a stream, when each had said half; nan where Linux is not.
    """

    ended: int
    kilobytes: float


class Model:
    """The upstream: says who asks and half of a text, and the rest when it is told to."""

    def __init__(self) -> None:
        self._go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, as ASGI has it."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        if scope["path"] == "/go":
            self._go.set()
            self._go = asyncio.Event()
            await send({"type": "http.response.body", "body": b""})
            return
        go = self._go
        said = [json.loads(body)["messages"][-1]["content"], *PIECES]
        for number, piece in enumerate(said):
            if number == len(said) // 2:
                await go.wait()
            await send({"type": "http.response.body", "body": _event({"content": piece}, None), "more_body": True})
        await send({"type": "http.response.body", "body": _event({}, "stop") + b"data: [DONE]\n\n"})


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: %s\n\n" % json.dumps(made).encode()


def main() -> bool:
    seen = {path: seen_of(path) for path in (GUARDED, HANDED_ON)}
    guarded, handed_on = seen[GUARDED], seen[HANDED_ON]
    ended = guarded.ended == STREAMS
    held = row("streams at a time that ran to their end", f"{guarded.ended:,}", "", f"{STREAMS:,}", holds=ended)
    added = guarded.kilobytes - handed_on.kilobytes
    return held & row(
        "memory that guarding a stream takes, 1,000 characters in",
        f"{added:.1f} kB",
        f"with its two connections {guarded.kilobytes:.1f}",
        f"< {BOUND_KB} kB",
        holds=not added >= BOUND_KB,
    )


def seen_of(path: str, streams: int = STREAMS) -> Seen:
    """Streams at a time through a server of their own, with the default preset."""
    with (
        started("-m", "benchmarks.streams") as upstream,
        started(*_SERVE, f"http://127.0.0.1:{upstream.port}") as proxy,
    ):
        return asyncio.run(_told(path, upstream, proxy, streams))


async def _told(path: str, upstream: Server, proxy: Server, streams: int) -> Seen:
    await _together(path, upstream, proxy, FIRST)
    before = _resident(proxy.pid)
    ended, after = await _together(path, upstream, proxy, streams)
    return Seen(ended, (after - before) / streams / 1024)


async def _together(path: str, upstream: Server, proxy: Server, streams: int) -> tuple[int, float]:
    """How many streams ended as they should, and the proxy's memory when all of them had said half."""
    half = asyncio.Barrier(streams + 1)
    async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
        reading = [group.create_task(_read(path, proxy.port, f"n{number} ", half)) for number in range(streams)]
        await half.wait()
        size = _resident(proxy.pid)
        await _answer("/go", upstream.port, b"")
    return sum([task.result() for task in reading]), size


async def _read(path: str, port: int, who: str, half: asyncio.Barrier) -> bool:
    """Whether a stream says what was asked and the text, all of it."""
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": who}]}).encode()
    answer = await _answer(path, port, body, half)
    events = [line[6:] for line in answer.split(b"\n") if line.startswith(b"data: ")]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    return "".join([delta.get("content", "") for delta in deltas]) == who + TEXT and events[-1] == b"[DONE]"


async def _answer(path: str, port: int, body: bytes, half: asyncio.Barrier | None = None) -> bytes:
    """The body of an answer, which waits at the barrier for the others' halves."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    kind = "connection: close\r\ncontent-type: application/json\r\n"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{kind}content-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    said = b""
    with contextlib.closing(writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        while size := int(await reader.readline(), 16):
            said += (await reader.readexactly(size + 2))[:-2]
            if half is not None and said.count(b"data: ") >= len(PIECES) // 2 - 1:
                await half.wait()
                half = None
    return said


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return float("nan")


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(Model(), port=int(sys.argv[-1]), log_level="warning", access_log=False, lifespan="off")
