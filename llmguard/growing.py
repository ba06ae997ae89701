"""One text of a stream: what of it may go out, as it grows.

Sans-I/O. A text goes out up to a place behind which alone something may still be found that changes it; what is before
is looked at first, beside as much of what went out already as its detectors need. At its end the text is checked as a
whole, as if it had never come in pieces, so a stream decides as a check does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from llmguard.gathered import Gathered
from llmguard.hits import Hit, acts, checked, demoted, moved, severity, shifted, span_of, well_formed, withheld
from llmguard.pipeline import Pipeline
from llmguard.policy_plan import StagePlan
from llmguard.running import Run, Step, Verdict, clean
from llmguard.stream_plan import StreamPlan, window_end
from llmguard.types import FAILED, Action, DetectorRun, Outcome, Role, Stage, Text

# A tail that is held back for long is looked at again after it has grown by this share: the looks stay linear in all.
_PATIENCE = 16

# Code points that went out and are kept before it is worth asking how many of them are needed.
_KEPT = 256

#: How a piece is cleared: its text, the findings in it with their rules.
Clear = Callable[[str, Sequence[Hit]], str]


class Growing:
    """A text that comes in pieces.

    Args:
        pipeline: of the policy.
        stage: when the text is looked at.
        role: who it comes from.
        path: where it stands.
        window: tokens of a window.
        clear: puts something in the place of findings.
        whole: whether the text has to be cleared in one piece, so that nothing goes out before its end.

    Attributes:
        hits: findings with the rules that decided them; of the whole text once it has ended or was blocked.
        runs: how the detectors fared at the end, or in the look that blocked.
        failed: how many of them could not say.
        action: the strongest action so far.
    """

    __slots__ = (
        "_all",
        "_base",
        "_clean",
        "_clear",
        "_done",
        "_due",
        "_fresh",
        "_gone",
        "_held",
        "_in_one_piece",
        "_length",
        "_marks",
        "_path",
        "_pipeline",
        "_plan",
        "_redacted",
        "_released",
        "_replaced",
        "_role",
        "_seen",
        "_stage",
        "_stream",
        "_tokens",
        "_window",
        "action",
        "failed",
        "hits",
        "runs",
    )

    def __init__(
        self,
        pipeline: Pipeline,
        stage: Stage,
        role: Role,
        path: str,
        window: int,
        clear: Clear,
        *,
        whole: bool = False,
    ) -> None:
        self._pipeline = pipeline
        self._plan: StagePlan = pipeline.plan(stage)
        self._stream: StreamPlan[Step] = pipeline.stream(stage)
        self._stage = stage
        self._role = role
        self._path = path
        self._tokens = window
        self._clear = clear
        self._in_one_piece = whole
        self._held = whole or self._stream.held
        self._clean = True  # the detectors have found nothing in the window so far
        self._all = Gathered()
        self._length = 0
        self._window = ""  # the text from ``_base`` on, without what is ``_fresh``
        self._base = 0
        self._fresh: list[str] = []
        self._due = 0  # the length of the text from which on it is worth another look
        self._gone = 0  # up to where the text went out
        self._seen = 0  # where the window before the last one began
        self._released = 0  # up to where windows were looked at
        self._marks: list[Hit] = []  # what windows found that is still to go out, in places of the whole text
        self._replaced: list[tuple[int, int, str]] = []
        self._redacted: set[tuple[int, int]] = set()
        self._done: list[Hit] = []  # what was taken out of what went out
        self.hits: list[Hit] = []
        self.runs: list[DetectorRun] = []
        self.failed = 0
        self.action = Action.ALLOW

    @property
    def whole(self) -> str:
        """The text as it came."""
        return self._all.getvalue()

    @property
    def blocked(self) -> bool:
        """Whether nothing more may go out."""
        return self.action is Action.BLOCK

    @property
    def gone(self) -> int:
        """Up to where the text went out, in code points of what came."""
        return self._gone

    def cleared(self) -> str:
        """What went out, before placeholders were restored."""
        whole, parts, at = self.whole, [], 0
        for start, end, text in self._replaced:
            parts += [whole[at:start], text]
            at = end
        return "".join([*parts, whole[at : self._gone]])

    def keep(self, piece: str) -> None:
        """Take one more piece that has gone out already, for the check at the end."""
        self._all.write(piece)
        self._length += len(piece)

    def feed(self, piece: str) -> Generator[Run, None, str]:
        """What may go out after one more piece. Yields the runs that have to be waited for."""
        self.keep(piece)
        if self._held or self.action is Action.BLOCK:
            return ""
        self._fresh.append(piece)
        if self._length < self._due:
            return ""
        window = self._window = self._window + "".join(self._fresh)
        self._fresh.clear()
        seen = well_formed(window)
        if self._stream.windowed:
            yield from self._look_at_windows(seen)
        piece = "" if self.blocked else (yield from self._look(window, seen))
        if self._gone - self._base >= _KEPT:
            self._forget(window)
        return piece

    def _look(self, window: str, seen: str) -> Generator[Run, None, str]:
        """What may go out of the window, once the detectors have looked at it."""
        settled = self._settled(seen)
        if self.action is Action.BLOCK:
            return ""
        if self._base + settled <= self._gone:
            self._due = self._length + max(1, (self._length - self._gone) // _PATIENCE)
            return ""
        found: list[Hit] = []
        strict = self._stream.strict
        text = Text(seen, self._role, self._path)
        if strict and not (self._clean and clean(strict, text)):
            self._clean = False  # what was found stands there for a while
            run = self._pipeline.look(self._stage, strict, text)
            if run.pending:
                yield run
            found = self._judged(run.verdicts[0], self._base, settled)
            if self.blocked:
                return ""
        return self._out(window, self._base + settled, found)

    def close(self, beside: Sequence[Text] = ()) -> Generator[Run, None, str]:
        """What goes out at the end: the whole text is checked. Yields the runs that have to be waited for.

        Args:
            beside: texts that belong to the same decision, such as the documents that an answer must keep to.
        """
        if self.blocked:
            return ""
        whole = self.whole
        text = Text(well_formed(whole), self._role, self._path)
        together = beside if self._pipeline.together(self._stage) else ()
        run = self._pipeline.start(self._stage, [[text, *together]])
        if run.pending:
            yield run
        verdict = run.verdicts[0]
        tail = self._final(verdict, self._length)
        if self.blocked:
            return ""
        self._window, self._base = whole[self._gone :], self._gone
        self._fresh.clear()
        self._marks.clear()
        return self._out(self._window, self._length, tail)

    def _settled(self, seen: str) -> int:
        place = end = len(seen)
        if self._stream.windowed:
            place = self._released - self._base
        gone = self._gone - self._base
        for step, growing in zip(self._stream.strict, self._stream.growing, strict=True):
            if place <= gone:
                break
            try:
                settled = checked(step.name, growing.settled(seen), end)
                if settled < place:
                    place = settled
            except Exception as error:  # noqa: BLE001 - whatever a detector does, the policy decides what follows
                self._broken(step, error)
        return place

    def _broken(self, step: Step, error: Exception) -> None:
        run = DetectorRun(step.name, step.version, Outcome.ERROR, error=type(error).__qualname__)
        if self._failure(run) is Action.BLOCK:
            self.action = Action.BLOCK
            self.runs = [run._replace(failure_mode="closed")]
            self.failed = 1

    def _judged(self, verdict: Verdict, base: int, settled: int) -> list[Hit]:
        """The findings of a look that are final and not yet gone, in places of the whole text."""
        found: list[Hit] = []
        if not verdict.findings and not verdict.failed:
            return found
        for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
            start, end = finding.span or (0, len(self._window))
            if start >= settled or base + end <= self._gone or finding.action is Action.ALLOW:
                continue
            span = base + start, base + end
            hit = moved(finding, span), rule
            if span[0] < self._gone and finding.action is Action.REDACT:
                # It should have been told before its beginning went out.
                hit = moved(finding, span, Action.BLOCK), rule
            if acts(hit) and finding.action.severity >= Action.REDACT.severity:
                found.append(hit)
        self._take(verdict, found)
        return found

    def _take(self, verdict: Verdict, found: Sequence[Hit]) -> None:
        """Block where a finding or a detector that could not say leads to it."""
        blocked = any(finding.action is Action.BLOCK for finding, _ in found)
        if verdict.failed:
            failures = [self._failure(run) for run in verdict.runs if run.outcome in FAILED]
            blocked = blocked or Action.BLOCK in failures
        if blocked:
            self.action = Action.BLOCK
            self.hits += found
            self.runs = verdict.runs
            self.failed = verdict.failed

    def _failure(self, run: DetectorRun) -> Action:
        action = self._plan.failure(run.detector)[0]
        if self._stream.modes.get(run.detector) == "observe" and action.severity > Action.FLAG.severity:
            return Action.FLAG
        return action

    def _look_at_windows(self, seen: str) -> Generator[Run, None, None]:
        while True:
            start = self._released
            end = window_end(seen, start - self._base, self._tokens)
            if end is None:
                return
            text = Text(seen[self._seen - self._base : end], self._role, self._path)
            run = self._pipeline.look(self._stage, self._stream.windowed, text)
            if run.pending:
                yield run
            verdict = run.verdicts[0]
            base = self._seen
            self._seen, self._released = start, self._base + end
            found: list[Hit] = []
            for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
                from_, to = finding.span or (0, len(text.content))
                hit = moved(finding, (base + from_, base + to)), rule
                if acts(hit) and finding.action.severity >= Action.REDACT.severity and not self._known(hit):
                    found.append(withheld(hit, start))
            self._take(verdict, found)
            if self.blocked:
                return
            self._marks += found

    def _known(self, hit: Hit) -> bool:
        """Whether an earlier window showed the same, and it is taken out."""
        span = span_of(hit)
        return hit[0].action is Action.REDACT and (
            span in self._redacted or any(span_of(mark) == span for mark in self._marks)
        )

    def _taken_out(self, start: int, end: int) -> bool:
        return any(first <= start and end <= last for first, last in self._redacted)

    def _shown_by_windows(self) -> Action:
        """Add what windows alone showed, and was taken out, to what the whole text shows."""
        told = {(finding.detector, finding.category, finding.span) for finding, _ in self.hits}
        alone = [
            hit for hit in (*self._done, *self._marks) if (hit[0].detector, hit[0].category, hit[0].span) not in told
        ]
        self.hits += alone
        return Action.REDACT if alone else Action.ALLOW

    def _final(self, verdict: Verdict, length: int) -> list[Hit]:
        """The findings of the whole text, and of them those that are still to go out."""
        tail: list[Hit] = []
        action = Action.ALLOW
        for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
            if finding.text:
                continue
            hit: Hit = (finding, rule)
            if not acts(hit):
                hit = demoted(finding), rule
            action = max(action, hit[0].action, key=severity)
            self.hits.append(hit)
            start, end = finding.span or (0, length)
            if hit[0].action is not Action.REDACT:
                continue
            if start >= self._gone:
                tail.append((moved(finding, (start, end)), rule))
            elif not self._taken_out(start, end):
                # It went out, or began to, before the rest showed what it is, and can't be taken back.
                action = Action.BLOCK
        for run in verdict.runs:
            if run.outcome in FAILED:
                action = max(action, self._failure(run), key=severity)
        self.runs, self.failed = verdict.runs, verdict.failed
        self.action = max(action, self._shown_by_windows(), key=severity)
        tail += [hit for hit in self._marks if hit not in tail]
        return tail

    def _out(self, window: str, place: int, found: Sequence[Hit]) -> str:
        """The text up to a place, or to where a finding begins that reaches across it, cleared."""
        hits = [*found, *self._marks]
        for finding, _ in sorted(hits, key=lambda hit: -span_of(hit)[0]):
            start, end = finding.span or (0, 0)
            if start < place < end:
                place = start
        if place <= self._gone:
            self._due = self._length + 1
            return ""
        piece = window[self._gone - self._base : place - self._base]
        inside = [hit for hit in hits if span_of(hit)[0] < place]
        if inside or self._in_one_piece:
            here = [(moved(finding, shifted(finding, self._gone)), rule) for finding, rule in inside]
            raw, piece = piece, self._clear(piece, here)
            if piece != raw:
                self._replaced.append((self._gone, place, piece))
                self.action = max(self.action, Action.REDACT, key=severity)
            self._redacted.update(span_of(hit) for hit in inside)
            self._done += inside
            self._marks = [hit for hit in self._marks if span_of(hit)[0] >= place]
        self._gone = place
        self._due = self._length + 1
        return piece

    def _forget(self, window: str) -> None:
        """Keep only as much of what went out as the detectors need to judge what comes."""
        seen = well_formed(window)
        start = self._gone - self._base
        keep = start
        for step, growing in zip(self._stream.strict, self._stream.growing, strict=True):
            try:
                keep = min(keep, checked(step.name, growing.context(seen, start), start))
            except Exception as error:  # noqa: BLE001 - see `_settled`
                self._broken(step, error)
                keep = 0
        if self._stream.windowed:
            keep = min(keep, self._seen - self._base)
        self._window = window[keep:]
        self._base += keep
        self._clean = True
