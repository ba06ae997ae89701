"""Anthropic's Messages API, its stream, and the route that counts a request's tokens.

Channels of a stream are named by the block's index and what it holds: ``0/text``, ``1/thinking``, ``2/input``.

Follows https://platform.claude.com/docs/en/api/messages, …/build-with-claude/streaming and …/api/errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects import anthropic_ending as ending
from llmguard.dialects.anthropic_blocks import block, blocks, citations, tools
from llmguard.dialects.openai_common import asked
from llmguard.dialects.reader import (
    Reader,
    Says,
    flag,
    index,
    mapping,
    members,
    number,
    objects,
    optional,
    total,
    word,
)
from llmguard.dialects.wire import Body, Delta, Event, Frame, Framing, Json, Route, Usage
from llmguard.types import Role, Stage

_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
_FORMS = frozenset({"output_config", "output_format"})
_READ = frozenset({"system", "messages", "tools", "stop_sequences", "context_management", "compaction"}) | _FORMS
_UNREAD = frozenset({"metadata", "mcp_servers"})  # the account's own notes; servers are looked at by themselves
#: What the model does not read.
_MUTE = frozenset({"thinking", "tool_choice", "cache_control", "betas", "diagnostics"})
_NAMES = frozenset({"model", "service_tier", "inference_geo", "speed", "user_profile_id", "workspace_id"})
_TRIMMED = frozenset({"exclude_tools", "clear_tool_inputs"})  # names of tools
_ANSWER_READ = frozenset({"stop_details", "content", "stop_sequence"})
_ANSWER_MUTE = frozenset({"usage", "container", "context_management"})
_ANSWER_NAMES = frozenset({"id", "type", "role", "model", "stop_reason"})


class AnthropicMessages:
    """The Messages API."""

    name: str = "anthropic.messages"
    provider: str = "anthropic"
    operation: str = "chat"
    routes: tuple[Route, ...] = (
        Route("POST", "/v1/messages"),
        Route("POST", "/v1/messages/count_tokens", stream=False),
    )
    framing: Framing | None = Framing.SSE

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request."""
        body = mapping(body, "")
        reader = Reader()
        for key, value in body.items():
            where = f"/{key}"
            if key == "system":
                blocks(reader, value, where, Stage.INPUT, Role.SYSTEM)
            elif key == "messages":
                for place, message in objects(value, where):
                    role = _ROLES.get(word(message, "role", place), Role.USER)
                    blocks(reader, message.get("content"), f"{place}/content", Stage.INPUT, role)
                    reader.rest(message, place, {"content"}, {"role"})
            elif key == "tools":
                tools(reader, value, where)
            elif key == "stop_sequences":
                for place, sequence in members(value, where):
                    reader.text(sequence, place, Stage.INPUT)
            elif key in _FORMS:
                _form(reader, optional(value, where), where)
        _shortened(reader, body)
        for place, server in objects(body.get("mcp_servers"), "/mcp_servers"):
            reader.rest(server, place, {"authorization_token"}, {"type", "name", "url"}, {"tool_configuration"})
        reader.rest(body, "", _READ | _UNREAD, _NAMES, _MUTE)
        return reader.body(model=word(body, "model"), stream=flag(body, "stream"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, a count of tokens, or an error."""
        body = mapping(body, "")
        if "error" in body:
            event = _failed(body)
            return Body(parts=event.parts, uncovered=event.uncovered, error=event.error)
        reader = Reader()
        if "input_tokens" in body:
            reader.rest(body, "", (), (), _ANSWER_MUTE)
            return reader.body(usage=Usage(input=number(body, "input_tokens")))
        blocks(reader, body.get("content"), "/content", Stage.OUTPUT, Role.ASSISTANT)
        _stopped(reader, body, "")
        reader.rest(body, "", _ANSWER_READ, _ANSWER_NAMES, _ANSWER_MUTE)
        reason = word(body, "stop_reason")
        return reader.body(
            model=word(body, "model"), id=word(body, "id"), finish=(reason,) if reason else (), usage=_usage(body)
        )

    def event(self, frame: Frame) -> Event:
        """What one event says; its name is its ``type``."""
        data = mapping(frame.data, "")
        sort = word(data, "type") or frame.name
        read = _EVENTS.get(sort)
        if read is not None:
            return read(data)
        reader = Reader()
        reader.rest(data, "", (), {"type"})
        return reader.event()

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """An answer with the stop reason ``refusal`` that says ``text``."""
        said: list[Json] = [{"type": "text", "text": text, "citations": None}] if text else []
        return {**ending.opened(request.model), "content": said, "stop_reason": "refusal"}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """Closes the open blocks, says ``text`` in a block of its own, and stops with the reason ``refusal``."""
        return ending.ending(seen, text, asked(request, "model").get("model", ""))

    def more(self, frame: Frame, delta: Delta, text: str) -> Frame:
        """See `carry.Continues`."""
        return ending.more(frame, delta, text)

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return {"type": "error", "error": {"type": code, "message": message}}


def _shortened(reader: Reader, body: Mapping[str, Json]) -> None:
    """How a conversation that got long is to be summed up: the model reads those instructions."""
    told = [("/compaction", optional(body.get("compaction"), "/compaction"))]
    managed = optional(body.get("context_management"), "/context_management")
    told += objects(managed.get("edits"), "/context_management/edits")
    for where, one in told:
        reader.text(one.get("instructions"), f"{where}/instructions", Stage.INPUT, Role.SYSTEM)
        reader.rest(one, where, {"instructions"}, {"type"}, {"trigger", "keep", "clear_at_least", *_TRIMMED})
    reader.rest(managed, "/context_management", {"edits"})


def _form(reader: Reader, value: Mapping[str, Json], path: str) -> None:
    """The form of the answer that is asked for."""
    reader.schema(value.get("schema"), f"{path}/schema")
    if "format" in value:
        _form(reader, optional(value["format"], f"{path}/format"), f"{path}/format")
    reader.rest(value, path, {"schema", "format"}, {"type", "effort"})


def _start(data: Mapping[str, Json]) -> Event:
    message = mapping(data.get("message"), "/message")
    reader = Reader()
    blocks(reader, message.get("content"), "/message/content", Stage.OUTPUT, Role.ASSISTANT)
    _stopped(reader, message, "/message")
    reader.rest(message, "/message", _ANSWER_READ, _ANSWER_NAMES, _ANSWER_MUTE)
    reader.rest(data, "", {"message"}, {"type"})
    return reader.event(
        model=word(message, "model", "/message"),
        id=word(message, "id", "/message"),
        usage=_usage(message, "/message"),
    )


def _block_start(data: Mapping[str, Json]) -> Event:
    reader = Reader(Says.PIECE)
    opened = data.get("content_block")
    block(reader, opened, "/content_block", Stage.OUTPUT, Role.ASSISTANT, f"{index(data, 'index')}/")
    reader.rest(data, "", {"content_block"}, {"type"})
    return reader.event()


def _block_delta(data: Mapping[str, Json]) -> Event:
    reader = Reader(Says.PIECE)
    delta = mapping(data.get("delta"), "/delta")
    sort = word(delta, "type", "/delta")
    known: set[str] = set()
    if sort in ending.DELTAS:
        key, stage, below = ending.DELTAS[sort]
        channel = f"{index(data, 'index')}/{below}"
        reader.text(delta.get(key), f"/delta/{key}", stage, None, channel, json=below == "input")
        known.add(key)
    elif sort == "citations_delta":
        cited = delta.get("citation")
        citations(reader, cited, "/delta/citation", Stage.OUTPUT)
        known.add("citation")
    reader.rest(delta, "/delta", known, {"type", "signature"})
    reader.rest(data, "", {"delta"}, {"type"})
    return reader.event()


def _block_stop(data: Mapping[str, Json]) -> Event:
    reader = Reader()
    reader.ends.append(f"{index(data, 'index')}/")
    reader.rest(data, "", (), {"type"})
    return reader.event()


def _delta(data: Mapping[str, Json]) -> Event:
    reader = Reader()
    delta = mapping(data.get("delta"), "/delta")
    _stopped(reader, delta, "/delta")
    reader.rest(delta, "/delta", _ANSWER_READ, _ANSWER_NAMES, _ANSWER_MUTE)
    reader.rest(data, "", {"delta"}, {"type"}, _ANSWER_MUTE)
    reason = word(delta, "stop_reason", "/delta")
    return reader.event(finish=(reason,) if reason else (), usage=_usage(data))


def _stop(data: Mapping[str, Json]) -> Event:
    reader = Reader()
    reader.rest(data, "", (), {"type"})
    return reader.event(last=True)


def _failed(data: Mapping[str, Json]) -> Event:
    error = mapping(data.get("error"), "/error")
    reader = Reader()
    reader.tree(error, "/error", Stage.OUTPUT, None, {"type"})
    reader.rest(data, "", {"error"}, {"type", "request_id"})
    return reader.event(error=word(error, "type", "/error") or "error", last=True)


_EVENTS = {
    "message_start": _start,
    "content_block_start": _block_start,
    "content_block_delta": _block_delta,
    "content_block_stop": _block_stop,
    "message_delta": _delta,
    "message_stop": _stop,
    "error": _failed,
}


def _stopped(reader: Reader, message: Mapping[str, Json], path: str) -> None:
    """Texts in what is said of the end: the sequence that stopped it, and why it was refused."""
    reader.text(message.get("stop_sequence"), f"{path}/stop_sequence", Stage.OUTPUT)
    where = f"{path}/stop_details"
    details = optional(message.get("stop_details"), where)
    reader.text(details.get("explanation"), f"{where}/explanation", Stage.OUTPUT)
    reader.rest(details, where, {"explanation"}, {"type", "category"})


def _usage(message: Mapping[str, Json], path: str = "") -> Usage | None:
    where = f"{path}/usage"
    if message.get("usage") is None:
        return None
    usage = mapping(message["usage"], where)
    details = optional(usage.get("output_tokens_details"), f"{where}/output_tokens_details")
    cached = number(usage, "cache_read_input_tokens", where)
    fresh = number(usage, "input_tokens", where)
    made = number(usage, "cache_creation_input_tokens", where)
    return Usage(
        input=None if fresh is None else total(fresh, made, cached),
        output=number(usage, "output_tokens", where),
        cached=cached,
        reasoning=number(details, "thinking_tokens", where),
    )


MESSAGES = AnthropicMessages()
