"""Amazon Bedrock's Converse and ConverseStream.

A stream is made of binary frames; an event's name is the frame's ``:event-type`` (or ``:exception-type``), its data the
payload. An event as Amazon's SDKs give it, an object whose one key is the name, is read as well.

Channels of a stream are named by the block's index and what it holds: ``0/text``, ``1/reasoning``, ``2/input``.

Follows https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
…/API_runtime_ConverseStream.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmguard.dialects.bedrock_blocks import blocks, citation
from llmguard.dialects.bedrock_request import read
from llmguard.dialects.reader import (
    Reader,
    Says,
    index,
    mapping,
    number,
    objects,
    optional,
    total,
    word,
)
from llmguard.dialects.wire import Body, Event, Frame, Framing, Json, Route, Usage
from llmguard.types import Role, Stage

_ANSWER = frozenset({"output", "trace", "additionalModelResponseFields"})
_ANSWER_MUTE = frozenset({"usage", "metrics", "performanceConfig", "serviceTier"})
_TRACE_NAMES = frozenset(
    {
        *("type", "action", "confidence", "filterStrength", "invokedModelId", "guardrailId", "guardrailVersion"),
        *("guardrailArn", "guardrailOrigin", "guardrailOwnership", "identifier", "policyVersionArn"),
    }
)
_EVENT_NAMES = frozenset(
    {
        *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"),
        *("internalServerException", "modelStreamErrorException", "validationException", "throttlingException"),
        *("serviceUnavailableException",),
    }
)


class BedrockConverse:
    """The Converse API of Bedrock's runtime."""

    name: str = "bedrock.converse"
    provider: str = "aws.bedrock"
    operation: str = "chat"
    routes: tuple[Route, ...] = (
        Route("POST", "/model/{model}/converse", stream=False),
        Route("POST", "/model/{model}/converse-stream", stream=True),
        Route("POST", "/model/{model}/count-tokens", stream=False),
    )
    framing: Framing | None = Framing.AWS

    def request(self, body: Json, path: Mapping[str, str]) -> Body:
        """The texts of a request; whether it asks for a stream is said by its route alone."""
        reader = Reader()
        body = mapping(body, "")
        read(reader, body, "")
        return reader.body(model=path.get("model") or word(body, "modelId"))

    def response(self, body: Json) -> Body:
        """The texts of an answer, a count of tokens, or an error."""
        body = mapping(body, "")
        reader = Reader()
        if "output" not in body and "inputTokens" in body:
            reader.rest(body, "", ())
            return reader.body(usage=Usage(input=number(body, "inputTokens")))
        if "output" not in body:
            reader.tree(body, "", Stage.OUTPUT, None, {"__type", "code"})
            return reader.body(error=word(body, "__type") or word(body, "code") or "error")
        message = optional(mapping(body["output"], "/output").get("message"), "/output/message")
        blocks(reader, message.get("content"), "/output/message/content", Stage.OUTPUT, Role.ASSISTANT)
        reader.rest(message, "/output/message", {"content"}, {"role"})
        reader.rest(optional(body["output"], "/output"), "/output", {"message"})
        reader.rest(body, "", _ANSWER, {"stopReason"}, _ANSWER_MUTE)
        _extras(reader, body)
        reason = word(body, "stopReason")
        return reader.body(finish=(reason,) if reason else (), usage=_usage(body))

    def event(self, frame: Frame) -> Event:
        """What one event says; the last one is ``metadata``, or an exception."""
        name, data, path = _named(frame)
        if name == "contentBlockDelta":
            return _delta(data, path)
        if name == "contentBlockStop":
            reader = Reader()
            reader.ends.append(f"{index(data, 'contentBlockIndex', path)}/")
            reader.rest(data, path, (), {"p"})
            return reader.event()
        reader = Reader()
        if name == "messageStop":
            _extras(reader, data, path)
            reason = word(data, "stopReason", path)
            reader.rest(data, path, _ANSWER, {"stopReason", "p"}, _ANSWER_MUTE)
            return reader.event(finish=(reason,) if reason else ())
        if name == "metadata":
            _extras(reader, data, path)
            reader.rest(data, path, _ANSWER, {"p"}, _ANSWER_MUTE)
            return reader.event(usage=_usage(data, path), last=True)
        if name.endswith(("Exception", "Error")):
            reader.tree(data, path, Stage.OUTPUT, None, {"p"})
            return reader.event(error=name, last=True)
        if name == "contentBlockStart":
            start = optional(data.get("start"), f"{path}/start")
            for key, opened in start.items():
                names = {"toolUseId", "name", "type", "status", "format"}
                reader.rest(optional(opened, f"{path}/start/{key}"), f"{path}/start/{key}", (), names)
            reader.rest(data, path, {"start"}, {"p"})
        else:
            reader.rest(data, path, (), {"role", "p"})
        return reader.event()

    def refusal(self, request: Body, text: str, sent: Json | None = None) -> Json:
        """An answer with the stop reason ``content_filtered`` that says ``text``."""
        message = {"role": "assistant", "content": [{"text": text}] if text else []}
        return {"output": {"message": message}, "stopReason": "content_filtered", **_spent()}

    def status(self, request: Body) -> int:
        """A refusal is an answer."""
        return 200

    def ending(self, seen: Sequence[Frame], text: str, request: Json | None = None) -> list[Frame]:
        """Closes the open blocks, says ``text`` in one of its own, and stops with ``content_filtered``."""
        begun: dict[int, bool] = {}
        names = set()
        for frame in seen:
            name, data, _ = _named(frame)
            names.add(name)
            if name.startswith("contentBlock"):
                begun[index(data, "contentBlockIndex")] = name == "contentBlockStop"
        if any([name == "metadata" or name.endswith(("Exception", "Error")) for name in names]):
            return []
        if "messageStop" in names:
            return [Frame(_spent(), "metadata")]
        frames = [] if "messageStart" in names else [Frame({"role": "assistant"}, "messageStart")]
        frames += [_frame("contentBlockStop", at) for at, ended in sorted(begun.items()) if not ended]
        if text:
            at = max(begun, default=-1) + 1
            frames += [_frame("contentBlockDelta", at, delta={"text": text}), _frame("contentBlockStop", at)]
        return [*frames, Frame({"stopReason": "content_filtered"}, "messageStop"), Frame(_spent(), "metadata")]

    def error(self, message: str, code: str, request: Json | None = None) -> Json:
        """An error's body."""
        return {"__type": code, "message": message}


def _named(frame: Frame) -> tuple[str, Mapping[str, Json], str]:
    """An event's name, what it says, and the pointer of that."""
    data = mapping(frame.data, "")
    if len(data) == 1 and _EVENT_NAMES & data.keys():
        (name,) = data
        return name, mapping(data[name], f"/{name}"), f"/{name}"
    return frame.name, data, ""


def _frame(name: str, at: int, **more: Json) -> Frame:
    return Frame({"contentBlockIndex": at, **more}, name)


def _spent() -> dict[str, Json]:
    """The counts of a call that cost nothing."""
    return {"usage": {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}, "metrics": {"latencyMs": 0}}


def _extras(reader: Reader, body: Mapping[str, Json], path: str = "") -> None:
    """What stands beside an answer: fields of the model's own, and a guardrail's trace, which quotes the texts."""
    reader.tree(body.get("additionalModelResponseFields"), f"{path}/additionalModelResponseFields", Stage.OUTPUT)
    reader.tree(body.get("trace"), f"{path}/trace", Stage.OUTPUT, None, _TRACE_NAMES)


def _delta(data: Mapping[str, Json], path: str) -> Event:
    reader = Reader(Says.PIECE)
    own, below = f"{index(data, 'contentBlockIndex', path)}/", f"{path}/delta"
    for key, value in mapping(data.get("delta"), below).items():
        where = f"{below}/{key}"
        if key == "text":
            reader.text(value, where, Stage.OUTPUT, None, f"{own}text")
        elif key == "toolUse":
            call = mapping(value, where)
            reader.text(call.get("input"), f"{where}/input", Stage.TOOL_CALL, None, f"{own}input", json=True)
            reader.rest(call, where, {"input"})
        elif key == "reasoningContent":
            thought = mapping(value, where)
            reader.text(thought.get("text"), f"{where}/text", Stage.OUTPUT, None, f"{own}reasoning")
            reader.opaque(thought.get("redactedContent"), f"{where}/redactedContent")
            reader.rest(thought, where, {"text", "redactedContent"}, {"signature"})
        elif key == "toolResult":
            for place, piece in objects(value, where):
                reader.text(piece.get("text"), f"{place}/text", Stage.TOOL_RESULT, None, f"{own}result")
                reader.tree(piece.get("json"), f"{place}/json", Stage.TOOL_RESULT)
                reader.rest(piece, place, {"text", "json"})
        elif key == "citation":
            citation(reader, value, where, Stage.OUTPUT)
        else:
            reader.opaque(value, where)
    reader.rest(data, path, {"delta"}, {"p"})
    return reader.event()


def _usage(body: Mapping[str, Json], path: str = "") -> Usage | None:
    where = f"{path}/usage"
    if body.get("usage") is None:
        return None
    usage = mapping(body["usage"], where)
    cached = number(usage, "cacheReadInputTokens", where)
    fresh, written = number(usage, "inputTokens", where), number(usage, "cacheWriteInputTokens", where)
    return Usage(
        input=None if fresh is None else total(fresh, written, cached),
        output=number(usage, "outputTokens", where),
        cached=cached,
    )


CONVERSE = BedrockConverse()
