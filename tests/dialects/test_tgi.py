"""Text Generation Inference; bodies as in https://huggingface.github.io/text-generation-inference/, values ours."""

from typing import Any

import pytest
from huggingface_hub import TextGenerationOutput, TextGenerationStreamOutput

from llmguard.dialects import registry
from llmguard.dialects.tgi import COMPAT, GENERATE
from llmguard.dialects.wire import Delta, Frame, Part, Repeat, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage


def token(text: str, special: bool = False) -> dict[str, Any]:
    return {"id": 5, "text": text, "logprob": -0.5, "special": special}


def test_a_request() -> None:
    grammar = {"type": "json", "value": {"type": "object", "description": "a town"}}
    parameters = {"stop": ["\nUser:"], "adapter_id": "lora-1", "grammar": grammar, "details": True}
    body = GENERATE.request({"inputs": "Where does the Elbe end?", "parameters": parameters}, {})
    assert body.parts == (
        Part(Stage.INPUT, Role.USER, "/inputs", "Where does the Elbe end?"),
        Part(Stage.INPUT, Role.SYSTEM, "/parameters/grammar/value/description", "a town"),
        Part(Stage.INPUT, Role.USER, "/parameters/stop/0", "\nUser:"),
    )
    assert (body.model, body.stream, body.uncovered) == ("lora-1", False, ())


def test_an_image_in_the_prompt_is_uncovered_and_the_prompt_is_read() -> None:
    body = GENERATE.request({"inputs": "What is ![](https://example.org/a.png)?"}, {})
    assert body.uncovered == ("/inputs",)
    assert [part.path for part in body.parts] == ["/inputs"]


def test_the_route_that_is_either_streams_as_the_body_asks() -> None:
    assert COMPAT.request({"inputs": "Hi", "stream": True}, {}).stream
    assert [route.stream for route in GENERATE.routes + COMPAT.routes] == [False, True, None]
    found = registry.find("POST", "/generate_stream")
    assert found is not None
    assert found.dialect is GENERATE


def test_an_answer_with_details() -> None:
    other = {"finish_reason": "length", "generated_text": "At the sea", "generated_tokens": 4, "tokens": [token("At")]}
    details = {
        "finish_reason": "eos_token",
        "generated_tokens": 3,
        "prefill": [{"id": 1, "text": "Where", "logprob": None}],
        "tokens": [token("In"), token(" Cuxhaven")],
        "best_of_sequences": [other],
    }
    body = GENERATE.response({"generated_text": "In Cuxhaven", "details": details})
    assert [(part.path, part.content, part.stage, part.role) for part in body.parts] == [
        ("/generated_text", "In Cuxhaven", Stage.OUTPUT, Role.ASSISTANT),
        ("/details/best_of_sequences/0/generated_text", "At the sea", Stage.OUTPUT, Role.ASSISTANT),
    ]
    assert body.uncovered == ("/details/prefill", "/details/tokens", "/details/best_of_sequences/0/tokens")
    assert body.finish == ("eos_token", "length")
    assert body.usage == Usage(input=1, output=7)


def test_a_stream() -> None:
    first = GENERATE.event(Frame({"index": 1, "token": token("In"), "generated_text": None, "details": None}))
    assert first.deltas == (Delta("text", Stage.OUTPUT, Role.ASSISTANT, "/token/text", "In"),)
    assert not first.last
    details = {"finish_reason": "length", "generated_tokens": 2, "input_length": 6, "seed": None}
    data = {"index": 2, "token": token(" Cux"), "generated_text": "In Cux", "details": details}
    last = GENERATE.event(Frame(data))
    assert last.repeats == (Repeat("text", Stage.OUTPUT, Role.ASSISTANT, "/generated_text", "In Cux"),)
    assert (last.ends, last.finish, last.last) == (("text",), ("length",), True)
    assert last.usage == Usage(input=6, output=2)


def test_a_special_token_is_no_piece_of_the_text() -> None:
    event = GENERATE.event(Frame({"index": 2, "token": token("</s>", special=True), "generated_text": None}))
    assert event.deltas == ()
    assert [part.content for part in event.parts] == ["</s>"]


def test_errors() -> None:
    body = {"error": "Model is overloaded", "error_type": "overloaded"}
    for dialect in (GENERATE, COMPAT):
        assert dialect.response(body).error == "overloaded"
        event = dialect.event(Frame(body))
        assert (event.error, event.last) == ("overloaded", True)
        assert [part.content for part in event.parts] == ["Model is overloaded"]
        assert dialect.response(dialect.error("no", "code")).error == "code"


def test_refusal_and_ending() -> None:
    request = GENERATE.request({"inputs": "Hi"}, {})
    assert GENERATE.refusal(request, "No.")["generated_text"] == "No."
    assert COMPAT.refusal(request, "No.")[0]["generated_text"] == "No."
    assert COMPAT.response(COMPAT.refusal(request, "No.")).finish == ("stop_sequence",)
    seen = [Frame({"index": 1, "token": token("In")})]
    (ending,) = GENERATE.ending(seen, "No more.")
    event = GENERATE.event(ending)
    assert (ending.data["index"], event.deltas[0].content, event.finish) == (2, "No more.", ("stop_sequence",))
    assert ending.data["generated_text"] == "InNo more."
    assert ending.data["details"]["generated_tokens"] == 1
    done = {**token("</s>"), "special": True}
    late = [Frame({"index": 41, "token": token("In")}), Frame({"index": 42, "token": done})]
    (ending,) = GENERATE.ending(late, "No more.")
    assert (ending.data["index"], ending.data["generated_text"]) == (43, "InNo more.")
    assert GENERATE.ending([*seen, ending], "No more.") == []
    (silent,) = GENERATE.ending(seen, "")
    assert not GENERATE.event(silent).deltas


def test_the_official_client_reads_what_we_write() -> None:
    request = GENERATE.request({"inputs": "Hi"}, {})
    whole = TextGenerationOutput.parse_obj_as_instance(GENERATE.refusal(request, "No."))
    assert whole.details is not None
    assert (whole.generated_text, whole.details.finish_reason) == ("No.", "stop_sequence")
    listed = TextGenerationOutput.parse_obj_as_list(COMPAT.refusal(request, "No."))
    assert [answer.generated_text for answer in listed] == ["No."]
    for text in ("No.", ""):
        (frame,) = GENERATE.ending([Frame({"index": 1, "token": token("In")})], text)
        event = TextGenerationStreamOutput.parse_obj_as_instance(frame.data)
        assert event.details is not None
        assert (event.token.text, event.generated_text) == (text, f"In{text}")
        assert event.details.finish_reason == "stop_sequence"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "/inputs"),
        ({"inputs": ["Hi"]}, "/inputs"),
        ({"inputs": "Hi", "parameters": []}, "/parameters"),
        ({"inputs": "Hi", "parameters": {"grammar": "x"}}, "/parameters/grammar"),
        ({"inputs": "Hi", "stream": "yes"}, "/stream"),
        ({"inputs": "Hi", "Parameters": {}}, "the body"),
    ],
)
def test_malformed_requests_name_the_place(body: Any, place: str) -> None:
    with pytest.raises(DialectError, match=f"^{place}: "):
        GENERATE.request(body, {})


@pytest.mark.parametrize("body", [{}, {"generated_text": 1}, {"generated_text": "x", "details": []}, [], "x"])
def test_malformed_responses(body: Any) -> None:
    for dialect in (GENERATE, COMPAT):
        with pytest.raises(DialectError):
            dialect.response([body] if dialect is COMPAT and body else body)
