"""The content blocks of Amazon Bedrock's Converse API: objects with one key, which says what they hold.

Follows https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html and the service model of
``botocore``.
"""

from __future__ import annotations

from collections.abc import Callable

from llmguard.dialects.reader import Reader, mapping, objects, optional
from llmguard.dialects.wire import Json
from llmguard.types import Role, Stage

_Read = Callable[[Reader, Json, str, Stage, Role], None]


def blocks(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    """A list of blocks.

    Args:
        reader: takes the texts.
        value: the list.
        path: its pointer.
        stage: of what the role says itself.
        role: who says it.

    Raises:
        DialectError: a field has the wrong type.
    """
    for where, block in objects(value, path):
        for key, member in block.items():
            read = _BLOCKS.get(key)
            if member is not None and read is not None:
                read(reader, member, f"{where}/{key}", stage, role)
        reader.rest(block, where, _KNOWN)


def tools(reader: Reader, value: Json, path: str) -> None:
    """What the model is told of the tools.

    Raises:
        DialectError: a field has the wrong type.
    """
    for where, one in objects(value, path):
        below = f"{where}/toolSpec"
        spec = optional(one.get("toolSpec"), below)
        reader.text(spec.get("description"), f"{below}/description", Stage.INPUT, Role.SYSTEM)
        schema = optional(spec.get("inputSchema"), f"{below}/inputSchema")
        reader.schema(schema.get("json"), f"{below}/inputSchema/json")
        reader.rest(schema, f"{below}/inputSchema", {"json"})
        reader.rest(spec, below, {"description", "inputSchema"}, {"name"})
        for key in ("systemTool", "cachePoint"):
            reader.rest(optional(one.get(key), f"{where}/{key}"), f"{where}/{key}", (), {"name", "type", "ttl"})
        reader.rest(one, where, {"toolSpec", "systemTool", "cachePoint"})


def citation(reader: Reader, value: Json, path: str, stage: Stage) -> None:
    """What a text rests on; in an answer it goes to the user like the rest of it."""
    reader.tree(value, path, Stage.OUTPUT if stage is Stage.OUTPUT else Stage.CONTEXT, Role.RETRIEVAL)


def _text(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    reader.text(value, path, stage, role)


def _opaque(reader: Reader, value: Json, path: str, _stage: Stage, _role: Role) -> None:
    reader.opaque(value, path)


def _plain(reader: Reader, value: Json, path: str, _stage: Stage, _role: Role) -> None:
    value = mapping(value, path)
    reader.rest(optional(value.get("tool"), f"{path}/tool"), f"{path}/tool", (), {"type", "name", "serverName"})
    reader.rest(value, path, {"tool"}, {"type", "ttl"})


def _document(reader: Reader, value: Json, path: str, _stage: Stage, _role: Role) -> None:
    value = mapping(value, path)
    for key in ("name", "context"):  # the model is told the name, and may take it for an instruction
        reader.text(value.get(key), f"{path}/{key}", Stage.CONTEXT)
    source, where = optional(value.get("source"), f"{path}/source"), f"{path}/source"
    reader.text(source.get("text"), f"{where}/text", Stage.CONTEXT)
    reader.tree(source.get("content"), f"{where}/content", Stage.CONTEXT)
    for key in ("bytes", "s3Location"):
        reader.opaque(source.get(key), f"{where}/{key}")
    reader.rest(source, where, {"text", "content", "bytes", "s3Location"})
    reader.rest(optional(value.get("citations"), f"{path}/citations"), f"{path}/citations", ())
    reader.rest(value, path, {"name", "context", "source", "citations"}, {"format"})


def _search_result(reader: Reader, value: Json, path: str, _stage: Stage, _role: Role) -> None:
    reader.tree(mapping(value, path), path, Stage.CONTEXT)


def _tool_use(reader: Reader, value: Json, path: str, _stage: Stage, _role: Role) -> None:
    value = mapping(value, path)
    reader.tree(value.get("input"), f"{path}/input", Stage.TOOL_CALL)
    reader.rest(value, path, {"input"}, {"toolUseId", "name", "type"})


def _tool_result(reader: Reader, value: Json, path: str, _stage: Stage, _role: Role) -> None:
    value = mapping(value, path)
    blocks(reader, value.get("content"), f"{path}/content", Stage.TOOL_RESULT, Role.TOOL)
    reader.rest(value, path, {"content"}, {"toolUseId", "status", "type"})


def _json(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    reader.tree(value, path, stage, role)


def _guarded(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    value = mapping(value, path)
    where = f"{path}/text"
    text = optional(value.get("text"), where)
    qualifiers = text.get("qualifiers")
    if isinstance(qualifiers, list) and "grounding_source" in qualifiers:
        stage, role = Stage.CONTEXT, Role.RETRIEVAL
    reader.text(text.get("text"), f"{where}/text", stage, role)
    reader.rest(text, where, {"text", "qualifiers"})
    reader.opaque(value.get("image"), f"{path}/image")
    reader.rest(value, path, {"text", "image"})


def _reasoning(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    value = mapping(value, path)
    where = f"{path}/reasoningText"
    thought = optional(value.get("reasoningText"), where)
    reader.text(thought.get("text"), f"{where}/text", stage, role)
    reader.rest(thought, where, {"text"}, {"signature"})
    reader.opaque(value.get("redactedContent"), f"{path}/redactedContent")
    reader.rest(value, path, {"reasoningText", "redactedContent"})


def _cited(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    value = mapping(value, path)
    for where, one in objects(value.get("content"), f"{path}/content"):
        reader.text(one.get("text"), f"{where}/text", stage, role)
        reader.rest(one, where, {"text"})
    for where, one in objects(value.get("citations"), f"{path}/citations"):
        citation(reader, one, where, stage)
    reader.rest(value, path, {"content", "citations"})


_BLOCKS: dict[str, _Read] = {
    "text": _text,
    "json": _json,
    "image": _opaque,
    "video": _opaque,
    "audio": _opaque,
    "document": _document,
    "toolUse": _tool_use,
    "toolResult": _tool_result,
    "guardContent": _guarded,
    "cachePoint": _plain,
    "reasoningContent": _reasoning,
    "citationsContent": _cited,
    "searchResult": _search_result,
    "toolAddition": _plain,
    "toolRemoval": _plain,
}
_KNOWN = frozenset(_BLOCKS)
