"""Whether a detector keeps what it says of texts that grow: the two promises of `types.Incremental`, tried out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from llmguard.types import Detector, Finding, Incremental, Text

#: Code points of a text, and cuts in it, that are tried.
_LONGEST = 1_000
_CUTS = 16
#: What may follow any text: nothing, the end of a word, more of it, an accent, the end of a line, and what completes
#: addresses, numbers, quotes and blocks.
_ENDINGS = ("", " ", "a", "Z9", "7", "-", "\u0301", "\u0327e", "\n", "\r\n\r\n", '" ;', "@example.com ", " 1111 1111")

#: One finding, as the promises compare it: place, category, score, reasons.
_Seen = tuple[int, int, str, float, tuple[str, ...]]


class BrokenPromise(Exception):  # noqa: N818 - a signal to the caller, who says which detector and which sample
    """Raised when a promise is broken; the message says which one and where, and holds no text."""


def check_growth(detector: Detector, text: str, endings: Iterable[str] = (), *, cuts: int = _CUTS) -> None:
    """Try both promises of an `Incremental` detector at places all over a text, and where its findings begin and end.

    Args:
        detector: one with ``settled`` and ``context``; others are left alone.
        text: that grows; its first 1,000 code points are looked at.
        endings: what it is continued with at each cut, beside its own rest and some of ours.
        cuts: how many places of each kind are tried.

    Raises:
        BrokenPromise: a continuation changes what was settled, or looking from ``context`` on finds something else.
    """
    if not isinstance(detector, Incremental):
        return
    text = text[:_LONGEST]
    for cut in _cuts(len(text), _edges(detector, text), cuts):
        rests = dict.fromkeys((text[cut:], *_ENDINGS, *endings))
        _Cut(detector, detector, text[:cut], list(rests)).check()


class _Cut:
    """A text that has come so far, and all its continuations."""

    def __init__(self, detector: Detector, growing: Incremental, head: str, rests: list[str]) -> None:
        self._find = detector.detect
        self._growing = growing
        self._head = head
        self._rests = rests

    def check(self) -> None:
        settled = self._settled(self._head)
        now, *later = self._found(self._head, ["", *self._rests])
        self._same(now, later, lambda start: start < settled, "settled: a finding before that place changes")

        start = settled
        for one in sorted(now, reverse=True):
            if one[0] < start < one[1]:
                start = one[0]
        low = self._growing.context(self._head, start)
        if type(low) is not int or not 0 <= low <= start:
            raise BrokenPromise(f"context: gives {low!r} for {start}, which is no place before that")
        here, *there = self._found(self._head[low:], ["", *self._rests], low)
        problem = f"context: from {low} on the findings behind {start} differ"
        for before, after in zip((now, *later), (here, *there), strict=True):
            self._same(before, [after], lambda place: place >= start, problem)
        again = low + self._settled(self._head[low:])
        problem = f"settled: from {low} on a finding before {again} changes"
        self._same(now, later, lambda place: start <= place < again, problem)

    def _settled(self, text: str) -> int:
        place = self._growing.settled(text)
        if type(place) is not int or not 0 <= place <= len(text):
            raise BrokenPromise(f"settled: gives {place!r} for {len(text)} code points")
        return place

    def _found(self, head: str, rests: Sequence[str], low: int = 0) -> list[list[_Seen]]:
        answers = self._find([Text(head + rest) for rest in rests])
        return [sorted(_seen(finding, low) for finding in findings) for findings in answers]

    def _same(self, now: list[_Seen], later: list[list[_Seen]], wanted: Callable[[int], bool], problem: str) -> None:
        first = [one for one in now if wanted(one[0])]
        for number, found in enumerate(later):
            if [one for one in found if wanted(one[0])] != first:
                raise BrokenPromise(f"cut at {len(self._head)}, continuation {number}: {problem}")


def _seen(finding: Finding, low: int) -> _Seen:
    if finding.span is None:
        raise BrokenPromise(f"a finding of {finding.category} has no span, so that no part of a text is ever settled")
    start, end = finding.span
    return start + low, end + low, finding.category, finding.score, finding.reasons


def _edges(detector: Detector, text: str) -> set[int]:
    (findings,) = detector.detect([Text(text)])
    places = {place for finding in findings if finding.span for place in finding.span}
    return {place + by for place in places for by in (-1, 0, 1)}


def _cuts(size: int, edges: set[int], count: int) -> list[int]:
    """The ends, as many places spread over the text, and those where findings begin and end."""
    spread = {size * number // count for number in range(count + 1)} | {1, size - 1}
    inside = sorted(edge for edge in edges if 0 <= edge <= size)
    chosen = inside[:: max(1, len(inside) // count)]
    return sorted({place for place in (*spread, *chosen) if 0 <= place <= size})
