"""Places in JSON: a pointer (RFC 6901), and behind a ``#`` a second one into a string that is JSON itself.

``/messages/1/tool_calls/0/function/arguments#/to`` is the string ``to`` in the JSON that the string ``arguments``
holds. In a key ``~`` is written ``~0`` and ``/`` is ``~1``, as the RFC says; ``#`` is ``~2``, so that no key looks
like a seam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmguard.dialects import strict
from llmguard.dialects.wire import Json
from llmguard.errors import DialectError

Skip = Callable[[str], bool]
"""Told the pointer of a member: whether it is left out, with all that is below it."""


def child(pointer: str, token: str | int) -> str:
    """The pointer of a member: ``child("/a", "b/c")`` is ``/a/b~1c``."""
    if isinstance(token, int):
        return f"{pointer}/{token}"
    if "~" in token or "/" in token or "#" in token:
        token = token.replace("~", "~0").replace("/", "~1").replace("#", "~2")
    return f"{pointer}/{token}"


def tokens(pointer: str) -> list[str]:
    """The keys and indices of a pointer that has no ``#``.

    Raises:
        DialectError: it is no pointer.
    """
    if not pointer:
        return []
    head, *rest = pointer.split("/")
    if head:
        raise DialectError("a JSON pointer is empty or begins with a slash")
    if "~" not in pointer:
        return rest
    return [token.replace("~2", "#").replace("~1", "/").replace("~0", "~") for token in rest]


def get(value: Json, pointer: str) -> Json:
    """What stands there.

    Raises:
        DialectError: nothing does, or the string before a ``#`` is no JSON.
    """
    outer, seam, inner = pointer.partition("#")
    for token in tokens(outer):
        value = _member(value, token, outer)
    if not seam:
        return value
    if not isinstance(value, str):
        raise DialectError(f"{outer}: is no string")
    return get(strict.parse(value.encode("utf-8", "surrogatepass"), surrogates=True), inner)


def strings(value: Json, path: str = "", skip: Skip | None = None) -> Iterator[tuple[str, str]]:
    """Every string at or below a value with its pointer, in the order of the text; keys are none.

    Args:
        value: parsed JSON.
        path: its own pointer.
        skip: which members are left out, by their pointers.
    """
    waiting: list[tuple[str, Json]] = [(path, value)]
    while waiting:
        where, here = waiting.pop()
        if isinstance(here, str):
            yield where, here
        elif isinstance(here, (dict, list)):
            members = here.items() if isinstance(here, dict) else enumerate(here)
            below = [(child(where, key), member) for key, member in members if isinstance(member, (str, dict, list))]
            waiting.extend(below[::-1] if skip is None else [item for item in below[::-1] if not skip(item[0])])


def leaves(text: str) -> list[tuple[str, str]]:
    """The strings in a text that is JSON, each with the pointer that follows behind the ``#``.

    Raises:
        DialectError: the text is no JSON, or is JSON that two readers could read in two ways.
    """
    return list(strings(strict.parse(text.encode("utf-8", "surrogatepass"), surrogates=True)))


def embedded(text: str, path: str) -> list[tuple[str, str]]:
    """The strings in a string that ought to be JSON, with whole paths; the string itself where it is none.

    So a tool call's arguments are looked at one by one, and arguments that were cut off or are no JSON as one text.
    """
    try:
        return [(f"{path}#{inner}", content) for inner, content in leaves(text)]
    except DialectError:
        return [(path, text)]


def _member(value: Json, key: str, pointer: str) -> Json:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and _is_index(key) and int(key) < len(value):
        return value[int(key)]
    raise DialectError(f"{pointer}: there is no such place")


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10 and (key == "0" or key[0] != "0")
