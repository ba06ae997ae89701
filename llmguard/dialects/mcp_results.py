"""What results of the Model Context Protocol hold: content blocks, resources, prompts, lists, samples.

Pages as in `mcp`. A result does not say which method it answers, so its members are read by their names.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmguard.dialects.pointer import child
from llmguard.dialects.reader import Reader, mapping, members, objects, optional, word
from llmguard.dialects.wire import Json
from llmguard.types import Role, Stage

_LISTS = ("tools", "prompts", "resources", "resourceTemplates", "roots")
_RESULT = frozenset(
    {"_meta", "content", "structuredContent", "messages", "contents", "description", "instructions"}
).union({"serverInfo", "completion", "task", "statusMessage", *_LISTS})
_TASK_NAMES = frozenset({"taskId", "status", "createdAt", "lastUpdatedAt"})
_RESULT_NAMES = frozenset(
    {"protocolVersion", "role", "model", "stopReason", "action", "nextCursor", "resultType"}
).union({"taskId", "status", "createdAt", "lastUpdatedAt", "isError", "requestState", "cacheScope"})
_ITEM = frozenset({"title", "description", "inputSchema", "outputSchema", "arguments", "text", "data"}).union(
    {"_meta", "annotations"}
)
_ITEM_MUTE = frozenset({"icons", "execution"})
_NAMES = frozenset({"type", "id", "name", "role", "uri", "uriTemplate", "mimeType", "size", "toolUseId", "isError"})
_ANNOTATIONS = frozenset({"lastModified", "priority"})
_AUDIENCES: tuple[list[str], ...] = ([], ["user"], ["assistant"], ["user", "assistant"], ["assistant", "user"])
_SAMPLING = frozenset({"_meta", "messages", "systemPrompt", "tools", "stopSequences", "metadata"})
_SAMPLING_MUTE = frozenset({"modelPreferences", "toolChoice", "task"})


def add_result(reader: Reader, result: Mapping[str, Json], path: str, read: frozenset[str] = frozenset()) -> list[str]:
    """The texts of a result; an error's name where a tool says that it failed.

    Args:
        reader: what gathers them.
        result: the object.
        path: its pointer.
        read: keys that the caller has read.

    Raises:
        DialectError: something in it has the wrong type.
    """
    sampled = "role" in result
    stage, role = (Stage.OUTPUT, Role.ASSISTANT) if sampled else (Stage.TOOL_RESULT, Role.TOOL)
    where = child(path, "content")
    if "action" in result:  # the user's answer to a form
        reader.tree(result.get("content"), where, Stage.INPUT)
    else:
        add_blocks(reader, result.get("content"), where, stage, role)
    reader.tree(result.get("structuredContent"), child(path, "structuredContent"), Stage.TOOL_RESULT)
    for at, message in objects(result.get("messages"), child(path, "messages")):
        add_blocks(reader, message.get("content"), child(at, "content"), Stage.CONTEXT, Role.RETRIEVAL)
        reader.rest(message, at, frozenset({"content"}), _NAMES)
    for at, resource in objects(result.get("contents"), child(path, "contents")):
        _resource(reader, resource, at, Stage.CONTEXT, Role.RETRIEVAL)
    for key in ("description", "instructions"):
        reader.text(result.get(key), child(path, key), Stage.CONTEXT)
    for key in _LISTS:
        for at, item in objects(result.get(key), child(path, key)):
            _item(reader, item, at, Stage.CONTEXT, Role.RETRIEVAL)
    completion = optional(result.get("completion"), child(path, "completion"))
    reader.tree(completion, child(path, "completion"), Stage.CONTEXT)
    task = optional(result.get("task"), child(path, "task"))
    for holder, at in ((result, path), (task, child(path, "task"))):
        reader.text(holder.get("statusMessage"), child(at, "statusMessage"), Stage.TOOL_RESULT)
    reader.rest(task, child(path, "task"), {"_meta", "statusMessage"}, _TASK_NAMES)
    add_self(reader, result.get("serverInfo"), child(path, "serverInfo"))
    reader.rest(result, path, _RESULT | read, _RESULT_NAMES, {"capabilities"})
    return ["tool_error"] if result.get("isError") is True else []


def add_sampling(reader: Reader, params: Mapping[str, Json], path: str) -> None:
    """The texts of a server's request to the client's model. They are the server's, whatever roles it gives them.

    Raises:
        DialectError: something in it has the wrong type.
    """
    reader.text(params.get("systemPrompt"), child(path, "systemPrompt"), Stage.CONTEXT)
    for where, message in objects(params.get("messages"), child(path, "messages")):
        add_blocks(reader, message.get("content"), child(where, "content"), Stage.CONTEXT, Role.RETRIEVAL)
        reader.rest(message, where, frozenset({"content", "_meta"}), _NAMES)
    for where, item in objects(params.get("tools"), child(path, "tools")):
        _item(reader, item, where, Stage.CONTEXT, Role.RETRIEVAL)
    reader.tree(params.get("stopSequences"), child(path, "stopSequences"), Stage.CONTEXT)
    reader.rest(params, path, _SAMPLING, frozenset({"includeContext"}), _SAMPLING_MUTE)


def add_self(reader: Reader, value: Json, path: str) -> None:
    """What a server or a client says that it is.

    Raises:
        DialectError: something in it has the wrong type.
    """
    said = optional(value, path)
    for key in ("title", "description"):
        reader.text(said.get(key), child(path, key), Stage.CONTEXT)
    reader.rest(said, path, {"title", "description"}, {"name", "version", "websiteUrl"}, {"icons"})


def add_blocks(reader: Reader, content: Json, path: str, stage: Stage, role: Role) -> None:
    """The texts of one content block or of several.

    Raises:
        DialectError: a block is no object, or its text no string.
    """
    blocks = [(path, content)] if isinstance(content, dict) else members(content, path)
    for where, block in blocks:
        _block(reader, mapping(block, where), where, stage, role)


def _block(reader: Reader, block: Mapping[str, Json], path: str, stage: Stage, role: Role) -> None:
    kind = word(block, "type", path)
    if kind == "text":
        reader.text(block.get("text"), child(path, "text"), stage, role)
        reader.rest(block, path, frozenset({"text", "data", "_meta", "annotations"}), _NAMES)
        _annotations(reader, block, path)
        reader.opaque(block.get("data"), child(path, "data"))
    elif kind == "resource":
        where = child(path, "resource")
        _resource(reader, mapping(block.get("resource"), where), where, stage, role)
        reader.rest(block, path, frozenset({"resource", "_meta", "annotations"}), _NAMES)
        _annotations(reader, block, path)
    elif kind == "resource_link":
        _item(reader, block, path, stage, role)
    elif kind == "tool_use":
        reader.tree(block.get("input"), child(path, "input"), Stage.TOOL_CALL)
        reader.rest(block, path, frozenset({"input", "_meta"}), _NAMES)
    elif kind == "tool_result":
        add_blocks(reader, block.get("content"), child(path, "content"), Stage.TOOL_RESULT, Role.TOOL)
        reader.tree(block.get("structuredContent"), child(path, "structuredContent"), Stage.TOOL_RESULT)
        reader.rest(block, path, frozenset({"content", "structuredContent", "_meta"}), _NAMES)
    else:  # images, audio, and what we don't know
        reader.uncovered.append(path)


def _resource(reader: Reader, resource: Mapping[str, Json], path: str, stage: Stage, role: Role) -> None:
    reader.text(resource.get("text"), child(path, "text"), stage, role)
    reader.opaque(resource.get("blob"), child(path, "blob"))
    reader.rest(resource, path, frozenset({"text", "blob", "_meta", "annotations"}), _NAMES)
    _annotations(reader, resource, path)


def _item(reader: Reader, item: Mapping[str, Json], path: str, stage: Stage, role: Role) -> None:
    """Something that a server has to offer: a tool, a prompt, a resource, or a link to one."""
    _annotations(reader, item, path, frozenset({"title"}))
    title = optional(item.get("annotations"), child(path, "annotations")).get("title")
    reader.text(title, f"{path}/annotations/title", stage, role)
    for key in ("title", "description"):
        reader.text(item.get(key), child(path, key), stage, role)
    for key in ("inputSchema", "outputSchema"):
        reader.schema(item.get(key), child(path, key), stage, role)
    for where, argument in objects(item.get("arguments"), child(path, "arguments")):
        for key in ("title", "description"):
            reader.text(argument.get(key), child(where, key), stage, role)
        reader.rest(argument, where, frozenset({"title", "description"}), _NAMES)
    for key in ("text", "data"):
        reader.opaque(item.get(key), child(path, key))
    reader.rest(item, path, _ITEM, _NAMES, _ITEM_MUTE)


def _annotations(reader: Reader, holder: Mapping[str, Json], path: str, read: frozenset[str] = frozenset()) -> None:
    """Mark as uncovered what annotations say beyond the words that the format has for them."""
    where = child(path, "annotations")
    annotations = optional(holder.get("annotations"), where)
    known = read
    if annotations.get("audience") in _AUDIENCES:
        known |= {"audience"}
    reader.rest(annotations, where, known, _ANNOTATIONS)
