"""litellm's proxy, asked by official clients: with our guardrail in it, and with our proxy before and behind it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from model_server import Server, model_server

from llmguard import Blocked, Guard

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KEY = f"sk-{secrets.token_hex(32)}"  # it does not start without one
TOLD = "Write to ada@example.com"
ASKED = [{"role": "user", "content": TOLD}]
STOPPED = [{"role": "user", "content": "the heron"}]
POLICY = {
    "name": "p",
    "rules": [
        {"detector": "pii", "categories": ["EMAIL_ADDRESS"], "threshold": 0.4, "action": "redact"},
        {"detector": "keywords", "stage": ["input", "output"], "action": "block"},
    ],
    "detectors": {"keywords": {"deny": ["heron"]}},
}


@pytest.fixture(scope="module")
def model() -> Iterator[Server]:
    """What stands behind it all: says what it was told."""
    with model_server() as made:
        yield made


@pytest.fixture(scope="module")
def started(
    python_of: Callable[[str], str],
    running: Any,
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Any]:
    """Runs litellm's proxy by a configuration."""

    def start(models: dict[str, str], **more: Any) -> Any:
        folder, port = tmp_path_factory.mktemp("litellm"), free_port()
        (folder / "policy.yaml").write_text(json.dumps(POLICY))
        way = {"model": "openai/m", "api_key": "none"}
        listed = [
            {"model_name": name, "litellm_params": {**way, "api_base": f"{url}/v1"}} for name, url in models.items()
        ]
        config = {"model_list": listed, "litellm_settings": {"num_retries": 0, "telemetry": False}, **more}
        for guardrail in config.get("guardrails", ()):
            guardrail["litellm_params"]["policy"] = str(folder / "policy.yaml")
        (folder / "config.yaml").write_text(json.dumps(config))
        command = [python_of("litellm"), "-m", "litellm.proxy.proxy_cli", "--config", str(folder / "config.yaml")]
        own = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
            "LITELLM_MASTER_KEY": KEY,
        }
        return running([*command, "--host", "127.0.0.1", "--port", str(port)], port, "/health/liveliness", **own)

    return start


@pytest.fixture(scope="module")
def plain(started: Any, model: Server, proxied: Any) -> Iterator[str]:
    """litellm's proxy as it is, with a model that it asks for itself and one that it asks for through our proxy."""
    with proxied(model.url) as behind, started({"bare": model.url, "guarded": behind}) as url:
        yield url


@pytest.fixture(scope="module")
def with_guardrail(started: Any, model: Server) -> Iterator[str]:
    guardrail = {
        "guardrail": "llmguard.integrations.clients.litellm_guardrail.LlmGuardrail",
        "mode": ["pre_call", "post_call"],
        "default_on": True,
    }
    with started({"bare": model.url}, guardrails=[{"guardrail_name": "g", "litellm_params": guardrail}]) as url:
        yield url


def client_of(url: str) -> Any:
    openai = pytest.importorskip("openai")
    return openai.OpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0)


def streamed(client: Any, name: str, messages: Any) -> str:
    with client.chat.completions.create(model=name, messages=messages, stream=True) as events:
        return "".join([event.choices[0].delta.content or "" for event in events if event.choices])


def told(model: Server) -> str:
    return str(model.seen[-1][1])


def holds(client: Any, name: str, model: Server, refused: type[Exception]) -> None:
    """Whole and streamed, what a caller says is cleared for the model and comes back; what is stopped never comes."""
    said = client.chat.completions.create(model=name, messages=ASKED)
    assert said.choices[0].message.content == f"You said {TOLD}"
    assert "Write to <EMAIL_ADDRESS_1>" in told(model)
    assert streamed(client, name, ASKED) == f"You said {TOLD}"
    assert "Write to <EMAIL_ADDRESS_1>" in told(model)
    before = len(model.seen)
    for stream in (False, True):
        with pytest.raises(refused) as stopped:
            client.chat.completions.create(model=name, messages=STOPPED, stream=stream)
        assert "the heron" not in str(stopped.value)
    assert len(model.seen) == before


def test_without_us_all_goes_through(plain: str, model: Server) -> None:
    with client_of(plain) as client:
        assert client.chat.completions.create(model="bare", messages=ASKED).choices[0].message.content
    assert TOLD in told(model)


def test_the_guardrail_guards_chats(with_guardrail: str, model: Server) -> None:
    openai = pytest.importorskip("openai")
    with client_of(with_guardrail) as client:
        holds(client, "bare", model, openai.BadRequestError)


def test_the_guardrail_looks_at_what_the_model_says(with_guardrail: str, model: Server) -> None:
    openai = pytest.importorskip("openai")
    say, model.say = model.say, lambda _: "I am eva@example.com"
    try:
        with client_of(with_guardrail) as client:
            asked: dict[str, Any] = {"model": "bare", "messages": [{"role": "user", "content": "hi"}]}
            assert client.chat.completions.create(**asked).choices[0].message.content == "I am <EMAIL_ADDRESS_1>"
            assert streamed(client, "bare", asked["messages"]) == "I am <EMAIL_ADDRESS_1>"
            model.say = lambda _: "So far so good, but then the heron came"
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**asked)
            said = []
            with pytest.raises(openai.APIError):  # noqa: PT012 - what came before is what it is about
                for event in client.chat.completions.create(**asked, stream=True):
                    said += [choice.delta.content or "" for choice in event.choices]
            assert "heron" not in "".join(said)
    finally:
        model.say = say


def test_the_guardrail_guards_embeddings_and_responses(with_guardrail: str, model: Server) -> None:
    with client_of(with_guardrail) as client:
        assert client.embeddings.create(model="bare", input=TOLD).data[0].embedding
        assert "ada@" not in told(model)
        assert client.responses.create(model="bare", input=TOLD).output_text == f"You said {TOLD}"
        assert "ada@" not in told(model)


def test_the_guardrail_refuses_what_it_does_not_read(with_guardrail: str, model: Server) -> None:
    anthropic = pytest.importorskip("anthropic")
    before = len(model.seen)
    with (
        anthropic.Anthropic(api_key=KEY, base_url=with_guardrail, max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError),
    ):
        client.messages.create(model="bare", max_tokens=9, messages=ASKED)
    assert len(model.seen) == before


def test_our_proxy_before_it_guards(plain: str, proxied: Any, model: Server) -> None:
    openai = pytest.importorskip("openai")
    with proxied(plain) as before, client_of(before) as client:
        holds(client, "bare", model, openai.BadRequestError)


def test_our_proxy_before_it_guards_anthropics_client(plain: str, proxied: Any, model: Server) -> None:
    anthropic = pytest.importorskip("anthropic")
    with proxied(plain) as before, anthropic.Anthropic(api_key=KEY, base_url=before, max_retries=0) as client:
        asked: dict[str, Any] = {"model": "bare", "max_tokens": 99, "messages": ASKED}
        assert TOLD in client.messages.create(**asked).content[0].text
        assert "ada@" not in told(model)
        with client.messages.stream(**asked) as stream:
            assert TOLD in stream.get_final_text()
        assert "ada@" not in told(model)
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(model="bare", max_tokens=9, messages=STOPPED)


def test_anthropics_client_wrapped_is_guarded(plain: str, guard: Guard, model: Server) -> None:
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(api_key=KEY, base_url=plain, max_retries=0) as bare:
        client = guard.wrap(bare)
        asked: dict[str, Any] = {"model": "bare", "max_tokens": 99, "messages": ASKED}
        assert TOLD in client.messages.create(**asked).content[0].text
        with client.messages.stream(**asked) as stream:
            assert TOLD in stream.get_final_text()
        assert "ada@" not in told(model)
        with pytest.raises(Blocked):
            client.messages.create(model="bare", max_tokens=9, messages=STOPPED)


def test_our_proxy_behind_it_guards(plain: str, model: Server) -> None:
    openai = pytest.importorskip("openai")
    with client_of(plain) as client:
        holds(client, "guarded", model, openai.BadRequestError)
