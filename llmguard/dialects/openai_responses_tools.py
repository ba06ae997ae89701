"""What a request of OpenAI's Responses API tells the model of tools and of the answer's form, and answers say again.

Follows https://platform.openai.com/docs/api-reference/responses/create.
"""

from __future__ import annotations

from collections.abc import Mapping

from llmguard.dialects.reader import Reader, mapping, objects, optional
from llmguard.dialects.wire import Json
from llmguard.types import Role, Stage

_TOLD = frozenset(
    {
        *("description", "server_description", "parameters", "input_schema", "output_schema", "annotations", "format"),
        *("environment", "container", "input_image_mask", "tools", "user_location"),
    }
)
#: What is for the servers of the tools, not for the model.
_MUTE = frozenset(
    {
        *("allowed_tools", "allowed_callers", "require_approval", "vector_store_ids", "filters"),
        *("ranking_options", "search_content_types", "svg"),
    }
)
_UNREAD = frozenset({"headers"})  # they open the door to a server of tools
_NAMES = frozenset(
    {
        *("type", "name", "server_label", "server_url", "authorization", "connector_id", "tunnel_id", "execution"),
        *("search_context_size", "model", "size", "quality", "moderation", "background", "output_format", "action"),
        *("input_fidelity", "complexity"),
    }
)
_PLACE_NAMES = frozenset({"type", "container_id", "memory_limit"})
_SKILL_NAMES = frozenset({"type", "name", "path", "skill_id", "version"})


def tools(reader: Reader, value: Json, path: str) -> None:
    """What the model is told of the tools that it may call.

    Raises:
        DialectError: a field has the wrong type.
    """
    for where, found in objects(value, path):
        tool(reader, found, where)


def tool(reader: Reader, value: Mapping[str, Json], path: str) -> None:
    """What the model is told of one tool.

    Raises:
        DialectError: a field has the wrong type.
    """
    for key, member in value.items():
        where = f"{path}/{key}"
        if key in ("description", "server_description"):
            reader.text(member, where, Stage.INPUT, Role.SYSTEM)
        elif key in ("parameters", "output_schema", "input_schema", "annotations"):
            reader.schema(member, where)
        elif key in ("format", "user_location"):
            reader.tree(member, where, Stage.INPUT, Role.SYSTEM, {"type", "syntax"})
        elif key in ("environment", "container"):
            environment(reader, member, where)
        elif key == "input_image_mask":
            reader.opaque(member, where)
        elif key == "tools":
            tools(reader, member, where)
    reader.rest(value, path, _TOLD | _UNREAD, _NAMES, _MUTE)


def environment(reader: Reader, value: Json, path: str) -> None:
    """Where commands run, and the skills that the model finds there; a string is its id.

    Raises:
        DialectError: a field has the wrong type.
    """
    if isinstance(value, str):
        return
    where = f"{path}/skills"
    place = optional(value, path)
    for at, skill in objects(place.get("skills"), where):
        reader.text(skill.get("description"), f"{at}/description", Stage.INPUT, Role.SYSTEM)
        reader.opaque(skill.get("source"), f"{at}/source")  # the files of the skill, in an archive
        reader.rest(skill, at, {"description", "source"}, _SKILL_NAMES)
    where = f"{path}/network_policy"
    policy = optional(place.get("network_policy"), where)
    for at, secret in objects(policy.get("domain_secrets"), f"{where}/domain_secrets"):
        reader.rest(secret, at, {"value"}, {"domain", "name"})  # it is filled in where the model does not see it
    reader.rest(policy, where, {"domain_secrets"}, {"type"}, {"allowed_domains"})
    reader.rest(place, path, {"skills", "network_policy"}, _PLACE_NAMES, {"file_ids"})


def form(reader: Reader, value: Json, path: str) -> None:
    """What a request says of the form of the answer: the description and the schema reach the model.

    Raises:
        DialectError: a field has the wrong type.
    """
    where = f"{path}/format"
    told = mapping(value, path)
    asked = optional(told.get("format"), where)
    reader.text(asked.get("description"), f"{where}/description", Stage.INPUT, Role.SYSTEM)
    reader.schema(asked.get("schema"), f"{where}/schema")
    reader.rest(asked, where, {"description", "schema"}, {"type", "name"})
    reader.rest(told, path, {"format"}, {"verbosity"})
