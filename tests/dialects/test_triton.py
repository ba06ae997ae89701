"""Triton's generate extension; shapes as in its page and its backends, values ours."""

from typing import Any

import pytest

from llmguard.dialects import registry
from llmguard.dialects.triton import GENERATE
from llmguard.dialects.wire import Delta, Frame, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("/v2/models/m/generate", False),
        ("/v2/models/m/versions/1/generate", False),
        ("/v2/models/m/generate_stream", True),
        ("/v2/models/m/versions/1/generate_stream", True),
    ],
)
def test_routes(path: str, stream: bool) -> None:
    found = registry.find("POST", path)
    assert found is not None
    assert (found.dialect, found.route.stream, found.segments["model"]) == (GENERATE, stream, "m")


def test_errors() -> None:
    body = GENERATE.response({"error": "model 'x' is not found"})
    assert ([part.path for part in body.parts], body.error) == (["/error"], "error")
    assert GENERATE.event(Frame({"error": "out of memory"})).last


def test_it_reads_every_string_of_a_request() -> None:
    parameters = {"stream": False, "stop": ["Ende"], "lora_name": "north", "system_prompt": "One word."}
    body = GENERATE.request(
        {"id": "r", "text_input": "Hi", "image": ["aGk="], "parameters": parameters}, {"model": "m"}
    )
    assert [(part.path, part.role) for part in body.parts] == [
        ("/text_input", Role.USER),
        ("/parameters/stop/0", Role.USER),
        ("/parameters/system_prompt", Role.SYSTEM),
    ]
    assert (body.uncovered, body.model) == (("/image",), "m")


def test_it_reads_a_response() -> None:
    body = GENERATE.response(
        {
            "model_name": "vllm_model",
            "model_version": "1",
            "text_output": ["In Cuxhaven", "At the sea"],
            "finish_reason": "stop",
            "logprobs": "[{}]",
            "num_input_tokens": 6,
            "num_output_tokens": 3,
        }
    )
    assert [(part.path, part.content) for part in body.parts] == [
        ("/text_output/0", "In Cuxhaven"),
        ("/text_output/1", "At the sea"),
    ]
    assert (body.uncovered, body.finish, body.usage) == (("/logprobs",), ("stop",), Usage(6, 3))


def test_it_reads_a_stream_and_ends_it() -> None:
    data = {"id": "r", "model_name": "m", "model_version": "1", "text_output": "In ", "finish_reason": "None"}
    event = GENERATE.event(Frame(data))
    assert event.deltas == (Delta("text_output", Stage.OUTPUT, Role.ASSISTANT, "/text_output", "In "),)
    assert (event.finish, event.ends) == ((), ())
    counted = GENERATE.event(Frame({**data, "num_input_tokens": 6, "num_output_tokens": 2}))
    assert counted.usage == Usage(6, 2, further=True)
    (frame,) = GENERATE.ending([Frame(data)], "No.")
    ended = GENERATE.event(frame)
    assert (ended.finish, ended.ends, ended.id) == (("content_filter",), ("text_output",), "r")


@pytest.mark.parametrize("body", [{}, [], {"model_name": 1}, {"text_output": "x", "parameters": []}])
def test_it_refuses_what_is_no_response(body: Any) -> None:
    with pytest.raises(DialectError):
        GENERATE.response(body)
