"""What says a text again goes when the text goes, and the official clients take what stands there then."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dialect_samples import frames, load, wire

from llmguard.dialects import edit, pointer, registry
from llmguard.dialects.wire import Body, Event, Frame, Put

CHOSEN = {"token": "Bob", "logprob": -0.1, "bytes": [66, 111, 98], "top_logprobs": []}


def _quiet(data: Any, said: Body | Event) -> Any:
    """With every text and all that says one again taken out."""
    pieces = [*said.parts, *(said.deltas if isinstance(said, Event) else ())]
    return json.loads(edit.rewrite(wire(data), {piece.path: "[X]" for piece in pieces}, said.spoken))


def test_a_completion_says_nothing_of_a_text_that_was_taken_out() -> None:
    chat = registry.get("openai.chat")
    message = {
        "role": "assistant",
        "content": "I am Bob",
        "audio": {"id": "a", "data": "Qm9i", "transcript": "Bob", "expires_at": 1},
    }
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": "stop",
        "logprobs": {"content": [CHOSEN], "refusal": None},
    }
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
    body = {**head, "choices": [{**choice, "token_ids": [7]}], "prompt_token_ids": [8], "prompt_logprobs": [None]}
    said = chat.response(body)
    assert [put.path for put in said.spoken] == [
        "/choices/0/message/audio/data",
        "/choices/0/logprobs",
        "/choices/0/token_ids",
        *("/prompt_logprobs", "/prompt_token_ids"),
    ]
    assert set(said.uncovered) == {put.path for put in said.spoken}
    quiet = _quiet(body, said)
    assert "Bob" not in json.dumps(quiet)
    assert quiet["choices"][0]["logprobs"] is None
    types = pytest.importorskip("openai.types.chat", reason="needs openai")
    types.ChatCompletion.model_validate(quiet, strict=True)


def test_openais_types_take_every_sample_that_was_made_quiet() -> None:
    types = pytest.importorskip("openai.types.chat", reason="needs openai")
    dialect = registry.get("openai.chat")
    checked = 0
    for frame in [frame for stream in load("openai.chat")["streams"] for frame in frames(stream)]:
        said = dialect.event(frame)
        if said.spoken and frame.data.get("object") == "chat.completion.chunk":
            types.ChatCompletionChunk.model_validate(_quiet(frame.data, said))
            checked += 1
    assert checked


def test_events_of_responses_keep_a_list() -> None:
    dialect = registry.get("openai.responses")
    place = {"item_id": "m", "output_index": 0, "content_index": 0, "sequence_number": 4}
    probability = {"token": "Bob", "logprob": -0.1, "top_logprobs": []}
    delta = {"type": "response.output_text.delta", **place, "delta": "Bob", "logprobs": [probability]}
    said = dialect.event(Frame(delta))
    assert said.spoken == (Put("/logprobs", "[]"),)
    quiet = _quiet(delta, said)
    assert "Bob" not in json.dumps(quiet)
    responses = pytest.importorskip("openai.types.responses", reason="needs openai")
    responses.ResponseTextDeltaEvent.model_validate(quiet, strict=True)
    part = {"type": "output_text", "text": "Bob", "annotations": [], "logprobs": [{**probability, "bytes": [66]}]}
    done = {"type": "response.content_part.done", **place, "part": part}
    said = dialect.event(Frame(done))
    quiet = json.loads(edit.rewrite(wire(done), {said.repeats[0].path: "[X]"}, said.spoken))
    responses.ResponseContentPartDoneEvent.model_validate(quiet, strict=True)


def test_geminis_types_take_an_answer_without_log_probabilities() -> None:
    dialect = registry.get("gemini")
    result = {"chosenCandidates": [{"token": "Bob", "tokenId": 7, "logProbability": -0.1}]}
    body = {"candidates": [{"content": {"parts": [{"text": "Bob"}], "role": "model"}, "logprobsResult": result}]}
    said = dialect.response(body)
    assert said.spoken == (Put("/candidates/0/logprobsResult", "null"),)
    quiet = _quiet(body, said)
    assert "Bob" not in json.dumps(quiet)
    types = pytest.importorskip("google.genai.types", reason="needs google-genai")
    types.GenerateContentResponse.model_validate(quiet)


def test_a_token_of_text_generation_inference_loses_its_id() -> None:
    dialect = registry.get("tgi.generate")
    data = {
        "index": 2,
        "token": {"id": 42, "text": " Bob", "logprob": -0.1, "special": False},
        "top_tokens": [{"id": 42, "text": " Bob"}],
    }
    said = dialect.event(Frame(data))
    assert _quiet(data, said) == {
        "index": 2,
        "token": {"id": 0, "text": "[X]", "logprob": -0.1, "special": False},
        "top_tokens": [],
    }


@pytest.mark.parametrize(
    ("name", "body", "path"),
    [
        ("ollama.generate", {"model": "m", "response": "x", "done": True, "context": [1, 2]}, "/context"),
        (
            "ollama.chat",
            {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": True, "logprobs": [CHOSEN]},
            "/logprobs",
        ),
        (
            "llamacpp.completion",
            {"content": "x", "stop": True, "completion_probabilities": [CHOSEN]},
            "/completion_probabilities",
        ),
        ("triton.generate", {"model_name": "m", "text_output": "x", "output_ids": [1, 2]}, "/output_ids"),
    ],
)
def test_servers_of_ones_own(name: str, body: Any, path: str) -> None:
    said = registry.get(name).response(body)
    assert [put.path for put in said.spoken] == [path]
    assert pointer.get(_quiet(body, said), path) in ([], [0, 0])


def test_what_a_request_says_in_token_ids_alone_is_not_said_again() -> None:
    asked = {"model": "m", "prompt": "x", "context": [1, 2]}
    said = registry.get("ollama.generate").request(asked, {})
    assert (said.uncovered, said.spoken) == (("/context",), ())
