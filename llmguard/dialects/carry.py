"""One more event for a text that has ended upstream while some of it was still held back.

It is made after the last event that said a piece of the text: its ids, its model and its indices stay, and what must
be said only once (the name of a tool, the role, why another choice ended, other texts) goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Protocol, runtime_checkable

from llmguard.dialects import pointer
from llmguard.dialects.wire import Delta, Frame, Json

# What clients that add up pieces would add up too, by the member that holds it; "" for the event itself. A call's id
# stays where no index tells the call from others.
_ONCE: Mapping[str, Set[str]] = {
    "": {"usage", "usageMetadata", "usage_metadata"},
    "delta": {"role"},
    "tool_calls": {"id"},
    "function": {"name"},
    "custom": {"name"},
    "function_call": {"name"},
    "functionCall": {"name", "id"},
    "audio": {"id"},
}
# Lists whose members count by their places, where they don't say an index.
_COUNTED = frozenset({"choices", "candidates", "tool_calls"})


@runtime_checkable
class Continues(Protocol):
    """A dialect whose texts may begin in an event that can't be sent twice."""

    def more(self, frame: Frame, delta: Delta, text: str) -> Frame:
        """An event that says one more piece of a text.

        Args:
            frame: the last event that said a piece of it.
            delta: that piece.
            text: the new one.
        """
        ...


def more(frame: Frame, delta: Delta, text: str) -> Frame:
    """The same event with another piece of one of its texts, and nothing that is said once.

    Args:
        frame: the event, its other texts empty.
        delta: the piece in it.
        text: the new one.
    """
    return Frame(_pruned(frame.data, pointer.tokens(delta.path), text, ""), frame.name)


def _pruned(value: Json, keys: Sequence[str], text: str, name: str) -> Json:
    """What is on the way to the text, and what stands beside it and holds nothing more."""
    if not keys:
        return text
    key = keys[0]
    if isinstance(value, list):
        own = _pruned(value[int(key)], keys[1:], text, name)
        if isinstance(own, str):
            return [own if at == int(key) else "" for at in range(len(value))]
        if int(key) and name in _COUNTED and "index" not in own and "id" not in value[int(key)]:
            own = {"index": int(key), **own}
        return [own]
    once = _ONCE.get(name, frozenset()) if name != "tool_calls" or "index" in value else frozenset()
    kept: dict[str, Json] = {}
    for other, member in value.items():
        if other == key:
            kept[other] = _pruned(member, keys[1:], text, other)
        elif other not in once and not (isinstance(member, (dict, list)) and _says(member)):
            kept[other] = member
    return kept


def _says(value: Json) -> bool:
    """Whether there is anything but numbers in a list, or anything at all in an object."""
    return bool(value) and (isinstance(value, dict) or any([isinstance(one, (str, dict, list)) for one in value]))
