"""The Model Context Protocol over HTTP: tool calls and what they return, prompts, resources, sampling.

Follows "Specification" of 2025-11-25 (https://modelcontextprotocol.io/specification/2025-11-25: transports, server
features, client features, schema), and 2025-03-26 for batches; for results that ask the client something before they
are complete, the types of the official SDK (https://github.com/modelcontextprotocol/python-sdk, 2.3.0); read
2026-11-21.

The messages are JSON-RPC 2.0 and go both ways: a client posts requests, and answers to what a server asked it
(sampling, elicitation); a server answers, and asks in its streams. So each body is read by what its messages are. An
answer does not say which method it answers: what a result is, its members tell. The ``id`` of a `Body` is the JSON of
the messages' ids, ``7``, ``"a"`` or, of a batch, ``[7, "a"]``, so that a refusal can answer them.

What a server says of itself (descriptions of tools, prompts and resources, instructions) reaches the model, and the
server may not be the user's: it is context. Names, URIs, media types and ``_meta`` are no texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from llmguard.dialects.leftover import leftover
from llmguard.dialects.mcp_results import add_blocks, add_result, add_sampling, add_schema
from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, mapping, optional, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

_ERROR = -32001
_MESSAGE = frozenset({"params", "result", "error"})
_HEAD = frozenset({"jsonrpc", "id", "method"})
_DATA = frozenset({"_meta", "clientInfo", "capabilities", "ref", "task"})
_NAMES = frozenset(
    {"uri", "cursor", "name", "protocolVersion", "taskId", "status", "createdAt", "lastUpdatedAt"}
).union({"progressToken", "requestId", "level", "logger", "mode", "url", "elicitationId", "requestState"})
_SPOKEN = ("message", "data", "reason", "statusMessage", "arguments")


class Mcp:
    """The dialect of the protocol; see the module."""

    name: str = "mcp"
    provider: str = "mcp"
    operation: str = "execute_tool"
    routes: tuple[Route, ...] = (Route("POST", "/mcp"),)
    framing: Framing | None = Framing.SSE

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of what a client sends."""
        return _read(body)

    def response(self, body: Json) -> Body:
        """The texts of what a server answers."""
        return _read(body)

    def event(self, frame: Frame) -> Event:
        """A message of a server, whole. The last one is an answer; an event without data says where to resume."""
        if frame.data == "":
            return Event()
        read = _read(frame.data)
        last = any([_answers(message) for message in _messages(frame.data)])
        return Event(parts=read.parts, uncovered=read.uncovered, id=read.id, error=read.error, last=last)

    def refusal(self, request: Body, text: str) -> Json:
        """To each request the result of a tool that failed, which the model reads."""
        ids = json.loads(request.id) if request.id else None
        result = {"content": [{"type": "text", "text": text}], "isError": True}
        answers = [{"jsonrpc": "2.0", "id": id_, "result": result} for id_ in (ids if isinstance(ids, list) else [ids])]
        return answers if isinstance(ids, list) else answers[0]

    def ending(self, seen: Sequence[Frame], text: str) -> list[Frame]:
        """Nothing after an answer. Before one, an error without an id: what was asked is not in the stream."""
        data = [frame.data for frame in seen if frame.data != ""]
        if any([_answers(message) for body in data for message in _messages(body)]):
            return []
        return [Frame(self.error(text or "content was filtered", "content_filter"), "message")]

    def error(self, message: str, code: str) -> Json:
        """An error without an id."""
        return {"jsonrpc": "2.0", "id": None, "error": {"code": _ERROR, "message": message, "data": {"code": code}}}


def _read(body: Json) -> Body:
    reader = Reader()
    ids: list[Json] = []
    errors: list[str] = []
    for index, value in enumerate(_messages(body)):
        path = child("", index) if isinstance(body, list) else ""
        message = mapping(value, path)
        _check(message, path)
        if message.get("id") is not None:
            ids.append(message["id"])
        if "method" in message:
            _call(reader, str(message["method"]), optional(message.get("params"), f"{path}/params"), f"{path}/params")
        elif "result" in message:
            errors += _result(reader, mapping(message["result"], f"{path}/result"), f"{path}/result")
        else:
            errors.append(_error(reader, mapping(message.get("error"), f"{path}/error"), f"{path}/error"))
        leftover(reader, message, path, _MESSAGE, _HEAD)
    said = ids if isinstance(body, list) else next(iter(ids), None)
    return reader.body(id="" if said is None else json.dumps(said), error=next(iter(errors), ""))


def _messages(body: Json) -> list[Json]:
    if isinstance(body, list) and not body:
        raise DialectError("the body: a batch holds no message")
    return body if isinstance(body, list) else [body]


def _answers(message: Mapping[str, Json]) -> bool:
    return "result" in message or "error" in message


def _check(message: Mapping[str, Json], path: str) -> None:
    if message.get("jsonrpc") != "2.0":
        raise DialectError(f"{path}/jsonrpc: must be '2.0'")
    if sum([key in message for key in ("method", "result", "error")]) != 1:
        raise DialectError(f"{path or 'the body'}: must be a request, a result or an error")
    if "method" in message and not isinstance(message["method"], str):
        raise DialectError(f"{path}/method: must be a string")
    if isinstance(message.get("id"), (dict, list, bool)):
        raise DialectError(f"{path}/id: must be a string or a number")


def _call(reader: Reader, method: str, params: Mapping[str, Json], path: str) -> None:
    """The texts of a request or a notification."""
    arguments, where = params.get("arguments"), child(path, "arguments")
    if method == "tools/call":
        reader.tree(optional(arguments, where), where, Stage.TOOL_CALL)
    elif method == "prompts/get":
        reader.tree(optional(arguments, where), where, Stage.INPUT)
    elif method == "sampling/createMessage":
        add_sampling(reader, params, path)
        return
    elif method == "completion/complete":
        argument = optional(params.get("argument"), child(path, "argument"))
        reader.text(argument.get("value"), f"{path}/argument/value", Stage.INPUT)
        reader.tree(params.get("context"), child(path, "context"), Stage.INPUT)
        leftover(reader, argument, f"{path}/argument", frozenset({"value"}), _NAMES)
        leftover(reader, params, path, _DATA | {"argument", "context"}, _NAMES)
        return
    elif method != "resources/read":
        _notice(reader, params, path)
        return
    answers, where = optional(params.get("inputResponses"), f"{path}/inputResponses"), f"{path}/inputResponses"
    for key, answer in answers.items():
        add_result(reader, mapping(answer, child(where, key)), child(where, key))
    leftover(reader, params, path, _DATA | {"arguments", "inputResponses"}, _NAMES)


def _result(reader: Reader, result: Mapping[str, Json], path: str) -> list[str]:
    """The texts of a result, and of what the server asks in it before it goes on."""
    where = child(path, "inputRequests")
    for key, value in optional(result.get("inputRequests"), where).items():
        at = child(where, key)
        asked = mapping(value, at)
        _call(reader, word(asked, "method", at), optional(asked.get("params"), f"{at}/params"), f"{at}/params")
        leftover(reader, asked, at, frozenset({"params"}), frozenset({"method"}))
    return add_result(reader, result, path, frozenset({"inputRequests"}))


def _notice(reader: Reader, params: Mapping[str, Json], path: str) -> None:
    """What a server reports (progress, log messages) or asks the user, and anything of a method that we don't know."""
    for key in _SPOKEN:
        reader.tree(params.get(key), child(path, key), Stage.TOOL_RESULT)
    add_schema(reader, params.get("requestedSchema"), child(path, "requestedSchema"), Stage.TOOL_RESULT, Role.TOOL)
    known = _DATA
    if isinstance(params.get("content"), (dict, list)):
        add_blocks(reader, params["content"], child(path, "content"), Stage.TOOL_RESULT, Role.TOOL)
        known = _DATA | {"content"}
    leftover(reader, params, path, known.union(_SPOKEN, {"requestedSchema"}), _NAMES)


def _error(reader: Reader, error: Mapping[str, Json], path: str) -> str:
    reader.text(error.get("message"), child(path, "message"), Stage.TOOL_RESULT)
    reader.tree(error.get("data"), child(path, "data"), Stage.TOOL_RESULT)
    leftover(reader, error, path, frozenset({"message", "data"}), frozenset({"code"}))
    code = error.get("code")
    return str(code) if isinstance(code, int) else "error"


MCP = Mcp()
