"""The windows of a text that detectors of `windowed` rules look at, one after the other, as they fill.

Sans-I/O. Each window is looked at together with the one before it, so that what lies across their border is seen; what
two looks show alike is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from llmguard.hits import Hit, acts, moved, span_of, withheld
from llmguard.pipeline import Pipeline
from llmguard.running import Run, Verdict
from llmguard.stream_plan import window_end
from llmguard.types import Action, Role, Stage, Text

#: Takes what a window showed, in places of the whole text; says whether the text still goes on.
Take = Callable[[Verdict, list[Hit]], bool]


class Windows:
    """The windows of one text.

    Args:
        pipeline: of the policy.
        stage: when the text is looked at.
        role: who it comes from.
        path: where it stands.
        tokens: of a window.

    Attributes:
        released: up to where windows were looked at.
        needed: from where on the next look needs the text: where the window before it began.
    """

    __slots__ = ("_marked", "_path", "_pipeline", "_role", "_stage", "_steps", "_tokens", "needed", "released")

    def __init__(self, pipeline: Pipeline, stage: Stage, role: Role, path: str, tokens: int) -> None:
        self._pipeline = pipeline
        self._stage = stage
        self._steps = pipeline.stream(stage).windowed
        self._role = role
        self._path = path
        self._tokens = tokens
        self._marked: set[tuple[int, int]] = set()  # where all stands that windows found
        self.needed = 0
        self.released = 0

    def look(self, seen: str, base: int, take: Take) -> Generator[Run, None, None]:
        """Look at the windows that are full. Yields the runs that have to be waited for.

        Args:
            seen: the text from ``base`` on, well-formed; ``base`` is not behind ``needed``.
            base: where it begins in the whole text.
            take: is told what each of them showed.
        """
        while True:
            start, before = self.released, self.needed
            end = window_end(seen, start - base, self._tokens)
            if end is None:
                return
            text = Text(seen[before - base : end], self._role, self._path)
            run = self._pipeline.look(self._stage, self._steps, text)
            if run.pending:
                yield run
            verdict = run.verdicts[0]
            self.needed, self.released = start, base + end
            found: list[Hit] = []
            for finding, rule in zip(verdict.findings, verdict.rules, strict=True):
                from_, to = finding.span or (0, len(text.content))
                hit = moved(finding, (before + from_, before + to)), rule
                if acts(hit) and finding.action.severity >= Action.REDACT.severity and not self._known(hit):
                    found.append(withheld(hit, start))
            if not take(verdict, found):
                return
            self._marked.update([span_of(hit) for hit in found])

    def _known(self, hit: Hit) -> bool:
        """Whether an earlier window showed the same, and it is taken out."""
        return hit[0].action is Action.REDACT and span_of(hit) in self._marked
