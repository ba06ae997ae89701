"""Which rules are worth trying on a text, and where they hit.

Rules hold gaps and long lists of words; all of them in one automaton would need more states than memory has.
So a set of plain words, which is small whatever the text, says which rules can hit; only those are
searched for, piece by piece, so that a long text does not meet every rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.views import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmguard.detectors.injection_file import Rule
    from llmguard.types import Role

_PIECE = 4096
_OVERLAP = 1024
"""Bytes. A hit that is longer than the overlap may be cut at a piece's end; no rule's shape is that long."""


class Hits(NamedTuple):
    """What the scan of a text said: rules to try, encodings to undo, and whether control characters are there."""

    rules: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    controls: bool = False


_NONE = Hits()


class Gate:
    """The rules behind one scan for plain words.

    Args:
        rules: the rules.
        kinds: RE2 patterns that tell encodings, by their names.
    """

    def __init__(self, rules: Sequence[Rule], kinds: Mapping[str, str]) -> None:
        self._rules = tuple(rules)
        self._kinds = tuple(kinds)
        groups = sorted({group for rule in rules for need in rule.needs for group in need})
        self._set = PatternSet([*groups, *kinds.values(), f"[{CONTROLS}]"])
        bit = {group: 1 << index for index, group in enumerate(groups)}
        self._all = (1 << len(groups)) - 1
        self._words = len(groups)
        self._masks = [
            (sum(bit[group] for group in need), index) for index, rule in enumerate(rules) for need in rule.needs
        ]

    def match(self, content: str | bytes) -> Hits:
        """What may be in a text, by one linear scan."""
        found = self._set.match(content)
        if not found:
            return _NONE
        seen = 0
        for index in found:
            seen |= 1 << index
        rules = tuple(dict.fromkeys(index for mask, index in self._masks if seen & mask == mask))
        if seen <= self._all:
            return Hits(rules) if rules else _NONE
        first = self._words
        kinds = tuple(name for index, name in enumerate(self._kinds, first) if seen >> index & 1)
        return Hits(rules, kinds, bool(seen >> first + len(self._kinds) & 1))

    def hits(self, content: str, role: Role) -> Iterator[tuple[Rule, int, int]]:
        """The rules' hits in a text, as code points.

        The search runs over UTF-8, where offsets cost nothing; code points are counted once at the end.
        """
        data = content.encode()
        found: list[tuple[int, int, int]] = []
        for start in range(0, max(len(data) - _OVERLAP, 1), _PIECE - _OVERLAP):
            end = min(start + _PIECE, len(data))
            last = end == len(data)
            own = end if last else end - _OVERLAP
            for index in self.match(data[start:end] if start or not last else data).rules:
                rule = self._rules[index]
                if rule.roles and role not in rule.roles:
                    continue
                for match in rule.search.finditer(data, start, end):
                    first, stop = match.span()
                    if first < own or last:
                        found.append((first, stop, index))
        points = _points(data, content, {edge for first, stop, _ in found for edge in (first, stop)})
        for first, stop, index in found:
            yield self._rules[index], points.get(first, first), points.get(stop, stop)


def _points(data: bytes, content: str, edges: set[int]) -> dict[int, int]:
    """Code points of byte offsets; empty for ASCII, where they are the same."""
    points: dict[int, int] = {}
    if len(data) == len(content):
        return points
    done = position = 0
    for edge in sorted(edges):
        position += len(data[done:edge].decode())
        points[edge] = position
        done = edge
    return points
