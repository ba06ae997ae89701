"""Ollama's own API: chat and generate. Answers stream unless the request says ``"stream": false``.

Follows Ollama's API documentation (https://github.com/ollama/ollama/blob/main/docs/api.md and the OpenAPI description
in docs/openapi.yaml beside it).

The server is written in Go and reads keys in any case, so one in another case is refused. Tool calls come whole, their
arguments as objects. The conversation that ``context`` encodes as token ids is uncovered, as are log probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.openai_common import (
    asked,
    check_answer,
    count,
    definition,
    error_of,
    is_name,
    role_of,
    unread,
)
from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, Says, exact, flag, mapping, objects, optional, word
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

_ROLES = {
    "system": (Stage.INPUT, Role.SYSTEM),
    "user": (Stage.INPUT, Role.USER),
    "assistant": (Stage.INPUT, Role.ASSISTANT),
    "tool": (Stage.TOOL_RESULT, Role.TOOL),
}
_MESSAGE = frozenset({"role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"})
_ASKED = frozenset({"model", "stream", "format", "options", "keep_alive", "think", "logprobs", "top_logprobs"})
_CHAT = _ASKED | {"messages", "tools"}
_GENERATE = _ASKED | {"prompt", "suffix", "system", "template", "context", "images", "raw"}
_ANSWER = frozenset({"model", "created_at", "remote_model", "remote_host", "done_reason", "logprobs", "error"})
_CHAT_ANSWER = _ANSWER | {"message"}
_GENERATE_ANSWER = _ANSWER | {"response", "thinking", "context", "image", "images"}
_MOMENT = "1970-01-01T00:00:00Z"


class Ollama:
    """The dialect of one of the two routes; see the module.

    Args:
        name: of the dialect.
        operation: for telemetry.
        path: of its route.
    """

    provider: str = "ollama"
    routes: tuple[Route, ...]
    framing: Framing | None = Framing.NDJSON

    def __init__(self, name: str, operation: str, path: str) -> None:
        self.name = name
        self.operation = operation
        self.routes = (Route("POST", path),)

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        root, reader = mapping(body, ""), Reader()
        _request(reader, root, chat=self.operation == "chat")
        form = root.get("format")
        if not isinstance(form, str) or not is_name(form):  # "json", or a schema
            definition(reader, form, "/format")
        options = optional(root.get("options"), "/options")
        reader.rest(options, "/options", {"stop"})
        reader.tree(options.get("stop"), "/options/stop", Stage.INPUT)
        stream = root.get("stream") is None or flag(root, "stream")
        return reader.body(model=word(root, "model"), stream=stream)

    def response(self, body: Json) -> Body:
        """The texts of an answer, or of an error."""
        root, reader = mapping(body, ""), Reader()
        return reader.body(**self._answer(reader, root))

    def event(self, frame: Frame) -> Event:
        """The pieces in a line."""
        root, reader = mapping(frame.data, ""), Reader(Says.PIECE)
        facts = self._answer(reader, root)
        done = flag(root, "done")
        reader.ends += ["0/"] * done
        return reader.event(last=done or bool(facts["error"]), **facts)

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """An answer with no tokens spent."""
        return {**self._line({"model": request.model}, text, done=True), "prompt_eval_count": 0, "eval_count": 0}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """A line that says the text, and the last one."""
        lines = [frame.data for frame in seen if isinstance(frame.data, dict)]
        if lines and (lines[-1].get("done") or lines[-1].get("error")):
            return []
        first = lines[0] if lines else asked(request, "model")
        said = [Frame(self._line(first, text, done=False))] if text else []
        return [*said, Frame(self._line(first, "", done=True))]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body; the format has no place for a code."""
        return {"error": message}

    def _answer(self, reader: Reader, root: Mapping[str, Json]) -> dict[str, Json]:
        error = error_of(reader, root)
        reader.echo(root.get("logprobs"), "/logprobs", "[]")
        if self.operation == "chat":
            if "done" not in root:
                check_answer(root, "message", error)
            _message(reader, optional(root.get("message"), "/message"), "/message", Stage.OUTPUT, Role.ASSISTANT)
            reader.rest(root, "", _CHAT_ANSWER)
        else:
            if "done" not in root:
                check_answer(root, "response", error)
            for key in ("response", "thinking"):
                reader.text(root.get(key), child("", key), Stage.OUTPUT, channel=f"0/{key}")
            reader.echo(root.get("context"), "/context", "[]")
            for key in ("image", "images"):
                reader.opaque(root.get(key), child("", key))
            reader.rest(root, "", _GENERATE_ANSWER)
        return {
            "model": word(root, "model"),
            "finish": (reason,) if (reason := word(root, "done_reason")) else (),
            "usage": _usage(root),
            "error": error,
        }

    def _line(self, first: Mapping[str, Json], text: str, *, done: bool) -> dict[str, Json]:
        head = {"model": first.get("model", ""), "created_at": first.get("created_at", _MOMENT)}
        said: Json = {"message": {"role": "assistant", "content": text}} if self.operation == "chat" else None
        end = {"done_reason": "content_filter"} if done else {}
        return {**head, **(said or {"response": text}), "done": done, **end}


def _request(reader: Reader, root: Mapping[str, Json], *, chat: bool) -> None:
    known = _CHAT if chat else _GENERATE
    exact(root, known, "")
    unread(reader, root, known)
    if chat:
        for where, message in objects(root.get("messages"), "/messages"):
            stage, who = _ROLES.get(role_of(message, where), (Stage.INPUT, Role.USER))
            _message(reader, message, where, stage, who)
        for where, tool in objects(root.get("tools"), "/tools"):
            definition(reader, tool, where)
        return
    for key, who in (("system", Role.SYSTEM), ("template", Role.SYSTEM), ("prompt", Role.USER), ("suffix", Role.USER)):
        reader.text(root.get(key), child("", key), Stage.INPUT, who)
    for key in ("context", "images"):
        reader.opaque(root.get(key), child("", key))


def _message(reader: Reader, message: Mapping[str, Json], path: str, stage: Stage, role: Role) -> None:
    for key in ("content", "thinking"):
        reader.text(message.get(key), child(path, key), stage, role, f"0/{key}")
    reader.opaque(message.get("images"), child(path, "images"))
    for where, call in objects(message.get("tool_calls"), child(path, "tool_calls")):
        function, place = optional(call.get("function"), child(where, "function")), child(where, "function")
        arguments = function.get("arguments")
        if arguments is not None and not isinstance(arguments, (dict, list, str)):
            raise DialectError(f"{place}/arguments: must be an object")
        reader.tree(arguments, child(place, "arguments"), Stage.TOOL_CALL)
        reader.rest(function, place, {"name", "arguments", "index"})
        reader.rest(call, where, {"id", "type", "index", "function"})
    reader.rest(message, path, _MESSAGE)


def _usage(root: Mapping[str, Json]) -> Usage | None:
    spent = Usage(input=count(root.get("prompt_eval_count")), output=count(root.get("eval_count")))
    return None if spent == Usage() else spent


CHAT = Ollama("ollama.chat", "chat", "/api/chat")
GENERATE = Ollama("ollama.generate", "text_completion", "/api/generate")
