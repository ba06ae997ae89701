"""OpenAI's Responses API: one route that makes answers, others that count, fetch and cancel them.

Follows https://platform.openai.com/docs/api-reference/responses. What a conversation or a
``previous_response_id`` adds on the provider's side is not in the request, and nobody looks at it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmguard.dialects import openai_responses_ending as ending
from llmguard.dialects import openai_responses_stream as stream
from llmguard.dialects import pointer
from llmguard.dialects.openai_common import asked
from llmguard.dialects.openai_responses_items import content, item
from llmguard.dialects.openai_responses_tools import form, tools
from llmguard.dialects.reader import Reader, Says, flag, mapping, members, number, objects, optional, word
from llmguard.dialects.wire import Body, Delta, Event, Frame, Framing, Json, Numbered, Route, Usage
from llmguard.types import Role, Stage

_TOLD = frozenset({"instructions", "tools", "text", "prompt"})
_SAID = frozenset({"output", "output_text", "error", "misalignment"})
_UNREAD = frozenset({"metadata"})  # the account's own notes
#: What the model does not read.
_MUTE = frozenset(
    {
        *("reasoning", "tool_choice", "include", "conversation", "stream_options", "context_management"),
        *("moderation", "prompt_cache_options", "prompt_cache_diagnostics", "access_programs", "background_options"),
        *("image", "usage", "tool_usage", "incomplete_details", "input_transformations"),
    }
)
_NAMES = frozenset(
    {
        *("model", "id", "object", "status", "previous_response_id", "user", "safety_identifier", "service_tier"),
        *("prompt_cache_key", "prompt_cache_retention", "truncation", "first_id", "last_id"),
    }
)
_TERMINAL = frozenset({"completed", "failed", "incomplete", "cancelled"})


class OpenAiResponses:
    """The Responses API."""

    name: str = "openai.responses"
    provider: str = "openai"
    operation: str = "chat"
    routes: tuple[Route, ...] = (
        Route("POST", "/v1/responses"),
        Route("POST", "/v1/responses/input_tokens", stream=False),
        Route("POST", "/v1/responses/compact", stream=False),
        Route("GET", "/v1/responses/{response}"),
        Route("POST", "/v1/responses/{response}/cancel", stream=False),
        Route("GET", "/v1/responses/{response}/input_items", stream=False),
    )
    framing: Framing | None = Framing.SSE

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request; those that fetch or cancel an answer have no body (None)."""
        if body is None and "response" in path:
            return Body()
        body = mapping(body, "")
        reader = Reader()
        for key, value in body.items():
            if key == "input":
                _input(reader, value, "/input", Stage.INPUT, Role.USER)
            else:
                _told(reader, key, value)
        reader.rest(body, "", _TOLD | _UNREAD | {"input"}, _NAMES, _MUTE)
        return reader.body(model=word(body, "model"), stream=flag(body, "stream"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, of a list of items, or of an error."""
        return answer(Reader(), mapping(body, ""), "")

    def event(self, frame: Frame) -> Event:
        """What one event says; its name is its ``type``."""
        if not isinstance(frame.data, dict):
            return stream.event(frame)
        held = isinstance(frame.data.get("response"), dict)
        event = _lifecycle(frame.data) if held else stream.event(frame)
        place = number(frame.data, "sequence_number")
        return event if place is None else replace(event, numbered=Numbered("/sequence_number", place))

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """An answer that was not completed because of a content filter, and that says ``text``."""
        return ending.response(request.model, [ending.message(ending.MESSAGE, text)] if text else [])

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """A last message with ``text``, then ``response.incomplete``; sequence numbers go on."""
        return ending.ending(seen, text, asked(request, "model").get("model", ""))

    def more(self, frame: Frame, delta: Delta, text: str) -> Frame:
        """See `carry.Continues`."""
        return ending.more(frame, delta, text)

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def answer(reader: Reader, body: Mapping[str, Json], path: str) -> Body:
    """The texts of a response object.

    Args:
        reader: takes them; it knows whether they are whole, a stream's start, or a stream's texts said again.
        body: the object.
        path: its pointer.

    Raises:
        DialectError: a field has the wrong type.
    """
    streamed = reader.says is not Says.WHOLE
    for key, value in body.items():
        where = f"{path}/{key}"
        if key == "output":
            for index, (place, member) in enumerate(members(value, where)):
                item(reader, member, place, Stage.OUTPUT, f"{index}/" if streamed else "")
        elif key == "output_text":
            reader.text(value, where, Stage.OUTPUT)
        elif key == "data" and body.get("object") == "list":
            _input(reader, value, where, Stage.INPUT, Role.USER)
        elif key in ("error", "misalignment"):
            reader.tree(value, where, Stage.OUTPUT, None, {"type", "code", "param", "error_type", "review_target"})
        else:
            _told(reader, key, value, path)
    listed = {"data"} if body.get("object") == "list" else set()
    reader.rest(body, path, _TOLD | _SAID | _UNREAD | listed, _NAMES, _MUTE)
    return reader.body(
        model=word(body, "model", path),
        id=word(body, "id", path),
        finish=_finish(body, path),
        usage=_usage(body, path),
        error=_error(body.get("error"), f"{path}/error"),
    )


def _told(reader: Reader, key: str, value: Json, path: str = "") -> None:
    """What a request tells the model beside its input, and what an answer repeats of that."""
    where = f"{path}/{key}"
    if value is None:
        return
    if key == "instructions":
        _input(reader, value, where, Stage.INPUT, Role.SYSTEM)
    elif key == "tools":
        tools(reader, value, where)
    elif key == "text":
        form(reader, value, where)
    elif key == "prompt":
        reader.rest(mapping(value, where), where, {"variables"}, {"id", "version"})
        below = f"{where}/variables"
        for name, variable in optional(mapping(value, where).get("variables"), below).items():
            place = pointer.child(below, name)
            if isinstance(variable, dict):
                content(reader, variable, place, Stage.INPUT, Role.USER)
            else:
                reader.text(variable, place, Stage.INPUT, Role.USER)


def _input(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    if isinstance(value, str):
        reader.text(value, path, stage, role)
        return
    for where, member in objects(value, path):
        item(reader, member, where, stage)


def _lifecycle(data: Mapping[str, Json]) -> Event:
    reader = Reader(Says.AGAIN)
    body = answer(reader, mapping(data["response"], "/response"), "/response")
    reader.rest(data, "", {"response", "type"})
    last = word(data, "type") in stream.LAST
    reader.ends += [repeat.channel for repeat in reader.repeats] if last else []
    return reader.event(model=body.model, id=body.id, finish=body.finish, usage=body.usage, error=body.error, last=last)


def _finish(body: Mapping[str, Json], path: str) -> tuple[str, ...]:
    status = word(body, "status", path)
    if status not in _TERMINAL:
        return ()
    details = optional(body.get("incomplete_details"), f"{path}/incomplete_details")
    return (word(details, "reason", f"{path}/incomplete_details") or status,)


def _usage(body: Mapping[str, Json], path: str) -> Usage | None:
    where = f"{path}/usage"
    if body.get("object") == "response.input_tokens":
        return Usage(input=number(body, "input_tokens", path))
    if body.get("usage") is None:
        return None
    usage = mapping(body["usage"], where)
    of_input = optional(usage.get("input_tokens_details"), f"{where}/input_tokens_details")
    of_output = optional(usage.get("output_tokens_details"), f"{where}/output_tokens_details")
    return Usage(
        input=number(usage, "input_tokens", where),
        output=number(usage, "output_tokens", where),
        cached=number(of_input, "cached_tokens", where),
        reasoning=number(of_output, "reasoning_tokens", where),
    )


def _error(value: Json, path: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return "error"
    value = mapping(value, path)
    code = value.get("code")
    return str(code) if isinstance(code, (str, int)) and code else word(value, "type", path) or "error"


RESPONSES = OpenAiResponses()
