"""How texts are taken out of Python values, and put back cleared.

A value is a string, a `Text`, a list or tuple of them, or a list of chat messages
(``{"role": …, "content": …}`` with a string or a list of parts). What changes is copied; the
caller's objects stay as they are.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.types import Role, Text

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
    "retrieval": Role.RETRIEVAL,
}


def read(value: object, role: Role, path: str = "") -> list[Text]:
    """The texts of a value, in the order in which `write` takes them back.

    Args:
        value: a string, a `Text`, a message, or a list or tuple of them; None holds no text.
        role: of the texts that don't say it themselves.
        path: where the value stands.

    Raises:
        TypeError: the value, or a part of it, is of another type; names the type and the place.
    """
    return [Text(value, role, path)] if isinstance(value, str) else list(_read(value, role, path))


def _read(value: object, role: Role, path: str) -> Iterator[Text]:
    if isinstance(value, str):
        yield Text(value, role, path)
    elif isinstance(value, Text):
        yield value
    elif isinstance(value, Mapping):
        role = _ROLES.get(str(value.get("role", role)), role)
        for key in ("content", "text"):
            if value.get(key) is not None:
                yield from _read(value[key], role, f"{path}/{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _read(item, role, f"{path}/{index}")
    elif value is not None:
        raise TypeError(
            f"{path or 'the value'} is {_a(value)}: llmguard reads str, Text, chat messages, and lists of them"
        )


def write(value: object, texts: Iterator[str]) -> object:
    """The same value with its texts replaced, each by the next of ``texts``; copies what it changes."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, Text):
        return Text(next(texts), value.role, value.path)
    if isinstance(value, Mapping):
        changed = {key: write(value[key], texts) for key in ("content", "text") if value.get(key) is not None}
        return {**value, **changed}
    if isinstance(value, list):
        return [write(item, texts) for item in value]
    if isinstance(value, tuple):
        items = tuple([write(item, texts) for item in value])
        make: Callable[[tuple[object, ...]], object] = getattr(type(value), "_make", tuple)
        return make(items)
    return value


Getter = Callable[[Any], object]
Setter = Callable[[Any, object], object]
#: How users say which part of a value is text.
Where = str | Getter | tuple[Getter, Setter]


class Part(NamedTuple):
    """Where in a value the text stands: how to get it, and how to put another in a copy of the value."""

    get: Getter
    put: Setter


WHOLE = Part(lambda value: value, lambda _, text: text)


def part(where: Where) -> Part:
    """A part of a value.

    Args:
        where: a path (``"choices.0.text"``), a getter (``lambda r: r.text``), or a getter and a setter. A getter
            alone must only walk attributes and items: it is called once with a recorder, so that the way back is
            known too.

    Raises:
        ConfigurationError: the getter does something else; says to give a setter.
    """
    if isinstance(where, tuple):
        getter, setter = where
        return Part(getter, setter)
    if isinstance(where, str):
        return _along([int(step) if step.isdigit() else step for step in where.split(".")], by_name=True)
    recorder = _Recorder(())
    try:
        reached = where(recorder)
    except Exception as error:
        raise _opaque() from error
    if not isinstance(reached, _Recorder):
        raise _opaque()
    return Part(where, _along(list(object.__getattribute__(reached, "_steps")), by_name=False).put)


def _opaque() -> ConfigurationError:
    return ConfigurationError(
        "the output getter does more than walk attributes and items, so a cleared text can't be put back: "
        "give a path ('choices.0.text') or a pair (getter, setter)"
    )


class _Recorder:
    """Notes the attributes and items that a getter walks; each step is ``(is_item, key)``."""

    __slots__ = ("_steps",)

    def __init__(self, steps: tuple[tuple[bool, object], ...]) -> None:
        object.__setattr__(self, "_steps", steps)

    def __getattribute__(self, name: str) -> _Recorder:
        return _Recorder((*object.__getattribute__(self, "_steps"), (False, name)))

    def __getitem__(self, key: object) -> _Recorder:
        return _Recorder((*object.__getattribute__(self, "_steps"), (True, key)))


def _along(steps: Sequence[Any], *, by_name: bool) -> Part:
    def step_of(value: Any, step: Any) -> tuple[bool, Any]:
        if not by_name:
            return step  # type: ignore[no-any-return]
        return isinstance(step, int) or isinstance(value, Mapping), step

    def get(value: Any) -> object:
        for step in steps:
            item, key = step_of(value, step)
            value = value[key] if item else getattr(value, key)
        return value

    def put(value: Any, text: object, depth: int = 0) -> object:
        if depth == len(steps):
            return text
        item, key = step_of(value, steps[depth])
        inner = put(value[key] if item else getattr(value, key), text, depth + 1)
        return _with_item(value, key, inner) if item else _with_attribute(value, key, inner)

    return Part(get, put)


def _with_item(value: Any, key: Any, item: object) -> object:
    if isinstance(value, tuple):
        return tuple(item if index == key % len(value) else old for index, old in enumerate(value))
    changed = copy.copy(value)
    changed[key] = item
    return changed


def _with_attribute(value: Any, name: str, item: object) -> object:
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{name: item})  # type: ignore[type-var]  # a result is no class
    for method in ("_replace", "model_copy"):
        if hasattr(value, method):
            changes = {name: item}
            return value._replace(**changes) if method == "_replace" else value.model_copy(update=changes)
    changed = copy.copy(value)
    setattr(changed, name, item)
    return changed


def _a(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
