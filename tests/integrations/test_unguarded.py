"""What could not be read is counted, once, whichever way it came; and what became of it."""

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from asgi_calls import JSON, Model, call
from fakes import Pieces

from llmguard import Blocked, Guard
from llmguard.integrations.asgi import GuardMiddleware
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Upstream
from llmguard.testing import capture

PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
STREAM = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
FINE = json.dumps({"object": "chat.completion", "choices": []}).encode()
BR = (b"content-encoding", b"br")
RULES = [
    {"detector": "pieces", "stage": ["input", "output"], "categories": ["PIECE"], "action": "redact"},
    {"detector": "pieces", "stage": ["input", "output"], "categories": ["LONG"], "action": "block"},
]


@contextmanager
def counted(**policy: Any) -> Iterator[tuple[Guard, dict[tuple[str, str, str], int]]]:
    """A guard, and what was counted when the block is over."""
    found: dict[tuple[str, str, str], int] = {}
    with capture() as seen:
        rules = {"name": "p", "rules": RULES, **policy}
        with Guard(rules, detectors=[Pieces()], meter_provider=seen.meter_provider) as guard:
            yield guard, found
        for point in seen.metrics().get("llmguard.requests.unguarded", ()):
            labels = point.attributes
            keys = ("llmguard.unguarded.reason", "llmguard.unguarded.outcome", "llmguard.dialect")
            found[tuple(labels[key] for key in keys)] = point.value


CASES: list[tuple[str, str, bytes, list[Any], bytes, str, dict[tuple[str, str, str], int]]] = [
    # what is counted where all else is refused, and where it is passed
    ("POST", PATH, BODY, [], FINE, "", {}),
    ("GET", "/v1/models", b"", [], FINE, "", {}),
    ("POST", "/nowhere", BODY, [], FINE, "route", {}),
    ("POST", "/v1//chat/completions", BODY, [], FINE, "", {("path", "refused", "none"): 1}),
    ("POST", PATH, b"no json", [], FINE, "", {("body", "refused", "openai.chat"): 1}),
    ("POST", PATH, b'{"messages": 7}', [], FINE, "body", {}),
    ("POST", PATH, BODY, [BR], FINE, "", {("encoding", "refused", "openai.chat"): 1}),
    ("POST", PATH, b"x" * 5_000, [], FINE, "", {("size", "refused", "openai.chat"): 1}),
    ("POST", PATH, BODY, [], b"no json", "", {("answer", "refused", "openai.chat"): 1}),
    ("POST", PATH, BODY, [], b'{"choices": 7}', "answer", {}),
    ("POST", PATH, BODY, [], b"x" * 5_000, "", {("answer", "refused", "openai.chat"): 1}),
]
DAMAGED = b'data: {"choices": [{"index": 0, "delta": {"content": "a "}}]}\n\ndata: {no\n\n'


def expected(policied: str, unmatched: str, either: dict[Any, int]) -> dict[Any, int]:
    if not policied:
        return either
    outcome = "refused" if unmatched == "refuse" else "passed"
    return {(policied, outcome, "none" if policied == "route" else "openai.chat"): 1}


@pytest.mark.parametrize("unmatched", ["refuse", "pass"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]} {case[5]} {[*case[6]]}")
async def test_the_middleware_and_the_proxy_count_alike(case: Any, unmatched: Any) -> None:
    method, path, body, headers, answer, policied, either = case
    for proxied in (False, True):
        with counted() as (guard, found):
            model = Model(answer)
            if proxied:
                upstream = Upstream("http://far", transport=httpx.ASGITransport(model))
                app: Any = Proxy(upstream, guard, unmatched=unmatched, limit=4_000)
            else:
                app = GuardMiddleware(model, guard, unmatched=unmatched, limit=4_000)
            await call(app, method, path, body, [*JSON, *headers])
        assert found == expected(policied, unmatched, either)


@pytest.mark.parametrize("unmatched", ["refuse", "pass"])
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if len(case[2]) + len(case[4]) < 4_000],
    ids=lambda case: f"{case[1]} {case[5]} {[*case[6]]}",
)
async def test_so_do_wrapped_clients(case: Any, unmatched: Any) -> None:
    method, path, body, headers, answer, policied, either = case

    def far(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=[("content-type", "application/json")], content=answer)

    url = f"http://far{path}"
    for kind in (httpx.Client, httpx.AsyncClient):
        with counted() as (guard, found):
            client = guard.wrap(kind(transport=httpx.MockTransport(far)), unmatched=unmatched)
            got = client.request(method, url, content=body, headers=[*JSON, *headers])
            await got if asyncio.iscoroutine(got) else got
        assert found == expected(policied, unmatched, either)


async def test_a_stream_that_can_not_be_read_on_is_counted_once() -> None:
    with counted() as (guard, found):
        model = Model(
            b'data: {"choices": [{"index": 0, "delta": {"content": "a "}}]}\n\n',
            b"data: {no\n\n",
            kind=b"text/event-stream",
        )
        await call(GuardMiddleware(model, guard), "POST", PATH, STREAM)
    assert found == {("answer", "refused", "openai.chat"): 1}


async def test_so_is_one_that_came_compressed() -> None:
    with counted() as (guard, found):
        model = Model(gzip.compress(DAMAGED), kind=b"text/event-stream")
        model.headers.append((b"content-encoding", b"gzip"))
        await call(GuardMiddleware(model, guard), "POST", PATH, STREAM)
    assert found == {("answer", "refused", "openai.chat"): 1}


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("OPTIONS", PATH)])
async def test_a_body_that_is_passed_unread_is_counted_also_where_none_is_expected(method: str, path: str) -> None:
    told = [*JSON, (b"content-length", b"%d" % len(BODY))]
    for unmatched, expected in (("refuse", {}), ("pass", {("route", "passed", "none"): 1})):
        with counted() as (guard, found):
            model = Model(FINE)
            await call(GuardMiddleware(model, guard, unmatched=unmatched), method, path, BODY, told)
        assert (found, model.asked) == (expected, [BODY if expected else b""])


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize(("unmatched", "outcome"), [("refuse", "refused"), ("pass", "passed")])
async def test_sockets_are_counted(unmatched: Any, outcome: str, proxied: bool) -> None:
    codes: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 1000})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        assert message["type"] == "websocket.close"
        codes.append(message["code"])

    with counted() as (guard, found):
        scope = {"type": "websocket", "path": "/ws", "raw_path": b"/ws", "headers": []}
        if proxied:  # it passes none on, whatever the policy says
            outcome = "refused"
            await Proxy(Upstream("http://far"), guard, unmatched=unmatched)(scope, receive, send)
        else:
            await GuardMiddleware(app, guard, unmatched=unmatched)(scope, receive, send)
    assert found == {("socket", outcome, "none"): 1}
    assert codes == [1000 if outcome == "passed" else 1008]


async def test_fallbacks_of_the_middleware_do_not_hold_the_event_loop_up() -> None:
    here = threading.current_thread()

    def plain(_: object) -> str:
        assert threading.current_thread() is not here
        return "Something else."

    async def later(_: object) -> Any:
        await asyncio.sleep(0)
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Something else."}}]}

    asked = BODY.replace(b"hi", b"abbc")
    for fallback in (plain, later):
        with counted(on_block="fallback") as (guard, _):
            got = await call(GuardMiddleware(Model(FINE), guard, fallback=fallback), "POST", PATH, asked)
            assert json.loads(got.body)["choices"][0]["message"]["content"] == "Something else."
            stream = Model(
                b'data: {"choices": [{"index": 0, "delta": {"content": "abbc"}}]}\n\n', kind=b"text/event-stream"
            )
            got = await call(GuardMiddleware(stream, guard, fallback=fallback), "POST", PATH, STREAM)
            assert b"Something else." in got.body


async def test_fallbacks_of_wrapped_clients_are_waited_for() -> None:
    async def later(_: object) -> str:
        return "Something else."

    def far(request: httpx.Request) -> httpx.Response:
        raise AssertionError("blocked before")

    asked = BODY.replace(b"hi", b"abbc")
    with counted(on_block="fallback") as (guard, _):
        client = guard.wrap(httpx.AsyncClient(transport=httpx.MockTransport(far)), fallback=later)
        got = await client.post(f"http://far{PATH}", content=asked, headers=[*JSON])
        assert got.json()["choices"][0]["message"]["content"] == "Something else."
    with counted() as (guard, found), pytest.raises(Blocked):
        guard.wrap(httpx.Client(transport=httpx.MockTransport(far))).post(f"http://far{PATH}", content=asked)
    assert found == {}  # what is read and blocked is a decision
