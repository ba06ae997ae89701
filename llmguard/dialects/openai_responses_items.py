"""The items of OpenAI's Responses API: what goes in, what comes out and what a stream adds are lists of them.

A table says for each type of item which of its fields hold texts; what it does not name is reported as not covered.

Follows https://platform.openai.com/docs/api-reference/responses/object and the types of the ``openai`` package
3.54.0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from llmguard.dialects.openai_responses_tools import environment, form, tools
from llmguard.dialects.reader import Reader, mapping, members, objects, word
from llmguard.dialects.wire import Json
from llmguard.types import Role, Stage

_Read = Callable[[Reader, Json, str, Stage, str], None]
"""Reads one field: the reader, its value and pointer, the stage of what the assistant says, the item's channel."""

_ROLES = {
    "system": (Role.SYSTEM, Stage.INPUT),
    "developer": (Role.SYSTEM, Stage.INPUT),
    "user": (Role.USER, Stage.INPUT),
    "tool": (Role.TOOL, Stage.TOOL_RESULT),
}
_TEXTS = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}
_PLAIN = frozenset(
    {
        *("type", "id", "status", "role", "phase", "call_id", "name", "namespace", "created_by", "fingerprint"),
        *("container_id", "server_label", "approval_request_id", "execution", "output_format", "quality", "size"),
        "background",
    }
)
#: Objects in which nothing is said.
_MUTE = frozenset({"caller", "svg_usage", "prompt_cache_breakpoint"})
_CITED = frozenset({"type", "file_id", "container_id"})


def item(reader: Reader, value: Json, path: str, spoken: Stage, channel: str = "") -> None:
    """The texts of one item.

    Args:
        reader: takes them.
        value: the item.
        path: its pointer.
        spoken: the stage of what the assistant says: output in answers, input in what came before.
        channel: its index in a stream, with a slash behind it; "" outside of streams.

    Raises:
        DialectError: a field has the wrong type.
    """
    value = mapping(value, path)
    sort = word(value, "type", path) or ("message" if "role" in value else "item_reference")
    if sort == "message":
        _message(reader, value, path, spoken, channel)
        return
    fields = _ITEMS.get(sort)
    if fields is None:
        reader.opaque(value, path)
        return
    for key, member in value.items():
        if key in fields and member is not None:
            fields[key](reader, member, f"{path}/{key}", spoken, channel)
    reader.rest(value, path, fields.keys(), _PLAIN, _MUTE)


def _message(reader: Reader, value: Mapping[str, Json], path: str, spoken: Stage, channel: str) -> None:
    role, stage = _ROLES.get(word(value, "role", path), (Role.USER, Stage.INPUT))
    if value.get("role") == "assistant":
        role, stage = Role.ASSISTANT, spoken
    contents(reader, value.get("content"), f"{path}/content", stage, role, channel and f"{channel}content/")
    reader.rest(value, path, {"content"}, _PLAIN, _MUTE)


def contents(reader: Reader, value: Json, path: str, stage: Stage, role: Role | None, channel: str = "") -> None:
    """A string, or a list of parts of which each has a channel of its own.

    Raises:
        DialectError: it is something else.
    """
    if isinstance(value, str):
        reader.text(value, path, stage, role)
        return
    for index, (where, part) in enumerate(objects(value, path)):
        content(reader, part, where, stage, role, channel and f"{channel}{index}")


def content(reader: Reader, value: Json, path: str, stage: Stage, role: Role | None, channel: str = "") -> None:
    """One part of a message, a tool's result or a reasoning.

    Raises:
        DialectError: a field has the wrong type.
    """
    value = mapping(value, path)
    sort = word(value, "type", path)
    key = _TEXTS.get(sort)
    if key is None:
        reader.opaque(value, path)
        return
    reader.text(value.get(key), f"{path}/{key}", stage, role, channel)
    annotation(reader, value.get("annotations"), f"{path}/annotations", stage)
    reader.echo(value.get("logprobs"), f"{path}/logprobs", "[]")
    reader.rest(value, path, {key, "annotations", "logprobs"}, {"type"}, _MUTE)


def annotation(reader: Reader, value: Json, path: str, stage: Stage) -> None:
    """Citations: what they say of where the text is from."""
    reader.tree(value, path, Stage.OUTPUT if stage is Stage.OUTPUT else Stage.CONTEXT, Role.RETRIEVAL, _CITED)


def _text(
    reader: Reader,
    value: Json,
    path: str,
    _spoken: Stage,
    channel: str,
    *,
    stage: Stage,
    own: str = "",
    json: bool = False,
) -> None:
    reader.text(value, path, stage, None, channel and own and f"{channel}{own}", json=json)


def _tree(
    reader: Reader, value: Json, path: str, _spoken: Stage, _channel: str, *, stage: Stage, skip: Collection[str] = ()
) -> None:
    reader.tree(value, path, stage, None, skip)


def _opaque(reader: Reader, value: Json, path: str, _spoken: Stage, _channel: str) -> None:
    reader.opaque(value, path)


def _result(reader: Reader, value: Json, path: str, _spoken: Stage, _channel: str) -> None:
    contents(reader, value, path, Stage.TOOL_RESULT, Role.TOOL)


def _tools(reader: Reader, value: Json, path: str, _spoken: Stage, _channel: str) -> None:
    tools(reader, value, path)


def _thoughts(reader: Reader, value: Json, path: str, spoken: Stage, channel: str, *, own: str) -> None:
    contents(reader, value, path, spoken, Role.ASSISTANT, channel and f"{channel}{own}/")


def _interpreted(reader: Reader, value: Json, path: str, _spoken: Stage, _channel: str) -> None:
    for where, output in objects(value, path):
        if word(output, "type", where) == "logs":
            reader.tree(output, where, Stage.TOOL_RESULT, None, {"type"})
        else:
            reader.opaque(output, where)


def _commands(reader: Reader, value: Json, path: str, _spoken: Stage, channel: str) -> None:
    action = mapping(value, path)
    for index, (where, command) in enumerate(members(action.get("commands"), f"{path}/commands")):
        reader.text(command, where, Stage.TOOL_CALL, None, channel and f"{channel}command/{index}")
    reader.rest(action, path, {"commands"})


def _environment(reader: Reader, value: Json, path: str, _spoken: Stage, _channel: str) -> None:
    environment(reader, value, path)


def _shell(reader: Reader, value: Json, path: str, _spoken: Stage, channel: str) -> None:
    if isinstance(value, str):
        reader.text(value, path, Stage.TOOL_RESULT)
        return
    for index, (where, output) in enumerate(objects(value, path)):
        shell(reader, output, where, channel and f"{channel}output/{index}/")


def shell(reader: Reader, value: Json, path: str, channel: str) -> None:
    """What a command wrote.

    Raises:
        DialectError: a field has the wrong type.
    """
    for key in ("stdout", "stderr"):
        reader.text(value.get(key), f"{path}/{key}", Stage.TOOL_RESULT, None, channel and channel + key)
    reader.rest(value, path, {"stdout", "stderr"}, {"created_by"}, {"outcome"})


_call = partial(_text, stage=Stage.TOOL_CALL)
_arguments = partial(_text, stage=Stage.TOOL_CALL, own="arguments", json=True)
_deed = partial(_tree, stage=Stage.TOOL_CALL, skip=frozenset({"type", "button"}))
_found = partial(_tree, stage=Stage.CONTEXT, skip=frozenset({"file_id", "vector_store_id"}))
_outcome = partial(_tree, stage=Stage.TOOL_RESULT, skip=frozenset({"type", "code", "id"}))

_ITEMS: dict[str, dict[str, _Read]] = {
    "function_call": {"arguments": _arguments},
    "function_call_output": {"output": _result},
    "custom_tool_call": {"input": partial(_call, own="input")},
    "custom_tool_call_output": {"output": _result},
    "reasoning": {
        "summary": partial(_thoughts, own="summary"),
        "content": partial(_thoughts, own="content"),
        "encrypted_content": _opaque,
    },
    "file_search_call": {"queries": _deed, "results": _found},
    "web_search_call": {"action": _deed},
    "computer_call": {"action": _deed, "actions": _deed, "pending_safety_checks": _outcome},
    "computer_call_output": {"output": _opaque, "acknowledged_safety_checks": _outcome},
    "code_interpreter_call": {"code": partial(_call, own="code"), "outputs": _interpreted},
    "image_generation_call": {
        "action": partial(_tree, stage=Stage.TOOL_CALL),
        "result": _opaque,
        "revised_prompt": _call,
        "error": partial(_tree, stage=Stage.OUTPUT, skip=frozenset({"type", "code", "param", "moderation_details"})),
    },
    "local_shell_call": {"action": _deed},
    "local_shell_call_output": {"output": partial(_text, stage=Stage.TOOL_RESULT)},
    "shell_call": {"action": _commands, "environment": _environment},
    "shell_call_output": {"output": _shell},
    "apply_patch_call": {"operation": _deed},
    "apply_patch_call_output": {"output": partial(_text, stage=Stage.TOOL_RESULT)},
    "mcp_list_tools": {"tools": _tools, "error": _outcome},
    "mcp_approval_request": {"arguments": partial(_call, json=True)},
    "mcp_approval_response": {"reason": partial(_text, stage=Stage.INPUT)},
    "mcp_call": {"arguments": _arguments, "output": partial(_text, stage=Stage.TOOL_RESULT), "error": _outcome},
    "program": {"code": _call},
    "program_output": {"result": partial(_text, stage=Stage.TOOL_RESULT)},
    "tool_search_call": {"arguments": _deed},
    "tool_search_output": {"tools": _tools},
    "additional_tools": {"tools": _tools},
    "compaction": {"encrypted_content": _opaque},
    "compaction_trigger": {},
    "configuration_update": {"reasoning": _deed, "text": lambda r, v, p, *_: form(r, v, p)},
    "item_reference": {},
}
