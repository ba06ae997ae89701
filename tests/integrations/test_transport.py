"""Clients of httpx behind a guard: what they send and are answered, whatever they do with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fakes import Pieces
from model_server import Server, model_server
from telemetry_sdk import Sdk

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.integrations.http import HttpGuard
from llmguard.integrations.transport import guarded

RULES = [
    {"detector": "pieces", "categories": ["LONG"], "action": "block"},
    {"detector": "pieces", "action": "redact"},
]
CHAT = "/v1/chat/completions"


@pytest.fixture
def server() -> Iterator[Server]:
    with model_server() as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard({"name": "p", "rules": RULES}, detectors=[Pieces()]) as made:
        yield made


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def said(response: httpx.Response) -> str:
    return response.json()["choices"][0]["message"]["content"]


def test_both_libraries_are_guarded(server: Server, guard: Guard) -> None:
    for library in (httpx, pytest.importorskip("httpx2")):
        with library.Client(base_url=server.url) as client:
            made = guard.wrap(client)
            assert isinstance(made, library.Client)
            assert said(made.post(CHAT, json=chat("say abc"))) == "You said say abc"
            assert server.seen[-1][1] == chat("say <PIECE_1>")
            with pytest.raises(Blocked):
                made.post(CHAT, json=chat("abbc"))
            assert said(client.post(CHAT, json=chat("say abbc"))) == "You said say abbc"  # the other one is as it was


async def test_async_clients_are_guarded(server: Server, guard: Guard) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        made = guard.wrap(client)
        assert said(await made.post(CHAT, json=chat("say abc"))) == "You said say abc"
        with pytest.raises(Blocked):
            await made.post(CHAT, json=chat("abbc"))
        async with made.stream("POST", CHAT, json=chat("say abc", stream=True)) as response:
            assert "abc" in "".join([text async for text in response.aiter_text()])


def test_a_prefix_of_the_base_url_is_no_way_around(server: Server, guard: Guard) -> None:
    with httpx.Client(base_url=f"{server.url}/team/a") as client:
        made = guard.wrap(client)
        made.post(CHAT, json=chat("say abc"))
        assert server.seen[-1] == ("/team/a" + CHAT, chat("say <PIECE_1>"))


@pytest.mark.parametrize(
    "path", ["/v1//chat/completions", "/V1/chat/completions", "/v1/chat/completions/", "/v1/files"]
)
def test_other_paths_are_refused(server: Server, guard: Guard, path: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        response = guard.wrap(client).post(path, json=chat("abbc"))
    assert response.status_code in (400, 404)
    assert response.json()["error"]["code"].startswith("llmguard_")
    assert server.seen == []


def test_what_is_no_route_may_pass_but_what_is_spelt_oddly_may_not(server: Server, guard: Guard) -> None:
    with httpx.Client(base_url=server.url) as client:
        made = guard.wrap(client, unmatched="pass")
        assert made.post("/other", json=chat("say abc")).status_code == 200
        assert server.seen[-1] == ("/other", chat("say abc"))
        with pytest.raises(Blocked):  # httpx takes the dot out, as servers would
            made.post("/v1/./chat/completions", json=chat("abbc"))
        assert made.post("/V1/chat/completions", json=chat("abbc")).status_code == 400
        assert all("abbc" not in json.dumps(body) for _, body in server.seen)


def test_a_body_that_can_not_be_read_is_refused(server: Server, guard: Guard) -> None:
    with httpx.Client(base_url=server.url) as client:
        made = guard.wrap(client)
        for body in (b"{", b"[]", b'{"messages": 3}', b"\xff", b'{"model": "a", "model": "b", "messages": []}'):
            response = made.post(CHAT, content=body, headers={"content-type": "application/json"})
            assert response.status_code == 400, body
    assert server.seen == []


def test_it_takes_clients_of_httpx_alone(guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match="is no client of httpx"):
        guarded(object(), HttpGuard(guard))


def test_a_call_is_told_once_with_its_tokens_and_without_its_words(server: Server) -> None:
    sdk = Sdk()
    with (
        Guard(
            {"name": "p", "rules": RULES}, detectors=[Pieces()], tracer_provider=sdk.tracers, meter_provider=sdk.meters
        ) as guard,
        httpx.Client(base_url=server.url) as client,
    ):
        made = guard.wrap(client)
        made.post(CHAT, json=chat("say abc"))
        with made.stream("POST", CHAT, json=chat("say abc", stream=True)) as response:
            response.read()
        with made.stream("POST", CHAT, json=chat("say abc", stream=True)) as response:
            pass  # never read
        with pytest.raises(Blocked):
            made.post(CHAT, json=chat("abbc"))
    calls = [span for span in sdk.span_exporter.get_finished_spans() if span.name == "chat m"]
    assert len(calls) == 3
    whole, streamed, left = (dict(span.attributes or {}) for span in calls)
    assert (whole["gen_ai.usage.input_tokens"], whole["gen_ai.usage.output_tokens"]) == (3, 5)
    assert whole["server.address"] == "127.0.0.1"
    assert streamed["gen_ai.response.finish_reasons"] == ("stop",)
    assert "gen_ai.response.time_to_first_chunk" in streamed
    assert "error.type" in left
    told = [  # not the ids, whose digits may spell anything
        (one.name, dict(one.attributes or {}), [dict(e.attributes or {}) for e in one.events], one.status.description)
        for one in sdk.span_exporter.get_finished_spans()
    ]
    assert "abc" not in str(told)


def served(
    *answers: bytes, status: int = 200, kind: str = "text/event-stream"
) -> tuple[httpx.MockTransport, list[Any]]:
    """A model that gives one answer after the other, and the bodies that it was sent."""
    seen: list[Any] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        answer = answers[min(len(seen), len(answers)) - 1]
        return httpx.Response(status, headers={"content-type": kind}, stream=httpx.ByteStream(answer))

    return httpx.MockTransport(serve), seen


def streamed(*pieces: str) -> bytes:
    deltas = [{"role": "assistant", "content": ""}, *[{"content": piece} for piece in pieces]]
    events = [json.dumps({"id": "c", "choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return "".join([f"data: {event}\n\n" for event in [*events, "[DONE]"]]).encode()


def test_a_stream_that_is_blocked_before_it_says_anything_is_asked_for_again() -> None:
    transport, seen = served(streamed("abb", "bc"), streamed("all ", "good"))
    policy = {"name": "p", "rules": RULES, "on_block": {"retry": 1}}
    with Guard(policy, detectors=[Pieces()]) as guard, httpx.Client(base_url="http://m", transport=transport) as client:
        response = guard.wrap(client).post(CHAT, json=chat("hello", stream=True))
    assert response.content == streamed("all ", "good")
    assert [len(body["messages"]) for body in seen] == [1, 1]
    assert "withheld" in seen[1]["messages"][0]["content"]


async def test_a_stream_that_is_blocked_before_it_says_anything_is_asked_for_again_on_a_loop() -> None:
    transport, seen = served(streamed("abbc"), streamed("all ", "good"))
    policy = {"name": "p", "rules": RULES, "on_block": {"retry": 1}}
    with Guard(policy, detectors=[Pieces()]) as guard:
        async with httpx.AsyncClient(base_url="http://m", transport=transport) as client:
            response = await guard.wrap(client).post(CHAT, json=chat("hello", stream=True))
    assert response.content == streamed("all ", "good")
    assert len(seen) == 2


def test_a_stream_that_has_said_something_is_not_asked_for_again() -> None:
    transport, seen = served(streamed("well, ", "abbc"), streamed("good"))
    policy = {"name": "p", "rules": RULES, "on_block": {"retry": 1}}
    with Guard(policy, detectors=[Pieces()]) as guard, httpx.Client(base_url="http://m", transport=transport) as client:
        made = guard.wrap(client)
        with pytest.raises(Blocked):
            made.post(CHAT, json=chat("hello", stream=True))
        assert len(seen) == 1


def test_a_fallback_answers_a_stream_that_is_blocked_before_it_says_anything() -> None:
    transport, _ = served(streamed("abbc"))
    policy = {"name": "p", "rules": RULES, "on_block": "fallback"}
    with Guard(policy, detectors=[Pieces()]) as guard, httpx.Client(base_url="http://m", transport=transport) as client:
        response = guard.wrap(client, fallback=lambda _: "Ask me something else.").post(
            CHAT, json=chat("hello", stream=True)
        )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert b"Ask me something else." in response.content


async def test_a_fallback_goes_on_where_a_stream_is_blocked_in_its_midst() -> None:
    policy = {"name": "p", "rules": RULES, "on_block": "fallback"}
    with Guard(policy, detectors=[Pieces()]) as guard:
        transport, _ = served(streamed("one ", "abbc"))
        with httpx.Client(base_url="http://m", transport=transport) as client:
            made = guard.wrap(client, fallback=lambda _: "Ask anew.")
            first = made.post(CHAT, json=chat("hello", stream=True)).content
        transport, _ = served(streamed("one ", "abbc"))

        async def later(_: object) -> str:
            return "Ask anew."

        async with httpx.AsyncClient(base_url="http://m", transport=transport) as client:
            second = (await guard.wrap(client, fallback=later).post(CHAT, json=chat("hello", stream=True))).content
    assert first == second
    assert b"one" in first
    assert b"abbc" not in first
    assert first.index(b"one") < first.index(b"Ask anew.") < first.index(b"content_filter")
    assert first.endswith(b"data: [DONE]\n\n")


def test_no_more_of_an_answer_is_read_than_shows_that_it_is_too_large() -> None:
    read: list[int] = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for number in range(10_000):
                read.append(number)
                yield b" " * 1_000

    def serve(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=Endless())

    with Guard({"name": "p", "rules": RULES}, detectors=[Pieces()]) as guard:
        http = HttpGuard(guard, limit=20_000)
        with httpx.Client(base_url="http://m", transport=httpx.MockTransport(serve)) as client:
            response = guarded(client, http).post(CHAT, json=chat("hello"))
    assert response.status_code == 502
    assert len(read) == 21


@pytest.mark.parametrize("status", [302, 307])
def test_the_page_beside_a_redirect_is_looked_at_and_passed_on(guard: Guard, status: int) -> None:
    transport, _ = served(b"<p>Moved, abc.</p>", status=status, kind="text/html")
    with httpx.Client(base_url="http://m", transport=transport) as client:
        response = guard.wrap(client).post(CHAT, json=chat("hello"))
    assert response.status_code == status
    assert response.text == "<p>Moved, <PIECE_1>.</p>"


@pytest.mark.parametrize("unmatched", ["refuse", "pass"])
def test_a_page_that_is_json_is_read_as_json(guard: Guard, unmatched: Any) -> None:
    for status in (302, 400, 500):
        transport, _ = served(rb'{"detail": ["\u0061bc"], "code": 7}', status=status, kind="text/plain")
        with httpx.Client(base_url="http://m", transport=transport) as client:
            response = guard.wrap(client, unmatched=unmatched).post(CHAT, json=chat("hello"))
        assert (response.status_code, response.content) == (status, b'{"detail": ["<PIECE_1>"], "code": 7}')
    for page in (b"404", b"[error] abc", b"{not found: abc}"):
        transport, _ = served(page, status=404, kind="text/plain")
        with httpx.Client(base_url="http://m", transport=transport) as client:
            response = guard.wrap(client, unmatched=unmatched).post(CHAT, json=chat("hello"))
        assert response.content == page.replace(b"abc", b"<PIECE_1>")


@pytest.mark.parametrize("page", [rb'{"a": "x", "a": "\u0061bc"}', b"[" * 100_000], ids=["two keys", "deep"])
def test_a_page_that_is_json_of_two_readings_is_refused(guard: Guard, page: bytes) -> None:
    transport, _ = served(page, status=404, kind="text/plain")
    with httpx.Client(base_url="http://m", transport=transport) as client:
        response = guard.wrap(client, unmatched="pass").post(CHAT, json=chat("hello"))
    assert response.status_code == 502


def tensors(key: str, *texts: str) -> tuple[bytes, dict[str, str]]:
    """A body of the Open Inference Protocol whose texts follow its JSON, and its headers."""
    raw = b"".join([len(text).to_bytes(4, "little") + text.encode() for text in texts])
    tensor = {"name": "t", "shape": [len(texts)], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({key: [tensor]}).encode()
    return head + raw, {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}


def test_tensors_behind_the_json_are_looked_at_in_requests_and_answers(guard: Guard) -> None:
    seen: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        body, headers = tensors("outputs", "I heard <PIECE_1>", "fine")
        return httpx.Response(200, headers=headers, content=body)

    body, headers = tensors("inputs", "hello", "say abc")
    with httpx.Client(base_url="http://m", transport=httpx.MockTransport(serve)) as client:
        made = guard.wrap(client)
        response = made.post("/v2/models/echo/infer", content=body, headers=headers)
        blocked, headers = tensors("inputs", "abbc")
        with pytest.raises(Blocked):
            made.post("/v2/models/echo/infer", content=blocked, headers=headers)
        wrong = made.post(
            "/v2/models/echo/infer", content=body, headers={**headers, "inference-header-content-length": "x"}
        )
    (request,) = seen
    assert (request.content, request.headers["inference-header-content-length"]) == expected(
        "inputs", "hello", "say <PIECE_1>"
    )
    assert request.headers["content-type"] == "application/octet-stream"
    said = response.content, response.headers["inference-header-content-length"]
    assert said == expected("outputs", "I heard abc", "fine")  # the caller's own value comes back
    assert wrong.status_code == 400


def expected(key: str, *texts: str) -> tuple[bytes, str]:
    body, headers = tensors(key, *texts)
    return body, headers["inference-header-content-length"]
