"""Gemini; shapes from https://ai.google.dev/api/generate-content and https://ai.google.dev/api/caching, values ours."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_samples import frames, load

from llmguard.dialects import registry
from llmguard.dialects.gemini import GEMINI
from llmguard.dialects.wire import Body, Frame, Framing, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

SAMPLE = load("gemini")


def _parts(body: Body) -> list[tuple[str, str, str, str]]:
    return [(str(part.stage), str(part.role), part.path, part.content) for part in body.parts]


@pytest.mark.parametrize(
    ("part", "parts", "uncovered"),
    [
        ({"text": "a"}, [("input", "user", "/text", "a")], []),
        ({"text": "a", "thought": True, "thoughtSignature": "s"}, [("input", "user", "/text", "a")], []),
        (
            {"functionCall": {"name": "f", "args": {"to": ["a"], "n": 1, "name": "b"}}},
            [
                ("tool_call", "assistant", "/functionCall/args/to/0", "a"),
                ("tool_call", "assistant", "/functionCall/args/name", "b"),
            ],
            [],
        ),
        (
            {"functionResponse": {"name": "f", "response": {"a/b": "c"}, "parts": [{"inlineData": {"data": "x"}}]}},
            [
                ("tool_result", "tool", "/functionResponse/response/a~1b~3", "a/b"),
                ("tool_result", "tool", "/functionResponse/response/a~1b", "c"),
            ],
            ["/functionResponse/parts/0"],
        ),
        ({"executableCode": {"code": "a"}}, [("tool_call", "assistant", "/executableCode/code", "a")], []),
        ({"codeExecutionResult": {"output": "a"}}, [("tool_result", "tool", "/codeExecutionResult/output", "a")], []),
        ({"inlineData": {"mimeType": "text/plain", "data": "YQ=="}}, [], ["/inlineData"]),
        ({"file_data": {"file_uri": "u"}}, [], ["/file_data"]),
        ({"function_call": {"args": {"a": "b"}}}, [("tool_call", "assistant", "/function_call/args/a", "b")], []),
        ({"something_new": {"words": "a"}}, [], ["/something_new/words"]),
    ],
)
def test_parts(part: Any, parts: list[tuple[str, str, str, str]], uncovered: list[str]) -> None:
    said = GEMINI.request({"contents": [{"role": "user", "parts": [part]}]}, {})
    where = "/contents/0/parts/0"
    assert _parts(said) == [(stage, role, where + path, text) for stage, role, path, text in parts]
    assert list(said.uncovered) == [where + path for path in uncovered]


def test_both_spellings_and_objects_for_lists_of_one() -> None:
    said = GEMINI.request(SAMPLE["requests"][1]["body"], {"model": "gemini-3-flash"})
    assert _parts(said) == [
        ("input", "system", "/system_instruction/parts/text", "Be kind."),
        ("input", "user", "/contents/parts/text", "Hi"),
        ("input", "system", "/tools/0/function_declarations/0/description", "Keeps a note."),
        ("input", "user", "/generation_config/stop_sequences/0", "END OF LETTER"),
    ]
    assert said.model == "gemini-3-flash"


def test_a_key_in_both_spellings_is_read_twice() -> None:
    body = {"systemInstruction": {"parts": [{"text": "a"}]}, "system_instruction": {"parts": [{"text": "b"}]}}
    assert [part.content for part in GEMINI.request(body, {}).parts] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("/v1beta/models/gemini-3-flash:generateContent", False),
        ("/v1beta/models/gemini-3-flash:streamGenerateContent", True),
        ("/v1/publishers/google/models/gemini-3-flash:streamGenerateContent", True),
        ("/v1/projects/p/locations/l/publishers/google/models/gemini-3-flash:countTokens", False),
    ],
)
def test_routes(path: str, stream: bool) -> None:
    found = registry.find("POST", path, (GEMINI,))
    assert found is not None
    assert (found.route.stream, found.segments["model"]) == (stream, "gemini-3-flash")


def test_a_response() -> None:
    said = GEMINI.response(SAMPLE["responses"][0]["body"])
    texts = {part.path: (part.stage, part.role, part.content) for part in said.parts}
    assert texts["/candidates/0/content/parts/0/text"] == (Stage.OUTPUT, Role.ASSISTANT, "They want the hours.")
    assert texts["/candidates/0/groundingMetadata/groundingSupports/0/segment/text"][0] is Stage.OUTPUT
    assert texts["/candidates/0/groundingMetadata/groundingChunks/1/retrievedContext/text"][1] is Role.RETRIEVAL
    assert texts["/candidates/0/groundingMetadata/webSearchQueries/0"][0] is Stage.TOOL_CALL
    assert texts["/candidates/1/content/parts/0/text"][2] == "At nine."
    assert texts["/candidates/1/finishMessage"][2] == "Too long."
    assert "/candidates/0/logprobsResult" in said.uncovered
    assert "/candidates/0/content/parts/5/inlineData" in said.uncovered
    assert said.usage == Usage(input=23, output=18, cached=4, reasoning=7)
    assert (said.id, said.model, said.finish) == ("r-1", "gemini-3-flash", ("STOP", "MAX_TOKENS"))


@pytest.mark.parametrize(
    ("body", "finish", "error"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, ("SAFETY",), ""),
        ({"error": {"code": 404, "message": "a", "status": "NOT_FOUND"}}, (), "NOT_FOUND"),
        ([{"error": {"code": 404, "message": "a", "status": "NOT_FOUND"}}], (), "NOT_FOUND"),
    ],
)
def test_how_it_ended(body: Any, finish: tuple[str, ...], error: str) -> None:
    said = GEMINI.response(body)
    assert (said.finish, said.error) == (finish, error)


def test_a_stream_as_an_array_is_no_answer() -> None:
    with pytest.raises(DialectError, match="members are events"):
        GEMINI.response([frame.data for frame in frames(SAMPLE["streams"][0])])


def test_a_stream() -> None:
    assert GEMINI.framing is Framing.SSE
    texts: dict[str, str] = {}
    for frame in frames(SAMPLE["streams"][0]):
        event = GEMINI.event(frame)
        for delta in event.deltas:
            texts[delta.channel] = texts.get(delta.channel, "") + delta.content
    assert texts == {"0/thought": "They want the hours.", "0/text": "We open at nine.", "0/call/$.n": "nine sharp"}
    assert event.finish == ("STOP",)
    assert "0/" in event.ends


def test_candidates_have_channels_of_their_own() -> None:
    candidates = [
        {"index": 1, "content": {"parts": [{"text": "a"}]}},
        {"index": 0, "content": {"parts": [{"text": "b"}]}},
    ]
    event = GEMINI.event(Frame({"candidates": candidates}))
    assert [(delta.channel, delta.content) for delta in event.deltas] == [("1/text", "a"), ("0/text", "b")]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"contents": 1},
        {"contents": [1]},
        {"contents": [{"parts": [{"text": ["a secret"]}]}]},
        {"contents": [{"parts": [{"Text": "a secret"}]}]},
        {"contents": [{"role": 1, "parts": []}]},
        {"Contents": []},
    ],
)
def test_what_is_refused(body: Any) -> None:
    with pytest.raises(DialectError) as caught:
        GEMINI.request(body, {})
    assert "secret" not in str(caught.value)


def test_an_ending_ends_the_candidates_that_are_open() -> None:
    seen = [
        Frame(
            {"candidates": [{"index": at, "content": {"parts": [{"text": "a"}]}} for at in (0, 1)], "responseId": "r"}
        ),
        Frame({"candidates": [{"index": 0, "content": {}, "finishReason": "STOP"}]}),
    ]
    (made,) = GEMINI.ending(seen, "Not that.")
    (candidate,) = made.data["candidates"]
    assert (candidate["index"], candidate["finishReason"], made.data["responseId"]) == (1, "SAFETY", "r")
    assert GEMINI.ending(frames(SAMPLE["streams"][0]), "Not that.") == []


@pytest.mark.parametrize("text", ["Not that.", ""])
def test_the_official_client_takes_what_we_make(text: str) -> None:
    types = pytest.importorskip("google.genai.types", reason="google-genai is not installed")
    refusal = GEMINI.refusal(GEMINI.request({"contents": []}, {"model": "gemini-3-flash"}), text)
    for body in (refusal, GEMINI.ending([], text)[0].data):
        answer = types.GenerateContentResponse.model_validate(body)
        assert answer.text == text
        assert answer.candidates[0].finish_reason.value == "SAFETY"


def test_the_samples_are_what_the_official_client_takes() -> None:
    types = pytest.importorskip("google.genai.types", reason="google-genai is not installed")
    for frame in frames(SAMPLE["streams"][0]):
        types.GenerateContentResponse.model_validate(frame.data)
