"""The Responses API; shapes from https://platform.openai.com/docs/api-reference/responses, values ours."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_samples import frames, load

from llmguard.dialects.openai_responses import RESPONSES
from llmguard.dialects.wire import Body, Delta, Frame, Repeat, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

SAMPLE = load("openai.responses")


def _parts(body: Body) -> list[tuple[str, str, str, str]]:
    return [(str(part.stage), str(part.role), part.path, part.content) for part in body.parts]


def _request(**fields: Any) -> Body:
    return RESPONSES.request({"model": "gpt-5.1-mini", **fields}, {})


def _frames(*data: dict[str, Any]) -> list[Frame]:
    return [Frame(one, one["type"]) for one in data]


CREATED = {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "model": "m", "output": []}}
ADDED = {
    "type": "response.output_item.added",
    "sequence_number": 1,
    "output_index": 0,
    "item": {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []},
}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
PART = {"type": "response.content_part.added", "sequence_number": 2, **PLACE}
PART["part"] = {"type": "output_text", "text": "", "annotations": []}
DELTA = {"type": "response.output_text.delta", "sequence_number": 3, **PLACE, "delta": "We open", "logprobs": []}


def test_a_request_of_one_string() -> None:
    said = _request(input="When do you open?", instructions="Be kind.", stream=True)
    assert sorted(_parts(said)) == [
        ("input", "system", "/instructions", "Be kind."),
        ("input", "user", "/input", "When do you open?"),
    ]
    assert (said.model, said.stream, said.uncovered) == ("gpt-5.1-mini", True, ())


@pytest.mark.parametrize(
    ("item", "parts", "uncovered"),
    [
        ({"role": "developer", "content": "a"}, [("input", "system", "/content", "a")], []),
        ({"role": "assistant", "content": "a"}, [("input", "assistant", "/content", "a")], []),
        ({"role": "tool", "content": "a"}, [("tool_result", "tool", "/content", "a")], []),
        (
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_image", "image_url": "https://x.example/a"}],
            },
            [],
            ["/content/0"],
        ),
        (
            {"type": "function_call", "name": "f", "call_id": "c", "arguments": '{"to": {"a/b": "x"}, "n": 1}'},
            [
                ("tool_call", "assistant", "/arguments#/to/a~1b~3", "a/b"),
                ("tool_call", "assistant", "/arguments#/to/a~1b", "x"),
            ],
            [],
        ),
        (
            {"type": "function_call", "name": "f", "call_id": "c", "arguments": '{"to": "x'},
            [("tool_call", "assistant", "/arguments", '{"to": "x')],
            [],
        ),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "a"}]},
            [("tool_result", "tool", "/output/0/text", "a")],
            [],
        ),
        (
            {
                "type": "reasoning",
                "id": "r",
                "summary": [{"type": "summary_text", "text": "a"}],
                "encrypted_content": "e",
            },
            [("input", "assistant", "/summary/0/text", "a")],
            ["/encrypted_content"],
        ),
        (
            {"type": "file_search_call", "id": "s", "queries": ["q"], "results": [{"file_id": "f", "text": "a"}]},
            [("tool_call", "assistant", "/queries/0", "q"), ("context", "retrieval", "/results/0/text", "a")],
            [],
        ),
        (
            {"type": "web_search_call", "id": "s", "action": {"type": "open_page", "url": "https://x.example/?q=a"}},
            [("tool_call", "assistant", "/action/url", "https://x.example/?q=a")],
            [],
        ),
        (
            {"type": "mcp_call", "id": "m", "name": "f", "server_label": "s", "arguments": "{}", "output": "a"},
            [("tool_result", "tool", "/output", "a")],
            [],
        ),
        (
            {
                "type": "mcp_call",
                "id": "m",
                "arguments": "",
                "error": {"type": "http_error", "code": 500, "message": "a"},
            },
            [("tool_call", "assistant", "/arguments", ""), ("tool_result", "tool", "/error/message", "a")],
            [],
        ),
        (
            {"type": "code_interpreter_call", "id": "c", "code": "a", "outputs": [{"type": "image", "url": "u"}]},
            [("tool_call", "assistant", "/code", "a")],
            ["/outputs/0"],
        ),
        ({"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}}, [], ["/output"]),
        (
            {"type": "computer_call", "action": {"type": "type", "text": "a"}},
            [("tool_call", "assistant", "/action/text", "a")],
            [],
        ),
        ({"id": "msg_0"}, [], []),
        ({"type": "something_new", "words": "a"}, [], [""]),
        (
            {"type": "message", "role": "user", "content": "a", "whisper": "b"},
            [("input", "user", "/content", "a")],
            ["/whisper"],
        ),
    ],
)
def test_items(item: Any, parts: list[tuple[str, str, str, str]], uncovered: list[str]) -> None:
    said = _request(input=[item])
    assert _parts(said) == [(stage, role, f"/input/0{path}", text) for stage, role, path, text in parts]
    assert list(said.uncovered) == [f"/input/0{path}" for path in uncovered]


def test_what_a_request_tells_of_tools_and_of_the_form() -> None:
    said = RESPONSES.request(SAMPLE["requests"][0]["body"], {})
    told = {part.path: part.content for part in said.parts if part.role is Role.SYSTEM}
    assert told["/tools/0/description"] == "Sends a letter to a customer."
    assert told["/tools/0/parameters/properties/tone/enum/1"] == "dry as dust"
    assert told["/tools/3/server_description"] == "Knows all orders."
    assert told["/tools/6/tools/0/description"] == "Looks up a customer."
    assert told["/text/format/schema/properties/opens/description"] == "When it opens."
    assert "/tools/0/parameters/required/0" not in told
    assert not [path for path in told if "headers" in path or path.endswith("/type")]


def test_a_response() -> None:
    said = RESPONSES.response(SAMPLE["responses"][0]["body"])
    texts = {part.path: (part.stage, part.role, part.content) for part in said.parts}
    assert texts["/output/0/summary/0/text"][:2] == (Stage.OUTPUT, Role.ASSISTANT)
    assert texts["/output/1/content/0/text"] == (Stage.OUTPUT, Role.ASSISTANT, "We open at nine.")
    assert texts["/output/1/content/1/refusal"][:2] == (Stage.OUTPUT, Role.ASSISTANT)
    assert texts["/output/1/content/0/annotations/0/title"] == (Stage.OUTPUT, Role.RETRIEVAL, "Opening hours")
    assert texts["/output/2/arguments#/lines/0"] == (Stage.TOOL_CALL, Role.ASSISTANT, "Dear Ann,")
    assert texts["/instructions"][:2] == (Stage.INPUT, Role.SYSTEM)
    assert "/output/1/content/0/logprobs" in said.uncovered
    assert said.usage == Usage(input=81, output=40, cached=64, reasoning=12)
    assert (said.id, said.model, said.finish, said.error) == ("resp_01", "gpt-5.1-mini", ("completed",), "")


@pytest.mark.parametrize(
    ("body", "finish", "error"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ("max_output_tokens",), ""),
        ({"status": "in_progress"}, (), ""),
        ({"status": "failed", "error": {"code": "server_error", "message": "a"}}, ("failed",), "server_error"),
        (
            {"error": {"message": "a", "type": "invalid_request_error", "param": None, "code": None}},
            (),
            "invalid_request_error",
        ),
    ],
)
def test_how_it_ended(body: Any, finish: tuple[str, ...], error: str) -> None:
    said = RESPONSES.response(body)
    assert (said.finish, said.error) == (finish, error)


def test_a_delta_and_its_repeats() -> None:
    assert RESPONSES.event(Frame(DELTA)).deltas == (
        Delta("0/content/0", Stage.OUTPUT, Role.ASSISTANT, "/delta", "We open"),
    )
    done = {"type": "response.output_text.done", **PLACE, "text": "We open", "logprobs": []}
    said = RESPONSES.event(Frame(done))
    assert said.repeats == (Repeat("0/content/0", Stage.OUTPUT, Role.ASSISTANT, "/text", "We open"),)
    assert said.ends == ("0/content/0",)
    item = {**ADDED["item"], "content": [{"type": "output_text", "text": "We open", "annotations": []}]}
    over = RESPONSES.event(Frame({"type": "response.output_item.done", "output_index": 0, "item": item}))
    assert [(repeat.channel, repeat.path) for repeat in over.repeats] == [("0/content/0", "/item/content/0/text")]
    assert over.ends == ("0/", "0/content/0")
    whole = {"id": "r", "status": "completed", "model": "m", "output": [item]}
    last = RESPONSES.event(Frame({"type": "response.completed", "response": whole}))
    assert [repeat.path for repeat in last.repeats] == ["/response/output/0/content/0/text"]
    assert (last.last, last.finish, last.ends) == (True, ("completed",), ("0/content/0",))


def test_arguments_are_json() -> None:
    event = {"type": "response.function_call_arguments.delta", "item_id": "f", "output_index": 2, "delta": '{"to'}
    (delta,) = RESPONSES.event(Frame(event)).deltas
    assert (delta.channel, delta.stage, delta.json) == ("2/arguments", Stage.TOOL_CALL, True)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"input": 1},
        {"input": [1]},
        {"input": [{"role": "user", "content": 1}]},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]},
        {"input": "a", "stream": "true"},
        {"input": "a", "model": 1},
        {"Input": "a"},
        {"input": [{"type": "message", "role": "user", "Content": "a secret"}]},
    ],
)
def test_what_is_refused(body: Any) -> None:
    with pytest.raises(DialectError) as caught:
        RESPONSES.request(body, {})
    assert "secret" not in str(caught.value)


def test_requests_without_a_body() -> None:
    assert RESPONSES.request(None, {"response": "resp_1"}) == Body()
    with pytest.raises(DialectError):
        RESPONSES.request(None, {})


def test_an_ending_goes_on_where_the_stream_was() -> None:
    made = RESPONSES.ending(_frames(CREATED, ADDED, PART, DELTA), "Not that.")
    assert [frame.data["sequence_number"] for frame in made] == list(range(4, 4 + len(made)))
    assert [frame.name for frame in made] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    last = made[-1].data["response"]
    assert (last["id"], last["model"]) == ("resp_1", "m")
    assert [part["text"] for item in last["output"] for part in item["content"]] == ["We open", "Not that."]
    assert RESPONSES.event(made[-1]).finish == ("content_filter",)
    assert [made[0].data["text"], made[2].data["item"]["content"][0]["text"]] == ["We open", "We open"]


def test_an_ending_makes_no_call_of_one_that_was_cut_off() -> None:
    call = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "c",
        "name": "pay",
        "arguments": "",
        "status": "in_progress",
    }
    made = RESPONSES.ending(_frames(CREATED, {**ADDED, "item": call}), "")
    assert [frame.name for frame in made] == ["response.incomplete"]
    assert [item["type"] for item in made[0].data["response"]["output"]] == ["message"]


def test_a_stream_that_is_over_has_no_ending() -> None:
    assert RESPONSES.ending(frames(SAMPLE["streams"][0]), "Not that.") == []


def test_the_official_client_takes_what_we_make() -> None:
    responses = pytest.importorskip("openai.types.responses", reason="openai is not installed")
    pydantic = pytest.importorskip("pydantic")
    events = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    refusal = RESPONSES.refusal(_request(input="a"), "Not that.")
    assert responses.Response.model_validate(refusal, strict=True).output_text == "Not that."
    for seen in ([], _frames(CREATED), _frames(CREATED, ADDED, PART, DELTA)):
        for text in ("Not that.", ""):
            for frame in RESPONSES.ending(seen, text):
                assert events.validate_python(frame.data).type == frame.name


def test_the_samples_are_what_the_official_client_takes() -> None:
    responses = pytest.importorskip("openai.types.responses", reason="openai is not installed")
    pydantic = pytest.importorskip("pydantic")
    responses.Response.model_validate(SAMPLE["responses"][0]["body"])
    events = pydantic.TypeAdapter(responses.ResponseStreamEvent)
    for frame in frames(SAMPLE["streams"][0]):
        assert events.validate_python(frame.data).type == frame.name
