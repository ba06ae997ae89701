"""The Messages API; shapes from https://platform.claude.com/docs/en/api/messages and …/streaming, values ours."""

from __future__ import annotations

from typing import Any

import pytest
from dialect_samples import frames, load

from llmguard.dialects.anthropic_messages import MESSAGES
from llmguard.dialects.wire import Body, Delta, Frame, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

SAMPLE = load("anthropic.messages")


def _parts(body: Body) -> list[tuple[str, str, str, str]]:
    return [(str(part.stage), str(part.role), part.path, part.content) for part in body.parts]


def _request(**fields: Any) -> Body:
    return MESSAGES.request({"model": "claude-sonnet-5", "max_tokens": 9, **fields}, {})


@pytest.mark.parametrize(
    ("block", "parts", "uncovered"),
    [
        ({"type": "text", "text": "a"}, [("input", "user", "/text", "a")], []),
        (
            {"type": "text", "text": "a", "citations": [{"type": "char_location", "cited_text": "b"}]},
            [("input", "user", "/text", "a"), ("context", "retrieval", "/citations/0/cited_text", "b")],
            [],
        ),
        ({"type": "thinking", "thinking": "a", "signature": "s"}, [("input", "user", "/thinking", "a")], []),
        ({"type": "redacted_thinking", "data": "x"}, [], ["/data"]),
        (
            {"type": "tool_use", "id": "t", "name": "f", "input": {"to": ["a"], "type": "b"}},
            [("tool_call", "assistant", "/input/to/0", "a"), ("tool_call", "assistant", "/input/type", "b")],
            [],
        ),
        ({"type": "tool_result", "tool_use_id": "t", "content": "a"}, [("tool_result", "tool", "/content", "a")], []),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
            [("tool_result", "tool", "/content/0/text", "a")],
            ["/content/1"],
        ),
        (
            {"type": "document", "title": "a", "context": "b", "source": {"type": "text", "data": "c"}},
            [
                ("context", "retrieval", "/title", "a"),
                ("context", "retrieval", "/context", "b"),
                ("context", "retrieval", "/source/data", "c"),
            ],
            [],
        ),
        (
            {"type": "document", "source": {"type": "content", "content": "a"}},
            [("context", "retrieval", "/source/content", "a")],
            [],
        ),
        ({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}, [], ["/source"]),
        (
            {"type": "search_result", "source": "a", "title": "b", "content": [{"type": "text", "text": "c"}]},
            [
                ("context", "retrieval", "/source", "a"),
                ("context", "retrieval", "/title", "b"),
                ("context", "retrieval", "/content/0/text", "c"),
            ],
            [],
        ),
        ({"type": "image", "source": {"type": "base64", "data": "x"}}, [], [""]),
        ({"type": "something_new", "words": "a"}, [], [""]),
        ({"type": "text", "text": "a", "whisper": {"b": "c"}}, [("input", "user", "/text", "a")], ["/whisper/b"]),
    ],
)
def test_blocks(block: Any, parts: list[tuple[str, str, str, str]], uncovered: list[str]) -> None:
    said = _request(messages=[{"role": "user", "content": [block]}])
    where = "/messages/0/content/0"
    assert _parts(said) == [(stage, role, where + path, text) for stage, role, path, text in parts]
    assert list(said.uncovered) == [where + path for path in uncovered]


def test_a_request() -> None:
    said = MESSAGES.request(SAMPLE["requests"][0]["body"], {})
    texts = {part.path: (part.stage, part.role, part.content) for part in said.parts}
    assert texts["/system/0/text"] == (Stage.INPUT, Role.SYSTEM, "Be kind.")
    assert texts["/messages/0/content"] == (Stage.INPUT, Role.USER, "When do you open?")
    assert texts["/messages/3/content"][:2] == (Stage.INPUT, Role.ASSISTANT)
    assert texts["/tools/0/description"] == (Stage.INPUT, Role.SYSTEM, "Sends a letter.")
    assert texts["/tools/0/input_schema/properties/to/description"][:2] == (Stage.INPUT, Role.SYSTEM)
    assert texts["/stop_sequences/0"][2] == "END OF LETTER"
    assert (said.model, said.stream) == ("claude-sonnet-5", True)


def test_a_response() -> None:
    said = MESSAGES.response(SAMPLE["responses"][0]["body"])
    texts = {part.path: (part.stage, part.role, part.content) for part in said.parts}
    assert texts["/content/2/text"] == (Stage.OUTPUT, Role.ASSISTANT, "We open at nine.")
    assert texts["/content/2/citations/0/cited_text"][:2] == (Stage.OUTPUT, Role.RETRIEVAL)
    assert texts["/content/3/input/to"] == (Stage.TOOL_CALL, Role.ASSISTANT, "ann@shop.example")
    assert texts["/content/8/content/stderr"] == (Stage.TOOL_RESULT, Role.TOOL, "a warning")
    assert {"/content/1/data", "/content/5/content/0/encrypted_content", "/content/13"} <= set(said.uncovered)
    assert said.usage == Usage(input=89, output=31, cached=64, reasoning=7)
    assert (said.id, said.finish) == ("msg_01", ("stop_sequence",))


def test_a_count_of_tokens() -> None:
    assert MESSAGES.response({"input_tokens": 12}).usage == Usage(input=12)


def test_a_stream() -> None:
    events = [MESSAGES.event(frame) for frame in frames(SAMPLE["streams"][0])]
    deltas = [delta for event in events for delta in event.deltas]
    texts: dict[str, str] = {}
    for delta in deltas:
        texts[delta.channel] = texts.get(delta.channel, "") + delta.content
    assert texts == {
        "0/thinking": "They want the hours.",
        "1/text": "We open at nine.",
        "2/input": '{"to": "ann@shop.example"}',
    }
    assert {delta.channel for delta in deltas if delta.json} == {"2/input"}
    assert [at for at, event in enumerate(events) if event.ends and event.closes("2/input")] == [16]
    assert [event.finish for event in events if event.finish] == [("tool_use",)]
    assert [event.usage for event in events if event.usage][-1] == Usage(output=31)
    assert (events[0].id, events[0].model) == ("msg_01", "claude-sonnet-5")


def test_a_block_may_begin_with_text() -> None:
    data = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "We"}}
    assert MESSAGES.event(Frame(data)).deltas == (
        Delta("1/text", Stage.OUTPUT, Role.ASSISTANT, "/content_block/text", "We"),
    )


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"messages": {}},
        {"messages": [1]},
        {"messages": [{"role": 1, "content": "a"}]},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ["a secret"]}]}]},
        {"messages": [], "stream": 1},
        {"Messages": []},
        {"messages": [{"role": "user", "Content": "a secret"}]},
    ],
)
def test_what_is_refused(body: Any) -> None:
    with pytest.raises(DialectError) as caught:
        MESSAGES.request(body, {})
    assert "secret" not in str(caught.value)


def test_an_error() -> None:
    said = MESSAGES.response(SAMPLE["errors"][0]["body"])
    assert (said.error, [part.path for part in said.parts]) == ("not_found_error", ["/error/message"])


def test_an_ending_closes_what_is_open() -> None:
    seen = frames(SAMPLE["streams"][0])[:5]
    made = MESSAGES.ending(seen, "Not that.")
    assert [(frame.name, frame.data.get("index")) for frame in made] == [
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
        ("message_delta", None),
        ("message_stop", None),
    ]
    assert made[-2].data["usage"] == {"output_tokens": 1}
    assert MESSAGES.ending(frames(SAMPLE["streams"][0]), "Not that.") == []


@pytest.mark.parametrize("length", range(5))
@pytest.mark.parametrize("text", ["Not that.", ""])
def test_the_official_client_takes_what_we_make(length: int, text: str) -> None:
    types = pytest.importorskip("anthropic.types", reason="anthropic is not installed")
    streaming = pytest.importorskip("anthropic.lib.streaming._messages")
    pydantic = pytest.importorskip("pydantic")
    events = pydantic.TypeAdapter(types.RawMessageStreamEvent)
    seen = frames(SAMPLE["streams"][0])[:length]
    message: Any = None
    for frame in [*seen, *MESSAGES.ending(seen, text)]:
        if frame.name != "ping":
            event = events.validate_python(frame.data)
            message = streaming.accumulate_event(event=event, current_snapshot=message, json_bufs={})
    assert message.stop_reason == "refusal"
    assert (message.content[-1].text if text else "") == text


def test_the_official_client_takes_a_refusal() -> None:
    types = pytest.importorskip("anthropic.types", reason="anthropic is not installed")
    message = types.Message.model_validate(MESSAGES.refusal(_request(messages=[]), "Not that."))
    assert (message.content[0].text, message.stop_reason) == ("Not that.", "refusal")
