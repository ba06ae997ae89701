"""Contents of the Gemini API and their parts, as requests, answers and chunks hold them; candidates and tools.

Follows https://ai.google.dev/api/caching#Part, https://ai.google.dev/api/generate-content#candidate and the types of
the ``google-genai`` package 3.4.0.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from llmguard.dialects import pointer
from llmguard.dialects.reader import Reader, mapping, members, number, optional, word
from llmguard.dialects.wire import Json
from llmguard.types import Role, Stage

#: Keys, in camel case and as they stand in snake case, whose values are names.
NAMES = frozenset(
    {"category", "probability", "severity", "blockReason", "block_reason", "modelStage", "retirementTime"}
)

_ROLES = {
    "user": Role.USER,
    "model": Role.ASSISTANT,
    "function": Role.TOOL,
    "tool": Role.TOOL,
    "system": Role.SYSTEM,
}
_GROUND_NAMES = frozenset(
    {
        *("imageUri", "image_uri", "placeId", "place_id", "photoUri", "photo_uri", "encodedPolyline"),
        *(
            "sdkBlob",
            "sdk_blob",
            "googleMapsWidgetContextToken",
            "google_maps_widget_context_token",
            "chunkId",
            "chunk_id",
        ),
        *("fileId", "file_id", "reviewId", "review_id", "mediaId", "media_id", "sourceId", "source_id"),
    }
)
_MUTE_PART = frozenset(
    {
        *("thought", "videoMetadata", "mediaResolution", "mediaProcessing"),
        *("documentMetadata", "spreadsheetMetadata", "audioMetadata"),
    }
)
_READ_PART = frozenset(
    {
        *("text", "inlineData", "fileData", "functionCall", "toolCall", "functionResponse", "toolResponse"),
        *("executableCode", "codeExecutionResult", "audioTranscription", "speechMetadata"),
    }
)
#: By the key of a part: the key of its text in there, and the stage.
_NESTED: dict[str, tuple[str, Stage]] = {
    "executableCode": ("code", Stage.TOOL_CALL),
    "codeExecutionResult": ("output", Stage.TOOL_RESULT),
}
_CANDIDATE = frozenset(
    {
        *("content", "index", "tokenCount", "avgLogprobs", "logprobsResult"),
        *("citationMetadata", "groundingMetadata", "urlContextMetadata", "finishMessage", "groundingAttributions"),
    }
)
#: Tools that Google runs itself; what is said to them is no text for the model.
_TOOLS = (
    *("retrieval", "computerUse", "fileSearch", "googleSearch", "googleMaps", "codeExecution", "enterpriseWebSearch"),
    *("googleSearchRetrieval", "parallelAiSearch", "urlContext", "mcpServers", "exaAiSearch"),
)
_SNAKE = re.compile("_([a-z0-9])")


def camel(key: str) -> str:
    """A key in camel case: ``inline_data`` is ``inlineData``."""
    return _SNAKE.sub(lambda found: found[1].upper(), key) if "_" in key else key


def camels(value: Mapping[str, Json]) -> dict[str, Json]:
    """An object with its own keys in camel case."""
    return {camel(key): member for key, member in value.items()}


def rest(
    reader: Reader,
    value: Mapping[str, Json],
    path: str,
    known: Collection[str],
    names: Collection[str] = frozenset(),
    mute: Collection[str] = frozenset(),
) -> None:
    """What stands under unknown keys; known ones are in camel case and stand for those in snake case, too.

    Raises:
        DialectError: a key differs from a known one in its case alone.
    """
    snakes = [key for key in value if "_" in key]
    if not snakes:
        reader.rest(value, path, known, names, mute)
        return
    spelt = [{*keys, *[key for key in snakes if camel(key) in keys]} for keys in (known, names, mute)]
    reader.rest(value, path, *spelt)


def one_or_more(value: Json, path: str) -> list[tuple[str, Json]]:
    """The members of an array with their pointers; an object alone is one.

    Raises:
        DialectError: it is neither.
    """
    return [(path, value)] if isinstance(value, dict) else members(value, path)


def content(reader: Reader, value: Json, path: str, stage: Stage, role: Role | None = None, channel: str = "") -> None:
    """A turn: who says it, and its parts.

    Args:
        reader: takes the texts.
        value: the turn; a string is one of a single text.
        path: its pointer.
        stage: of what its role says itself.
        role: who says it, when the place decides that and not the turn.
        channel: the candidate's in a stream, with a slash behind it; "" outside of streams.

    Raises:
        DialectError: a field has the wrong type.
    """
    if value is None or isinstance(value, str):
        reader.text(value, path, stage, role, channel and f"{channel}text")
        return
    value = mapping(value, path)
    role = role or _ROLES.get(word(value, "role", path), Role.USER)
    reader.rest(value, path, {"parts"}, {"role"})
    for where, one in one_or_more(value.get("parts"), f"{path}/parts"):
        part(reader, mapping(one, where), where, stage, role, channel)


def part(reader: Reader, value: Mapping[str, Json], path: str, stage: Stage, role: Role, channel: str) -> None:
    """One part of a turn.

    Raises:
        DialectError: a field has the wrong type.
    """
    said = "thought" if value.get("thought") is True else "text"
    for key, member in value.items():
        where, name = pointer.child(path, key), camel(key)
        if name == "text":
            result = role is Role.TOOL and stage is Stage.INPUT
            reader.text(member, where, Stage.TOOL_RESULT if result else stage, role, channel and f"{channel}{said}")
        elif name in ("inlineData", "fileData"):
            reader.opaque(member, where)
        elif name in ("functionCall", "toolCall"):
            _call(reader, optional(member, where), where, channel)
        elif name in ("functionResponse", "toolResponse"):
            _response(reader, optional(member, where), where)
        elif name in _NESTED:
            below, at = _NESTED[name]
            nested = optional(member, where)
            reader.text(nested.get(below), f"{where}/{below}", at)
            reader.rest(nested, where, {below}, {"language", "outcome", "id"})
        elif name == "audioTranscription":
            nested = optional(member, where)
            reader.text(nested.get("text"), f"{where}/text", stage, role, channel and f"{channel}transcript")
            reader.echo(nested.get("words"), f"{where}/words", "[]")
            names = {"languageCode", "startOffset", "endOffset"}
            rest(reader, nested, where, {"text", "words"}, names, {"speakerLabel"})
        elif name == "speechMetadata":  # how the text is to be spoken, in words
            reader.tree(member, where, stage, role)
    rest(reader, value, path, _READ_PART, {"thoughtSignature"}, _MUTE_PART)


def _call(reader: Reader, value: Mapping[str, Json], path: str, channel: str) -> None:
    reader.tree(value.get("args"), f"{path}/args", Stage.TOOL_CALL)
    partial = "partialArgs" if "partialArgs" in value else "partial_args"
    for where, piece in one_or_more(value.get(partial), f"{path}/{partial}"):
        piece = mapping(piece, where)
        place = pointer.child("", word(piece, "jsonPath", where) or word(piece, "json_path", where))[1:]
        for key in ("stringValue", "string_value"):
            own = channel and f"{channel}call/{place}"
            reader.text(piece.get(key), f"{where}/{key}", Stage.TOOL_CALL, None, own)
        for key in ("numberValue", "number_value"):
            reader.tree(piece.get(key), f"{where}/{key}", Stage.TOOL_CALL)
        if channel and not (piece.get("willContinue") or piece.get("will_continue")):
            reader.ends.append(f"{channel}call/{place}")
        rest(reader, piece, where, {"stringValue"}, {"jsonPath", "nullValue"})
    rest(reader, value, path, {"args", "partialArgs"}, {"id", "name", "toolType"})


def _response(reader: Reader, value: Mapping[str, Json], path: str) -> None:
    reader.tree(value.get("response"), f"{path}/response", Stage.TOOL_RESULT)
    for where, piece in one_or_more(value.get("parts"), f"{path}/parts"):
        reader.opaque(piece, where)
    rest(reader, value, path, {"response", "parts"}, {"id", "name", "scheduling", "toolType"})


def tool(reader: Reader, value: Mapping[str, Json], path: str) -> None:
    """What the model is told of the functions of one tool.

    Raises:
        DialectError: a field has the wrong type.
    """
    rest(reader, value, path, {"functionDeclarations"}, (), _TOOLS)
    for key, member in value.items():
        if camel(key) != "functionDeclarations":
            continue
        for where, function in one_or_more(member, f"{path}/{key}"):
            declared = mapping(function, where)
            names = {name for name in ("name", "behavior") if isinstance(declared.get(name), str)}
            reader.schema({name: declared[name] for name in declared if name not in names}, where)


def index_of(value: Mapping[str, Json], place: int, path: str = "") -> int:
    """Which of several answers it is: what it says, or else where it stands.

    Raises:
        DialectError: it says something that is no number.
    """
    own = number(value, "index", path)
    return place if own is None else own


def candidate(reader: Reader, value: Mapping[str, Json], path: str, place: int) -> str:
    """One of several answers, or a piece of it in a chunk; why it ended, or "".

    Args:
        reader: takes the texts.
        value: the candidate.
        path: its pointer.
        place: where it stands, which is its index unless it says one.

    Raises:
        DialectError: a field has the wrong type.
    """
    own = f"{index_of(value, place, path)}/"
    for key, member in value.items():
        where, name = f"{path}/{key}", camel(key)
        if name == "content":
            content(reader, member, where, Stage.OUTPUT, Role.ASSISTANT, own)
        elif name == "finishMessage":
            reader.text(member, where, Stage.OUTPUT)
        elif name == "logprobsResult":
            reader.echo(member, where, "null")
        elif name == "groundingMetadata":
            grounding(reader, optional(member, where), where)
        elif name in ("citationMetadata", "groundingAttributions", "urlContextMetadata"):
            reader.tree(member, where, Stage.OUTPUT, Role.RETRIEVAL, _GROUND_NAMES | {"urlRetrievalStatus"})
    rest(reader, value, path, _CANDIDATE, {"finishReason", "continuationToken"}, {"safetyRatings"})
    reason = word(camels(value), "finishReason", path)
    if reason:
        reader.ends.append(own)
    return reason


def grounding(reader: Reader, value: Mapping[str, Json], path: str) -> None:
    """What an answer rests on: searches, what they found, and the pieces of the answer that it bears out."""
    for key, member in value.items():
        where, name = pointer.child(path, key), camel(key)
        if name in ("webSearchQueries", "retrievalQueries", "imageSearchQueries"):
            reader.tree(member, where, Stage.TOOL_CALL)
        elif name == "groundingSupports":
            reader.tree(member, where, Stage.OUTPUT)
        else:
            reader.tree({key: member}, path, Stage.OUTPUT, Role.RETRIEVAL, _GROUND_NAMES)
