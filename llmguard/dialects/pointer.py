"""Places in JSON: a pointer (RFC 6901), and behind a ``#`` a second one into a string that is JSON itself.

``/messages/1/tool_calls/0/function/arguments#/to`` is the string ``to`` in the JSON that the string ``arguments``
holds. In a key ``~`` is written ``~0`` and ``/`` is ``~1``, as the RFC says; ``#`` is ``~2``, so that no key looks
like a seam. ``~3`` at the end means the key itself, not what it holds: ``/input/bob@example.com~3``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal

from llmguard.dialects import strict
from llmguard.dialects.wire import Json
from llmguard.errors import DialectError

KEY = "~3"
"""What follows the place of a member where its key is meant."""

MIN_DIGITS = 6
"""Digits from which on a number may say something: numbers of cards, accounts and telephones have more."""

#: Prose has spaces, or letters beyond ASCII where a language has none, or is longer.
_WORD = re.compile(r"[!-~]{0,256}")
_NAME = re.compile(r"(?=.{1,24}\Z)[A-Za-z_$][A-Za-z_-]*[0-9]{0,3}|[0-9]{1,5}")

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


def shown(pointer: str) -> str:
    """The pointer for people and logs: keys that may say something are ``*`` in it."""
    return re.sub(r"[^/#]+", lambda token: token[0] if _NAME.fullmatch(token[0]) else "*", pointer)


def get(value: Json, pointer: str) -> Json:
    """What stands there.

    Raises:
        DialectError: nothing does, or the string before a ``#`` is no JSON.
    """
    outer, seam, inner = pointer.partition("#")
    if outer.endswith(KEY):
        return _key(value, outer.removesuffix(KEY))
    for token in tokens(outer):
        value = _member(value, token, outer)
    if not seam:
        return value
    if not isinstance(value, str):
        raise DialectError(f"{shown(outer)}: is no string")
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


def is_words(value: Json) -> bool:
    """Whether each string at or below a value is a single word, as names, ids, URLs and words of a format are."""
    waiting: list[Json] = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            if _WORD.fullmatch(here) is None:
                return False
        elif isinstance(here, dict):
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)
    return True


def texts(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string at or below a value with its pointer, and what else may say something there.

    That is each number of at least six digits, in decimal digits without an exponent, and each key that does not look
    like the name of a parameter: up to 24 characters, which are letters of ASCII, ``_`` and ``-``, with at most three
    digits at the end, or digits alone, fewer than six. All in the order of the text.

    Args:
        value: parsed JSON.
        path: its own pointer.
    """
    waiting: list[tuple[str, Json]] = [(path, value)]
    while waiting:
        where, here = waiting.pop()
        if isinstance(here, str):
            yield where, here
        elif isinstance(here, dict):
            for key, member in reversed(here.items()):
                place = child(where, key)
                waiting.append((place, member))
                if key and _NAME.fullmatch(key) is None:
                    waiting.append((place + KEY, key))
        elif isinstance(here, list):
            waiting.extend([(child(where, index), member) for index, member in enumerate(here)][::-1])
        elif (number := digits(here)) is not None:
            yield where, number


def digits(value: Json) -> str | None:
    """A number of at least six digits as a text: 4.111111111111111e15 is 4111111111111111; None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int) and abs(value) < 10 ** (MIN_DIGITS - 1):
        return None
    text = repr(value)
    if "e" in text and abs(int(text.partition("e")[2])) <= 40:
        text = format(Decimal(text), "f")
    text = text.removesuffix(".0")
    return text if sum(map(str.isdigit, text)) >= MIN_DIGITS else None


def said(value: Json, pointer: str) -> str:
    """The text that stands there: a string, a key, or a number as `texts` gives it.

    Raises:
        DialectError: there is none.
    """
    found = get(value, pointer)
    text = found if isinstance(found, str) else digits(found)
    if text is None:
        raise DialectError(f"{shown(pointer)}: is no text")
    return text


def leaves(text: str) -> list[tuple[str, str]]:
    """The texts in a text that is JSON, as `texts` has them, each with the pointer that follows behind the ``#``.

    Raises:
        DialectError: the text is no JSON, or is JSON that two readers could read in two ways.
    """
    return list(texts(strict.parse(text.encode("utf-8", "surrogatepass"), surrogates=True)))


def embedded(text: str, path: str) -> list[tuple[str, str]]:
    """The texts in a string that ought to be JSON, with whole paths; the string itself where it is none.

    So a tool call's arguments are looked at one by one, and arguments that were cut off or are no JSON as one text.
    """
    try:
        return [(f"{path}#{inner}", content) for inner, content in leaves(text)]
    except DialectError:
        return [(path, text)]


def _key(value: Json, pointer: str) -> str:
    """The key of the member that stands there."""
    head, _, token = pointer.rpartition("/")
    (key,) = tokens(f"/{token}")
    holder = get(value, head)
    if not pointer or not isinstance(holder, dict) or key not in holder:
        raise DialectError(f"{shown(pointer)}: there is no such key")
    return key


def _member(value: Json, key: str, pointer: str) -> Json:
    if isinstance(value, dict) and key in value:
        return value[key]
    if isinstance(value, list) and _is_index(key) and int(key) < len(value):
        return value[int(key)]
    raise DialectError(f"{shown(pointer)}: there is no such place")


def _is_index(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10 and (key == "0" or key[0] != "0")
