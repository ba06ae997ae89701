"""What the secrets detector can say of a text that still grows, and how little of it has to be looked at again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from llmguard.detectors.re2_beginnings import UnderWay, Unreadable
from llmguard.detectors.secrets_merge import Candidate
from llmguard.detectors.secrets_shapes import Shape

#: A text in; where shapes match in it out, as half-open spans in code points.
Matches = Callable[[str], Sequence[tuple[int, int]]]


class Live:
    """Where matches are under way, and which candidates they can still change.

    A match that begins before every match under way ends where it ends, whatever follows. One that comes later can
    only swallow or outrank what it overlaps: so findings are final before the first of a chain of overlaps that leads
    to a place where a match may be under way.

    Args:
        shapes: those that the detector looks for. One that can't be read leaves nothing settled.
    """

    __slots__ = ("_before", "_under_way")

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._under_way = _under_way(tuple(shape.pattern for shape in shapes))
        self._before = max((shape.before for shape in shapes), default=0)

    def settled(self, text: str, matches: Matches, candidates: Callable[[], Iterable[Candidate]]) -> int:
        """Up to where findings are final.

        Args:
            text: so far.
            matches: where shapes match in a text, whatever comes of it.
            candidates: those of the text, asked for only when a match reaches across one under way.
        """
        place = self._begun(text)
        if any(start < place < end for start, end in matches(text)):
            for candidate in sorted(candidates(), reverse=True):
                if candidate.start < place < candidate.end:
                    place = candidate.start
        return place

    def context(self, text: str, start: int, matches: Matches) -> int:
        r"""From where to look for what starts at or after ``start``.

        That is a little before a place that no match reaches across, so far before it that ``\b`` and the plugins'
        windows see the same, and that no match of the rest alone reaches across it either.

        Args:
            text: so far.
            start: a place in it.
            matches: where shapes match in a text.
        """
        place = min(start, self._begun(text))
        for begin, end in sorted(matches(text), reverse=True):
            if begin < place < end:
                place = begin
        line = max(text.rfind("\n", 0, place), text.rfind("\r", 0, place))
        low = max(0, min(place - 1, max(line, place - self._before)))
        while low:
            rest, here = text[low:], place - low
            if self._begun(rest) >= here and not any(begin < here < end for begin, end in matches(rest)):
                break
            low = max(0, low - here)
        return low

    def _begun(self, text: str) -> int:
        """Where the earliest match begins that may be under way; the text's length when there is none."""
        if self._under_way is None:
            return 0
        data = text.encode()
        start = self._under_way.start(data)
        return start if len(data) == len(text) else len(data[:start].decode())


@functools.lru_cache(maxsize=16)
def _under_way(patterns: tuple[str, ...]) -> UnderWay | None:
    """One automaton for all patterns; takes some 60 ms. None when one of them can't be read."""
    try:
        return UnderWay(patterns)
    except Unreadable:
        return None
