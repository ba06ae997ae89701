"""What the real servers said, kept: formats that differ from the pages that describe them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmguard.dialects.triton import GENERATE
from llmguard.dialects.wire import Frame
from llmguard.integrations.clients.triton_tensors import seen_result, written_result

REQUEST = {"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["hi"]}]}


def answer(*texts: str) -> dict[str, Any]:
    """As mlserver 1.7.1 answers ``generate`` and each event of ``generate_stream``."""
    output = {"name": "text", "shape": [len(texts), 1], "datatype": "BYTES", "parameters": {"content_type": "str"}}
    head = {"model_name": "echo", "id": "6c38b3a4-2ef2-4b8c-8e3f-8a1dcf5a3f0b", "parameters": {}}
    return {**head, "outputs": [{**output, "data": list(texts)}]}


def test_mlserver_answers_generate_in_tensors_whose_names_are_no_texts() -> None:
    body = GENERATE.response(answer("You said hi"))
    assert [(part.path, part.content) for part in body.parts if part.content != "str"] == [
        ("/outputs/0/data/0", "You said hi")
    ]
    event = GENERATE.event(Frame(answer("You")))
    assert [(delta.path, delta.content) for delta in event.deltas] == [("/outputs/0/data/0", "You")]


def test_what_stands_beside_tensors_is_no_way_around() -> None:
    for more in ({"text_output": "hidden"}, {"outputs": [{"said": "hidden"}]}, {"outputs": ["hidden"]}):
        said = [part.content for part in GENERATE.response({**answer("You"), **more}).parts]
        assert "hidden" in said
    asked = GENERATE.request({**REQUEST, "prompt": "hidden"}, {"model": "echo"})
    assert {"hi", "hidden"} <= {part.content for part in asked.parts}


def test_a_refusal_is_in_tensors_where_the_request_is() -> None:
    asked = GENERATE.request(REQUEST, {"model": "echo"})
    for said in (GENERATE.refusal(asked, "No.", REQUEST), GENERATE.ending([Frame(answer("So "))], "No.")[0].data):
        assert said["outputs"][0]["data"] == ["No."]
        assert said["outputs"][1]["data"] == ["content_filter"]
        assert said["model_name"] == "echo"
    assert GENERATE.ending([Frame(answer("So "))], "No.")[0].data["outputs"][0]["name"] == "text"
    assert "text_output" in GENERATE.refusal(asked, "No.", {"text_input": "hi"})


def test_what_came_in_json_stays_there_for_tritons_client() -> None:
    """Triton 2.51 and mlserver answer in JSON where they are asked to; its client then gives ``str``."""
    module = pytest.importorskip("tritonclient.http")
    heads = [{"name": "text", "datatype": "BYTES", "shape": [2]}, {"name": "size", "datatype": "FP32", "shape": [1]}]
    head = {"model_name": "echo", "outputs": [{**heads[0], "data": ["bad", "fine"]}, {**heads[1], "data": [2.5]}]}
    result = module.InferResult.from_response_body(json.dumps(head).encode())
    view = seen_result(result)
    view["outputs"][0]["data"] = ["<BAD_1>", "fine"]
    made = written_result(result, view)
    assert made.as_numpy("text").tolist() == ["<BAD_1>", "fine"]
    assert made.as_numpy("size").tolist() == [2.5]
