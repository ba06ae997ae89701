"""What a client is given and what it answers, seen as JSON, and changed where the JSON was changed.

The caller's own objects go on as they are. Only what a guard changed is replaced, on the way down to it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from llmguard.dialects.wire import Json


def view(value: Any) -> bytes:
    """A value as JSON: dicts, lists, pydantic models, dataclasses, scalars. Numbers that JSON lacks become null.

    Raises:
        TypeError: something in it has no JSON, so that nobody could look at it; names its type.
    """
    problem = ""
    try:
        return _STRICT.encode(value).encode()
    except TypeError as error:
        problem = str(error) if type(error) is _UnreadableError else "a key or a value has no JSON"
    except RecursionError:
        problem = "it is nested too deep"
    except ValueError:
        problem = "it holds itself"
        if finite := _finite(value):
            return finite
    raise TypeError(f"a text that can't be read can't be guarded: {problem}")  # the other error may hold content


def has_json(value: Any) -> bool:
    """Whether there is a view of a value."""
    try:
        view(value)
    except TypeError:
        return False
    return True


def merged(original: Any, before: Json, after: Json) -> Any:
    """The original with what is different between two views of it: what is not stays the same object.

    Args:
        original: dicts, lists and whatever else.
        before: its view.
        after: the view as it should be.
    """
    if before == after:
        return original
    if type(original) is dict and isinstance(before, dict) and isinstance(after, dict):
        return {
            key: merged(original[key], before[key], new) if key in before and key in original else new
            for key, new in after.items()
        }
    if type(original) in (list, tuple) and isinstance(after, list) and len(original) == len(after):
        return [merged(*pair) for pair in zip(original, before, after, strict=True)]
    return after


class _UnreadableError(TypeError):
    """What `_default` raises: its message is ours."""


def _default(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json", by_alias=True, warnings=False)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return item()
    raise _UnreadableError(f"{type(value).__name__} has no JSON")


def _finite(value: Any) -> bytes:
    """Its JSON with null for numbers that are none; empty where that was not what was wrong."""
    try:
        text = json.dumps(value, default=_default)
        return json.dumps(json.loads(text, parse_constant=lambda _: None), separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return b""


_STRICT = json.JSONEncoder(default=_default, allow_nan=False, separators=(",", ":"))
