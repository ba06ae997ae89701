"""Which rules are worth trying on a text, and where they hit.

Rules hold gaps and long lists of words; all of them in one automaton would need more states than memory has.
So a set of plain words, which is small whatever the text, says which rules can hit; only those are
searched for, piece by piece, so that a long text does not meet every rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.views import CONTROLS
from llmguard.types import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmguard.detectors.injection_file import Rule

_PIECE = 2048
_OVERLAP = 512
"""Bytes. A hit that begins near a piece's end and is longer than the overlap is cut there."""


class Hits(NamedTuple):
    """What the scan of a text said: rules to try, encodings to undo, and whether control characters are there."""

    rules: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    controls: bool = False


NONE = Hits()


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
        self._bits = [1 << index for index in range(len(groups) + len(kinds) + 1)]
        self._tries = {role: self._alternatives(role, bit) for role in Role}

    def _alternatives(self, role: Role, bit: Mapping[str, int]) -> list[list[tuple[int, int]]]:
        """For each set of words the rules to try when it is there and the other sets that go with it.

        Each need hangs on its last set, which the rules' file keeps for the rarest words.
        """
        tries: list[list[tuple[int, int]]] = [[] for _ in bit]
        for index, rule in enumerate(self._rules):
            for need in rule.needs if role in (rule.roles or Role) else ():
                tries[bit[need[-1]].bit_length() - 1].append((sum(bit[group] for group in set(need)), index))
        return tries

    def match(self, content: str | bytes, role: Role) -> Hits:
        """What may be in a text, by one linear scan."""
        found = self._set.match(content)
        if not found:
            return NONE
        bits = self._bits
        seen = sum([bits[index] for index in found])
        tries = self._tries[role]
        words = self._words
        rules = tuple(
            dict.fromkeys(
                [rule for index in found if index < words for mask, rule in tries[index] if seen & mask == mask]
            )
        )
        if seen <= self._all:
            return Hits(rules) if rules else NONE
        first = self._words
        kinds = tuple(name for index, name in enumerate(self._kinds, first) if seen >> index & 1)
        return Hits(rules, kinds, bool(seen >> first + len(self._kinds) & 1))

    def hits(self, content: str, role: Role, rules: tuple[int, ...]) -> Iterator[tuple[Rule, int, int]]:
        """The rules' hits in a text, as code points.

        The search runs over UTF-8, where offsets cost nothing; code points are counted once at the end.

        Args:
            content: the text.
            role: who it comes from; rules that are limited to other roles are left out.
            rules: what ``match`` said of the text.
        """
        data = content.encode()
        found: list[tuple[int, int, int]] = []
        for start in range(0, max(len(data) - _OVERLAP, 1), _PIECE - _OVERLAP):
            end = min(start + _PIECE, len(data))
            last = end == len(data)
            own = end if last else end - _OVERLAP
            whole = last and not start
            for index in rules if whole else self.match(data[start:end], role).rules:
                for match in self._rules[index].search.finditer(data, start, end):
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
