"""Tensors behind the JSON, as Triton's own client writes and reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.dialects import kserve_binary, pointer, strict
from llmguard.dialects.kserve import INFER
from llmguard.dialects.wire import Put
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

Tensors = list[tuple[dict[str, Any], bytes]]


def bytes_tensor(name: str, *elements: bytes, **more: Any) -> tuple[dict[str, Any], bytes]:
    raw = b"".join([len(element).to_bytes(4, "little") + element for element in elements])
    head = {"name": name, "shape": [len(elements)], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    return {**head, **more}, raw


def body(key: str, tensors: Tensors, **more: Any) -> tuple[bytes, int]:
    head = json.dumps({**more, key: [tensor for tensor, _ in tensors]}).encode()
    return head + b"".join([raw for _, raw in tensors]), len(head)


NUMBERS = ({"name": "ids", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}}, bytes(8))
PLAIN = ({"name": "tone", "shape": [1], "datatype": "BYTES", "data": ["polite"]}, b"")


def test_texts_behind_the_json_have_places_and_other_tensors_are_uncovered() -> None:
    data, length = body(
        "inputs", [bytes_tensor("system_prompt", b"Be brief."), NUMBERS, PLAIN, bytes_tensor("a", b"x", b"\xff", b"y")]
    )
    said = kserve_binary.request(data, length, {"model": "echo"})
    assert [(part.path, part.role, part.content) for part in said.parts] == [
        ("/inputs/0/binary/0", Role.SYSTEM, "Be brief."),
        ("/inputs/2/data/0", Role.USER, "polite"),
        ("/inputs/3/binary/0", Role.USER, "x"),
        ("/inputs/3/binary/2", Role.USER, "y"),
    ]
    assert said.uncovered == ("/inputs/1/binary", "/inputs/3/binary/1")
    assert (said.model, {part.stage for part in said.parts}) == ("echo", {Stage.INPUT})


def test_texts_are_written_back_and_sizes_corrected() -> None:
    data, length = body(
        "inputs", [bytes_tensor("a", b"one", b"\xff"), NUMBERS, bytes_tensor("b", b"two"), PLAIN], id="7"
    )
    edits = {"/inputs/0/binary/0": "first é", "/inputs/2/binary/0": "", "/inputs/3/data/0": "rude"}
    new, head = kserve_binary.rewrite(data, length, edits)
    said = kserve_binary.request(new, head, {})
    assert {part.path: part.content for part in said.parts} == edits
    assert said.uncovered == ("/inputs/0/binary/1", "/inputs/1/binary")
    assert said.id == "7"
    sizes = [tensor.get("parameters") for tensor in strict.parse(new[:head])["inputs"]]
    assert sizes == [{"binary_data_size": 4 + 8 + 4 + 1}, {"binary_data_size": 8}, {"binary_data_size": 4}, None]


def test_nothing_to_write_leaves_every_byte() -> None:
    data, length = body("outputs", [bytes_tensor("text_output", b"Hi"), NUMBERS], model_name="m")
    assert kserve_binary.rewrite(data, length, {}) == (data, length)


def test_a_response_with_tokens_that_say_the_text_again() -> None:
    tokens = (
        {"name": "output_ids", "datatype": "INT32", "shape": [2], "parameters": {"binary_data_size": 8}},
        b"\1" * 8,
    )
    words = bytes_tensor("logprobs", b'{"Hi": -0.1}')
    data, length = body(
        "outputs",
        [bytes_tensor("text_output", b"Hi"), tokens, words, bytes_tensor("finish_reason", b"stop")],
        model_name="m",
    )
    said = kserve_binary.response(data, length)
    assert [(part.path, part.content) for part in said.parts] == [
        ("/outputs/0/binary/0", "Hi"),
        ("/outputs/3/binary/0", "stop"),
    ]
    assert said.finish == ("stop",)
    assert [put.path for put in said.spoken] == ["/outputs/1/binary", "/outputs/2/binary"]
    new, head = kserve_binary.rewrite(data, length, {"/outputs/0/binary/0": "[X]"}, said.spoken)
    assert b"Hi" not in new
    assert new[head:] == b"\3\0\0\0[X]" + bytes(8) + bytes(4) + b"\4\0\0\0stop"
    assert kserve_binary.response(new, head).finish == ("stop",)


def test_base64_is_uncovered_as_in_the_json() -> None:
    data, length = body("inputs", [bytes_tensor("a", b"aGk=")])
    data = data[:length].replace(b'{"binary_data_size": 8}', b'{"binary_data_size": 8, "content_type": "base64"}')
    said = kserve_binary.request(data + b"\4\0\0\0aGk=", len(data), {})
    assert (said.parts, said.uncovered) == ((), ("/inputs/0/binary",))


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (b"{}", 0),
        (b"{}", 3),
        (b"{}", -1),
        (*body("inputs", [({"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": 5}}, b"1234")]),),
        (*body("inputs", [({"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": 4}}, b"12345")]),),
        (*body("inputs", [({"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": 4}}, b"\1\0\0\0")]),),
        (*body("inputs", [({"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": 2}}, b"\0\0")]),),
        (*body("inputs", [({"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": -1}}, b"")]),),
        (*body("inputs", [({"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": "4"}}, b"")]),),
        (*body("inputs", [({"name": "a", "datatype": "BYTES", "parameters": {"binary_data_size": True}}, b"1")]),),
        (*body("inputs", [bytes_tensor("a", b"x", data=["y"])]),),
        (b'{"inputs": []} ', 14),
    ],
)
def test_sizes_that_do_not_add_up_are_errors(data: bytes, length: int) -> None:
    with pytest.raises(DialectError):
        kserve_binary.request(data, length, {})


@pytest.mark.parametrize(
    "place", ["/inputs/0/binary/1", "/inputs/1/binary/0", "/inputs/0/data/0", "/inputs/9/binary/0"]
)
def test_no_place_is_an_error(place: str) -> None:
    data, length = body("inputs", [bytes_tensor("a", b"x"), NUMBERS])
    with pytest.raises(DialectError):
        kserve_binary.rewrite(data, length, {place: "y"})


@given(
    st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3), max_size=3), st.data()
)
def test_any_texts_round_trip(rows: list[list[str]], chosen: st.DataObject) -> None:
    tensors = [bytes_tensor(f"t{at}", *[text.encode() for text in row]) for at, row in enumerate(rows)]
    data, length = body("inputs", tensors)
    places = {f"/inputs/{at}/binary/{place}": text for at, row in enumerate(rows) for place, text in enumerate(row)}
    assert {part.path: part.content for part in kserve_binary.request(data, length, {}).parts} == places
    edits = {
        place: chosen.draw(st.text(st.characters(exclude_categories=["Cs"])))
        for place in places
        if chosen.draw(st.booleans())
    }
    new = kserve_binary.request(*kserve_binary.rewrite(data, length, edits), {})
    assert {part.path: part.content for part in new.parts} == {**places, **edits}


def test_a_put_in_the_json() -> None:
    data, length = body("outputs", [bytes_tensor("text_output", b"Hi")], model_name="m", id="7")
    new, head = kserve_binary.rewrite(data, length, {}, (Put("/id", '"8"'),))
    assert kserve_binary.response(new, head).id == "8"


def test_what_tritons_client_sends_and_reads() -> None:
    http = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    numpy = pytest.importorskip("numpy")
    prompt = http.InferInput("text_input", [2], "BYTES")
    prompt.set_data_from_numpy(numpy.array(["Wo mündet die Elbe?", "I am Bob"], dtype=object))
    count = http.InferInput("max_tokens", [1], "INT32")
    count.set_data_from_numpy(numpy.array([20], dtype=numpy.int32))
    asked = [http.InferRequestedOutput("text_output", binary_data=True)]
    data, length = http.InferenceServerClient.generate_request_body([prompt, count], outputs=asked, request_id="r-1")
    said = kserve_binary.request(data, length, {"model": "echo"})
    assert [part.content for part in said.parts] == ["Wo mündet die Elbe?", "I am Bob"]
    assert (said.uncovered, said.id) == (("/inputs/1/binary",), "r-1")
    assert INFER.request(strict.parse(data[:length]), {}).uncovered == ("/inputs/0", "/inputs/1")

    new, head = kserve_binary.rewrite(data, length, {"/inputs/0/binary/1": "I am [NAME]"})
    again = http.InferInput("text_input", [2], "BYTES")
    again.set_data_from_numpy(numpy.array(["Wo mündet die Elbe?", "I am [NAME]"], dtype=object))
    assert (new, head) == http.InferenceServerClient.generate_request_body(
        [again, count], outputs=asked, request_id="r-1"
    )

    answer, size = body(
        "outputs", [bytes_tensor("text_output", b"I am Bob, too"), NUMBERS], model_name="echo", id="r-1"
    )
    (part,) = kserve_binary.response(answer, size).parts
    assert (part.path, part.stage, part.content) == ("/outputs/0/binary/0", Stage.OUTPUT, "I am Bob, too")
    cleared, head = kserve_binary.rewrite(answer, size, {part.path: "I am [NAME], too"})
    result = http.InferenceServerClient.parse_response_body(cleared, header_length=head)
    assert result.as_numpy("text_output").tolist() == [b"I am [NAME], too"]
    assert result.as_numpy("ids").tolist() == [0]
    assert pointer.get(result.get_response(), "/outputs/0/parameters/binary_data_size") == 20
