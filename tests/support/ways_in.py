"""Every way that texts can come to a guard, and every failure on it, with marked secrets on all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from asgi_calls import JSON, Model, call, served
from marked import ASCII, BROKEN, FAILED, PATH, POLICY, WORDS, answered, both, events, plain, request, secret

from llmguard import Blocked, Guard, Stage
from llmguard.errors import ConfigurationError
from llmguard.integrations.asgi import GuardMiddleware
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Upstream


def upstream(asked: httpx.Request) -> httpx.Response:
    """A model that answers as the request's header ``x-wants`` says."""
    wants = asked.headers.get("x-wants", "")
    headers = {"x-header": secret("header of an answer")}
    if wants == "raise":
        raise httpx.ConnectError(both("raised by the upstream"), request=asked)
    if wants == "fail":
        return httpx.Response(500, headers=headers, content=FAILED)
    if wants == "broken":
        return httpx.Response(200, headers={**headers, "content-type": "application/json"}, content=BROKEN)
    word = asked.headers.get("x-word", "")
    if b'"stream": true' in asked.content or b'"stream":true' in asked.content:
        return httpx.Response(
            200, headers={**headers, "content-type": "text/event-stream"}, stream=Chunks(events(word))
        )
    return httpx.Response(200, headers={**headers, "content-type": "application/json"}, content=answered(word))


class Chunks(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def headers(word: str = "", wants: str = "") -> dict[str, str]:
    return {
        "authorization": f"Bearer {ASCII}-header",
        "x-secret": secret("header"),
        "baggage": f"note={ASCII}baggage",
        "x-word": word,
        "x-wants": wants,
    }


# The ways in. Each takes a guard, and sees that the secrets went through.


def by_checks(guard: Guard) -> None:
    for word in WORDS:
        for stage in Stage:
            decision = guard.check(f"{both('check')} {word}", stage=stage)
            assert both("check") not in repr(decision)
    guard.check_batch([both("batch"), both("batch") + " stopme"], stage="output")
    stream = guard.stream(context=both("retrieved context"))
    assert ASCII in stream.feed(f"{ASCII} streamed, and more to come, and more. ") + stream.close()
    guard.stream().feed(both("given up"))
    guard.check(both("holdon"))  # a detector that hangs past its deadline
    for _ in range(5):
        guard.check(both("breaker"))  # by now that of the other one is open
    assert {run.outcome.value for run in guard.check(both("open")).runs} >= {"open", "pass"}


def by_reload(guard: Guard) -> None:
    broken = {
        "name": "p",
        "rules": [{"detector": "wrds", "action": "flag"}],
        "detectors": {"keywords": {"deny": [both("deny")]}},
    }
    with pytest.raises(ConfigurationError):
        guard.reload(broken)
    rules = [{"detector": "keywords", "action": "block"}]
    with pytest.raises(ConfigurationError):
        guard.reload({"name": "p", "rules": rules, "detectors": {"keywords": {"deny": [both("deny"), 7]}}})
    with pytest.raises(ConfigurationError):
        guard.reload({"name": "p", "rules": rules, "on_block": {"reply": both("reply"), "retry": "often"}})
    guard.reload({**POLICY, "version": "2"})


def ask(question: str) -> str:
    if "raiseit" in question:
        raise RuntimeError(both("raised by a function"))
    return f"{both('returned')} {question}"


async def aask(question: str) -> str:
    return ask(question)


def tell(question: str) -> Iterator[str]:
    for piece in f"{both('yielded')} {question} ".split(" "):
        yield f"{piece} "


async def atell(question: str) -> AsyncIterator[str]:
    for piece in tell(question):
        yield piece


def by_decorator(guard: Guard) -> None:
    asked, asked_async, told, told_async = guard(ask), guard(aask), guard(tell), guard(atell)

    async def all_of(question: str) -> str:
        return "".join([piece async for piece in told_async(question)])

    ways: list[Callable[[str], str]] = [
        asked,
        lambda question: asyncio.run(asked_async(question)),
        lambda question: "".join(told(question)),
        lambda question: asyncio.run(all_of(question)),
    ]
    for way in ways:
        for word in WORDS:
            with contextlib.suppress(Blocked) if word == "stopme" else contextlib.nullcontext():
                assert ASCII in way(f"{both('asked')} {word}")
    for way in ways[:2]:
        with pytest.raises(RuntimeError):
            way(both("raiseit"))
    next(iter(told(both("given up"))))


def by_client(guard: Guard) -> None:
    client = guard.wrap(httpx.Client(transport=httpx.MockTransport(upstream), base_url="http://model.example"))
    with client:
        for body in (plain, request):
            for word in WORDS:
                post(lambda body=body, word=word: client.post(PATH, json=body(word), headers=headers(word)))
                post(lambda body=body, word=word: streamed(client, body(word, stream=True), headers(word)))
        for wants in ("raise", "fail", "broken"):
            post(lambda wants=wants: client.post(PATH, json=plain(""), headers=headers(wants=wants)))
        post(lambda: client.post(PATH, content=b'{"messages": [' + both("malformed").encode(), headers=headers()))
        with contextlib.suppress(Exception), client.stream("POST", PATH, json=plain("", stream=True)) as given_up:
            next(given_up.iter_bytes())


def post(send: Callable[[], Any]) -> None:
    with contextlib.suppress(Blocked, httpx.HTTPError, ValueError, ConfigurationError):
        send()


def streamed(client: httpx.Client, body: Any, headers: dict[str, str]) -> bytes:
    with client.stream("POST", PATH, json=body, headers=headers) as answer:
        return b"".join(answer.iter_bytes())


def by_async_client(guard: Guard) -> None:
    async def all_of_them() -> None:
        transport = httpx.MockTransport(upstream)
        client = guard.wrap(httpx.AsyncClient(transport=transport, base_url="http://model.example"))
        async with client:
            for word in WORDS:
                for stream in (False, True):
                    with contextlib.suppress(Blocked, httpx.HTTPError, ValueError):
                        body = plain(word, stream=stream)
                        async with client.stream("POST", PATH, json=body, headers=headers(word)) as answer:
                            async for _ in answer.aiter_bytes():
                                pass
            for wants in ("raise", "fail", "broken"):
                with contextlib.suppress(httpx.HTTPError, ValueError):
                    await client.post(PATH, json=plain(""), headers=headers(wants=wants))
            async with client.stream("POST", PATH, json=plain("", stream=True), headers=headers()) as given_up:
                async for _ in given_up.aiter_bytes():
                    break

    asyncio.run(all_of_them())


def by_middleware(guard: Guard) -> None:
    given = [*JSON, *[(key.encode(), value.encode()) for key, value in headers().items()]]

    async def explode(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        raise RuntimeError(both("raised by an application"))

    async def all_of_them() -> None:
        for word in WORDS:
            for body, stream in ((plain, False), (plain, True), (request, False)):
                model = Model(*events(word), kind=b"text/event-stream") if stream else Model(answered(word))
                model.headers.append((b"x-secret", secret("header").encode()))
                sent = json.dumps(body(word, stream=stream)).encode()
                answer = await call(GuardMiddleware(model, guard), "POST", PATH, sent, given)
                assert answer.status
        app = GuardMiddleware(Model(answered("")), guard)
        for sent in (
            b'{"messages": [' + both("malformed").encode(),
            both("no json").encode(),
            b"\xff" + ASCII.encode(),
        ):
            assert (await call(app, "POST", PATH, sent, given)).status >= 400
        await call(app, "POST", f"/{ASCII}/path?q={ASCII}", both("unmatched").encode(), given)
        for model in (Model(BROKEN), Model(FAILED, status=500)):
            await call(GuardMiddleware(model, guard), "POST", PATH, json.dumps(plain("")).encode(), given)
        with contextlib.suppress(RuntimeError):
            await call(GuardMiddleware(explode, guard), "POST", PATH, json.dumps(plain("")).encode(), given)

    asyncio.run(all_of_them())


def by_proxy(guard: Guard) -> None:
    model = Model(answered(""))
    model.headers.append((b"x-secret", secret("header").encode()))
    streaming = Model(*events(""), kind=b"text/event-stream")
    with (
        served(model, lifespan="off") as (there, _),
        served(streaming, lifespan="off") as (streams, _),
        served(Model(BROKEN), lifespan="off") as (broken, _),
    ):
        ways = {"": there, "stream": streams, "broken": broken, "gone": "http://127.0.0.1:9"}
        upstreams = {name: Upstream(where) for name, where in ways.items()}

        def pick(scope: Any) -> Upstream:
            return upstreams[dict(scope["headers"]).get(b"x-wants", b"").decode()]

        app = Proxy(upstreams[""], guard, pick=pick)
        with served(app) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
            for name in ways:
                for body in (plain, request):
                    for word in WORDS:
                        client.post(PATH, json=body(word, stream=name == "stream"), headers=headers(wants=name))
                client.post(PATH, content=both("malformed").encode(), headers=headers(wants=name))
                client.post(f"/{ASCII}?q={ASCII}", content=both("unmatched").encode(), headers=headers(wants=name))
            body = plain("", stream=True)
            with client.stream("POST", PATH, json=body, headers=headers(wants="stream")) as given_up:
                next(given_up.iter_bytes())


WAYS_IN: list[Callable[[Guard], None]] = [
    by_checks,
    by_reload,
    by_decorator,
    by_client,
    by_async_client,
    by_middleware,
    by_proxy,
]
