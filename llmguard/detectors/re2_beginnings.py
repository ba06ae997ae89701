r"""Where in a text that is still growing a match of an RE2 pattern may be under way: exactly, by automaton.

For each pattern there is one that takes every beginning of its matches, and nothing else: of ``abc`` it is
``a|ab|abc``. Anchored at the end of what is there, RE2 runs it backwards from the end, only as far as a match could
reach, and says where the earliest one begins. A match that is complete may still grow, or be forbidden by what
follows, so it counts too.

Patterns are read by the standard library's parser, once what RE2 alone knows is spelled for it, and written back as
RE2: so classes, ``\b`` and case are RE2's own.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from re import _constants as ops  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from llmguard.detectors.patterns import Search, searcher

_PROGRAM_BYTES = 64 << 20
_TOKENS = re.compile(r"\\x\{[0-9A-Fa-f]+\}|\\[pP](?:\{[^}]*\}|.)|\\.|\[:\^?\w+:\]|.", re.DOTALL)
_BLOCK = re.compile(r"(?P<head>[^(].*)\(\?s:\.\*\?\)\(\?:(?P<tail>.*)\|\\z\)")
#: Code points that stand for classes that the standard library does not know, while it reads.
_STAND_INS = range(0x10F000, 0x10FFFE)
_FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s"}
_AT = {
    ops.AT_BEGINNING: "^",
    ops.AT_BEGINNING_STRING: r"\A",
    ops.AT_END: "$",
    ops.AT_END_STRING: r"\z",
    ops.AT_BOUNDARY: r"\b",
    ops.AT_NON_BOUNDARY: r"\B",
}
_CATEGORIES = {
    ops.CATEGORY_DIGIT: r"\d",
    ops.CATEGORY_NOT_DIGIT: r"\D",
    ops.CATEGORY_SPACE: r"\s",
    ops.CATEGORY_NOT_SPACE: r"\S",
    ops.CATEGORY_WORD: r"\w",
    ops.CATEGORY_NOT_WORD: r"\W",
}
_SINGLE = (ops.ANY, ops.LITERAL, ops.NOT_LITERAL, ops.IN)
_REPEATS = (ops.MAX_REPEAT, ops.MIN_REPEAT)

Nodes = Sequence[tuple[Any, Any]]


class Unreadable(Exception):  # noqa: N818 - a signal to the caller, never an error of the user's
    """Raised when a pattern has something that is not known here; RE2 may well take it."""


class _Writer:
    """Writes parsed nodes as RE2: whole, or all their beginnings."""

    def __init__(self, stand_ins: dict[int, str]) -> None:
        self._stand_ins = stand_ins

    def whole(self, nodes: Nodes) -> str:
        """What matches the nodes."""
        return "".join(self._node(op, value) for op, value in nodes)

    def beginnings(self, nodes: Nodes) -> str | None:
        """What matches all beginnings of at least one character; None where nothing is consumed.

        Of a sequence those of its first node, or that node whole and the beginnings of the rest: so the pattern is
        about twice as long as the one that it is made of, and no more.
        """
        found: str | None = None
        for op, value in reversed(nodes):
            whole = self._node(op, value)
            parts = [self._begun(op, value, whole), whole + found if found else None]
            some = [part for part in parts if part]
            found = f"(?:{'|'.join(some)})" if some else None
        return found

    def _begun(self, op: Any, value: Any, whole: str) -> str | None:
        if op in _SINGLE:
            return whole
        if op is ops.AT:
            return None
        if op is ops.BRANCH:
            parts = [part for part in map(self.beginnings, value[1]) if part]
            return f"(?:{'|'.join(parts)})" if parts else None
        if op is ops.SUBPATTERN:
            part = self.beginnings(value[3])
            return f"(?{_flags(value[1], value[2])}:{part})" if part else None
        _, high, body = value  # a repeat: `_node` has refused what else there is
        part = self.beginnings(body)
        if part is None or high == 0:
            return None
        count = "*" if high is ops.MAXREPEAT else f"{{0,{high - 1}}}"
        return f"(?:{self.whole(body)}){count}{part}"

    def _node(self, op: Any, value: Any) -> str:
        if op in _SINGLE:
            return self._class(op, value)
        if op is ops.AT and value in _AT:
            return _AT[value]
        if op is ops.BRANCH:
            return f"(?:{'|'.join(map(self.whole, value[1]))})"
        if op is ops.SUBPATTERN:
            return f"(?{_flags(value[1], value[2])}:{self.whole(value[3])})"
        if op in _REPEATS:
            low, high, body = value
            return f"(?:{self.whole(body)}){{{low},{'' if high is ops.MAXREPEAT else high}}}"
        raise Unreadable

    def _class(self, op: Any, value: Any) -> str:
        if op is ops.ANY:
            return "."
        if op is ops.LITERAL:
            return self._char(value)
        if op is ops.NOT_LITERAL:
            return f"[^{self._char(value)}]"
        return f"[{''.join(self._item(item, argument) for item, argument in value)}]"

    def _item(self, item: Any, argument: Any) -> str:
        if item is ops.NEGATE:
            return "^"
        if item is ops.LITERAL:
            return self._char(argument)
        if item is ops.RANGE:
            return rf"\x{{{argument[0]:x}}}-\x{{{argument[1]:x}}}"
        return _CATEGORIES[argument]

    def _char(self, code: int) -> str:
        return self._stand_ins.get(code) or rf"\x{{{code:x}}}"


def _flags(add: int, remove: int) -> str:
    added, removed = ("".join(sign for flag, sign in _FLAGS.items() if flag & flags) for flags in (add, remove))
    return added + (f"-{removed}" if removed else "")


def _readable(pattern: str) -> tuple[str, dict[int, str]]:
    """The pattern as the standard library's parser reads it, and what its stand-ins stand for.

    Raises:
        Unreadable: RE2 and the parser would take a part of it for different things.
    """
    if "{," in pattern or any(ord(char) in _STAND_INS for char in pattern):
        raise Unreadable
    out: list[str] = []
    stand_ins: dict[int, str] = {}
    inside, may_close = False, False  # a class, and not at its beginning, where a bracket stands for itself
    lead = ""
    for part in _TOKENS.findall(pattern):
        named = part[:2] in (r"\p", r"\P") or (inside and part.startswith("[:"))
        if named:
            code = _STAND_INS[len(stand_ins)]
            stand_ins[code] = part
            out.append(chr(code))
        elif part.startswith(r"\x{"):
            code = int(part[3:-1], 16)
            if code in _STAND_INS:
                raise Unreadable
            out.append(f"\\U{code:08x}")
        else:
            out.append(r"\Z" if part == r"\z" else part)
        if not inside:
            inside, may_close = part == "[", False
        elif part == "]" and may_close:
            inside = False
        else:
            may_close = may_close or part != "^" or lead == "^"
        lead = part
    return "".join(out), stand_ins


def beginnings(pattern: str) -> str:
    """What takes the beginnings of a pattern's matches, in RE2's syntax.

    Args:
        pattern: that RE2 takes.

    Raises:
        Unreadable: it matches nothing but the empty text, or has something that is not known here, such as ``(?i)``
            in its middle.
    """
    source, stand_ins = _readable(pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            tree = parser.parse(source)
    except (re.error, OverflowError, RecursionError):
        raise Unreadable from None
    flags = tree.state.flags & ~re.UNICODE
    if flags & ~(re.IGNORECASE | re.MULTILINE | re.DOTALL):
        raise Unreadable
    found = _Writer(stand_ins).beginnings(list(tree))
    if found is None:
        raise Unreadable
    return f"(?{_flags(flags, 0)}:{found})"


class _Block:
    """A pattern that runs from a head to the first tail after it, or to the end of the text where there is none.

    Read as a language it may run past its first tail, and so would be under way for ever; as RE2 searches it does not.

    Raises:
        Unreadable: the head or the tail is, or holds what does not belong to it alone.
    """

    __slots__ = ("_search", "_tail")

    def __init__(self, pattern: str, head: str, tail: str) -> None:
        if "|" in head:
            raise Unreadable
        beginnings(head)
        self._search = _searcher(pattern)
        self._tail = _searcher(rf"(?:{beginnings(tail)})\z")

    def start(self, data: bytes) -> int:
        """Where the first one begins that is not at its end for good; the length of the text when all are."""
        size, tail, at = len(data), self._tail(data, 0), 0
        under_way = tail[0] if tail else size
        while span := self._search(data, at):
            begin, at = span
            if at == size or under_way < at:
                return begin
        return size


class UnderWay:
    """The earliest match that may be under way at the end of a text.

    Args:
        patterns: in RE2's syntax.

    Raises:
        Unreadable: one of them is.
    """

    __slots__ = ("_blocks", "_heads", "_search")

    def __init__(self, patterns: Iterable[str]) -> None:
        parts, heads, self._blocks = [], [], list[_Block]()
        for pattern in patterns:
            block = _BLOCK.fullmatch(pattern)
            if block:
                self._blocks.append(_Block(pattern, block["head"], block["tail"]))
                heads.append(f"(?:{block['head']})")
            parts.append(beginnings(block["head"] if block else pattern))
        self._search = _searcher(rf"(?:{'|'.join(parts)})\z")
        self._heads = _searcher("|".join(heads)) if heads else None

    def start(self, data: bytes) -> int:
        """Where it begins; the length of the text where none is under way.

        Args:
            data: the text so far, in UTF-8.

        Returns:
            An offset in bytes.
        """
        found = self._search(data, 0)
        place = found[0] if found else len(data)
        if self._heads and self._heads(data, 0):
            place = min(place, *(block.start(data) for block in self._blocks))
        return place


def _searcher(pattern: str) -> Search:
    import re2

    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    options.max_mem = _PROGRAM_BYTES
    try:
        return searcher(pattern, options)
    except re2.error:
        raise Unreadable from None
