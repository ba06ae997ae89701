"""Where in a text that is still growing a match may be under way: exactly, by automaton.

For each pattern there is one that takes every beginning of its matches, and nothing else: of ``abc`` it is
``a|ab|abc``. Anchored at the end of what is there, RE2 runs it backwards from the end, only as far as a match could
reach, and says where the earliest one begins. A match that is complete may still grow, or be forbidden by what
follows, so it counts too.
"""

from __future__ import annotations

from collections.abc import Iterable
from re import _constants as ops  # type: ignore[attr-defined]
from typing import Any

from llmguard.detectors.pii_classes import CONSUMING, Untranslatable
from llmguard.detectors.pii_translate import ASSERTS, OPEN_FROM, REPEATS, Emitter, Nodes, parsed

_PROGRAM_BYTES = 64 << 20


class _Beginnings(Emitter):
    """Writes the beginnings of what nodes match, in RE2's syntax over proxies."""

    def __init__(self, flags: int, rare: bool) -> None:
        super().__init__(flags, rare)
        self._bodies: dict[int, Nodes] = {}

    def _node(self, op: Any, value: Any) -> str:
        if op is ops.SUBPATTERN and value[0] is not None:
            self._bodies[value[0]] = value[3]
        return super()._node(op, value)

    def beginnings(self, nodes: Nodes) -> str | None:
        """All beginnings of at least one character; None where nothing is consumed.

        Of a sequence those of its first node, or that node whole and the beginnings of the rest: so the pattern is
        about twice as long as the one that it is made of, and no more.
        """
        rest = list(nodes)
        while rest and _is_width_less(rest[-1][0]):
            rest.pop()  # what is to follow has not come yet
        found: str | None = None
        for op, value in reversed(rest):
            whole = self.write([(op, value)])
            if _is_width_less(op):
                found = f"{whole}{found}" if found else None
                continue
            own = self._of(op, value, whole)
            parts = [part for part in (own, f"{whole}{found}" if found else None) if part]
            found = f"(?:{'|'.join(parts)})" if parts else None
        return found

    def _of(self, op: Any, value: Any, whole: str) -> str | None:
        if op in CONSUMING:
            return whole
        if op is ops.BRANCH:
            parts = [part for part in map(self.beginnings, value[1]) if part]
            return f"(?:{'|'.join(parts)})" if parts else None
        if op is ops.SUBPATTERN:
            return self.beginnings(value[3])
        if op is ops.ATOMIC_GROUP:
            return self.beginnings(value)
        if op in REPEATS:
            _, high, body = value
            own, full = self.beginnings(body), self.write(body)
            if own is None or high == 0:
                return None
            if high is ops.MAXREPEAT or high > OPEN_FROM:
                return f"(?:{full})*{own}"
            return f"(?:{full}){{0,{high - 1}}}{own}"
        if op is ops.GROUPREF and value in self._bodies:
            return self.beginnings(self._bodies[value])
        raise Untranslatable


def _is_width_less(op: Any) -> bool:
    return op is ops.AT or op in ASSERTS


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
