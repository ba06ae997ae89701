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
    told = " ".join(str(span.to_json()) for span in sdk.span_exporter.get_finished_spans())
    assert "abc" not in told
