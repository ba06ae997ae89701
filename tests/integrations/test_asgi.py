"""The middleware around applications: what they see, what their clients see, and how calls end."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from asgi_calls import JSON, Model, call, scope_of, served
from fakes import Broken, Pieces

from llmguard import Guard
from llmguard.integrations.asgi import GuardMiddleware
from llmguard.integrations.served import UpstreamError, path_of

PATH = "/v1/chat/completions"
SSE = b"text/event-stream"


def guard(action: str = "redact", on_block: Any = "raise") -> Guard:
    rules = [
        {"detector": "pieces", "stage": ["input", "output"], "categories": ["PIECE"], "action": action},
        {"detector": "pieces", "stage": ["input", "output"], "categories": ["LONG"], "action": "block"},
    ]
    return Guard({"name": "p", "on_block": on_block, "rules": rules}, detectors=[Pieces()])


def asked(text: str = "hi", **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def answered(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"object": "chat.completion", "choices": [{"index": 0, "message": message}]}).encode()


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return (
        b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
    )


def said(body: bytes) -> str:
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    return "".join([choice["delta"].get("content") or "" for one in events for choice in one["choices"]])


class App(Model):
    """A model that streams, and counts what it could send."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(*pieces, kind=SSE)
        self.sent = 0
        self.ended: BaseException | None = None
        self.last: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def counted(message: Any) -> None:
            await send(message)
            self.sent += 1

        try:
            await super().__call__(scope, receive, counted)
        except BaseException as error:
            self.ended = error
            self.last = await receive()
            raise


async def test_an_answer_is_cleared_both_ways() -> None:
    model = Model(answered("take abc")[:30], answered("take abc")[30:])
    app = GuardMiddleware(model, guard=guard())
    got = await call(app, "POST", PATH, [asked("say abc")[:9], asked("say abc")[9:]])
    assert b"abc" not in model.asked[0]
    assert b"take abc" in got.body  # the caller's own word, restored
    got = await call(app, "POST", PATH, asked("hi"))
    assert got.status == 200
    assert b"abc" not in got.body
    assert int(got.header(b"content-length") or 0) == len(got.body)
    assert json.loads(got.body)["choices"][0]["message"]["content"].startswith("take ")


async def test_a_stream_goes_out_piece_by_piece() -> None:
    model = App()
    model.pieces = [event("one "), event("two a"), event("b"), event("c x", "stop"), b"data: [DONE]\n\n"]
    seen: list[tuple[int, str]] = []
    app = GuardMiddleware(model, guard=guard())
    got = await call(
        app, "POST", PATH, asked(stream=True), on_send=lambda m: seen.append((model.sent, said(m.get("body", b""))))
    )
    assert "abc" not in said(got.body)
    assert said(got.body).startswith("one two ")
    assert said(got.body).endswith(" x")
    assert got.whole
    assert got.header(b"content-type") == SSE
    # What was sent before the application sent its next piece: nothing waits that need not.
    assert [text for count, text in seen if count <= 1] == ["", "one "]
    assert got.body.endswith(b"data: [DONE]\n\n")


async def test_a_block_in_mid_stream_ends_well_formed_and_stops_the_application() -> None:
    model = App(event("one "), event("abbc two"), event("three"), event("four"))
    got = await call(GuardMiddleware(model, guard=guard()), "POST", PATH, asked(stream=True))
    assert got.whole
    assert said(got.body) == "one "
    assert b'"content_filter"' in got.body
    assert got.body.endswith(b"data: [DONE]\n\n")
    assert model.sent == 2  # the head, and the first event
    assert isinstance(model.ended, OSError)
    assert model.last == {"type": "http.disconnect"}


async def test_an_application_that_speaks_on_after_the_end_is_not_heard() -> None:
    failures = []

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", SSE)]})
        for text in ("abbc", "secret", "more"):
            try:
                await send({"type": "http.response.body", "body": event(text), "more_body": True})
            except OSError as error:
                failures.append(error)

    got = await call(GuardMiddleware(stubborn, guard=guard()), "POST", PATH, asked(stream=True))
    assert len(failures) == 3
    assert said(got.body) == ""
    assert got.whole


async def test_a_retry_asks_the_application_again() -> None:
    model = Model()
    answers = iter([[answered("abbc")], [answered("fine")]])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        model.pieces = next(answers)
        await model(scope, receive, send)

    got = await call(GuardMiddleware(app, guard=guard(on_block={"retry": 2})), "POST", PATH, asked("hello"))
    assert json.loads(got.body)["choices"][0]["message"]["content"] == "fine"
    assert len(model.asked) == 2
    assert b"withheld" in model.asked[1]
    for body, scope in zip(model.asked, model.scopes, strict=True):
        assert dict(scope["headers"])[b"content-length"] == str(len(body)).encode()


async def test_a_stream_that_is_blocked_at_once_is_asked_for_again() -> None:
    model = Model(kind=SSE)
    answers = iter([[event("abbc"), event("x")], [event("fine", "stop"), b"data: [DONE]\n\n"]])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        model.pieces = next(answers)
        await model(scope, receive, send)

    got = await call(GuardMiddleware(app, guard=guard(on_block={"retry": 1})), "POST", PATH, asked(stream=True))
    assert said(got.body) == "fine"
    assert len(model.asked) == 2


async def test_a_stream_that_is_blocked_at_once_gets_the_fallback() -> None:
    model = Model(event("abbc"), event("x"), kind=SSE)
    app = GuardMiddleware(model, guard=guard(on_block="fallback"), fallback=lambda _: "Something else.")
    got = await call(app, "POST", PATH, asked(stream=True))
    assert said(got.body) == "Something else."
    assert got.whole


async def test_a_fallback_goes_on_where_a_stream_is_blocked_in_its_midst() -> None:
    model = Model(event("one "), event("abbc"), event("x"), kind=SSE)
    app = GuardMiddleware(model, guard=guard(on_block="fallback"), fallback=lambda _: "Something else.")
    got = await call(app, "POST", PATH, asked(stream=True))
    assert said(got.body) == "one Something else."
    assert got.whole


@pytest.mark.parametrize("claimed", [[(b"content-length", b"5000")], []])
async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(claimed: Any) -> None:
    model, read = Model(), []

    async def receive() -> Any:
        read.append(1)
        return {"type": "http.request", "body": b"x" * 400, "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = GuardMiddleware(model, guard=guard(), limit=1000)
    await app(scope_of("POST", PATH, [*JSON, *claimed]), receive, send)
    assert len(read) == (0 if claimed else 3)
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]
    assert not model.asked


async def test_an_answer_beyond_the_limit_is_refused() -> None:
    model = Model(*[b" " * 400] * 5)
    got = await call(GuardMiddleware(model, guard=guard(), limit=1000), "POST", PATH, asked())
    assert got.status == 502
    assert json.loads(got.body)["error"]["code"] == "llmguard_size"


async def test_a_client_that_leaves_before_its_request_is_whole_asks_nothing() -> None:
    model = Model()
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        raise AssertionError

    await GuardMiddleware(model, guard=guard())(scope_of("POST", PATH), receive, send)
    assert not model.asked


async def test_the_application_is_told_that_its_client_has_left() -> None:
    left = asyncio.Event()
    told = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.append((await receive())["type"])
        told.append((await receive())["type"])

    first = iter([{"type": "http.request", "body": asked(), "more_body": False}])

    async def receive() -> Any:
        message = next(first, None)
        if message is None:
            await left.wait()
            return {"type": "http.disconnect"}
        return message

    async def send(message: Any) -> None:
        raise AssertionError

    running = asyncio.create_task(GuardMiddleware(app, guard=guard())(scope_of("POST", PATH), receive, send))
    await asyncio.sleep(0)
    left.set()
    await running
    assert told == ["http.request", "http.disconnect"]


async def test_a_cancelled_call_abandons_its_stream() -> None:
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", SSE)]})
        await send({"type": "http.response.body", "body": event("say a"), "more_body": True})
        begun.set()
        await asyncio.Event().wait()

    own = guard()
    task = asyncio.create_task(call(GuardMiddleware(app, guard=own), "POST", PATH, asked("abc", stream=True)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    own.close()


async def test_an_application_that_fails_is_not_hidden() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await call(GuardMiddleware(app, guard=guard()), "POST", PATH, asked())


async def test_an_answer_that_breaks_off_has_no_end() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", SSE)]})
        await send({"type": "http.response.body", "body": event("one a"), "more_body": True})
        raise UpstreamError(502, "the upstream broke off", "broken")

    got = await call(GuardMiddleware(app, guard=guard()), "POST", PATH, asked(stream=True))
    assert said(got.body) == "one "
    assert not got.whole


async def test_an_upstream_in_vain_is_told_in_the_formats_words() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise UpstreamError(504, "the upstream took too long", "timeout")

    got = await call(GuardMiddleware(app, guard=guard()), "POST", "/v1/messages", asked(max_tokens=9))
    assert got.status == 504
    assert json.loads(got.body)["type"] == "error"


async def test_extensions_that_would_send_past_us_are_not_offered() -> None:
    model = Model(answered("x"))
    extensions = {"http.response.pathsend": {}, "http.response.trailers": {}, "tls": {"tls_version": 1}}
    await call(GuardMiddleware(model, guard=guard()), "POST", PATH, asked(), extensions=extensions)
    assert model.scopes[0]["extensions"] == {"tls": {"tls_version": 1}}


@pytest.mark.parametrize("kind", ["http.response.pathsend", "http.response.zerocopysend"])
async def test_files_cant_be_sent_past_us(kind: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(JSON)})
        await send({"type": kind, "path": "/etc/hosts", "file": None})

    with pytest.raises(RuntimeError, match=kind):
        await call(GuardMiddleware(app, guard=guard()), "POST", PATH, asked())


async def test_trailers_and_pushes_are_dropped() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [*JSON, (b"trailer", b"x")], "trailers": 1}
        )
        await send({"type": "http.response.push", "path": "/abc", "headers": []})
        await send({"type": "http.response.body", "body": answered("x")})
        await send({"type": "http.response.trailers", "headers": [(b"x", b"abc")], "more_trailers": False})

    got = await call(GuardMiddleware(app, guard=guard()), "POST", PATH, asked())
    assert got.status == 200
    assert got.header(b"trailer") is None


async def test_lifespan_reaches_the_application() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await GuardMiddleware(app, guard=guard())({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    ("path", "unmatched", "closed"),
    [(PATH, "pass", True), ("/chat", "pass", False), ("/chat", "refuse", True), (f"/{PATH}", "pass", True)],
)
async def test_websockets_are_turned_away_where_they_could_lead_around(path: str, unmatched: Any, closed: bool) -> None:
    seen, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {**scope_of("GET", path, []), "type": "websocket"}
    await GuardMiddleware(app, guard=guard(), unmatched=unmatched)(scope, receive, send)
    assert (seen == []) is closed
    assert [message["code"] for message in sent] == ([1008] if closed else [])


async def test_requests_without_texts_pass_without_a_body_that_nobody_looked_at() -> None:
    model = Model(b'{"data":[]}')
    app = GuardMiddleware(model, guard=guard())
    assert (await call(app, "GET", "/v1/models", b"say abc", [*JSON, (b"content-length", b"7")])).status == 200
    assert (await call(app, "OPTIONS", PATH, b"", [(b"origin", b"http://x")])).status == 200
    assert model.asked == [b"", b""]
    assert model.scopes[0]["headers"] == []
    assert (await call(app, "POST", "/v1/files", b"x")).status == 404
    assert len(model.asked) == 2


async def test_other_requests_pass_as_they_are_where_the_policy_says_so() -> None:
    model = Model(b"abc", kind=b"text/plain")
    got = await call(GuardMiddleware(model, guard=guard(), unmatched="pass"), "POST", "/other", b"say abc")
    assert (got.body, model.asked) == (b"abc", [b"say abc"])


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({}, PATH),
        ({"root_path": "/llm", "path": f"/llm{PATH}", "raw_path": f"/llm{PATH}".encode()}, PATH),
        ({"root_path": "/llm/", "path": f"/llm{PATH}", "raw_path": f"/llm{PATH}".encode()}, PATH),
        ({"root_path": "/llm", "path": PATH, "raw_path": PATH.encode()}, PATH),
        ({"root_path": "/a b", "path": f"/a b{PATH}", "raw_path": f"/a%20b{PATH}".encode()}, PATH),
        ({"raw_path": None}, PATH),
        ({"raw_path": None, "path": "/v1/a b"}, "/v1/a%20b"),
        ({"raw_path": b"/elsewhere"}, PATH),
        ({"path": "/v1/a/b", "raw_path": b"/v1/a%2Fb"}, "/v1/a%2Fb"),
        ({"raw_path": f"{PATH}?x=1".encode()}, PATH),
    ],
)
def test_the_path_is_the_one_that_the_application_goes_by(more: Any, path: str) -> None:
    assert path_of({**scope_of("POST", PATH), **more}) == path


async def test_detectors_in_threads_dont_block_the_loop() -> None:
    slow = Broken(lambda texts: [[] for _ in texts], inline=False)
    own = Guard({"name": "p", "rules": [{"detector": "broken", "stage": "input", "action": "block"}]}, detectors=[slow])
    model = Model(answered("x"))
    app = GuardMiddleware(model, guard=own)
    got = await asyncio.gather(*[call(app, "POST", PATH, asked(f"hi {n}")) for n in range(8)])
    assert [one.status for one in got] == [200] * 8
    assert len(model.asked) == 8
    own.close()


async def test_a_thousand_streams_at_a_time_stay_apart() -> None:
    together = asyncio.Barrier(1000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        who = json.loads((await receive())["body"])["messages"][0]["content"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", SSE)]})
        await together.wait()
        for piece in (f"{who} sa", "ys ab", "c and a", f"b {who}"):
            await send({"type": "http.response.body", "body": event(piece), "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    guarded = GuardMiddleware(app, guard=guard())
    got = await asyncio.gather(*[call(guarded, "POST", PATH, asked(f"n{n}", stream=True)) for n in range(1000)])
    assert [said(one.body) for one in got] == [f"n{n} says <PIECE_1> and ab n{n}" for n in range(1000)]


async def test_under_uvicorn_over_real_sockets() -> None:
    model = App(event("one "), event("two abc "), event("three abbc"), event("four"))
    with served(GuardMiddleware(model, guard=guard()), lifespan="off") as (url, _):
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            got = await client.post(PATH, json=json.loads(asked("say it", stream=True)))
            assert got.status_code == 200
            assert said(got.content).startswith("one two ")
            assert "abc" not in got.text
            assert "four" not in got.text
            assert b'"content_filter"' in got.content
            big = await client.post(
                PATH, content=b"x" * 1000, headers={"content-length": "1000", "content-encoding": "br"}
            )
            assert big.status_code == 415
            assert (await client.get("/nothing")).status_code == 404
            await client.post(PATH, json=json.loads(asked("say abc")))
    assert b"abc" not in model.asked[-1]
