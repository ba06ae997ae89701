"""llama-cpp-python's ``Llama`` in this process, wrapped; the environment is its server's, with llmguard in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmguard import Blocked, ConfigurationError, Guard

llama_cpp = pytest.importorskip("llama_cpp")

pytestmark = pytest.mark.slow

TOLD, CLEARED = "Write to ada@example.com today", "Write to <EMAIL_ADDRESS_1> today"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([sys.executable, str(Path(__file__).with_name("tiny_gguf.py")), str(path)], check=True)
    model = llama_cpp.Llama(str(path), n_ctx=1024, n_threads=1, embedding=True, verbose=False)
    yield model
    model.close()


@pytest.fixture
def model(bare: Any, guard: Guard) -> Any:
    return guard.wrap(bare)


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def said(events: Any) -> str:
    choices = [event["choices"][0] for event in events]
    return "".join([one.get("text") or one.get("delta", {}).get("content") or "" for one in choices]).strip()


def test_it_is_of_the_same_type(model: Any, bare: Any) -> None:
    assert isinstance(model, llama_cpp.Llama)
    assert model.n_ctx() == bare.n_ctx()
    assert model.tokenize(b"hello") == bare.tokenize(b"hello")
    assert model.metadata["general.name"] == "tiny"
    for name in ("generate", "eval", "sample"):
        with pytest.raises(ConfigurationError, match="is not guarded"):
            getattr(model, name)


def test_chats_are_guarded(model: Any, bare: Any) -> None:
    assert bare.create_chat_completion(asked("who?"))["choices"][0]["message"]["content"].strip() == TOLD
    got = model.create_chat_completion(asked("who?"))
    assert got["choices"][0]["message"]["content"].strip() == CLEARED
    assert said(model.create_chat_completion(asked("who?"), stream=True)) == CLEARED
    got = model.create_chat_completion(asked("I am ada@example.com, and who are you?"))
    assert got["choices"][0]["message"]["content"].strip() == TOLD
    told = bare.create_chat_completion(asked("I am <EMAIL_ADDRESS_1>, and who are you?"))
    assert got["usage"] == told["usage"]
    with pytest.raises(Blocked):
        model.create_chat_completion(asked("the heron"))


def test_completions_are_guarded(model: Any) -> None:
    for call in (model, model.create_completion):
        assert call("who?", max_tokens=32)["choices"][0]["text"].strip() == CLEARED
        assert said(call("who?", max_tokens=32, stream=True)) == CLEARED
        with pytest.raises(Blocked):
            call("the heron")
    tokens = model.tokenize(b"who?")
    assert model.create_completion(tokens, max_tokens=32)["choices"][0]["text"].strip() == CLEARED


def test_a_stream_that_is_left_frees_the_model(model: Any) -> None:
    stream = model.create_chat_completion(asked("who?"), stream=True)
    next(stream)
    stream.close()
    assert said(model.create_chat_completion(asked("hello"), stream=True)) == "All is well here"


def test_what_stands_beside_a_call_is_handed_on(model: Any) -> None:
    seen: list[int] = []

    def watch(tokens: Any, scores: Any) -> Any:
        seen.append(len(tokens))
        return scores

    processors = llama_cpp.LogitsProcessorList([watch])
    got = model.create_completion("who?", max_tokens=32, logits_processor=processors)
    assert got["choices"][0]["text"].strip() == CLEARED
    assert seen
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= " All is"', verbose=False)
    assert model.create_completion("hello", grammar=grammar)["choices"][0]["text"].strip() == "All is"


def test_embeddings_are_of_the_cleared_text(model: Any, bare: Any) -> None:
    told = np.ravel(bare.embed("<EMAIL_ADDRESS_1>"))  # one vector a token: the model pools nothing
    assert np.allclose(np.ravel(model.embed("ada@example.com")), told, atol=1e-6)
    made = model.create_embedding("ada@example.com")["data"][0]["embedding"]
    assert np.allclose(np.ravel(made), told, atol=1e-6)
    with pytest.raises(Blocked):
        model.embed("the heron")
