"""Ollama's chat and generate. Bodies are in the shapes of its API documentation (see the samples); values are ours."""

import json
from pathlib import Path

import pytest

from llmguard.dialects.ollama import CHAT, GENERATE
from llmguard.dialects.wire import Body, Frame, Framing, Usage
from llmguard.errors import DialectError

FOLDER = Path(__file__).parent / "samples"
CHATS = json.loads((FOLDER / "ollama.chat.json").read_text(encoding="utf-8"))
GENERATES = json.loads((FOLDER / "ollama.generate.json").read_text(encoding="utf-8"))


def rows(parts):
    return [(str(part.stage), str(part.role), part.path) for part in parts]


def test_lines_are_json():
    assert CHAT.framing is GENERATE.framing is Framing.NDJSON


def test_a_chat_request():
    body = CHAT.request(CHATS["requests"][0]["body"], {})
    assert rows(body.parts) == [
        ("input", "system", "/messages/0/content"),
        ("input", "user", "/messages/1/content"),
        ("input", "assistant", "/messages/2/content"),
        ("input", "assistant", "/messages/2/thinking"),
        ("tool_call", "assistant", "/messages/2/tool_calls/0/function/arguments/town"),
        ("tool_call", "assistant", "/messages/2/tool_calls/0/function/arguments/notes/0"),
        ("tool_result", "tool", "/messages/3/content"),
        ("input", "system", "/tools/0/function/description"),
        ("input", "system", "/tools/0/function/parameters/properties/town/title"),
        ("input", "system", "/tools/0/function/parameters/properties/town/description"),
        ("input", "system", "/tools/0/function/parameters/properties/type/description"),
        ("input", "system", "/tools/0/function/parameters/properties/type/enum/0"),
        ("input", "system", "/tools/0/function/parameters/properties/type/enum/1"),
        ("input", "system", "/tools/0/function/parameters/properties/type/default"),
        ("input", "system", "/tools/0/function/parameters/properties/type/pattern"),
        ("input", "system", "/format/properties/line/description"),
        ("input", "user", "/options/stop/0"),
    ]
    assert body.uncovered == ("/messages/1/images",)
    assert body.model == "qwen3:4b"


def test_a_generate_request():
    body = GENERATE.request(GENERATES["requests"][0]["body"], {})
    assert rows(body.parts) == [
        ("input", "system", "/system"),
        ("input", "system", "/template"),
        ("input", "user", "/prompt"),
        ("input", "user", "/suffix"),
        ("input", "user", "/options/stop"),
    ]
    assert body.uncovered == ("/context", "/images")


@pytest.mark.parametrize(("asked", "streams"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)])
def test_answers_stream_unless_told_not_to(asked, streams):
    for dialect in (CHAT, GENERATE):
        assert dialect.request({"model": "m", **asked}, {}).stream is streams


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("secret", "the body"),
        ({"messages": "secret"}, "/messages"),
        ({"messages": [{"content": "secret"}]}, "/messages/0/role"),
        ({"messages": [{"role": "user", "content": ["secret"]}]}, "/messages/0/content"),
        ({"messages": [{"role": "user", "CONTENT": "secret"}]}, "'content' is spelt in another case"),
        ({"messages": [{"role": "user", "tool_calls": [{"Function": {}}]}]}, "another case"),
        ({"messages": [{"role": "user", "tool_calls": [{"function": {"arguments": 5}}]}]}, "arguments"),
        ({"messages": [], "options": {"Stop": ["secret"]}}, "another case"),
        ({"messages": [], "stream": "false"}, "/stream"),
    ],
)
def test_what_is_no_chat_request(body, where):
    with pytest.raises(DialectError) as raised:
        CHAT.request(body, {})
    assert where in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_is_unknown_in_a_message_is_uncovered():
    body = CHAT.request({"messages": [{"role": "critic", "content": "x", "aside": ["y", 1]}]}, {})
    assert (rows(body.parts), body.uncovered) == ([("input", "user", "/messages/0/content")], ("/messages/0/aside/0",))


def test_answers():
    body = CHAT.response(CHATS["responses"][0]["body"])
    assert rows(body.parts) == [
        ("output", "assistant", "/message/content"),
        ("output", "assistant", "/message/thinking"),
    ]
    assert (body.uncovered, body.finish, body.usage) == (("/logprobs",), ("stop",), Usage(26, 9))
    tool = CHAT.response(CHATS["responses"][1]["body"])
    assert rows(tool.parts)[1] == ("tool_call", "assistant", "/message/tool_calls/0/function/arguments/town")
    made = GENERATE.response(GENERATES["responses"][0]["body"])
    assert rows(made.parts) == [("output", "assistant", "/response"), ("output", "assistant", "/thinking")]
    assert made.uncovered == ("/context",)


@pytest.mark.parametrize("dialect", [CHAT, GENERATE])
def test_what_is_no_answer(dialect):
    with pytest.raises(DialectError):
        dialect.response({"model": "m"})


def test_a_chat_stream():
    events = [CHAT.event(Frame(frame["data"])) for frame in CHATS["streams"][0]["frames"]]
    joined = {}
    for event in events:
        for delta in event.deltas:
            joined[delta.channel] = joined.get(delta.channel, "") + delta.content
    assert joined == {"0/thinking": "The tool", "0/content": "Dry until six."}
    assert rows(events[3].parts) == [("tool_call", "assistant", "/message/tool_calls/0/function/arguments/town")]
    assert (events[-1].last, events[-1].ends) == (True, ("0/",))
    assert (events[-1].finish, events[-1].usage) == (("stop",), Usage(26, 9))


def test_a_generate_stream():
    events = [GENERATE.event(Frame(frame["data"])) for frame in GENERATES["streams"][0]["frames"]]
    assert "".join(delta.content for event in events for delta in event.deltas) == "  pass"
    assert {delta.channel for event in events for delta in event.deltas} == {"0/response"}
    assert (events[-1].last, events[-1].ends) == (True, ("0/",))
    assert events[-1].uncovered == ("/context",)


def test_an_error_is_the_last_line():
    event = CHAT.event(Frame({"error": "the model died"}))
    assert (event.error, event.last, rows(event.parts)) == ("error", True, [("output", "assistant", "/error")])
    assert CHAT.ending([Frame({"error": "the model died"})], "No.") == []


@pytest.mark.parametrize("data", ["[DONE]", [], {"message": 5}, {"done": "yes"}, {"model": "m"}])
def test_what_is_no_line(data):
    with pytest.raises(DialectError):
        CHAT.event(Frame(data))


@pytest.mark.parametrize(("dialect", "said"), [(CHAT, {"role": "assistant", "content": "No."}), (GENERATE, "No.")])
def test_a_refusal_and_an_ending(dialect, said):
    key = "message" if dialect is CHAT else "response"
    refusal = dialect.refusal(Body(model="m"), "No.")
    assert (refusal[key], refusal["done"], refusal["done_reason"], refusal["model"]) == (
        said,
        True,
        "content_filter",
        "m",
    )
    seen = [Frame({"model": "m2", "created_at": "2026-11-21T00:00:00Z", key: said, "done": False})]
    line, end = [frame.data for frame in dialect.ending(seen, "No.")]
    assert (line[key], line["done"], line["model"], line["created_at"]) == (said, False, "m2", "2026-11-21T00:00:00Z")
    assert (end["done"], end["done_reason"]) == (True, "content_filter")
    assert len(dialect.ending(seen, "")) == 1
