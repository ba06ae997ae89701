"""What a check takes, as texts: strings and texts, one by one or in groups that are decided on as a whole."""

from __future__ import annotations

import enum
from collections.abc import Generator, Sequence
from typing import TypeVar

from llmguard.errors import ConfigurationError, nearest
from llmguard.types import Role, Stage, Text

E = TypeVar("E", bound=enum.StrEnum)

#: Code points of a batch that the detectors are given at once.
BATCH_LIMIT = 1_000_000

#: What a check takes for one decision.
Checkable = str | Text | Sequence[str | Text]

#: Who writes the strings that are looked at at a stage, unless the caller says.
ROLE_AT = {
    Stage.INPUT: Role.USER,
    Stage.OUTPUT: Role.ASSISTANT,
    Stage.TOOL_CALL: Role.ASSISTANT,
    Stage.TOOL_RESULT: Role.TOOL,
    Stage.CONTEXT: Role.RETRIEVAL,
}

_MEMBERS: dict[type[enum.StrEnum], dict[str, enum.StrEnum]] = {
    kind: {word.value: word for word in kind} for kind in (Stage, Role)
}


def member(kind: type[E], value: str) -> E:
    """The stage or role of that name.

    Raises:
        ConfigurationError: there is none; names the nearest.
    """
    found = _MEMBERS[kind].get(value) if isinstance(value, str) else None
    if found is None:
        words = [str(word) for word in kind]
        raise ConfigurationError(f"unknown {kind.__name__.lower()} {value!r}{nearest(str(value), words)}")
    return found  # type: ignore[return-value]  # the table of a kind holds its members


def group(value: Checkable, role: Role) -> Sequence[Text]:
    """The texts of one decision.

    Args:
        value: a string, a `Text`, or a sequence of them.
        role: of the strings.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, str):
        return (Text(value, role),)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return tuple([_text(item, role) for item in value])
    return (_text(value, role),)


def _text(value: object, role: Role) -> Text:
    if isinstance(value, str):
        return Text(value, role)
    if isinstance(value, Text):
        return value
    hint = ": decode it first" if isinstance(value, (bytes, bytearray, memoryview)) else ""
    raise TypeError(f"a check takes str, Text or a sequence of them, not {type(value).__name__}{hint}")


def parts(texts: Sequence[Checkable], role: Role) -> Generator[Sequence[Sequence[Text]], None, None]:
    """The groups of a batch, as many together as fit `BATCH_LIMIT`, so that a deadline is for work of a bounded size.

    Raises:
        TypeError: it is no sequence, or one of its members is no text; before the first part.
    """
    if isinstance(texts, (str, bytes, Text)) or not isinstance(texts, Sequence):
        raise TypeError(f"check_batch takes a sequence of texts, not {type(texts).__name__}")
    part: list[Sequence[Text]] = []
    size = 0
    for own in [group(text, role) for text in texts]:
        length = sum([len(text.content) for text in own])
        if part and size + length > BATCH_LIMIT:
            yield part
            part, size = [], 0
        part.append(own)
        size += length
    if part:
        yield part
