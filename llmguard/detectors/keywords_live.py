"""What the keywords detector can say of a text that still grows, and how little of it has to be looked at again.

A hit may be under way where a suffix of the folded text begins a phrase. Marks to come may be put in order between
those at the end, so only the text up to its last letter counts as there.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable

from llmguard.detectors.folding import EXTENDS, Folded, Folding, Offsets, joined

#: Bytes. Longer suffixes are looked up only where an automaton saw a phrase's first ones.
_HEAD = 8
_EXTENDS = bytes([EXTENDS])


class Beginnings:
    """The beginnings of many phrases, by search in a sorted list.

    Takes as much memory as the phrases and an automaton over their first bytes.

    Args:
        phrases: folded, in UTF-8, none empty, at least one.
    """

    __slots__ = ("_find", "_firsts", "_longest", "_phrases")

    def __init__(self, phrases: Iterable[bytes]) -> None:
        import ahocorasick_rs

        self._phrases = sorted(phrases)
        self._longest = max(map(len, self._phrases), default=0)
        self._firsts = frozenset(phrase[0] for phrase in self._phrases)
        heads = {phrase[:_HEAD] for phrase in self._phrases if len(phrase) >= _HEAD}
        self._find: Callable[[bytes, bool], list[tuple[int, int, int]]] | None = None
        if heads:
            self._find = ahocorasick_rs.BytesAhoCorasick(sorted(heads)).find_matches_as_indexes

    def earliest(self, data: bytes, end: int, may_begin: Callable[[int], bool] | None = None) -> int:
        """Where the longest part of ``data`` that ends at ``end`` and begins a phrase begins; ``end`` if none does.

        Args:
            data: folded, in UTF-8.
            end: in bytes, between two code points.
            may_begin: whether a hit may begin at a byte; everywhere by default.
        """
        first: int = max(0, end - self._longest)
        tail = max(first, end - _HEAD + 1)
        heads = self._find(data[first:end], True) if self._find and first < tail else []
        starts = [first + start for _, start, _ in heads] if heads else []
        if not self._firsts.isdisjoint(data[tail:end]):
            starts += [start for start in range(tail, end) if data[start] in self._firsts]
        for start in starts:
            if (may_begin is None or may_begin(start)) and self._begins(data[start:end]):
                return start
        return end

    def _begins(self, part: bytes) -> bool:
        at = bisect.bisect_left(self._phrases, part)
        return at < len(self._phrases) and self._phrases[at].startswith(part)


class Live:
    """Where hits are under way, and which ones they can still change.

    Args:
        deny: the folded phrases of the deny list.
        allow: those of the allow list.
        folding: that the phrases and the texts are folded with.
        word_boundaries: whether a hit must begin where a word does.
    """

    def __init__(self, deny: Iterable[bytes], allow: Iterable[bytes], folding: Folding, word_boundaries: bool) -> None:
        denied, allowed = list(deny), list(allow)
        self._deny = Beginnings(denied)
        self._allow = Beginnings(allowed) if allowed else None
        self._all = Beginnings(denied + allowed) if allowed else self._deny
        self._folding = folding
        self._word_boundaries = word_boundaries

    def settled(self, text: str, hits: Callable[[Folded], Iterable[int]]) -> int:
        """Up to where findings are final.

        Args:
            text: so far.
            hits: where deny hits begin in the folded text, allowed ones too; asked for only when an allow hit is
                under way.
        """
        folded = self._folding.fold(text)
        size, stable = len(folded.kinds), len(folded.kinds.rstrip(_EXTENDS))
        end = _byte(folded, stable)
        if size == stable and self._all.earliest(folded.data, end) == end:
            return len(text)
        held = self._under_way(folded, self._deny, stable)
        if self._allow is not None:
            allowed = self._under_way(folded, self._allow, stable)
            if allowed < held:
                held = min([held, *(start for start in hits(folded) if start >= allowed)])
        if held >= size == stable:
            return len(text)
        return self._letter(folded, min(held, stable - 1))

    def context(self, text: str, start: int, hits: Callable[[bytes], Iterable[tuple[int, int]]]) -> int:
        """From where to look for what starts at or after ``start``.

        That is the letter before a place that no hit reaches across, be it of either list and in the middle of a word.

        Args:
            text: so far.
            start: a place in it.
            hits: where phrases of either list stand in folded bytes, boundaries or not.
        """
        folded = self._folding.fold(text)
        stable = len(folded.kinds.rstrip(_EXTENDS))
        end = _byte(folded, stable)
        begun = self._all.earliest(folded.data, end)
        place = start
        if begun < end or stable < len(folded.kinds):
            place = min(start, self._letter(folded, min(_point(folded, begun), stable - 1)))
        place = self._cut(text, place)
        byte = _byte(folded, _index(folded, place))
        for first, last in sorted(hits(folded.data), reverse=True):
            if first < byte < last:
                place = self._cut(text, _source(folded, _point(folded, first)))
                byte = _byte(folded, _index(folded, place))
        return self._cut(text, max(0, place - 1))

    def _cut(self, text: str, place: int) -> int:
        """The last place up to here where the text can be cut and folds as it does whole."""
        while 0 < place < len(text) and not self._folding.begins(text[place]):
            place -= 1
        return place

    def _letter(self, folded: Folded, point: int) -> int:
        """Where the letter begins that a folded code point belongs to: its marks may have changed places."""
        letter = len(folded.kinds[: point + 1].rstrip(_EXTENDS)) - 1
        return _source(folded, letter) if letter >= 0 else 0

    def _under_way(self, folded: Folded, phrases: Beginnings, stable: int) -> int:
        """The first folded code point of the longest hit under way; the folded size where there is none."""
        end = _byte(folded, stable)
        kinds = folded.kinds

        def may_begin(byte: int) -> bool:
            point = _point(folded, byte)
            # Behind the last one when the byte stands within it, where no phrase begins.
            return point == 0 or (point < len(kinds) and not joined(kinds[point - 1], kinds[point]))

        start = phrases.earliest(folded.data, end, may_begin if self._word_boundaries else None)
        return _point(folded, start) if start < end else len(kinds)


def _byte(folded: Folded, point: int) -> int:
    if folded.starts is None:
        return point
    return int(folded.starts[point]) if point < len(folded.starts) else len(folded.data)


def _point(folded: Folded, byte: int) -> int:
    return byte if folded.starts is None else _search(folded.starts, byte)


def _source(folded: Folded, point: int) -> int:
    return point if folded.source is None else int(folded.source[point])


def _index(folded: Folded, place: int) -> int:
    """The first folded code point of the original one at ``place``, which begins a letter, or the folded size."""
    # Marks may have changed places, but not across one that begins a letter: so a binary search finds it.
    return min(place, len(folded.kinds)) if folded.source is None else _search(folded.source, place)


def _search(offsets: Offsets, value: int) -> int:
    """A binary search; for a number of another type, numpy would first turn all of the array into that."""
    return int(offsets.searchsorted(offsets.dtype.type(value)))
