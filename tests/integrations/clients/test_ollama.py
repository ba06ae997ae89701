"""Ollama's own client behind a guard, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import Pieces
from model_server import Server, model_server

from llmguard import Blocked, Guard

ollama = pytest.importorskip("ollama")
RULES = [
    {"detector": "pieces", "categories": ["LONG"], "action": "block"},
    {"detector": "pieces", "action": "redact"},
]


@pytest.fixture
def server() -> Iterator[Server]:
    with model_server() as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard({"name": "p", "rules": RULES}, detectors=[Pieces()]) as made:
        yield made


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_chat_is_cleared_both_ways(server: Server, guard: Guard) -> None:
    with ollama.Client(host=server.url) as client:
        made = guard.wrap(client)
        assert isinstance(made, ollama.Client)
        assert made.chat(model="m", messages=user("say abc")).message.content == "You said say abc"
        assert server.seen[-1][1]["messages"] == user("say <PIECE_1>")
        said = [part.message.content for part in made.chat(model="m", messages=user("say abc"), stream=True)]
        assert "".join(said) == "You said say abc"
        with pytest.raises(Blocked):
            made.chat(model="m", messages=user("abbc"))
        server.say = lambda _: "well, abbc and on"
        with pytest.raises(Blocked):
            list(made.chat(model="m", messages=user("go"), stream=True))


async def test_an_async_client_likewise(server: Server, guard: Guard) -> None:
    client = ollama.AsyncClient(host=server.url)
    made = guard.wrap(client)
    assert (await made.chat(model="m", messages=user("say abc"))).message.content == "You said say abc"
    stream = await made.chat(model="m", messages=user("say abc"), stream=True)
    assert "".join([part.message.content async for part in stream]) == "You said say abc"
    with pytest.raises(Blocked):
        await made.chat(model="m", messages=user("abbc"))
    await client.close()


def test_what_is_not_read_is_refused(server: Server, guard: Guard) -> None:
    with ollama.Client(host=server.url) as client, pytest.raises(ollama.ResponseError, match="no guarded wire format"):
        guard.wrap(client).pull("m")
    assert server.seen == []
