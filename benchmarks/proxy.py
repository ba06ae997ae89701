"""The proxy with the deterministic detectors on: what it adds to a call, and what it carries, against a bare one of 30 lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.guard import POLICY
from benchmarks.texts import CLEAN
from benchmarks.timing import row

RATE = 100
SECONDS = 2.5
ROUNDS = 4
CONNECTIONS = 16
ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": CLEAN}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 250, "completion_tokens": 250, "total_tokens": 500},
    }
).encode()


async def model(scope: Any, receive: Any, send: Any) -> None:
    """The upstream: answers at once."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def bare(upstream: str) -> Any:
    """A proxy that only hands on."""
    import httpx

    client = httpx.AsyncClient(base_url=upstream, trust_env=False, limits=httpx.Limits(max_connections=1000))
    own = {b"host", b"connection", b"transfer-encoding"}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(key, value) for key, value in scope["headers"] if key not in own]
        request = client.build_request(scope["method"], scope["path"], headers=headers, content=body)
        response = await client.send(request, stream=True)
        try:
            kept = [(key, value) for key, value in response.headers.raw if key.lower() not in own]
            await send({"type": "http.response.start", "status": response.status_code, "headers": kept})
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    return app


class Caller:
    """One connection that is kept, with as little around it as there can be."""

    def __init__(self, port: int) -> None:
        self._port = port
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": CLEAN}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self) -> float:
        """Seconds that one call takes."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        started = time.perf_counter()
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if length:
            await reader.readexactly(int(length))
        else:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        return time.perf_counter() - started

    def close(self) -> None:
        """Leave."""
        if self._streams is not None:
            self._streams[1].close()


async def at_a_rate(port: int, rate: float = RATE, seconds: float = SECONDS) -> list[float]:
    """Seconds of each call, begun at a steady rate, whether the ones before have ended or not."""
    idle: list[Caller] = []
    took: list[float] = []

    async def one() -> None:
        caller = idle.pop() if idle else Caller(port)
        took.append(await caller.call())
        idle.append(caller)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            group.create_task(one())
    for caller in idle:
        caller.close()
    return took


async def at_most(port: int, seconds: float = SECONDS) -> float:
    """Calls a second over some connections, each as fast as it can."""
    until = time.perf_counter() + seconds

    async def one() -> int:
        caller, calls = Caller(port), 0
        while time.perf_counter() < until:
            await caller.call()
            calls += 1
        caller.close()
        return calls

    return sum(await asyncio.gather(*[one() for _ in range(CONNECTIONS)])) / seconds


def processor(pid: int) -> float:
    """Seconds that a process has computed, which is what a call costs whoever else is busy; nan where Linux is not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Server(NamedTuple):
    """Where it listens, and its process."""

    port: int
    pid: int


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[Server]:
    """A server in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, *arguments, "--port", str(port)], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def main() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(json.dumps(POLICY))
        serve = ("-c", "from llmguard.cli import run; run()", "serve", "--policy", str(policy))
        with started("-m", "benchmarks.proxy", "model") as upstream:
            url = f"http://127.0.0.1:{upstream.port}"
            with started("-m", "benchmarks.proxy", "bare", url) as plain, started(*serve, "--upstream", url) as guarded:
                return asyncio.run(measured({"upstream": upstream, "bare": plain, "guarded": guarded}))


async def measured(servers: dict[str, Server]) -> bool:
    took: dict[str, list[float]] = {name: [] for name in servers}
    most: dict[str, list[float]] = {name: [] for name in servers}
    cost: dict[str, list[float]] = {name: [] for name in servers}
    for server in servers.values():
        await at_a_rate(server.port, seconds=1)
    for _ in range(ROUNDS):
        for name, server in servers.items():
            took[name] += await at_a_rate(server.port)
        for name, server in servers.items():
            before = processor(server.pid)
            most[name].append(await at_most(server.port))
            cost[name].append((processor(server.pid) - before) / (most[name][-1] * SECONDS) * 1e3)
    median = {name: statistics.median(times) * 1e3 for name, times in took.items()}
    late = {name: statistics.quantiles(times, n=100)[98] * 1e3 for name, times in took.items()}
    carried = {name: statistics.median(rates) for name, rates in most.items()}
    added, added_late = median["guarded"] - median["upstream"], late["guarded"] - late["upstream"]
    share = carried["guarded"] / carried["bare"]
    held = row(
        f"added to a call at {RATE} a second, median",
        f"{added:.2f} ms",
        f"bare proxy {median['bare'] - median['upstream']:.2f}, upstream itself {median['upstream']:.2f}",
        f"<= 1.5 ms: {added / 1.5:.2f}",
        holds=added <= 1.5,
    )
    held &= row(
        f"added to a call at {RATE} a second, p99",
        f"{added_late:.2f} ms",
        f"bare proxy {late['bare'] - late['upstream']:.2f}, upstream itself {late['upstream']:.2f}",
        f"<= 5 ms: {added_late / 5:.2f}",
        holds=added_late <= 5,
    )
    held &= row(
        f"calls a second, {CONNECTIONS} connections",
        f"{carried['guarded']:,.0f}",
        f"{share:.0%} of the bare proxy's {carried['bare']:,.0f}",
        f">= 40 %: {share / 0.4:.2f}",
        holds=share >= 0.4,
    )
    each = {name: statistics.median(times) for name, times in cost.items()}
    row(
        "processor time a call",
        f"{each['guarded']:.2f} ms",
        f"bare proxy {each['bare']:.2f}, upstream {each['upstream']:.2f}",
    )
    return held


if __name__ == "__main__":
    import uvicorn

    kind, *rest = sys.argv[1:]
    application = model if kind == "model" else bare(rest[0])
    uvicorn.run(
        application, port=int(rest[-1]), log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=600
    )
