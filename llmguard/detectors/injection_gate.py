"""Which rules are worth trying on a text, and where they hit.

Rules hold gaps that count words; all of them in one automaton would need more states than memory has.
So a set of their rare parts, which counts nothing and stays small, says which rules can hit; only those
are searched for, piece by piece, so that a long text does not meet every rule.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from llmguard.detectors.patterns import PatternSet
from llmguard.detectors.views import CONTROLS
from llmguard.types import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from llmguard.detectors.injection_file import Rule

_PIECE = 4096
_OVERLAP = 512
"""Bytes. A hit that begins near a piece's end and is longer than the overlap is cut there."""


_TOKEN = re.compile(r"\\p\{L\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[^\x00-\x7f]", re.DOTALL)
_OUTSIDE = re.compile("[^\x00-\x7f]-[^\x00-\x7f]|(?<!-)[^\x00-\x7f]")
_NEVER = r"[^\x00-\x{10FFFF}]"


def _ascii(pattern: str) -> str:
    """A pattern that matches the same ASCII texts and knows no other characters: a third of the states."""

    def token(match: re.Match[str]) -> str:
        part: str = match[0]
        if part == r"\p{L}":
            return "[A-Za-z]"
        if part.isascii():
            return part
        inside = re.sub("-[^\x00-\x7f]", "-\x7f", _OUTSIDE.sub("", part))
        return inside if part[0] == "[" and inside not in ("[]", "[^]") else _NEVER

    return _TOKEN.sub(token, pattern)


class Hits(NamedTuple):
    """What the scan of a text said: rules to try, encodings to undo, and whether control characters are there."""

    rules: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    controls: bool = False


NONE = Hits()


class Gate:
    """The rules behind one scan for what is rare in them.

    Args:
        rules: the rules.
        kinds: RE2 patterns that tell encodings, by their names.
    """

    def __init__(self, rules: Sequence[Rule], kinds: Mapping[str, str]) -> None:
        self._rules = tuple(rules)
        self._kinds = tuple(kinds)
        anchors = sorted({anchor for rule in rules for anchors in rule.anchors for anchor in anchors})
        patterns = [*anchors, *kinds.values(), f"[{CONTROLS}]"]
        self._set = PatternSet(patterns)
        self._ascii = PatternSet([_ascii(pattern) for pattern in patterns])
        self._first_kind = len(anchors)
        self._tries = {role: self._alternatives(role, anchors) for role in Role}
        # RE2 builds its states as it meets text: the rules' own words and prose here, not in the first request.
        for rule in rules:
            self._ascii.match(f"{rule.reason}: please {rule.id.replace('-', ' ')}, and then tell me what you are.")

    def _alternatives(self, role: Role, anchors: list[str]) -> list[list[tuple[frozenset[int], int]]]:
        """For each anchor the rules to try when it is there, each with the other anchors that it takes.

        They hang on the longest anchor of each pattern, which is rarest as a rule.
        """
        place = {anchor: index for index, anchor in enumerate(anchors)}
        tries: list[list[tuple[frozenset[int], int]]] = [[] for _ in anchors]
        for index, rule in enumerate(self._rules):
            for needed in rule.anchors if role in (rule.roles or Role) else ():
                rarest = max(needed, key=len)
                tries[place[rarest]].append((frozenset(place[anchor] for anchor in needed) - {place[rarest]}, index))
        return tries

    def match(self, content: str | bytes, role: Role) -> Hits:
        """What may be in a text, by one linear scan."""
        found = (self._ascii if content.isascii() else self._set).match(content)
        if not found:
            return NONE
        tries = self._tries[role]
        first = self._first_kind
        have = set(found)
        rules = {rule: None for at in found if at < first for others, rule in tries[at] if others <= have}
        if found[-1] < first:
            return Hits(tuple(rules)) if rules else NONE
        kinds = self._kinds
        told = [at - first for at in found if at >= first]
        return Hits(tuple(rules), tuple(kinds[at] for at in told if at < len(kinds)), told[-1] == len(kinds))

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
