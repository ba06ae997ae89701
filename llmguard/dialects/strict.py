"""JSON that every reader reads alike, or an error: what we looked at is what the model gets.

Where parsers differ, a body can show the guard one text and the model another: of two equal keys some take the first
and some the last, some take a byte order mark, NaN or what follows the value. All of that is refused. So is nesting
beyond 200 levels, on which parsers die.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from llmguard.dialects.wire import Json
from llmguard.errors import DialectError

#: Levels of objects and arrays; the deepest request of a provider has about twenty.
MAX_DEPTH = 200

_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKEN = re.compile(_STRING + r"|[\[\]{}:]", re.DOTALL)


class _RefusedError(Exception):
    """What the parser's hooks raise; ``args`` is the reason in our words."""


def parse(data: bytes, *, surrogates: bool = False) -> Json:
    r"""The value that a text in UTF-8 says.

    Integers are exact up to 4,300 digits, beyond which Python's own limit refuses them. Escapes of lone surrogates
    (``\ud800``), which JSON allows, become the lone surrogates in the strings.

    Args:
        data: the whole text.
        surrogates: whether surrogates may also stand unescaped, encoded as three bytes. For JSON in a string of
            JSON alone, where an escape outside has become one inside.

    Raises:
        DialectError: it is no JSON, or JSON that parsers read in different ways. Says where, by the offset of a byte.
    """
    try:
        text = data.decode("utf-8", "surrogatepass" if surrogates else "strict")
    except UnicodeDecodeError as error:
        problem = f"no UTF-8 at byte {error.start}"
    else:
        value, problem = _parsed(text)
        if not problem:
            return value
    raise DialectError(problem)  # outside of the handler: the parser's error holds the whole text


def _parsed(text: str) -> tuple[Json, str]:
    """The value and "", or None and what is wrong."""
    deep = _too_deep(text)
    if deep is not None:
        return None, f"nested beyond {MAX_DEPTH} levels at byte {_offset(text, deep)}"
    try:
        return _DECODER.decode(text), ""
    except json.JSONDecodeError as error:
        return None, f"no JSON at byte {_offset(text, error.pos)}"
    except _RefusedError as error:
        reason, where = error.args
        return None, f"{reason} at byte {_offset(text, _duplicate(text) if where is None else _constant(text, where))}"
    except RecursionError:
        return None, "nested too deep for the stack that is left"
    except ValueError:
        return None, "an integer has more digits than Python reads"


def _too_deep(text: str) -> int | None:
    """Where the nesting exceeds the limit, or None; brackets are not counted one by one unless there are many."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return None
    depth = 0
    for token in _TOKEN.finditer(text):
        kind = text[token.start()]
        if kind in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return token.start()
        elif kind in "]}":
            depth -= 1
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RefusedError("a key stands twice in one object", None)
    return members


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError("no JSON", name)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _duplicate(text: str) -> int:
    """Where the first key stands that its object has already. The text is JSON up to there."""
    objects: list[set[str]] = []
    last = ""
    start = 0
    for token in _TOKEN.finditer(text):
        kind = text[token.start()]
        if kind == '"':
            last, start = token.group(), token.start()
        elif kind == ":":
            key = json.loads(last)
            if key in objects[-1]:
                return start
            objects[-1].add(key)
        elif kind in "[{":
            objects.append(set())
        else:
            objects.pop()
    return len(text)


def _constant(text: str, name: str) -> int:
    """Where a constant that is no JSON stands outside of strings."""
    found = re.compile(f"{_STRING}|({name})", re.DOTALL).finditer(text)
    return next((match.start() for match in found if match.group(1)), 0)


def _offset(text: str, position: int) -> int:
    return len(text[:position].encode("utf-8", "surrogatepass"))
