"""One text of a stream: what of it may go out, as it grows.

Sans-I/O. A text goes out up to a place behind which alone something may still be found that changes it; what is before
is looked at first, beside as much of what went out already as its detectors need. At its end the text is checked as a
whole, as if it had never come in pieces, so a stream decides as a check does.

Where all of a text is held back to its end, the detectors that can tell what is final and may block look at it all the
same: what they find no continuation can undo, so that the check of the whole text could say nothing but block.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from llmguard.gathered import Gathered
from llmguard.hits import Hit, severity, uncrossed, well_formed
from llmguard.outgoing import Clear, Outgoing
from llmguard.pipeline import Pipeline
from llmguard.running import Run, Verdict, clean
from llmguard.types import FAILED, Action, DetectorRun, Finding, Role, Stage, Text
from llmguard.watching import Watching
from llmguard.windowed import Windows

# A tail that is held back for long is looked at again after it has grown by this share: the looks stay linear in all.
_PATIENCE = 16

# Code points that were looked at and are kept before it is worth asking how many of them are needed: fewer where each
# look would judge again what was found in them; so many have to come until it is asked again, too.
_KEPT = 256
_KEPT_FOUND = 32

# Code points above which a window is looked at again only after it has grown by a share: some detectors need all that
# came before, and each look at it would cost as much as all of it.
_LONG = 1_024


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
        "_ask",
        "_base",
        "_clean",
        "_due",
        "_fresh",
        "_held",
        "_length",
        "_out",
        "_passed",
        "_path",
        "_pipeline",
        "_ready",
        "_role",
        "_stage",
        "_sure",
        "_uncrossed",
        "_watching",
        "_window",
        "_windows",
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
        stream = pipeline.stream(stage)
        self._pipeline = pipeline
        self._stage = stage
        self._role = role
        self._path = path
        self._held = held = whole or stream.held
        self._out = Outgoing(clear, whole=whole)
        self._watching = Watching(stream.ending if held else stream.strict)
        self._windows = None if held or not stream.windowed else Windows(pipeline, stage, role, path, window)
        self._clean = True  # the detectors have found nothing in the window so far
        self._all = Gathered()
        self._length = 0
        self._window = ""  # the text from ``_base`` on, without what is ``_fresh``
        self._base = 0
        self._fresh: list[str] = []
        self._due = 0  # the length of the text from which on it is worth another look
        self._passed = 0  # up to where it was looked at; it went out up to there if nothing holds all of it back
        self._uncrossed = 0  # the last place up to there that no finding reaches across
        self._ask = 0  # from where on it is worth asking what is needed of what was looked at
        self._sure = 0  # from where on what is found in the window is found in the text
        self._ready = ""  # what goes out with the rest
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
        return self._out.gone

    def cleared(self) -> str:
        """What went out, before placeholders were restored."""
        return self._out.cleared(self.whole)

    def keep(self, piece: str) -> None:
        """Take one more piece that has gone out already, for the check at the end."""
        self._all.write(piece)
        self._length += len(piece)

    def feed(self, piece: str) -> Generator[Run, None, str]:
        """What may go out after one more piece. Yields the runs that have to be waited for."""
        self.keep(piece)
        if self.action is Action.BLOCK or (self._held and not self._watching.steps):
            return ""
        self._fresh.append(piece)
        return "" if self._length < self._due else (yield from self._looked())

    def _looked(self) -> Generator[Run, None, str]:
        """What may go out of all that came."""
        window = self._window = self._window + "".join(self._fresh)
        self._fresh.clear()
        seen = well_formed(window)
        if self._windows is not None:
            yield from self._windows.look(seen, self._base, self._mark)
        piece = "" if self.action is Action.BLOCK else (yield from self._look(window, seen))
        kept = _KEPT if self._clean else _KEPT_FOUND
        if self._uncrossed - self._base >= kept and self._uncrossed >= self._ask:
            self._forget(window)
        self._due = max(self._due, self._length + (self._length - self._base - _LONG) // _PATIENCE)
        return piece

    def _look(self, window: str, seen: str) -> Generator[Run, None, str]:
        """What may go out of the window, once the detectors have looked at it."""
        watching, base = self._watching, self._base
        place = len(seen) if self._windows is None else self._windows.released - base
        settled = watching.settled(seen, place, self._passed - base)
        if watching.broken:
            self._judge_broken()
            if self.action is Action.BLOCK:
                return ""
        if base + settled <= self._passed:
            self._due = self._length + max(1, (self._length - self._passed) // _PATIENCE)
            return ""
        found: list[Hit] = []
        shown: Sequence[Finding] = ()
        steps = watching.steps
        text = Text(seen, self._role, self._path)
        if steps and not (self._clean and clean(steps, text)):
            self._clean = False  # what was found stands there for a while
            run = self._pipeline.look(self._stage, steps, text)
            if run.pending:
                yield run
            verdict = run.verdicts[0]
            shown = verdict.findings
            found = self._out.of_look(verdict, len(window), base, settled, self._sure)
            if not self._take(verdict, found):
                return ""
        if self._held:
            piece, self._passed = "", base + settled
        else:
            piece = self._out.upto(window, base, base + settled, found)
            if self._out.changed:
                self.action = max(self.action, Action.REDACT, key=severity)
            self._passed = self._out.gone
        self._due = self._length + 1
        self._uncrossed = base + uncrossed(shown, self._passed - base)
        return piece

    def close(self, beside: Sequence[Text] = ()) -> Generator[Run, None, str]:
        """What goes out at the end: the whole text is checked. Yields the runs that have to be waited for.

        Args:
            beside: texts that belong to the same decision, such as the documents that an answer must keep to.
        """
        if self._windows is not None:
            # Which windows a text has depends on it alone, not on how patient the last look was.
            piece = yield from self._looked()
            self._ready += piece  # who is cancelled from here on closes again
        if self.blocked:
            return ""
        whole = self.whole
        text = Text(well_formed(whole), self._role, self._path)
        together = beside if self._pipeline.together(self._stage) else ()
        run = self._pipeline.start(self._stage, [[text, *together]])
        if run.pending:
            yield run
        tail = self._final(run.verdicts[0])
        if self.blocked:
            return ""
        base = self._out.gone
        self._out.marks = tail  # of which nothing is lost where the vault refuses, and who asked closes again
        rest = self._out.upto(whole[base:], base, self._length, ())
        if self._out.changed:
            self.action = max(self.action, Action.REDACT, key=severity)
        piece, self._ready = self._ready + rest, ""
        return piece

    def _mark(self, verdict: Verdict, found: list[Hit]) -> bool:
        """Whether the text still goes on after what a window showed; it is taken out before the text goes out."""
        if goes_on := self._take(verdict, found):
            self._out.marks += found
        return goes_on

    def _take(self, verdict: Verdict, found: Sequence[Hit]) -> bool:
        """Block where a finding or a detector that could not say leads to it; whether the text still goes on."""
        blocked = any(finding.action is Action.BLOCK for finding, _ in found)
        if verdict.failed and self._held:
            self._watching.stop()
        elif verdict.failed:
            failures = [self._failure(run) for run in verdict.runs if run.outcome in FAILED]
            blocked = blocked or Action.BLOCK in failures
        if blocked:
            self._block(found, verdict.runs, verdict.failed)
        return self.action is not Action.BLOCK

    def _judge_broken(self) -> None:
        """Block where a detector that could not say what is final leads to it."""
        broken, self._watching.broken = self._watching.broken, []
        if self._held:
            self._watching.stop()  # nothing goes out before the check at the end, which meets it again
            return
        for run in broken:
            if self._failure(run) is Action.BLOCK:
                self._block((), [run._replace(failure_mode="closed")], 1)

    def _block(self, found: Sequence[Hit], runs: list[DetectorRun], failed: int) -> None:
        """Let nothing more out; the detectors that have not looked need not look any more."""
        self.action = Action.BLOCK
        self.hits = [*self._out.done, *found]
        self.runs = [*runs, *self._pipeline.unasked(self._stage, runs)]
        self.failed = failed

    def _failure(self, run: DetectorRun) -> Action:
        action = self._pipeline.plan(self._stage).failure(run.detector)[0]
        modes = self._pipeline.stream(self._stage).modes
        if modes.get(run.detector) == "observe" and action.severity > Action.FLAG.severity:
            return Action.FLAG
        return action

    def _final(self, verdict: Verdict) -> list[Hit]:
        """Decide about the whole text; the findings that are still to be taken out."""
        action, self.hits, tail = self._out.of_whole(verdict, self._length)
        failures = [self._failure(run) for run in verdict.runs if run.outcome in FAILED]
        self.action = max([action, *failures], key=severity)
        self.runs, self.failed = verdict.runs, verdict.failed
        return tail

    def _forget(self, window: str) -> None:
        """Keep only as much of what was looked at as the detectors need to judge what comes."""
        self._ask = self._uncrossed + _KEPT_FOUND
        keep = self._watching.needed(well_formed(window), self._uncrossed - self._base)
        if self._watching.broken:
            self._judge_broken()
        if self._windows is not None:
            keep = min(keep, self._windows.needed - self._base)
        if keep:
            self._window = window[keep:]
            self._base += keep
            self._sure = self._uncrossed
            self._clean = True
