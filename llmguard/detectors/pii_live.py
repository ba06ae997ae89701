"""Where in a text that is still growing a match may be under way: exactly, by automaton.

For each pattern there is one that takes every beginning of its matches, and nothing else: of ``abc`` it is
``a|ab|abc``. Anchored at the end of what is there, RE2 runs it backwards from the end, only as far as a match could
reach, and says where the earliest one begins. A match that is complete may still grow, or be forbidden by what
follows, so it counts too. What a look-ahead has begun to read is under way like the match itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from re import _constants as ops  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from llmguard.detectors.pii_classes import CONSUMING, Untranslatable, members, spelled
from llmguard.detectors.pii_translate import ASSERTS, OPEN_FROM, REPEATS, Emitter, Nodes, parsed

_PROGRAM_BYTES = 64 << 20
_NO_WIDTH = (ops.AT, *ASSERTS)


class _Beginnings(Emitter):
    """Writes the beginnings of what nodes match, in RE2's syntax over proxies."""

    def __init__(self, flags: int, rare: bool) -> None:
        super().__init__(flags, rare)
        self._bodies: dict[int, Nodes] = {}
        self._written: dict[int, tuple[Any, str]] = {}

    def _node(self, op: Any, value: Any) -> str:
        # Each node is written once for itself and once for all that it is a part of: long lists of words would be slow.
        known = self._written.get(id(value))
        if known and known[0] is value and isinstance(value, tuple):
            return known[1]
        if op is ops.SUBPATTERN and value[0] is not None:
            self._bodies[value[0]] = value[3]
        text = super()._node(op, value)
        self._written[id(value)] = value, text
        return text

    def beginnings(self, nodes: Nodes) -> str | None:
        """All beginnings of at least one character; None where nothing is consumed.

        Of a sequence those of its first node, or that node whole and the beginnings of the rest: so the pattern is
        about twice as long as the one that it is made of, and no more.
        """
        found: str | None = None
        for op, value in reversed(list(nodes)):
            whole = self.write([(op, value)])
            own = self._of(op, value, whole)
            if found is None:
                found = own
            elif own == whole:
                found = f"{whole}(?:{found})?"
            else:
                found = f"(?:{own}|{whole}(?:{found}))" if own else f"{whole}(?:{found})"
        return found

    def _of(self, op: Any, value: Any, whole: str) -> str | None:
        if op in CONSUMING:
            return whole
        if op in _NO_WIDTH:
            return self._ahead(op, value)
        if op is ops.BRANCH:
            parts = [part for part in map(self.beginnings, value[1]) if part]
            return f"(?:{'|'.join(parts)})" if parts else None
        if op in REPEATS:
            return self._repeated(*value)
        return self.beginnings(self._body(op, value))

    def _ahead(self, op: Any, value: Any) -> str | None:
        """What is read without being consumed."""
        if op is ops.AT:
            # Without MULTILINE a dollar sign also stands before a last line feed, which may not stay the last.
            return r"\n" if value is ops.AT_END and not self.flags & re.MULTILINE else None
        if value[0] < 0:
            return None
        return self._run(list(value[1])) or self.beginnings(value[1])

    def _run(self, nodes: Nodes) -> str | None:
        """What is read of a run, and what ends it: once that has come, all is known; None where it is none."""
        if len(nodes) != 2 or nodes[0][0] not in (ops.MAX_REPEAT, ops.MIN_REPEAT) or nodes[1][0] not in CONSUMING:
            return None
        low, high, body = nodes[0][1]
        if low or high is not ops.MAXREPEAT or len(body) != 1 or body[0][0] not in CONSUMING:
            return None
        run, last = (members(op, value, self.flags, self.rare) for op, value in (body[0], nodes[1]))
        return f"{spelled(run.inside & last.outside)}+"

    def _body(self, op: Any, value: Any) -> Nodes:
        if op is ops.SUBPATTERN:
            return list(value[3])
        if op is ops.ATOMIC_GROUP:
            return list(value)
        if op is ops.GROUPREF and value in self._bodies:
            return self._bodies[value]
        raise Untranslatable

    def _repeated(self, _: int, high: Any, body: Nodes) -> str | None:
        own, full = self.beginnings(body), self.write(body)
        if own is None or high == 0:
            return None
        times = "*" if high is ops.MAXREPEAT or high > OPEN_FROM else f"{{0,{high - 1}}}"
        return f"(?:{full}){times}(?:{own})"


def beginnings(pattern: str, flags: int, *, rare: bool) -> str:
    """What takes the beginnings of a pattern's matches, in RE2's syntax over proxies.

    Args:
        pattern: in the ``regex`` module's syntax.
        flags: what it is compiled with.
        rare: whether it has to hold for texts with code points of the ``pii_proxy.RARE`` kinds.

    Raises:
        Untranslatable: the pattern has something that is not known here.
    """
    emitter = _Beginnings(flags, rare)
    nodes = list(parsed(pattern, flags))
    emitter.write(nodes)  # knows the groups that are referred to
    found = emitter.beginnings(nodes)
    if found is None:
        raise Untranslatable
    return found


class Before(NamedTuple):
    """What a pattern reads before its matches.

    Attributes:
        behind: beginnings of what its look-behinds match, in RE2's syntax over proxies.
        of_lines: whether it asks where a line begins.
        of_texts: whether it asks where the text begins.
    """

    behind: tuple[str, ...]
    of_lines: bool
    of_texts: bool


def _inside(nodes: Nodes) -> Iterator[tuple[Any, Any]]:
    """All nodes of a tree."""
    for op, value in nodes:
        yield op, value
        for part in value if isinstance(value, (tuple, list)) else (value,):
            for inner in part if isinstance(part, list) else (part,):
                if hasattr(inner, "getwidth"):
                    yield from _inside(list(inner))


def before(pattern: str, flags: int, *, rare: bool) -> Before:
    """What a pattern reads before its matches.

    Args:
        pattern: in the ``regex`` module's syntax.
        flags: what it is compiled with.
        rare: whether it has to hold for texts with code points of the ``pii_proxy.RARE`` kinds.

    Raises:
        Untranslatable: the pattern has something that is not known here.
    """
    nodes = list(_inside(list(parsed(pattern, flags))))
    anchors = {value for op, value in nodes if op is ops.AT}
    bodies = [value[1] for op, value in nodes if op in ASSERTS and value[0] < 0]
    found = [_Beginnings(flags, rare).beginnings(body) for body in bodies]
    lines, many = ops.AT_BEGINNING in anchors, bool(flags & re.MULTILINE)
    return Before(
        tuple(filter(None, found)), lines and many, (lines and not many) or ops.AT_BEGINNING_STRING in anchors
    )


class UnderWay:
    """The earliest match that may be under way at the end of a text.

    Args:
        patterns: beginnings of matches, in RE2's syntax over proxies.

    Raises:
        Untranslatable: RE2 does not take them.
    """

    __slots__ = ("_search",)

    def __init__(self, patterns: Iterable[str]) -> None:
        import re2

        options = re2.Options()
        options.never_capture = True
        options.log_errors = False
        options.max_mem = _PROGRAM_BYTES
        try:
            self._search = re2.compile(f"(?s:{'|'.join(patterns)})\\z".encode(), options).search
        except re2.error:
            raise Untranslatable from None

    def start(self, proxy: bytes) -> int:
        """Where it begins; the length of the text where none is under way.

        Args:
            proxy: of the text so far (``pii_proxy.proxy``), or of enough of its end.
        """
        match = self._search(proxy)
        return match.start() if match else len(proxy)
