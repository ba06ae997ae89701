"""OpenAI's and Anthropic's own clients behind a guard, over real sockets."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest
from fakes import Pieces
from model_server import Server, model_server

from llmguard import Blocked, ConfigurationError, Guard

anthropic = pytest.importorskip("anthropic")
openai = pytest.importorskip("openai")

RULES = [
    {"detector": "pieces", "categories": ["LONG"], "action": "block"},
    {"detector": "pieces", "action": "redact"},
]


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Pieces()])


@pytest.fixture
def server() -> Iterator[Server]:
    with model_server() as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    with guard_of() as made:
        yield made


_MADE: list[Any] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the clients that a test made; those that are wrapped share their connections."""
    yield
    while _MADE:
        _MADE.pop().close()


def openai_client(server: Server, **options: Any) -> Any:
    _MADE.append(openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=2, **options))
    return _MADE[-1]


def anthropic_client(server: Server) -> Any:
    _MADE.append(anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=2))
    return _MADE[-1]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_type_stays(server: Server, guard: Guard) -> None:
    client = openai_client(server)
    made = guard.wrap(client)
    assert isinstance(made, openai.OpenAI)
    assert type(made).__qualname__ == "OpenAI"
    assert isinstance(made.with_options(timeout=3), openai.OpenAI)
    assert made.api_key == "k"


def test_a_chat_is_cleared_both_ways(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server))
    server.say = lambda text: f"{text} and abbbc".replace("bbbc", "bc")
    answer = made.chat.completions.create(model="m", messages=user("say abc"))
    assert server.seen[-1][1]["messages"] == user("say <PIECE_1>")
    assert answer.choices[0].message.content == "say abc and abc"
    assert answer.usage.total_tokens == 8


def test_copies_and_raw_responses_are_guarded_too(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server)).with_options(timeout=5)
    raw = made.chat.completions.with_raw_response.create(model="m", messages=user("say abc"))
    assert server.seen[-1][1]["messages"] == user("say <PIECE_1>")
    assert raw.parse().choices[0].message.content == "You said say abc"
    with pytest.raises(Blocked):
        made.chat.completions.create(model="m", messages=user("abbc"))


def test_a_blocked_request_is_raised_at_once_and_never_sent(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server))
    with pytest.raises(Blocked) as caught:
        made.chat.completions.create(model="m", messages=user("abbc"))
    assert caught.value.decision.stage == "input"
    assert server.seen == []


def test_a_blocked_answer_is_raised_and_not_asked_for_again(server: Server, guard: Guard) -> None:
    server.say = lambda _: "abbc"
    with pytest.raises(Blocked) as caught:
        guard.wrap(openai_client(server)).chat.completions.create(model="m", messages=user("go"))
    assert caught.value.decision.stage == "output"
    assert len(server.seen) == 1


@pytest.mark.parametrize("kind", ["openai", "responses", "anthropic"])
def test_a_stream_is_cleared_as_it_comes(server: Server, guard: Guard, kind: str) -> None:
    server.say = lambda text: f"well, {text} and abc."
    said = _streamed(guard, server, kind, "say abc")
    assert "".join(said) == "well, say abc and abc."
    assert "PIECE_1" in str(server.seen[-1][1])
    server.say = lambda _: "so abc it is"
    assert "".join(_streamed(guard, server, kind, "hello")) == "so <PIECE_1> it is"


@pytest.mark.parametrize("kind", ["openai", "responses", "anthropic"])
def test_a_block_in_mid_stream_is_raised(server: Server, guard: Guard, kind: str) -> None:
    server.say = lambda _: "well, abbc and so on" + " and on" * 2000
    got: list[str] = []
    with pytest.raises(Blocked):
        _streamed(guard, server, kind, "go", got)
    assert "".join(got) == "well, "


def _streamed(guard: Guard, server: Server, kind: str, text: str, got: list[str] | None = None) -> list[str]:
    got = [] if got is None else got
    if kind == "openai":
        client = guard.wrap(openai_client(server))
        for chunk in client.chat.completions.create(model="m", messages=user(text), stream=True):
            got.append(chunk.choices[0].delta.content or "")
    elif kind == "responses":
        client = guard.wrap(openai_client(server))
        for event in client.responses.create(model="m", input=text, stream=True):
            if event.type == "response.output_text.delta":
                got.append(event.delta)
            elif event.type == "response.completed":
                assert event.response.output_text == "".join(got)
    else:
        client = guard.wrap(anthropic_client(server))
        with client.messages.stream(model="m", max_tokens=9, messages=user(text)) as stream:
            got.extend(stream.text_stream)
    return got


def test_anthropic_is_cleared_both_ways(server: Server, guard: Guard) -> None:
    made = guard.wrap(anthropic_client(server))
    answer = made.messages.create(model="m", max_tokens=9, messages=user("say abc"))
    assert server.seen[-1][1]["messages"] == user("say <PIECE_1>")
    assert answer.content[0].text == "You said say abc"
    with pytest.raises(Blocked):
        made.messages.create(model="m", max_tokens=9, messages=user("abbc"))


async def test_async_clients_likewise(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1"))
    answer = await made.chat.completions.create(model="m", messages=user("say abc"))
    assert answer.choices[0].message.content == "You said say abc"
    stream = await made.chat.completions.create(model="m", messages=user("say abc"), stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "You said say abc"
    with pytest.raises(Blocked):
        await made.chat.completions.create(model="m", messages=user("abbc"))
    other = guard.wrap(anthropic.AsyncAnthropic(api_key="k", base_url=server.url))
    said = await other.messages.create(model="m", max_tokens=9, messages=user("say abc"))
    assert said.content[0].text == "You said say abc"
    await made.close()
    await other.close()


def test_a_reader_that_goes_closes_the_source(server: Server, guard: Guard) -> None:
    server.say = lambda _: "on and " * 400_000
    stream = guard.wrap(openai_client(server)).chat.completions.create(model="m", messages=user("go"), stream=True)
    next(iter(stream))
    stream.close()
    assert server.closed.wait(10)
    assert len(guard.vault) == 0


def test_a_source_that_dies_is_told_after_what_came(server: Server, guard: Guard) -> None:
    server.say = lambda _: "one two three four"
    server.dies_after = 4
    got: list[str] = []
    with pytest.raises(openai.APIConnectionError):
        _streamed(guard, server, "openai", "go", got)
    assert "one two three".startswith("".join(got))
    assert got


def test_a_reply_is_an_answer(server: Server) -> None:
    with guard_of(on_block={"reply": "No."}) as guard:
        made = guard.wrap(openai_client(server))
        answer = made.chat.completions.create(model="m", messages=user("abbc"))
        assert answer.choices[0].message.content == "No."
        assert answer.choices[0].finish_reason == "content_filter"
        assert server.seen == []
        chunks = list(made.chat.completions.create(model="m", messages=user("abbc"), stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "No."
        server.say = lambda _: "well abbc on"
        chunks = list(made.chat.completions.create(model="m", messages=user("go"), stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "well No."
        assert chunks[-1].choices[0].finish_reason == "content_filter"


def test_an_answer_is_asked_for_again(server: Server) -> None:
    answers = iter(["abbc", "abbc", "good"])
    server.say = lambda _: next(answers)
    with guard_of(on_block={"retry": 2}) as guard:
        answer = guard.wrap(openai_client(server)).chat.completions.create(model="m", messages=user("go"))
    assert answer.choices[0].message.content == "good"
    assert "withheld (pieces/LONG)" in server.seen[1][1]["messages"][-1]["content"]


def test_a_fallback_answers(server: Server) -> None:
    with guard_of(on_block="fallback") as guard:
        with pytest.raises(ConfigurationError, match="give one"):
            guard.wrap(openai_client(server))
        made = guard.wrap(openai_client(server), fallback=lambda decision: f"stopped at {decision.stage}")
        answer = made.chat.completions.create(model="m", messages=user("abbc"))
        assert answer.choices[0].message.content == "stopped at input"


def test_what_is_not_read_is_refused(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server))
    with pytest.raises(openai.NotFoundError, match="no guarded wire format"):
        made.images.generate(prompt="abc")
    with pytest.raises(ConfigurationError, match="web sockets"):
        _ = made.realtime
    assert server.seen == []


def test_embeddings_are_cleared(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server))
    answer = made.embeddings.create(model="m", input="say abc", encoding_format="float")
    assert server.seen[-1][1]["input"] == "say <PIECE_1>"
    assert answer.data[0].embedding == [0.5, 0.25]


def test_the_wrapped_client_keeps_the_connections_of_the_other(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server))
    _MADE.clear()
    gc.collect()
    _MADE.append(made)
    assert made.chat.completions.create(model="m", messages=user("hi")).choices[0].message.content == "You said hi"


def test_an_unknown_client_is_an_error(guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match="is no client that llmguard knows"):
        guard.wrap(object())


def test_no_service_of_a_wrapped_client_connects_past_the_guard(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server))
    names = [name for name in dir(openai.OpenAI) if isinstance(getattr(openai.OpenAI, name), cached_property)]
    services = [getattr(made, name) for name in names if name not in ("realtime", "live")]
    services += [made.beta.responses, made.beta.realtime]
    connecting = [service for service in services if hasattr(service, "connect")]
    assert made.responses in connecting
    assert made.beta.realtime in connecting
    for service in connecting:
        with pytest.raises(ConfigurationError, match="web sockets"):
            service.connect(model="m")
    with pytest.raises(ConfigurationError, match="web sockets"):
        _ = made.live
    assert server.seen == []


def test_a_copy_with_another_transport_or_address_is_refused(server: Server, guard: Guard) -> None:
    made = guard.wrap(openai_client(server))
    for options in ({"http_client": openai_client(server)._client}, {"base_url": "http://elsewhere/v1"}):
        for method in (made.copy, made.with_options):
            with pytest.raises(ConfigurationError, match="would not be guarded"):
                method(**options)


def test_azure_with_a_deployment_is_guarded(server: Server, guard: Guard) -> None:
    for options in ({"azure_endpoint": server.url, "azure_deployment": "d"}, {"azure_endpoint": server.url}):
        client = openai.AzureOpenAI(api_key="k", api_version="2024-10-21", **options)
        _MADE.append(client)
        answer = guard.wrap(client, unmatched="pass").chat.completions.create(model="m", messages=user("say abc"))
        assert answer.choices[0].message.content == "You said say abc"
        assert server.seen[-1][0].startswith("/openai/deployments/")
        assert server.seen[-1][1]["messages"] == user("say <PIECE_1>")
