"""What a request of Amazon Bedrock's Converse API says, and one whose tokens are to be counted.

Follows https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llmguard.dialects import pointer
from llmguard.dialects.bedrock_blocks import blocks, tools
from llmguard.dialects.reader import Reader, mapping, members, objects, optional, word
from llmguard.dialects.wire import Json
from llmguard.types import Role, Stage

_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
_UNREAD = frozenset({"requestMetadata"})  # the account's own notes
#: What the model does not read.
_MUTE = frozenset({"guardrailConfig", "performanceConfig", "serviceTier", "additionalModelResponseFieldPaths"})


def read(reader: Reader, body: Mapping[str, Json], path: str) -> None:
    """The texts of a request.

    Raises:
        DialectError: a field has the wrong type.
    """
    reader.rest(body, path, _FIELDS.keys() | _UNREAD, {"modelId"}, _MUTE)
    for key, value in body.items():
        if value is not None and key in _FIELDS:
            _FIELDS[key](reader, value, f"{path}/{key}")


def _system(reader: Reader, value: Json, path: str) -> None:
    blocks(reader, value, path, Stage.INPUT, Role.SYSTEM)


def _messages(reader: Reader, value: Json, path: str) -> None:
    for where, message in objects(value, path):
        role = _ROLES.get(word(message, "role", where), Role.USER)
        blocks(reader, message.get("content"), f"{where}/content", Stage.INPUT, role)
        reader.rest(message, where, {"content"}, {"role"})


def _tools(reader: Reader, value: Json, path: str) -> None:
    value = mapping(value, path)
    tools(reader, value.get("tools"), f"{path}/tools")
    reader.rest(value, path, {"tools"}, (), {"toolChoice"})


def _inference(reader: Reader, value: Json, path: str) -> None:
    value = mapping(value, path)
    for where, sequence in members(value.get("stopSequences"), f"{path}/stopSequences"):
        reader.text(sequence, where, Stage.INPUT)
    reader.rest(value, path, {"stopSequences"})


def _variables(reader: Reader, value: Json, path: str) -> None:
    reader.tree(mapping(value, path), path, Stage.INPUT)


def _own(reader: Reader, value: Json, path: str) -> None:
    """Fields of the model's own, which may hold anything: nobody knows which of them are texts."""
    reader.uncovered += [where for where, content in pointer.strings(value, path) if content]


def _form(reader: Reader, value: Json, path: str) -> None:
    """The form of the answer that is asked for: a JSON schema, written in a string."""
    value = mapping(value, path)
    for key in ("textFormat", "structure", "jsonSchema"):
        reader.rest(value, path, {key}, {"type", "effort"})
        path = f"{path}/{key}"
        value = optional(value.get(key), path)
    reader.rest(value, path, {"description", "schema"}, {"name"})
    reader.text(value.get("description"), f"{path}/description", Stage.INPUT, Role.SYSTEM)
    reader.text(value.get("schema"), f"{path}/schema", Stage.INPUT, Role.SYSTEM, json=True)


def _counted(reader: Reader, value: Json, path: str) -> None:
    """A request whose tokens are to be counted."""
    value = mapping(value, path)
    read(reader, optional(value.get("converse"), f"{path}/converse"), f"{path}/converse")
    reader.rest(value, path, {"converse"})


_FIELDS: dict[str, Callable[[Reader, Json, str], None]] = {
    "system": _system,
    "messages": _messages,
    "toolConfig": _tools,
    "inferenceConfig": _inference,
    "promptVariables": _variables,
    "outputConfig": _form,
    "additionalModelRequestFields": _own,
    "input": _counted,
}
