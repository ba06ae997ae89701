"""The Model Context Protocol over HTTP: tool calls and what they return, prompts, resources, sampling.

Follows "Specification" of 2025-11-25 (https://modelcontextprotocol.io/specification/2025-11-25: transports, server
features, client features, schema), and 2025-03-26 for batches; for results that ask the client something before they
are complete, the types of the official SDK (https://github.com/modelcontextprotocol/python-sdk, 2.3.0); read
2026-11-21.

The messages are JSON-RPC 2.0 and go both ways: a client posts requests, and answers to what a server asked it
(sampling, elicitation); a server answers, and asks in its streams. So each body is read by what its messages are. An
answer does not say which method it answers: what a result is, its members tell. The ``id`` of a request's `Body` is the
JSON of the ids that want an answer, ``7``, ``"a"`` or, of a batch, ``[7, "a"]``, so that a refusal can give it.

What a server says of itself (descriptions of tools, prompts and resources, instructions) reaches the model, and the
server may not be the user's: it is context. Names, URIs, media types and ``_meta`` are no texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmguard.dialects.mcp_results import add_blocks, add_result, add_sampling, add_self
from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, mapping, optional, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

_ERROR, _FILTERED, _CALL = -32001, "content_filter", "tools/call"
_MESSAGE = frozenset({"params", "result", "error"})
_HEAD = frozenset({"jsonrpc", "id", "method"})
_DATA = frozenset({"_meta", "clientInfo"})
_MUTE = frozenset({"capabilities", "ref", "task"})
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
        """The texts of what a client sends; its id is that of what wants an answer."""
        read, ids = _read(body), [id_ for id_, _ in _asked(body)]
        return replace(read, id=json.dumps(ids if isinstance(body, list) else ids[0]) if ids else "")

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

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """To each call the result of a tool that failed, which the model reads; to other requests an error.

        Without ``sent`` all count as calls. Where nothing was asked, in notifications and answers, it has no id.
        """
        ids = json.loads(request.id) if request.id else None
        asked = {_key(id_): method for id_, method in _asked(sent)} if sent is not None else {}
        answers = [
            _refused(id_, asked.get(_key(id_), _CALL), text) for id_ in (ids if isinstance(ids, list) else [ids])
        ]
        return answers if isinstance(ids, list) else answers[0]

    def status(self, request: Body) -> int:
        """A refusal is an answer; where nothing was asked, none can be given but by the status."""
        return 200 if request.id else 400

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """An answer to what was asked and is not answered yet; without the request, an error that has no id."""
        data = [message for frame in seen if frame.data != "" for message in _messages(frame.data)]
        answered = {_key(message.get("id")) for message in data if _answers(message)}
        said = text or "content was filtered"
        open_ = [(id_, method) for id_, method in _asked(request) if _key(id_) not in answered]
        if open_:
            answers = [_refused(id_, method, said) for id_, method in open_]
            return [Frame(answers if len(answers) > 1 else answers[0], "message")]
        return [] if answered or request is not None else [Frame(self.error(said, _FILTERED), "message")]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error; with the id of the request where that is one alone."""
        ids = [id_ for id_, _ in _asked(request)]
        return _failure(ids[0] if len(ids) == 1 else None, message, code)


def _asked(body: Json | None) -> list[tuple[Json, str]]:
    """The ids and methods of the requests in a body; a body that is none has none."""
    messages = [message for message in (body if isinstance(body, list) else [body]) if isinstance(message, dict)]
    return [(one["id"], str(one["method"])) for one in messages if "method" in one and one.get("id") is not None]


def _key(id_: Json) -> str:
    """An id as something that can be compared: 7 is not "7"."""
    return json.dumps(id_)


def _refused(id_: Json, method: str, text: str) -> Json:
    if method != _CALL or id_ is None:
        return _failure(id_, text, _FILTERED)
    return {"jsonrpc": "2.0", "id": id_, "result": {"content": [{"type": "text", "text": text}], "isError": True}}


def _failure(id_: Json, message: str, code: str) -> Json:
    return {"jsonrpc": "2.0", "id": id_, "error": {"code": _ERROR, "message": message, "data": {"code": code}}}


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
        reader.rest(message, path, _MESSAGE, _HEAD)
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
    if params.get("clientInfo") is not None:
        add_self(reader, params["clientInfo"], child(path, "clientInfo"))
    arguments, where = params.get("arguments"), child(path, "arguments")
    if method == _CALL:
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
        reader.rest(argument, f"{path}/argument", frozenset({"value"}), _NAMES)
        reader.rest(params, path, _DATA | {"argument", "context"}, _NAMES, _MUTE)
        return
    elif method != "resources/read":
        _notice(reader, params, path)
        return
    answers, where = optional(params.get("inputResponses"), f"{path}/inputResponses"), f"{path}/inputResponses"
    for key, answer in answers.items():
        add_result(reader, mapping(answer, child(where, key)), child(where, key))
    reader.rest(params, path, _DATA | {"arguments", "inputResponses"}, _NAMES, _MUTE)


def _result(reader: Reader, result: Mapping[str, Json], path: str) -> list[str]:
    """The texts of a result, and of what the server asks in it before it goes on."""
    where = child(path, "inputRequests")
    for key, value in optional(result.get("inputRequests"), where).items():
        at = child(where, key)
        asked = mapping(value, at)
        _call(reader, word(asked, "method", at), optional(asked.get("params"), f"{at}/params"), f"{at}/params")
        reader.rest(asked, at, frozenset({"params"}), frozenset({"method"}))
    return add_result(reader, result, path, frozenset({"inputRequests"}))


def _notice(reader: Reader, params: Mapping[str, Json], path: str) -> None:
    """What a server reports (progress, log messages) or asks the user, and anything of a method that we don't know."""
    for key in _SPOKEN:
        reader.tree(params.get(key), child(path, key), Stage.TOOL_RESULT)
    reader.schema(params.get("requestedSchema"), child(path, "requestedSchema"), Stage.TOOL_RESULT, Role.TOOL)
    known = _DATA
    if isinstance(params.get("content"), (dict, list)):
        add_blocks(reader, params["content"], child(path, "content"), Stage.TOOL_RESULT, Role.TOOL)
        known = _DATA | {"content"}
    reader.rest(params, path, known.union(_SPOKEN, {"requestedSchema"}), _NAMES, _MUTE)


def _error(reader: Reader, error: Mapping[str, Json], path: str) -> str:
    reader.text(error.get("message"), child(path, "message"), Stage.TOOL_RESULT)
    reader.tree(error.get("data"), child(path, "data"), Stage.TOOL_RESULT)
    reader.rest(error, path, frozenset({"message", "data"}), frozenset({"code"}))
    code = error.get("code")
    return str(code) if isinstance(code, int) else "error"


MCP = Mcp()
