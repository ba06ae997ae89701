"""llama-cpp-python's server with a small model of ours: official clients, wrapped, and our proxy before it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from llmguard import Blocked, Guard

pytestmark = pytest.mark.slow

PLAIN, TOLD = "All is well here", "Write to ada@example.com today"  # what the model answers; see tiny_gguf
CLEARED = "Write to <EMAIL_ADDRESS_1> today"
POLICY = """
name: served
rules:
  - {detector: pii, categories: [EMAIL_ADDRESS], threshold: 0.4, action: redact}
  - {detector: keywords, stage: [input, output], action: block}
detectors:
  keywords: {deny: [heron]}
"""


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def openai_of(url: str) -> Any:
    openai = pytest.importorskip("openai")
    return openai.OpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0)


def streamed(client: Any, text: str) -> str:
    with client.chat.completions.create(model="tiny", messages=asked(text), stream=True) as events:
        return "".join([event.choices[0].delta.content or "" for event in events]).strip()


def chat(client: Any, text: str, **more: Any) -> tuple[str, int]:
    """The answer, and how many tokens the model was told."""
    said = client.chat.completions.create(model="tiny", messages=asked(text), **more)
    return said.choices[0].message.content.strip(), said.usage.prompt_tokens


@pytest.fixture(scope="module")
def bare(llama_url: str) -> Iterator[Any]:
    with openai_of(llama_url) as client:
        yield client


@contextmanager
def serving(url: str, folder: Path, policy: str = POLICY) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Where ``llmguard serve`` stands before a server, and its process."""
    written = folder / "policy.yaml"
    written.write_text(policy)
    start = [sys.executable, "-c", "from llmguard.cli import run; run()", "serve", "--port", "0"]
    command = [*start, "--upstream", url, "--policy", str(written), "--health-path", "/v1/models", "--access-log"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        found = (re.search(r"running on (http://[\d.]+:\d+)", line) for line in process.stdout)
        yield next(match[1] for match in found if match), process
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[0]
    assert "ada@" not in said


@pytest.fixture(scope="module")
def served(llama_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(llama_url, tmp_path_factory.mktemp("policy")) as (url, _):
        yield url


@pytest.fixture
def patient(
    python_of: Callable[[str], str], free_port: Callable[[], int], llama_model: Path, running: Any
) -> Iterator[tuple[str, int]]:
    """Where a server of its own runs that ends each stream before it begins another; and its process' id."""
    port = free_port()
    options = {"model": llama_model, "model_alias": "tiny", "port": port, "n_ctx": 1024, "n_threads": 1}
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    own = ["--verbose", "false", "--interrupt_requests", "false"]
    # It says its id, as the first line of the file that it is told.
    told = llama_model.with_name(f"{port}.pid")
    begin = "import os, pathlib, runpy, sys; pathlib.Path(sys.argv.pop(1)).write_text(str(os.getpid()))"
    command = [python_of("llama"), "-c", f"{begin}; runpy.run_module('llama_cpp.server', run_name='__main__')"]
    with running([*command, str(told), *flags, *own], port, "/v1/models") as url:
        yield url, int(told.read_text())


def test_the_model_answers_as_it_was_made_to(bare: Any) -> None:
    assert chat(bare, "hello")[0] == PLAIN
    assert chat(bare, "who?")[0] == TOLD
    assert streamed(bare, "who?") == TOLD


def test_openais_client_wrapped_is_guarded(bare: Any, guard: Guard) -> None:
    client = guard.wrap(bare)
    assert isinstance(client, type(bare))
    assert chat(client, "hello")[0] == PLAIN
    assert chat(client, "who?")[0] == CLEARED
    assert streamed(client, "who?") == CLEARED
    # What the caller has said itself comes back, and the model was told as much as if it had never been there.
    assert chat(client, "I am ada@example.com, and who are you?") == (
        TOLD,
        chat(bare, "I am <EMAIL_ADDRESS_1>, and who are you?")[1],
    )
    with pytest.raises(Blocked):
        chat(client, "the heron")
    raw = client.chat.completions.with_raw_response.create(model="tiny", messages=asked("who?"))
    assert raw.parse().choices[0].message.content.strip() == CLEARED
    assert client.models.list().data[0].id == "tiny"


async def test_openais_asynchronous_client_is_guarded(llama_url: str, guard: Guard) -> None:
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{llama_url}/v1", max_retries=0) as bare:
        client = guard.wrap(bare)
        events = await client.chat.completions.create(model="tiny", messages=asked("who?"), stream=True)
        assert "".join([event.choices[0].delta.content or "" async for event in events]).strip() == CLEARED
        with pytest.raises(Blocked):
            await client.chat.completions.create(model="tiny", messages=asked("the heron"))


def completed(client: Any, prompt: str, **more: Any) -> Any:
    return client.completions.create(model="tiny", prompt=prompt, max_tokens=32, temperature=0, **more)


def test_completions_are_guarded_whole_streamed_and_with_their_prompt(bare: Any, guard: Guard) -> None:
    client = guard.wrap(bare)
    assert completed(bare, "who?").choices[0].text.strip() == TOLD
    assert completed(client, "who?").choices[0].text.strip() == CLEARED
    with completed(client, "who?", stream=True) as events:
        assert "".join([event.choices[0].text for event in events]).strip() == CLEARED
    # Said after the prompt, the answer is one text with it; the address that the prompt had comes back in both.
    echoed = completed(client, "ada@example.com? who?", echo=True)
    assert echoed.choices[0].text.split() == ["ada@example.com?", "who?", *TOLD.split()]
    assert echoed.usage.prompt_tokens == completed(bare, "<EMAIL_ADDRESS_1>? who?").usage.prompt_tokens
    with pytest.raises(Blocked):
        completed(client, "the heron")


def test_what_says_a_changed_text_once_more_goes(bare: Any, guard: Guard) -> None:
    assert completed(bare, "who?", logprobs=1).choices[0].logprobs.tokens
    assert completed(guard.wrap(bare), "hello", logprobs=1).choices[0].logprobs.tokens
    assert completed(guard.wrap(bare), "who?", logprobs=1).choices[0].logprobs is None


def test_embeddings_are_of_the_cleared_text(bare: Any, guard: Guard) -> None:
    def embedded(client: Any, text: str) -> Any:
        # One vector a token: the model pools nothing.
        said = client.embeddings.create(model="tiny", input=text, encoding_format="float")
        return np.ravel(said.data[0].embedding)

    got = embedded(guard.wrap(bare), "ada@example.com")
    assert np.allclose(got, embedded(bare, "<EMAIL_ADDRESS_1>"), atol=1e-6)
    with pytest.raises(Blocked):
        embedded(guard.wrap(bare), "the heron")


def test_hugging_faces_client_wrapped_is_guarded(llama_url: str, guard: Guard) -> None:
    hub = pytest.importorskip("huggingface_hub")
    client = guard.wrap(hub.InferenceClient(base_url=f"{llama_url}/v1", api_key="k"))
    assert client.chat_completion(asked("who?"), model="tiny").choices[0].message.content.strip() == CLEARED
    events = client.chat_completion(asked("who?"), model="tiny", stream=True)
    assert "".join([event.choices[0].delta.content or "" for event in events]).strip() == CLEARED
    with pytest.raises(Blocked):
        client.chat_completion(asked("the heron"), model="tiny")


def test_llmguard_serve_guards_it(served: str, bare: Any) -> None:
    openai = pytest.importorskip("openai")
    with openai_of(served) as client:
        assert chat(client, "hello")[0] == PLAIN
        assert chat(client, "who?")[0] == CLEARED
        assert streamed(client, "who?") == CLEARED
        assert chat(client, "I am ada@example.com, and who are you?") == (
            TOLD,
            chat(bare, "I am <EMAIL_ADDRESS_1>, and who are you?")[1],
        )
        assert completed(client, "who?").choices[0].text.strip() == CLEARED
        with pytest.raises(openai.BadRequestError):
            chat(client, "the heron")
        with pytest.raises(openai.BadRequestError):
            completed(client, "the heron")


def test_llmguard_serve_passes_on_or_refuses_the_rest(served: str) -> None:
    with httpx.Client(base_url=served, timeout=60) as client:
        assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
        assert client.get("/readyz").status_code == 200
        assert client.post("/extras/tokenize", json={"input": "the heron"}).status_code == 404
        assert client.post("/v1/engines/copilot-codex/completions", json={"prompt": "the heron"}).status_code == 404


# The model is kept from ending, and goes on at random.
ENDLESS: Any = {"max_tokens": 900, "logit_bias": {"2": -100}, "temperature": 0}


async def spoken(client: Any, text: str, **more: Any) -> tuple[str, str | None]:
    """What a stream said, and how it ended."""
    said, ended = "", None
    events = await client.chat.completions.create(model="tiny", messages=asked(text), stream=True, **more)
    async for event in events:
        said += event.choices[0].delta.content or ""
        ended = event.choices[0].finish_reason or ended
    return said.strip(), ended


async def test_fifty_streams_some_of_them_blocked_in_their_midst(patient: tuple[str, int], tmp_path: Path) -> None:
    openai = pytest.importorskip("openai")
    policy = POLICY.replace("deny: [heron]", "deny: [today]")
    with serving(patient[0], tmp_path, policy) as (url, _):
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
            got = await asyncio.gather(*[spoken(client, ("hello", "who?")[number % 2]) for number in range(50)])
    assert Counter(got) == {(PLAIN, "stop"): 25, ("Write to <EMAIL_ADDRESS_1>", "content_filter"): 25}


async def test_a_server_that_is_killed_in_mid_stream_leaves_no_whole_answer(
    patient: tuple[str, int], tmp_path: Path
) -> None:
    openai = pytest.importorskip("openai")
    with serving(patient[0], tmp_path) as (url, _):
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
            events = await client.chat.completions.create(model="tiny", messages=asked("hi"), stream=True, **ENDLESS)
            await anext(aiter(events))
            os.kill(patient[1], signal.SIGKILL)
            ended = []
            with pytest.raises((openai.APIConnectionError, httpx.TransportError)):  # noqa: PT012 - it may say some more
                async for event in events:
                    ended += [choice.finish_reason for choice in event.choices]
            assert not any(ended)
            with pytest.raises(openai.InternalServerError):
                await spoken(client, "who?")


async def test_a_stop_drains_streams_of_a_real_server(patient: tuple[str, int], tmp_path: Path) -> None:
    openai = pytest.importorskip("openai")
    with serving(patient[0], tmp_path) as (url, process):
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{url}/v1", max_retries=0) as client:
            events = await client.chat.completions.create(model="tiny", messages=asked("hi"), stream=True, **ENDLESS)
            await anext(aiter(events))
            process.terminate()
            ended = [event.choices[0].finish_reason async for event in events]
    assert ended[-1] == "length"
    assert len(ended) > 100
