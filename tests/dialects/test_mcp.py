"""The Model Context Protocol; messages as in its specification of 2025-11-25, values ours."""

from typing import Any

import pytest

from llmguard.dialects.mcp import MCP
from llmguard.dialects.wire import Body, Frame
from llmguard.errors import DialectError
from llmguard.types import Role, Stage


def message(id_: Any = 7, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, **members}


def said(body: Body) -> list[tuple[str, str, str]]:
    return [(part.stage, part.role, part.path) for part in body.parts]


CALL = message(
    method="tools/call", params={"name": "send_mail", "arguments": {"to": "bob", "lines": ["a", "b"], "n": 1}}
)


def test_a_call_of_a_tool() -> None:
    body = MCP.request(CALL, {})
    assert said(body) == [
        (Stage.TOOL_CALL, Role.ASSISTANT, "/params/arguments/to"),
        (Stage.TOOL_CALL, Role.ASSISTANT, "/params/arguments/lines/0"),
        (Stage.TOOL_CALL, Role.ASSISTANT, "/params/arguments/lines/1"),
    ]
    assert (body.id, body.uncovered) == ("7", ())


def test_what_a_tool_returns() -> None:
    content = [
        {"type": "text", "text": "rain"},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        {"type": "resource", "resource": {"uri": "file:///a", "text": "a log"}},
        {"type": "resource", "resource": {"uri": "file:///b", "blob": "aGk="}},
        {"type": "resource_link", "uri": "file:///c", "name": "c", "description": "notes"},
        {"type": "hologram", "text": "new"},
    ]
    result = {"content": content, "structuredContent": {"weather": ["rain"]}, "isError": False}
    body = MCP.response(message(result=result))
    assert said(body) == [
        (Stage.TOOL_RESULT, Role.TOOL, "/result/content/0/text"),
        (Stage.TOOL_RESULT, Role.TOOL, "/result/content/2/resource/text"),
        (Stage.TOOL_RESULT, Role.TOOL, "/result/content/4/description"),
        (Stage.TOOL_RESULT, Role.TOOL, "/result/structuredContent/weather/0"),
    ]
    assert body.uncovered == ("/result/content/1", "/result/content/3/resource/blob", "/result/content/5")
    assert body.error == ""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            message(result={"messages": [{"role": "user", "content": {"type": "text", "text": "x"}}]}),
            (Stage.CONTEXT, Role.RETRIEVAL, "/result/messages/0/content/text"),
        ),
        (
            message(result={"contents": [{"uri": "file:///a", "text": "x"}]}),
            (Stage.CONTEXT, Role.RETRIEVAL, "/result/contents/0/text"),
        ),
        (
            message(result={"tools": [{"name": "t", "description": "x", "inputSchema": {"type": "object"}}]}),
            (Stage.CONTEXT, Role.RETRIEVAL, "/result/tools/0/description"),
        ),
        (
            message(result={"serverInfo": {"name": "s", "version": "1"}, "instructions": "x"}),
            (Stage.CONTEXT, Role.RETRIEVAL, "/result/instructions"),
        ),
        (
            message(method="prompts/get", params={"name": "p", "arguments": {"code": "x"}}),
            (Stage.INPUT, Role.USER, "/params/arguments/code"),
        ),
        (
            message(method="sampling/createMessage", params={"messages": [], "systemPrompt": "x"}),
            (Stage.CONTEXT, Role.RETRIEVAL, "/params/systemPrompt"),
        ),
        (
            message(result={"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"}),
            (Stage.OUTPUT, Role.ASSISTANT, "/result/content/text"),
        ),
        (
            message(result={"action": "accept", "content": {"name": "x"}}),
            (Stage.INPUT, Role.USER, "/result/content/name"),
        ),
        (
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": {"a": "x"}}},
            (Stage.TOOL_RESULT, Role.TOOL, "/params/data/a"),
        ),
        (
            message(error={"code": -32602, "message": "x"}),
            (Stage.TOOL_RESULT, Role.TOOL, "/error/message"),
        ),
    ],
)
def test_messages_both_ways(body: Any, expected: tuple[str, str, str]) -> None:
    assert said(MCP.request(body, {})) == [expected]
    assert said(MCP.response(body)) == [expected]


def test_names_and_uris_are_no_texts_and_unknown_members_are_uncovered() -> None:
    assert said(MCP.request(message(method="resources/read", params={"uri": "file:///a"}), {})) == []
    body = MCP.request(message(method="x/new", params={"hint": "x", "_meta": {"a": "b"}}, extra={"a": "y"}), {})
    assert body.uncovered == ("/params/hint", "/extra/a")


def test_a_notice_of_unknown_kind_with_content_blocks_is_read() -> None:
    params = {"content": [{"type": "text", "text": "x"}, {"type": "image", "data": "aGk="}]}
    body = MCP.request({"jsonrpc": "2.0", "method": "x/new", "params": params}, {})
    assert said(body) == [(Stage.TOOL_RESULT, Role.TOOL, "/params/content/0/text")]
    assert body.uncovered == ("/params/content/1",)


def test_a_result_that_asks_first_and_the_call_that_answers() -> None:
    form = {"method": "elicitation/create", "params": {"message": "Who are you?"}}
    asked = MCP.response(message(result={"resultType": "input_required", "inputRequests": {"who/am": form}}))
    assert said(asked) == [(Stage.TOOL_RESULT, Role.TOOL, "/result/inputRequests/who~1am/params/message")]
    params = {"name": "book", "inputResponses": {"who": {"action": "accept", "content": {"name": "Bob"}}}}
    answered = MCP.request(message(method="tools/call", params=params), {})
    assert said(answered) == [(Stage.INPUT, Role.USER, "/params/inputResponses/who/content/name")]
    assert asked.uncovered == answered.uncovered == ()


def test_batches_and_the_ids_that_a_refusal_answers() -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    body = MCP.request([CALL, note, message("b", method="tools/call", params={"name": "now"})], {})
    assert body.parts[0].path == "/0/params/arguments/to"
    refusal = MCP.refusal(body, "No.")
    assert [answer["id"] for answer in refusal] == [7, "b"]
    assert [part.content for part in MCP.response(refusal).parts] == ["No.", "No."]
    assert MCP.refusal(MCP.request(CALL, {}), "No.")["id"] == 7
    assert MCP.refusal(MCP.request({**CALL, "id": "7"}, {}), "No.")["id"] == "7"
    assert MCP.refusal(MCP.request(note, {}), "No.")["id"] is None


LIST = message("9", method="tools/list")
NOTE = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def test_only_a_call_is_refused_with_a_result_where_the_request_is_known() -> None:
    sent = [CALL, NOTE, LIST]
    called, listed = MCP.refusal(MCP.request(sent, {}), "No.", sent)
    assert (called["id"], called["result"]["isError"]) == (7, True)
    assert (listed["id"], listed["error"]["message"], listed["error"]["data"]) == (
        "9",
        "No.",
        {"code": "content_filter"},
    )
    assert MCP.refusal(MCP.request(LIST, {}), "No.", LIST)["error"]["message"] == "No."
    assert MCP.refusal(MCP.request(LIST, {}), "No.")["result"]["isError"] is True


@pytest.mark.parametrize(
    ("sent", "status"), [(CALL, 200), ([NOTE, CALL], 200), (NOTE, 400), ([NOTE], 400), (message(result={}), 400)]
)
def test_what_wants_no_answer_is_refused_by_the_status(sent: Any, status: int) -> None:
    assert MCP.status(MCP.request(sent, {})) == status


def test_an_ending_answers_what_is_not_answered_yet() -> None:
    progress = Frame({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"message": "x"}}, "message")
    answer = Frame(message(result={"content": []}), "message")
    (frame,) = MCP.ending([progress], "No.", CALL)
    assert (frame.data["id"], frame.data["result"]["content"][0]["text"]) == (7, "No.")
    (frame,) = MCP.ending([answer], "No.", [CALL, LIST, message("8", method="ping")])
    assert [one["id"] for one in frame.data] == ["9", "8"]
    assert MCP.event(frame).last
    assert MCP.ending([answer], "No.", CALL) == []
    assert len(MCP.ending([answer], "No.", message("7", method="tools/call", params={}))) == 1
    assert MCP.ending([], "No.", NOTE) == []


def test_an_error_has_the_id_of_the_request() -> None:
    assert MCP.error("too long", "too_long", CALL)["id"] == 7
    assert MCP.error("too long", "too_long", [CALL, LIST])["id"] is None
    assert MCP.error("too long", "too_long", "no request")["id"] is None


def test_errors() -> None:
    assert MCP.response(message(error={"code": -32602, "message": "Unknown tool"})).error == "-32602"
    failed = MCP.response(message(result={"content": [{"type": "text", "text": "no answer"}], "isError": True}))
    assert failed.error == "tool_error"
    assert MCP.response(MCP.error("too long", "too_long")).error


def test_a_stream_ends_with_the_answer() -> None:
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "message": "x"}}
    answer = message(result={"content": [{"type": "text", "text": "rain"}]})
    assert MCP.event(Frame("")).parts == ()
    assert not MCP.event(Frame(progress, "message")).last
    assert not MCP.event(Frame(message(method="ping"), "message")).last
    event = MCP.event(Frame(answer, "message"))
    assert (event.last, [part.content for part in event.parts]) == (True, ["rain"])
    assert MCP.ending([Frame(progress), Frame(answer)], "No.") == []
    (ending,) = MCP.ending([Frame(progress)], "No.")
    assert MCP.event(ending).last


@pytest.mark.parametrize(
    "body",
    [
        [],
        ["x"],
        {},
        {"jsonrpc": "1.0", "method": "ping"},
        {"jsonrpc": "2.0"},
        {"jsonrpc": "2.0", "method": "ping", "result": {}},
        {"jsonrpc": "2.0", "method": 1},
        {"jsonrpc": "2.0", "method": "tools/call", "params": []},
        {"jsonrpc": "2.0", "method": "tools/call", "params": {"arguments": "x"}},
        {"jsonrpc": "2.0", "method": "tools/call", "params": {"Arguments": {"to": "x"}}},
        {"jsonrpc": "2.0", "method": "tools/call", "Params": {"arguments": {"to": "x"}}},
        {"jsonrpc": "2.0", "id": [1], "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "result": "x"},
        {"jsonrpc": "2.0", "id": 1, "result": {"content": "x"}},
        {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": ["x"]}]}},
        {"jsonrpc": "2.0", "id": 1, "error": "x"},
    ],
)
def test_what_is_no_message(body: Any) -> None:
    with pytest.raises(DialectError):
        MCP.response(body)
    with pytest.raises(DialectError):
        MCP.request(body, {})
