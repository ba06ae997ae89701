"""The stream of OpenAI's Responses API: items open, their texts come in pieces, and each is said again when it ends.

Channels are named by the index of the item and of the part in it: ``0/content/1``, ``2/arguments``.

Follows https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmguard.dialects.openai_responses_items import annotation, content, item, shell
from llmguard.dialects.reader import Reader, Says, index, mapping, objects, word
from llmguard.dialects.wire import Event, Frame, Json
from llmguard.types import Role, Stage

_OUT, _CALL = Stage.OUTPUT, Stage.TOOL_CALL

#: By the event's stem: the key of the whole text in its ``.done``, the stage, what follows the item's index.
_TEXTS = {
    "response.output_text": ("text", _OUT, "content/{content_index}"),
    "response.refusal": ("refusal", _OUT, "content/{content_index}"),
    "response.reasoning_text": ("text", _OUT, "content/{content_index}"),
    "response.reasoning_summary_text": ("text", _OUT, "summary/{summary_index}"),
    "response.function_call_arguments": ("arguments", _CALL, "arguments"),
    "response.mcp_call_arguments": ("arguments", _CALL, "arguments"),
    "response.custom_tool_call_input": ("input", _CALL, "input"),
    "response.code_interpreter_call_code": ("code", _CALL, "code"),
    "response.shell_call_command": ("command", _CALL, "command/{command_index}"),
    "response.audio.transcript": ("transcript", _OUT, "transcript"),
}
_PARTS = {
    "response.content_part": "content/{content_index}",
    "response.reasoning_summary_part": "summary/{summary_index}",
}
_SAYS = {"delta": Says.PIECE, "added": Says.PIECE, "done": Says.AGAIN}
_PLAIN = frozenset(
    {
        *("type", "name", "item_id", "response_id", "obfuscation", "event_id"),
        *("background", "output_format", "quality", "size"),
    }
)
LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"})
_MEDIA = frozenset({"response.audio.delta", "response.image_generation_call.partial_image"})


def event(frame: Frame) -> Event:
    """What one event says that holds no whole response.

    Raises:
        DialectError: a field has the wrong type.
    """
    if frame.data == "[DONE]":
        return Event(last=True)
    data = mapping(frame.data, "")
    sort = word(data, "type") or frame.name
    stem, _, when = sort.rpartition(".")
    if sort == "error" or (not sort and "error" in data):
        return _failed(data)
    reader = Reader(_SAYS.get(when, Says.WHOLE))
    known = _event(reader, data, stem, when)
    if sort in _MEDIA:
        known = {"delta", "partial_image_b64"}
        reader.echo(data.get("delta"), "/delta", '""')
        reader.opaque(data.get("partial_image_b64"), "/partial_image_b64")
    elif sort == "response.output_text.annotation.added":
        annotation(reader, data.get("annotation"), "/annotation", _OUT)
        known = {"annotation"}
    reader.rest(data, "", known, _PLAIN)
    if reader.says is Says.AGAIN:
        reader.ends += [repeat.channel for repeat in reader.repeats]
    return reader.event()


def _event(reader: Reader, data: Mapping[str, Json], stem: str, when: str) -> set[str]:
    """Reads what an event of the known sorts says; which of its fields that were."""
    output = index(data, "output_index")
    if stem in _TEXTS and when in _SAYS:
        whole, stage, below = _TEXTS[stem]
        key = "delta" if when == "delta" else whole
        own = f"{output}/" if "output_index" in data else ""  # speech belongs to no item
        channel = f"{own}{_filled(below, data)}"
        reader.text(data.get(key), f"/{key}", stage, None, channel, json=whole == "arguments")
        reader.echo(data.get("logprobs"), "/logprobs", "[]")
        if when == "done":
            reader.ends.append(channel)
        return {key, "logprobs"}
    if stem == "response.output_item" and when in _SAYS:
        item(reader, data.get("item"), "/item", _OUT, f"{output}/")
        reader.ends += [f"{output}/"] * (when == "done")
        return {"item"}
    if stem in _PARTS and when in _SAYS:
        content(reader, data.get("part"), "/part", _OUT, Role.ASSISTANT, f"{output}/{_filled(_PARTS[stem], data)}")
        return {"part"}
    if stem == "response.shell_call_output_content" and when in _SAYS:
        channel = f"{output}/output/{index(data, 'command_index')}/"
        if when == "delta":
            shell(reader, mapping(data.get("delta"), "/delta"), "/delta", channel)
        for number, (where, part) in enumerate(objects(data.get("output"), "/output")):
            shell(reader, part, where, "" if number else channel)
        return {"delta", "output"}
    return set()


def _filled(below: str, data: Mapping[str, Json]) -> str:
    stem, brace, key = below.partition("{")
    return f"{stem}{index(data, key[:-1])}" if brace else stem


def _failed(data: Mapping[str, Json]) -> Event:
    reader = Reader()
    nested = data.get("error")
    error, path = (nested, "/error") if isinstance(nested, dict) else (data, "")
    reader.tree(data, "", Stage.OUTPUT, None, _PLAIN | {"code", "param"})
    code = word(error, "code", path) or (word(error, "type", path) if path else "") or "error"
    return reader.event(error=code, last=True)
