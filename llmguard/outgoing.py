"""What went out of a text that grows, and what findings can still change of it.

What is out can't be taken back: a finding that reaches into it is not redacted any more, it blocks. What is not out yet
goes out cleared of what was found in it, and never cut off in the middle of a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmguard.detectors.covered import Covered
from llmguard.hits import Hit, acts, demoted, moved, severity, shifted, span_of
from llmguard.running import Verdict
from llmguard.types import Action

#: How a piece is cleared: its text, the findings in it with their rules.
Clear = Callable[[str, Sequence[Hit]], str]


class Outgoing:
    """What went out of one text.

    Args:
        clear: puts something in the place of findings.
        whole: whether all that goes out is cleared, what nothing was found in, too.

    Attributes:
        gone: up to where the text went out.
        done: what was taken out of what went out.
        marks: what windows found that is still to go out, in places of the whole text.
        changed: whether the last piece went out otherwise than it came.
    """

    __slots__ = ("_clear", "_redacted", "_replaced", "_whole", "changed", "done", "gone", "marks")

    def __init__(self, clear: Clear, *, whole: bool) -> None:
        self._clear = clear
        self._whole = whole
        self._replaced: list[tuple[int, int, str]] = []
        self._redacted: set[tuple[int, int]] = set()
        self.gone = 0
        self.done: list[Hit] = []
        self.marks: list[Hit] = []
        self.changed = False

    def cleared(self, whole: str) -> str:
        """What went out of a text, before placeholders were restored."""
        parts, at = [], 0
        for start, end, text in self._replaced:
            parts += [whole[at:start], text]
            at = end
        return "".join([*parts, whole[at : self.gone]])

    def upto(self, window: str, base: int, place: int, found: Sequence[Hit]) -> str:
        """The text up to a place, or to where a finding begins that reaches across it, cleared: it goes out.

        Args:
            window: the text from ``base`` on.
            base: where it begins in the whole text.
            place: in the whole text.
            found: what is to be taken out beside ``marks``.
        """
        self.changed = False
        hits = [*found, *self.marks]
        for finding, _ in sorted(hits, key=lambda hit: -span_of(hit)[0]):
            start, end = finding.span or (0, 0)
            if start < place < end:
                place = start
        if place <= self.gone:
            return ""
        piece = window[self.gone - base : place - base]
        inside = [hit for hit in hits if span_of(hit)[0] < place]
        if inside or self._whole:
            here = [(moved(finding, shifted(finding, self.gone)), rule) for finding, rule in inside]
            raw, piece = piece, self._clear(piece, here)
            if piece != raw:
                self._replaced.append((self.gone, place, piece))
                self.changed = True
            self._redacted.update(span_of(hit) for hit in inside)
            self.done += inside
            self.marks = [hit for hit in self.marks if span_of(hit)[0] >= place]
        self.gone = place
        return piece

    def of_look(self, verdict: Verdict, end: int, base: int, settled: int, sure: int) -> list[Hit]:
        """The findings of a look that are final and not yet gone, in places of the whole text.

        Args:
            verdict: of the look.
            end: of what was looked at, as ``settled`` in its own places.
            base: where it begins in the whole text.
            settled: up to where what was found is final.
            sure: from where on what was found there is found in the whole text, in its places.
        """
        found: list[Hit] = []
        for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
            start, stop = finding.span or (0, end)
            if start >= settled or base + stop <= self.gone or finding.action is Action.ALLOW:
                continue
            if base + start < sure:
                continue  # told in an earlier look, or only seems so because what stands before it is not there
            span = base + start, base + stop
            hit = moved(finding, span), rule
            if span[0] < self.gone and finding.action is Action.REDACT:
                # It should have been told before its beginning went out.
                hit = moved(finding, span, Action.BLOCK), rule
            if acts(hit) and finding.action.severity >= Action.REDACT.severity:
                found.append(hit)
        return found

    def of_whole(self, verdict: Verdict, length: int) -> tuple[Action, list[Hit], list[Hit]]:
        """What the findings of the whole text come to: an action, the findings, those still to be taken out.

        Args:
            verdict: of the check at the end.
            length: of the text.
        """
        hits: list[Hit] = []
        tail: list[Hit] = []
        taken_out = Covered(self._redacted)
        action = Action.ALLOW
        for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
            if finding.text:
                continue
            hit: Hit = (finding, rule)
            if not acts(hit):
                hit = demoted(finding), rule
            action = max(action, hit[0].action, key=severity)
            hits.append(hit)
            start, end = finding.span or (0, length)
            if hit[0].action is not Action.REDACT:
                continue
            if start >= self.gone:
                tail.append((moved(finding, (start, end)), rule))
            elif not taken_out.covers(start, end):
                # It went out, or began to, before the rest showed what it is, and can't be taken back.
                action = Action.BLOCK
        told = {(finding.detector, finding.category, finding.span) for finding, _ in hits}
        marked = (*self.done, *self.marks)
        alone = [hit for hit in marked if (hit[0].detector, hit[0].category, hit[0].span) not in told]
        if alone:  # windows showed it, and it was taken out, though the whole text does not show it
            action = max(action, Action.REDACT, key=severity)
        known = {finding for finding, _ in tail}
        return action, hits + alone, [*tail, *(mark for mark in self.marks if mark[0] not in known)]
