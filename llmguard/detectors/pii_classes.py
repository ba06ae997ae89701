"""What a character class of a pattern takes in, counted in proxies rather than in characters."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from re import _constants as ops  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from llmguard.detectors.pii_proxy import OTHER, PROBES, RARE, SPACE, WORD

CONSUMING = (ops.ANY, ops.LITERAL, ops.NOT_LITERAL, ops.IN)
"""The nodes of the standard library's parse tree that take exactly one character."""

_FOREIGN = frozenset(WORD + SPACE + OTHER + "0123456789skiSKI")
_CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
}


class Untranslatable(Exception):  # noqa: N818 - a signal between these modules, never an error of the user's
    """Raised when a pattern has something that the translation does not know."""


class Members(NamedTuple):
    """Both sides of a class: a proxy stands on each side on which it has a character, maybe on both.

    Attributes:
        inside: proxies of the characters that the class takes.
        outside: proxies of the characters that it does not take.
    """

    inside: frozenset[str]
    outside: frozenset[str]


def _escape(code: int) -> str:
    return f"\\U{code:08x}"


def _source(op: Any, value: Any) -> tuple[str, bool]:
    """The class as it is written for the ``regex`` module, and whether it names characters outside ASCII."""
    if op is ops.ANY:
        return ".", False
    if op is ops.LITERAL:
        return _escape(value), value > 127
    if op is ops.NOT_LITERAL:
        return f"[^{_escape(value)}]", value > 127
    parts, foreign = [], False
    for item, argument in value:
        if item is ops.NEGATE:
            parts.append("^")
        elif item is ops.LITERAL:
            parts.append(_escape(argument))
            foreign |= argument > 127
        elif item is ops.RANGE:
            parts.append(f"{_escape(argument[0])}-{_escape(argument[1])}")
            foreign |= argument[1] > 127
        elif item is ops.CATEGORY and argument in _CATEGORIES:
            parts.append(_CATEGORIES[argument])
        else:
            raise Untranslatable
    return f"[{''.join(parts)}]", foreign


@functools.cache
def _probe(source: str, flags: int, foreign: bool, rare: bool) -> Members:
    import regex

    probes = {**PROBES, **RARE} if rare else PROBES
    match = regex.compile(source, flags).match
    inside = {proxy for char, proxy in probes.items() if match(char)}
    outside = {proxy for char, proxy in probes.items() if not match(char)}
    if foreign:
        # A class that names characters outside ASCII may split each kind of them: both sides have some.
        inside |= _FOREIGN
        outside |= _FOREIGN
    return Members(frozenset(inside), frozenset(outside))


def members(op: Any, value: Any, flags: int, rare: bool) -> Members:
    """What one consuming node takes, asked of the ``regex`` module itself.

    Args:
        op: one of ``CONSUMING``.
        value: its argument in the parse tree.
        flags: the flags that the pattern is compiled with.
        rare: whether texts have code points of the ``RARE`` kinds.

    Raises:
        Untranslatable: the class has an item that is not known here.
    """
    source, foreign = _source(op, value)
    return _probe(source, flags, foreign, rare)


def spelled(chars: Iterable[str]) -> str:
    """A class of ASCII characters in RE2's syntax."""
    codes = sorted(ord(char) for char in set(chars))
    if not codes:
        return r"[^\x00-\x{10ffff}]"
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(rf"\x{low:02x}-\x{high:02x}" for low, high in ranges) + "]"
