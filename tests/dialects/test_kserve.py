"""Tensors of the Open Inference Protocol; shapes as in its specification and Triton's extensions, values ours."""

from typing import Any

import pytest

from llmguard.dialects import registry
from llmguard.dialects.kserve import INFER
from llmguard.dialects.wire import Delta, Frame, Part, Put
from llmguard.errors import DialectError
from llmguard.types import Role, Stage


def tensor(name: str, data: Any, datatype: str = "BYTES", **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": datatype, "data": data, **more}


def texts(body: Any) -> list[tuple[str, str]]:
    return [(part.path, part.content) for part in body.parts]


def test_tensors_of_a_request() -> None:
    inputs = [
        tensor("text_input", ["Where does the Elbe end?"]),
        tensor("system_prompt", ["One word."]),
        tensor("ids", [1, 2], "INT64"),
        tensor("words", [["a b", "c"], ["d", "e"]]),
    ]
    body = INFER.request({"id": "r-1", "inputs": inputs}, {"model": "echo"})
    assert body.parts[:2] == (
        Part(Stage.INPUT, Role.USER, "/inputs/0/data/0", "Where does the Elbe end?"),
        Part(Stage.INPUT, Role.SYSTEM, "/inputs/1/data/0", "One word."),
    )
    assert [part.path for part in body.parts[2:]] == [
        f"/inputs/3/data/{row}/{column}" for row in "01" for column in "01"
    ]
    assert (body.model, body.id, body.uncovered) == ("echo", "r-1", ("/inputs/2/data",))


@pytest.mark.parametrize(
    "elsewhere", [{"binary_data_size": 31}, {"shared_memory_region": "region-0", "shared_memory_byte_size": 64}]
)
def test_a_tensor_that_is_not_in_the_json_is_uncovered(elsewhere: dict[str, Any]) -> None:
    value = {"name": "text_input", "shape": [1], "datatype": "BYTES", "parameters": elsewhere}
    assert INFER.request({"inputs": [value]}, {}).uncovered == ("/inputs/0",)
    assert INFER.response({"model_name": "m", "outputs": [value]}).uncovered == ("/outputs/0",)


def test_a_tensor_that_is_said_to_be_elsewhere_is_read_all_the_same() -> None:
    body = INFER.request({"inputs": [tensor("a", ["Hi"], parameters={"binary_data_size": 0})]}, {})
    assert (texts(body), body.uncovered) == ([("/inputs/0/data/0", "Hi")], ("/inputs/0",))


def test_strings_are_read_whatever_the_datatype_and_base64_is_uncovered() -> None:
    odd = tensor("a", ["Hi", 1], "INT32")
    coded = tensor("b", ["aGk="], parameters={"content_type": "base64"})
    body = INFER.request({"inputs": [odd, coded]}, {})
    assert (texts(body), body.uncovered) == ([("/inputs/0/data/0", "Hi")], ("/inputs/0/data", "/inputs/1/data"))


def test_parameters_go_to_the_model() -> None:
    parameters = {"tone": "be polite", "content_type": "str", "headers": {"x-request-id": "r-1"}, "n": 1}
    assert texts(INFER.request({"parameters": parameters, "inputs": []}, {})) == [("/parameters/tone", "be polite")]


def test_prose_in_the_place_of_a_name_is_a_text() -> None:
    for key in ("content_type", "sequence_id", "shared_memory_region"):
        parameters = {key: "be polite"}
        assert texts(INFER.request({"parameters": parameters, "inputs": []}, {})) == [
            (f"/parameters/{key}", "be polite")
        ]
    said = {
        "outputs": [],
        "parameters": {"headers": {"ce-source": "x/y", "note": "I am Bob", "more": ["bob@x.example"]}},
    }
    assert texts(INFER.response(said)) == [
        ("/parameters/headers/note", "I am Bob"),
        ("/parameters/headers/more/0", "bob@x.example"),
    ]


def test_a_response() -> None:
    outputs = [tensor("text_output", ["In Cuxhaven"]), tensor("finish_reason", ["stop"])]
    body = INFER.response({"model_name": "echo", "model_version": "1", "id": "r-1", "outputs": outputs})
    assert body.parts[0] == Part(Stage.OUTPUT, Role.ASSISTANT, "/outputs/0/data/0", "In Cuxhaven")
    assert (body.model, body.id, body.finish, body.error) == ("echo", "r-1", ("stop",), "")


def test_a_stream_of_tensors() -> None:
    event = INFER.event(Frame({"model_name": "echo", "outputs": [tensor("text_output", ["In ", "At "])]}))
    assert event.deltas == (
        Delta("text_output/0", Stage.OUTPUT, Role.ASSISTANT, "/outputs/0/data/0", "In "),
        Delta("text_output/1", Stage.OUTPUT, Role.ASSISTANT, "/outputs/0/data/1", "At "),
    )


def test_an_ending_names_the_tensor_that_was_seen() -> None:
    seen = [Frame({"model_name": "echo", "id": "r", "outputs": [tensor("n", [1], "INT32"), tensor("answer", ["In "])]})]
    (frame,) = INFER.ending(seen, "No.")
    assert [output["name"] for output in frame.data["outputs"]] == ["answer", "finish_reason"]
    assert frame.data["model_name"] == "echo"
    assert INFER.event(frame).finish == ("content_filter",)


def test_an_ending_without_a_text_tensor_is_an_error() -> None:
    seen = [Frame({"model_name": "echo", "outputs": [tensor("n", [1], "INT32"), tensor("finish_reason", ["stop"])]})]
    assert [frame.data for frame in INFER.ending(seen, "No.")] == [{"error": "No."}]
    assert INFER.event(INFER.ending([], "")[0]).error


def test_tokens_say_the_text_again_and_their_zeros_keep_the_shape() -> None:
    outputs = [tensor("text_output", ["Hi"]), tensor("output_ids", [[1, 2], [3.5, True]]), tensor("logprobs", ["{}"])]
    body = INFER.response({"model_name": "m", "outputs": outputs})
    assert texts(body) == [("/outputs/0/data/0", "Hi")]
    assert body.uncovered == ("/outputs/1/data", "/outputs/2/data")
    assert body.spoken == (Put("/outputs/1/data", "[[0,0],[0,false]]"), Put("/outputs/2/data", '[""]'))
    asked = INFER.request({"inputs": [tensor("logprobs", ["yes"])]}, {})
    assert (texts(asked), asked.spoken) == ([("/inputs/0/data/0", "yes")], ())


def test_names_of_tensors_do_not_make_channels_meet() -> None:
    outputs = [tensor("a/0", ["x"]), tensor("a", [["y"]]), tensor("b/", ["z"])]
    event = INFER.event(Frame({"model_name": "m", "outputs": outputs}))
    assert [delta.channel for delta in event.deltas] == ["a~10/0", "a/0/0", "b~1/0"]


def test_errors() -> None:
    body = INFER.response({"error": "model 'x' is not found"})
    assert (texts(body), body.error) == ([("/error", "model 'x' is not found")], "error")
    assert INFER.event(Frame({"error": "out of memory"})).last


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "/inputs"),
        ({"inputs": {}}, "/inputs"),
        ({"inputs": ["x"]}, "/inputs/0"),
        ({"inputs": [{"name": 1}]}, "/inputs/0/name"),
        ({"inputs": [tensor("a", "x")]}, "/inputs/0/data"),
        ({"inputs": [tensor("a", [{"x": "y"}])]}, "/inputs/0/data/0"),
        ({"inputs": [tensor("a", [], parameters=[])]}, "/inputs/0/parameters"),
    ],
)
def test_malformed_requests_name_the_place(body: Any, place: str) -> None:
    with pytest.raises(DialectError, match=f"^{place}: "):
        INFER.request(body, {})


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("/v2/models/m/infer", False),
        ("/v2/models/m/versions/1/infer", False),
        ("/v2/models/m/infer_stream", True),
        ("/v2/models/m/versions/1/infer_stream", True),
    ],
)
def test_routes(path: str, stream: bool) -> None:
    found = registry.find("POST", path)
    assert found is not None
    assert (found.dialect, found.route.stream, found.segments["model"]) == (INFER, stream, "m")
