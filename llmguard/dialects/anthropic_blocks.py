"""The content blocks of Anthropic's Messages API, as requests and answers hold them.

Follows https://platform.claude.com/docs/en/api/messages and the types of the ``anthropic`` package 2.12.0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmguard.dialects.reader import Reader, mapping, objects, word
from llmguard.dialects.wire import Json
from llmguard.types import Role, Stage

_Block = Mapping[str, Json]

_MUTE = frozenset({"cache_control", "caller"})
_PLAIN = frozenset({"type", "id", "name", "tool_use_id", "toolset_name", "server_name", "signature"})
_TOLD = frozenset({"description", "input_schema", "input_examples", "user_location"})
_TOOL_NAMES = frozenset({"type", "name", "server_name", "mcp_server_name", "model"})
#: What is for the servers of the tools, not for the model.
_TOOL_MUTE = frozenset({"cache_control", "allowed_callers", "allowed_domains", "blocked_domains"})
_RESULT_NAMES = frozenset(
    {
        *("type", "error_code", "file_id", "file_type", "tool_name", "media_type", "cache_control", "retrieved_at"),
        *("tab_id", "download_id", "encrypted_stdout", "encrypted_content", "tool_use_id", "stop_reason"),
    }
)
_SEALED = frozenset({"encrypted_stdout", "encrypted_content"})
_CITED_NAMES = frozenset({"type", "file_id", "encrypted_index"})


def blocks(reader: Reader, value: Json, path: str, stage: Stage, role: Role) -> None:
    """A string, or a list of blocks.

    Args:
        reader: takes the texts.
        value: that.
        path: its pointer.
        stage: of what the role says itself.
        role: who says it.

    Raises:
        DialectError: a field has the wrong type.
    """
    if isinstance(value, str):
        reader.text(value, path, stage, role)
        return
    for where, one in objects(value, path):
        block(reader, one, where, stage, role)


def block(reader: Reader, value: Json, path: str, stage: Stage, role: Role, channel: str = "") -> None:
    """One block.

    Args:
        reader: takes the texts.
        value: the block.
        path: its pointer.
        stage: of what the role says itself.
        role: who says it.
        channel: its index in a stream, with a slash behind it; "" outside of streams.

    Raises:
        DialectError: a field has the wrong type.
    """
    value = mapping(value, path)
    sort = word(value, "type", path)
    if sort in ("text", "thinking", "compaction"):
        key = "content" if sort == "compaction" else sort
        reader.text(value.get(key), f"{path}/{key}", stage, role, channel and f"{channel}{key}")
        citations(reader, value.get("citations"), f"{path}/citations", stage)
        reader.opaque(value.get("encrypted_content"), f"{path}/encrypted_content")
        if "tool_changes" in value:
            for where, one in objects(value["tool_changes"], f"{path}/tool_changes"):
                _changed(reader, one, where)
        reader.rest(value, path, {key, "citations", "encrypted_content", "tool_changes"}, _PLAIN, _MUTE)
    elif sort == "redacted_thinking":
        reader.opaque(value.get("data"), f"{path}/data")
        reader.rest(value, path, {"data"}, _PLAIN, _MUTE)
    elif sort.endswith("tool_use"):
        reader.tree(value.get("input"), f"{path}/input", Stage.TOOL_CALL)
        reader.rest(value, path, {"input"}, _PLAIN, _MUTE)
    elif sort in ("tool_result", "mcp_tool_result"):
        blocks(reader, value.get("content"), f"{path}/content", Stage.TOOL_RESULT, Role.TOOL)
        reader.rest(value, path, {"content"}, _PLAIN, _MUTE)
    else:
        _SORTS.get(sort, _unknown)(reader, value, path)


def citations(reader: Reader, value: Json, path: str, stage: Stage) -> None:
    """What a text rests on: pieces of documents and their titles. In an answer it goes to the user like the rest."""
    shown = Stage.OUTPUT if stage is Stage.OUTPUT else Stage.CONTEXT
    reader.tree(value, path, shown, Role.RETRIEVAL, _CITED_NAMES)


def tools(reader: Reader, value: Json, path: str) -> None:
    """What the model is told of the tools.

    Raises:
        DialectError: a field has the wrong type.
    """
    for where, one in objects(value, path):
        tool(reader, one, where)


def tool(reader: Reader, value: Mapping[str, Json], path: str) -> None:
    """What the model is told of one tool.

    Raises:
        DialectError: a field has the wrong type.
    """
    reader.text(value.get("description"), f"{path}/description", Stage.INPUT, Role.SYSTEM)
    reader.schema(value.get("input_schema"), f"{path}/input_schema")
    reader.tree(value.get("input_examples"), f"{path}/input_examples", Stage.INPUT, Role.SYSTEM)
    reader.tree(value.get("user_location"), f"{path}/user_location", Stage.INPUT, Role.SYSTEM, {"type"})
    reader.rest(value, path, _TOLD, _TOOL_NAMES, _TOOL_MUTE)


def _unknown(reader: Reader, value: _Block, path: str) -> None:
    reader.opaque(value, path)


def _document(reader: Reader, value: _Block, path: str) -> None:
    for key in ("title", "context"):
        reader.text(value.get(key), f"{path}/{key}", Stage.CONTEXT)
    where = f"{path}/source"
    source = mapping(value.get("source"), where)
    sort = word(source, "type", where)
    if sort == "text":
        reader.text(source.get("data"), f"{where}/data", Stage.CONTEXT)
        reader.rest(source, where, {"data"}, {"type", "media_type"})
    elif sort == "content":
        blocks(reader, source.get("content"), f"{where}/content", Stage.CONTEXT, Role.RETRIEVAL)
        reader.rest(source, where, {"content"}, {"type"})
    else:
        reader.opaque(source, where)
    citations(reader, value.get("citations"), f"{path}/citations", Stage.CONTEXT)
    reader.rest(value, path, {"source", "title", "context", "citations"}, _PLAIN, _MUTE)


def _search_result(reader: Reader, value: _Block, path: str) -> None:
    for key in ("source", "title"):
        reader.text(value.get(key), f"{path}/{key}", Stage.CONTEXT)
    blocks(reader, value.get("content"), f"{path}/content", Stage.CONTEXT, Role.RETRIEVAL)
    citations(reader, value.get("citations"), f"{path}/citations", Stage.CONTEXT)
    reader.rest(value, path, {"source", "title", "content", "citations"}, _PLAIN, _MUTE)


def _searched(reader: Reader, value: _Block, path: str) -> None:
    content, where = value.get("content"), f"{path}/content"
    for place, one in objects(content if isinstance(content, list) else [], where):
        reader.text(one.get("title"), f"{place}/title", Stage.CONTEXT)
        reader.text(one.get("page_age"), f"{place}/page_age", Stage.CONTEXT)
        reader.opaque(one.get("encrypted_content"), f"{place}/encrypted_content")
        reader.rest(one, place, {"title", "page_age", "encrypted_content"}, {"type", "url"})
    if not isinstance(content, list):
        reader.tree(content, where, Stage.TOOL_RESULT, None, _RESULT_NAMES)
    reader.rest(value, path, {"content"}, _PLAIN, _MUTE)


def _fetched(reader: Reader, value: _Block, path: str) -> None:
    where = f"{path}/content"
    content = mapping(value.get("content"), where)
    if isinstance(content.get("content"), dict):
        reader.text(content.get("url"), f"{where}/url", Stage.CONTEXT)
        block(reader, content["content"], f"{where}/content", Stage.CONTEXT, Role.RETRIEVAL)
        reader.rest(content, where, {"url", "content"}, {"type", "retrieved_at"})
    else:
        reader.tree(content, where, Stage.TOOL_RESULT, None, _RESULT_NAMES)
    reader.rest(value, path, {"content"}, _PLAIN, _MUTE)


def _done(reader: Reader, value: _Block, path: str) -> None:
    where = f"{path}/content"
    reader.tree(value.get("content"), where, Stage.TOOL_RESULT, None, _RESULT_NAMES)
    if isinstance(value.get("content"), dict):
        for key in sorted(_SEALED & value["content"].keys()):
            reader.opaque(value["content"][key], f"{where}/{key}")
    reader.rest(value, path, {"content"}, _PLAIN, _MUTE)


def _browser(reader: Reader, value: _Block, path: str) -> None:
    for key in ("tabs", "state_changes"):
        reader.tree(value.get(key), f"{path}/{key}", Stage.TOOL_RESULT, None, _RESULT_NAMES)
    reader.rest(value, path, {"tabs", "state_changes"}, _PLAIN, _MUTE)


def _listed(reader: Reader, value: _Block, path: str) -> None:
    """The tools that a server has: the server says what they are for."""
    tools(reader, value.get("tools"), f"{path}/tools")
    reader.rest(value, path, {"tools"}, _PLAIN | _TOOL_NAMES, _MUTE)


def _changed(reader: Reader, value: _Block, path: str) -> None:
    """A tool that the model gets in mid-conversation, or loses: by its name, or with all that is told of it."""
    where = f"{path}/tool"
    changed = mapping(value.get("tool"), where)
    if "definition" in changed:
        tool(reader, mapping(changed["definition"], f"{where}/definition"), f"{where}/definition")
    reader.rest(changed, where, {"definition"}, _TOOL_NAMES)
    reader.rest(value, path, {"tool"}, _PLAIN, _MUTE)


def _name(reader: Reader, value: _Block, path: str) -> None:
    reader.rest(value, path, (), _PLAIN | {"tool_name"}, _MUTE)


_SORTS: dict[str, Callable[[Reader, _Block, str], None]] = {
    "document": _document,
    "search_result": _search_result,
    "web_search_tool_result": _searched,
    "web_fetch_tool_result": _fetched,
    "code_execution_tool_result": _done,
    "bash_code_execution_tool_result": _done,
    "text_editor_code_execution_tool_result": _done,
    "tool_search_tool_result": _done,
    "advisor_tool_result": _done,
    "mcp_tool_listing": _listed,
    "tool_addition": _changed,
    "tool_removal": _changed,
    "browser_state": _browser,
    "tool_reference": _name,
}
