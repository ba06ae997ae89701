"""Gathers what one body or one event says, and checks the types of what it meets.

A dialect says where its texts stand; whether such a text is a whole one, a piece of a stream or said again depends on
the body that is read. So the same walk over a message serves an answer, the event that opens it and that which ends it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from llmguard.dialects import pointer
from llmguard.dialects.wire import Body, Delta, Event, Json, Part, Put, Repeat
from llmguard.errors import DialectError
from llmguard.types import Role, Stage

#: Keywords of JSON Schema whose values are names; such a value is only then a text when it does not look like one.
_NAMES = frozenset(
    {"type", "required", "format", "$ref", "$id", "$schema", "$anchor", "propertyOrdering", "property_ordering"}
)

_ROLE_AT = {
    Stage.INPUT: Role.USER,
    Stage.OUTPUT: Role.ASSISTANT,
    Stage.TOOL_CALL: Role.ASSISTANT,
    Stage.TOOL_RESULT: Role.TOOL,
    Stage.CONTEXT: Role.RETRIEVAL,
}
_TOOLS = frozenset({Stage.TOOL_CALL, Stage.TOOL_RESULT})
_Keys = Collection[str]


class Says(enum.Enum):
    """What a text that has a channel is in the body that is read."""

    WHOLE = enum.auto()
    PIECE = enum.auto()
    AGAIN = enum.auto()


class Reader:
    """Parts, pieces and blind spots of one body, in the order in which they were met.

    Args:
        says: what the texts with a channel are.
    """

    __slots__ = ("deltas", "ends", "parts", "repeats", "says", "spoken", "uncovered")

    def __init__(self, says: Says = Says.WHOLE) -> None:
        self.says = says
        self.parts: list[Part] = []
        self.deltas: list[Delta] = []
        self.repeats: list[Repeat] = []
        self.ends: list[str] = []
        self.uncovered: list[str] = []
        self.spoken: list[Put] = []

    def text(
        self, value: Json, path: str, stage: Stage, role: Role | None = None, channel: str = "", *, json: bool = False
    ) -> None:
        """A string; nothing where there is none (null).

        Args:
            value: the string.
            path: its pointer.
            stage: when it is looked at.
            role: who it comes from; by the stage unless said.
            channel: which text of a stream it belongs to; "" for none.
            json: whether the text is JSON.

        Raises:
            DialectError: it is no string.
        """
        if value is None:
            return
        if not isinstance(value, str):
            raise DialectError(f"{pointer.shown(path)}: must be a string, is {kind(value)}")
        role = role or _ROLE_AT[stage]
        if channel and self.says is Says.AGAIN:
            self.repeats.append(Repeat(channel, stage, role, path, value, json))
        elif channel and self.says is Says.PIECE:
            self.deltas.append(Delta(channel, stage, role, path, value, json))
        elif json:
            self.parts += [Part(stage, role, where, content) for where, content in pointer.embedded(value, path)]
        else:
            self.parts.append(Part(stage, role, path, value))

    def tree(
        self, value: Json, path: str, stage: Stage, role: Role | None = None, skip: Collection[str] = frozenset()
    ) -> None:
        """Every string at or below a value; in what tools are told and say, also what else is a text there.

        Args:
            value: any JSON.
            path: its pointer.
            stage: when they are looked at.
            role: who they come from; by the stage unless said.
            skip: keys whose strings are names, wherever below they stand.
        """
        role = role or _ROLE_AT[stage]
        found = pointer.texts if stage in _TOOLS else pointer.strings
        self.parts += [
            Part(stage, role, where, content)
            for where, content in found(value, path)
            if not skip or where.rpartition("/")[2] not in skip
        ]

    def schema(self, value: Json, path: str, stage: Stage = Stage.INPUT, role: Role = Role.SYSTEM) -> None:
        """The texts of a JSON Schema: descriptions, titles, constants, examples; not its keywords, types and names."""
        for where, content in pointer.strings(value, path):
            keys = where[len(path) :].split("/")
            key = keys[-2] if keys[-1].isdigit() and len(keys) > 1 else keys[-1]
            if key not in _NAMES or not pointer.is_words(content):
                self.parts.append(Part(stage, role, where, content))

    def opaque(self, value: Json, path: str) -> None:
        """What no text detector reads, unless there is nothing."""
        if value not in (None, "", [], {}):
            self.uncovered.append(path)

    def echo(self, value: Json, path: str, blank: str) -> None:
        """What says a text once more for nobody to read, unless there is nothing.

        Args:
            value: log probabilities, token ids, speech.
            path: its pointer.
            blank: JSON that stands there once the text is taken out.
        """
        if value not in (None, "", [], {}):
            self.uncovered.append(path)
            self.spoken.append(Put(path, blank))

    def rest(
        self, value: Mapping[str, Json], path: str, known: _Keys, names: _Keys = frozenset(), mute: _Keys = frozenset()
    ) -> None:
        """What stands under keys that we don't know: nobody looked at the strings there.

        Args:
            value: the object.
            path: its pointer.
            known: keys that were read, or that hold no texts at all.
            names: keys whose values are names, if they are strings.
            mute: keys of settings, in which single words are names, too, but prose is none.

        Raises:
            DialectError: a key differs from a known one in its case alone.
        """
        odd = False
        for key, member in value.items():
            if key in known or member is None or (key in names and not isinstance(member, (dict, list))):
                continue
            if key in mute and pointer.is_words(member):
                continue
            odd = odd or not (key in names or key in mute)
            if isinstance(member, (str, dict, list)):
                found = pointer.strings(member, pointer.child(path, key))
                self.uncovered += [
                    at for at, content in found if content and not (key in mute and pointer.is_words(content))
                ]
        if odd:
            exact(value, {*known, *names, *mute}, path)

    def body(self, **fields: Any) -> Body:
        """All of it as a body, with the fields that are no texts."""
        return Body(tuple(self.parts), tuple(self.uncovered), tuple(self.spoken), **fields)

    def event(self, **fields: Any) -> Event:
        """All of it as an event, with the fields that are no texts."""
        return Event(
            deltas=tuple(self.deltas),
            repeats=tuple(self.repeats),
            parts=tuple(self.parts),
            ends=tuple(dict.fromkeys(self.ends)),
            uncovered=tuple(self.uncovered),
            spoken=tuple(self.spoken),
            **fields,
        )


def exact(value: Mapping[str, Json], known: Collection[str], path: str) -> None:
    """Refuse a key that differs from a known one in its case alone: some servers take the one for the other.

    Raises:
        DialectError: there is one.
    """
    unknown = [key for key in value if key not in known]
    if not unknown:
        return
    folded = _folded(frozenset(known))
    for key in unknown:
        like = folded.get(key.casefold())
        if like is not None:
            raise DialectError(f"{pointer.shown(path) or 'the body'}: the key {like!r} is spelt in another case")


@lru_cache(maxsize=256)
def _folded(known: frozenset[str]) -> Mapping[str, str]:
    return {key.casefold(): key for key in known}


def mapping(value: Json, path: str) -> Mapping[str, Json]:
    """An object.

    Raises:
        DialectError: it is none.
    """
    if not isinstance(value, dict):
        raise DialectError(f"{pointer.shown(path) or 'the body'}: must be an object, is {kind(value)}")
    return value


def optional(value: Json, path: str) -> Mapping[str, Json]:
    """An object, empty for null.

    Raises:
        DialectError: it is something else.
    """
    return {} if value is None else mapping(value, path)


def members(value: Json, path: str) -> list[tuple[str, Json]]:
    """The members of an array with their pointers; none for null.

    Raises:
        DialectError: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise DialectError(f"{pointer.shown(path)}: must be an array, is {kind(value)}")
    return [(f"{path}/{index}", member) for index, member in enumerate(value)]


def objects(value: Json, path: str) -> list[tuple[str, Mapping[str, Json]]]:
    """The members of an array of objects with their pointers; none for null.

    Raises:
        DialectError: it is something else.
    """
    return [(where, mapping(member, where)) for where, member in members(value, path)]


def word(value: Mapping[str, Json], key: str, path: str = "") -> str:
    """A string that is no text: a name, an id, a type; "" where there is none.

    Raises:
        DialectError: it is something else.
    """
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise DialectError(f"{pointer.shown(path)}/{key}: must be a string, is {kind(found)}")
    return found


def number(value: Mapping[str, Json], key: str, path: str = "") -> int | None:
    """A count or an index; None where there is none.

    Raises:
        DialectError: it is something else.
    """
    found = value.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int):
        raise DialectError(f"{pointer.shown(path)}/{key}: must be a whole number, is {kind(found)}")
    return found


def index(value: Mapping[str, Json], key: str, path: str = "") -> int:
    """An index, 0 where there is none.

    Raises:
        DialectError: it is something else.
    """
    return number(value, key, path) or 0


def flag(value: Mapping[str, Json], key: str) -> bool:
    """A switch of a request, off where it is not there.

    Raises:
        DialectError: it is neither on nor off.
    """
    found = value.get(key)
    if found is not None and not isinstance(found, bool):
        raise DialectError(f"/{key}: must be true or false, is {kind(found)}")
    return bool(found)


def total(*counts: int | None) -> int | None:
    """The sum of those that are known; None when none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def kind(value: Json) -> str:
    """What JSON calls it."""
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
