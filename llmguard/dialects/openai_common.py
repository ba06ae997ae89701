"""What the wire formats of the OpenAI family share: definitions of tools, prompts, constraints, usage, errors.

Keys count as they are spelt. Servers written in Go take ``Messages`` for ``messages``, so every object that is read is
also looked through for keys that differ from known ones in their case alone; they are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from llmguard.dialects import strict
from llmguard.dialects.pointer import child, strings
from llmguard.dialects.reader import Reader, exact, word
from llmguard.dialects.wire import Frame, Json, Part, Usage
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

CREATED = 0
"""The ``created`` of responses of ours: a dialect has no clock, and the format wants a number."""

_NAME = re.compile(r"[\w.$#/:-]{1,128}", re.ASCII)
_NAMED = frozenset({"name", "type", "required", "syntax", "$ref", "$schema", "$id"})
_ERROR_NAMES = frozenset({"code", "type", "param", "object", "status", "severity"})
_TOP = frozenset(
    {
        "id",
        "object",
        "created",
        "model",
        "choices",
        "error",
        "usage",
        "metadata",
        "prompt_text",
        "prompt_logprobs",
        "detail",
    }
    | {"prompt_token_ids", "system_fingerprint", "service_tier", "obfuscation"}
    | {"message"}  # of an error in vLLM's older form
)
_CONSTRAINTS = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
    "grammar",
    "json_schema",
)
_WORDS = ("stop", "bad_words")
_BINDING = frozenset({*_CONSTRAINTS, *_WORDS})
#: What `constraints` reads of a request, and what holds the account's own notes and names.
COMMON = _BINDING | {"metadata", "user", "safety_identifier", "prompt_cache_key", "model"}


_PROMPT_AGAIN = ("prompt_logprobs", "prompt_token_ids")


def is_name(value: str) -> bool:
    """Whether it looks like a name of a program, not like prose."""
    return _NAME.fullmatch(value) is not None


def definition(reader: Reader, value: Json, path: str) -> None:
    """What a tool's definition or a JSON schema tells the model: descriptions, titles, choices, patterns.

    Names and types are left out as long as they look like some: without a space they say nothing to a model.
    """
    if value is None:
        return
    for where, content in strings(value, path):
        head, _, key = where.rpartition("/")
        key = head.rpartition("/")[2] if key.isdigit() else key
        if key not in _NAMED or not is_name(content):
            reader.parts.append(Part(Stage.INPUT, Role.SYSTEM, where, content))


def constraints(reader: Reader, body: Mapping[str, Json]) -> None:
    """What binds the answer's form: schemas, grammars, choices, stop sequences, words that it may not hold.

    Raises:
        DialectError: one of their names is spelt in another case.
    """
    exact(body, _BINDING, "")
    if _BINDING.isdisjoint(body):
        return
    for key in _CONSTRAINTS:
        definition(reader, body.get(key), child("", key))
    for key in _WORDS:
        reader.tree(body.get(key), child("", key), Stage.INPUT)


def prompts(reader: Reader, value: Json, path: str) -> None:
    """A prompt, several, or token ids in their place, alone or between strings; ids are uncovered.

    Raises:
        DialectError: it is none of them.
    """
    if isinstance(value, list):
        if value and all([_is_number(item) for item in value]):
            reader.uncovered.append(path)
            return
        for index, item in enumerate(value):
            prompts(reader, item, child(path, index))
    elif _is_number(value):
        reader.uncovered.append(path)
    elif isinstance(value, dict):  # llama.cpp's: a prompt with images or audio in it
        reader.text(value.get("prompt_string"), child(path, "prompt_string"), Stage.INPUT)
        reader.rest(value, path, {"prompt_string"})
    else:
        reader.text(value, path, Stage.INPUT)


def error_of(reader: Reader, body: Mapping[str, Json]) -> str:
    """The texts of an error, which may quote the prompt; its code or its type, "" where there is none."""
    error, path = body.get("error"), "/error"
    if not error and body.get("object") == "error":
        error, path = body, ""
    elif not error and "detail" in body:
        error, path = body["detail"], "/detail"
    if not error:
        return ""
    reader.tree(error, path, Stage.OUTPUT, skip=_ERROR_NAMES)
    said = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    return next((str(code) for code in said if isinstance(code, (str, int)) and is_name(str(code))), "error")


def role_of(message: Mapping[str, Json], path: str) -> str:
    """The role of a message.

    Raises:
        DialectError: it has none, or prose in its place.
    """
    role = message.get("role")
    if not isinstance(role, str) or not is_name(role):
        raise DialectError(f"{path}/role: must be the name of a role")
    return role


def is_whole(arguments: Json) -> bool:
    """Whether nothing can follow what a call is told: it is an object that has been closed."""
    if not isinstance(arguments, str) or not arguments.rstrip().endswith("}"):
        return False
    try:
        return isinstance(strict.parse(arguments.encode("utf-8", "surrogatepass"), surrogates=True), dict)
    except DialectError:
        return False


def check_answer(body: Mapping[str, Json], key: str, error: str) -> None:
    """Refuse a body that is neither an answer nor an error.

    Raises:
        DialectError: it has no member of that name.
    """
    if not error and key not in body:
        raise DialectError(f"/{key}: is missing")


def said_again(reader: Reader, root: Mapping[str, Json], read: Collection[str] = ()) -> None:
    """What stands beside the choices: the prompt, which vLLM repeats when asked to, and what is unknown.

    llama.cpp's server repeats prompt and answer in ``__verbose``.
    """
    reader.text(root.get("prompt_text"), "/prompt_text", Stage.OUTPUT, Role.USER)
    for key in _PROMPT_AGAIN:
        if key in root:
            reader.echo(root[key], child("", key), "null")
    unread(reader, root, {*_TOP, *read} if read else _TOP)


def unread(reader: Reader, root: Mapping[str, Json], known: Collection[str]) -> None:
    """What a body says under keys of its own that we don't know.

    Only prose is uncovered: other words are names of tiers, regions, hosts, voices.
    """
    for key in [key for key in root if key not in known]:
        if not all([is_name(content) for _, content in strings(root[key]) if content]):
            reader.uncovered.append(child("", key))


def model_of(body: Mapping[str, Json], path: Mapping[str, str]) -> str:
    """The model of a request: what the body says, or else the deployment in the path.

    Raises:
        DialectError: it is no string.
    """
    return word(body, "model") or path.get("deployment", "")


def count(value: Json) -> int | None:
    """A count as it is, None for anything else: a provider's miscount must not stop the call."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def index_of(value: Mapping[str, Json], place: int) -> int:
    """The ``index`` that an element says, or else where it stands."""
    index = count(value.get("index"))
    return place if index is None else index


def usage_of(value: Json) -> Usage | None:
    """The tokens of a response, in OpenAI's terms."""
    if not isinstance(value, dict):
        return None

    def detail(key: str, name: str) -> int | None:
        details = value.get(key)
        return count(details.get(name)) if isinstance(details, dict) else None

    return Usage(
        input=count(value.get("prompt_tokens")),
        output=count(value.get("completion_tokens")),
        cached=detail("prompt_tokens_details", "cached_tokens"),
        reasoning=detail("completion_tokens_details", "reasoning_tokens"),
    )


def facts(body: Mapping[str, Json], finish: Sequence[str], error: str) -> dict[str, Json]:
    """What a response or a chunk says beside its texts."""
    return {
        "model": word(body, "model"),
        "id": word(body, "id"),
        "finish": tuple(finish),
        "usage": usage_of(body.get("usage")),
        "error": error,
    }


def opened(seen: Sequence[Frame], request: Json | None) -> tuple[Mapping[str, Json], dict[int, bool]]:
    """The first chunk of a stream, and its choices that have not finished: whether each has begun.

    A stream that said nothing yet has one choice, which has not begun, and the model that was asked for.
    """
    chunks = [frame.data for frame in seen if isinstance(frame.data, dict) and frame.data.get("choices")]
    open_: dict[int, bool] = {}
    for chunk in chunks:
        for place, choice in enumerate(chunk["choices"]):
            index = index_of(choice, place)
            open_[index] = open_.get(index, True) and not choice.get("finish_reason")
    begun = {index: True for index, going in sorted(open_.items()) if going}
    return (chunks[0] if chunks else asked(request, "model")), begun if open_ else {0: False}


def asked(request: Json | None, *keys: str) -> dict[str, Json]:
    """Some words of a request that an answer repeats, such as the model; those that it has."""
    known = request if isinstance(request, dict) else {}
    return {key: known[key] for key in keys if isinstance(known.get(key), str)}


def error_body(message: str, code: str) -> Json:
    """An error as OpenAI writes it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def finished(seen: Sequence[Frame]) -> bool:
    """Whether the stream has said that it is over."""
    return any([frame.data == "[DONE]" for frame in seen])


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
