"""Google's own client behind a guard, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import Pieces
from model_server import Server, model_server

from llmguard import Blocked, ConfigurationError, Guard

genai = pytest.importorskip("google.genai")
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


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    made = genai.Client(api_key="k", http_options={"base_url": server.url})
    yield made
    made.close()


def test_a_chat_is_cleared_both_ways(server: Server, guard: Guard, client: Any) -> None:
    made = guard.wrap(client)
    assert isinstance(made, genai.Client)
    assert made.models.generate_content(model="m", contents="say abc").text == "You said say abc"
    assert "say <PIECE_1>" in str(server.seen[-1][1])
    said = [part.text for part in made.models.generate_content_stream(model="m", contents="say abc")]
    assert "".join(said) == "You said say abc"
    assert made.chats.create(model="m").send_message("say abc").text == "You said say abc"
    with pytest.raises(Blocked):
        made.models.generate_content(model="m", contents="abbc")
    server.say = lambda _: "well, abbc and on"
    with pytest.raises(Blocked):
        list(made.models.generate_content_stream(model="m", contents="go"))


async def test_its_async_face_likewise(server: Server, guard: Guard, client: Any) -> None:
    made = guard.wrap(client)
    assert (await made.aio.models.generate_content(model="m", contents="say abc")).text == "You said say abc"
    stream = await made.aio.models.generate_content_stream(model="m", contents="say abc")
    assert "".join([part.text async for part in stream]) == "You said say abc"
    with pytest.raises(Blocked):
        await made.aio.models.generate_content(model="m", contents="abbc")
    assert "say <PIECE_1>" in str(server.seen[-1][1])
    await made.aio.aclose()


def test_what_would_go_past_the_guard_is_refused(guard: Guard, client: Any) -> None:
    made = guard.wrap(client)
    for owner, name in ((made, "interactions"), (made, "agents"), (made.aio, "live"), (made.aio, "interactions")):
        with pytest.raises(ConfigurationError, match="is not guarded"):
            getattr(owner, name)
