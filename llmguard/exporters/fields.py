"""Values of a record that was read: of the right kind, or an error that names the key and never the value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_Item = TypeVar("_Item")

_MAX_NS = 2**63 - 1


def value(said: Mapping[str, Any], key: str, read: Callable[[Any], _Item]) -> _Item:
    """What ``read`` makes of the value of a key.

    Raises:
        ValueError: there is no such key, or ``read`` refuses its value.
    """
    try:
        return read(said[key])
    except KeyError:
        raise ValueError(f"the record has no {key}") from None
    except (TypeError, OverflowError):
        raise ValueError(f"the record's {key} is not of the kind it should be") from None


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping."""
    if not isinstance(value, Mapping):
        raise TypeError
    return value


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError
    return value


def boolean(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def whole(value: Any) -> int:
    """A whole number from 0 to the largest of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_NS:
        raise TypeError
    return value


def maybe(read: Callable[[Any], _Item]) -> Callable[[Any], _Item | None]:
    """None, or what ``read`` takes."""
    return lambda value: None if value is None else read(value)


def one_of(*known: str) -> Callable[[Any], str]:
    """One of these strings."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise TypeError
        return value

    return read


def listed(read: Callable[[Any], _Item]) -> Callable[[Any], tuple[_Item, ...]]:
    """A list of what ``read`` takes."""

    def each(value: Any) -> tuple[_Item, ...]:
        if not isinstance(value, list):
            raise TypeError
        return tuple([read(item) for item in value])

    return each


def by_name(read: Callable[[Any], _Item]) -> Callable[[Any], dict[str, _Item]]:
    """A mapping of names to what ``read`` takes."""

    def each(value: Any) -> dict[str, _Item]:
        return {text(name): read(item) for name, item in mapping(value).items()}

    return each
