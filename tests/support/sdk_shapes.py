"""Example JSON of every member of the types in which a provider's own package describes its wire format.

A type is a TypedDict, a pydantic model, a dataclass, or a shape of ``botocore``. Of each, examples are made such that
every member of every variant stands in one of them, with a `Leaf` wherever the type has a string that is no enumerated
word. `marked` puts a text of its own in the place of each leaf, so that it is known again wherever it goes.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import enum
import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import pydantic
from typing_extensions import is_typeddict

#: Keys whose enumerated words decide what the other members are: each word is tried, elsewhere only the first.
_TELLING = frozenset({"type", "role", "object"})
_LISTS = (list, set, tuple, collections.abc.Iterable, collections.abc.Sequence)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_WRAPPERS = (typing.Required, typing.NotRequired, typing.Annotated)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A string that a type leaves free: the type that has it and the member in which it stands."""

    owner: str
    key: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.key}"


def examples(shape: Any) -> Iterator[Any]:
    """JSON with leaves in it: all members once in one example, then one example for each other variant of a member."""
    return _examples(shape, Leaf("", ""), ())


def marked(value: Any, style: str) -> tuple[Any, dict[str, Leaf]]:
    """The example with a text in the place of each leaf, and which leaf each of the texts stands for.

    Args:
        value: that.
        style: of the texts, with ``{}`` for their number.
    """
    found: dict[str, Leaf] = {}

    def put(here: Any) -> Any:
        if isinstance(here, Leaf):
            text = style.format(len(found))
            found[text] = here
            return text
        if isinstance(here, dict):
            return {key: put(member) for key, member in here.items()}
        return [put(member) for member in here] if isinstance(here, list) else here

    return put(value), found


def _examples(shape: Any, at: Leaf, stack: tuple[Any, ...]) -> Iterator[Any]:
    shape = _unwrapped(shape)
    if shape is str and at.key == "role":
        yield "user"  # an open word, but a word
    elif shape in (str, bytes):
        yield at
    elif shape in (Any, object) or isinstance(shape, typing.TypeVar):
        yield from ({"inner": at}, at, [at])
    elif isinstance(shape, Shape):
        yield from shape.examples(at, stack)
    elif inspect.isclass(shape) and shape not in (*_LISTS, *_MAPS):
        yield from _of_class(shape, stack)
    else:
        yield from _of_several(typing.get_origin(shape) or shape, typing.get_args(shape), at, stack)


def _of_several(origin: Any, arguments: tuple[Any, ...], at: Leaf, stack: tuple[Any, ...]) -> Iterator[Any]:
    """Unions, enumerated words, lists and mappings."""
    if origin in (typing.Union, types.UnionType):
        # A mapping beside types is one of those, written as a mapping.
        loose = [one for one in arguments if typing.get_origin(one) is collections.abc.Mapping]
        for one in arguments if len(loose) == len(arguments) else [one for one in arguments if one not in loose]:
            yield from _examples(one, at, stack)
    elif origin is typing.Literal:
        words = [word for word in arguments if word is not None]
        yield from words if at.key in _TELLING else words[:1]
    elif origin in _LISTS:
        for member in _examples(arguments[0] if arguments else Any, at, stack):
            yield [member]
    elif origin in _MAPS:
        for member in _examples(arguments[1] if arguments else Any, at, stack):
            yield {"some": member}
    elif inspect.isclass(origin):
        yield from _of_class(origin, stack)


def _of_class(shape: type, stack: tuple[Any, ...]) -> Iterator[Any]:
    plain: dict[type, Any] = {bool: True, int: 7, float: 0.5, dt.datetime: "2026-01-01T00:00:00Z"}
    if shape in plain:
        yield plain[shape]
    elif issubclass(shape, enum.Enum):
        yield next((word.value for word in shape if not str(word.value).endswith("UNSPECIFIED")), None)
    elif shape not in stack and (members := _members(shape)) is not None:
        yield from _objects(shape.__name__, members, (*stack, shape))


def _objects(name: str, members: dict[str, tuple[Any, bool]], stack: tuple[Any, ...]) -> Iterator[Any]:
    """All members in one; then, beside what is required, each other variant of each member."""
    variants = {key: list(_examples(shape, Leaf(name, key), stack)) for key, (shape, _) in members.items()}
    needed = {key: variants[key][0] for key, (_, required) in members.items() if required and variants[key]}
    yield {key: found[0] for key, found in variants.items() if found}
    for key, found in variants.items():
        for other in found[1:]:
            yield {**needed, key: other}


def _members(shape: Any) -> dict[str, tuple[Any, bool]] | None:
    """By the key on the wire: the type, and whether it is required; None for what is no object."""
    if is_typeddict(shape) or typing.is_typeddict(shape):
        hints = typing.get_type_hints(shape, include_extras=True)
        return {_alias(hint) or key: (hint, _required(hint, shape)) for key, hint in hints.items()}
    if issubclass(shape, pydantic.BaseModel):
        fields = shape.model_fields
        return {
            field.alias or key: (field.annotation, field.is_required() or _says_what_it_is(field.annotation))
            for key, field in fields.items()
        }
    if dataclasses.is_dataclass(shape):
        hints = typing.get_type_hints(shape)
        return {
            field.name: (hints[field.name], field.default is dataclasses.MISSING)
            for field in dataclasses.fields(shape)
            if field.init
        }
    return None


def _says_what_it_is(hint: Any) -> bool:
    """Whether it is one word: pydantic models may give that by default, but it stands on the wire."""
    return typing.get_origin(hint) is typing.Literal and len(typing.get_args(hint)) == 1


def _alias(hint: Any) -> str | None:
    while typing.get_origin(hint) in _WRAPPERS:
        for note in getattr(hint, "__metadata__", ()):
            if getattr(note, "alias", None):
                return str(note.alias)
        hint = typing.get_args(hint)[0]
    return None


def _required(hint: Any, shape: Any) -> bool:
    origin = typing.get_origin(hint)
    return origin is typing.Required or (shape.__total__ and origin is not typing.NotRequired)


def _unwrapped(shape: Any) -> Any:
    while True:
        if typing.get_origin(shape) in _WRAPPERS:
            shape = typing.get_args(shape)[0]
        elif hasattr(shape, "__value__"):
            shape = shape.__value__
        else:
            return shape


class Shape:
    """A shape of ``botocore``'s service models."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape

    def examples(self, at: Leaf, stack: tuple[Any, ...]) -> Iterator[Any]:
        """See `_examples`."""
        shape, sort = self.shape, self.shape.type_name
        if sort in ("string", "blob"):
            yield shape.enum[0] if getattr(shape, "enum", None) else at
        elif sort == "list":
            for member in Shape(shape.member).examples(at, stack):
                yield [member]
        elif sort == "map":
            for member in Shape(shape.value).examples(at, stack):
                yield {"some": member}
        elif sort == "structure":
            yield from self._structures(at, stack)
        else:
            yield {"boolean": True, "float": 0.5, "double": 0.5}.get(sort, 7)

    def _structures(self, at: Leaf, stack: tuple[Any, ...]) -> Iterator[Any]:
        shape = self.shape
        if shape.is_document_type:
            yield from _examples(Any, at, stack)
        elif shape.name not in stack:
            inner = {
                key: (Shape(member), key in shape.required_members)
                for key, member in shape.members.items()
                if member.serialization.get("location") is None
            }
            below = (*stack, shape.name)
            if not shape.is_tagged_union and not shape.metadata.get("eventstream"):
                yield from _objects(shape.name, inner, below)
                return
            for key, (member, _) in inner.items():
                for value in _examples(member, Leaf(shape.name, key), below):
                    yield {key: value}


def strings(value: Any) -> Iterable[str]:
    """All strings in a value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from strings(member)
