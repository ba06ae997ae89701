"""One pass of detectors over texts: the cheap ones at once, the others on threads.

A sans-I/O core with two thin edges that wait: `Run.wait` and `Run.wait_async`; `Run.verdicts` says what came out. No
detector can take the call down.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llmguard import limits
from llmguard.answers import validated
from llmguard.breaker import Breaker
from llmguard.errors import DeadlineError, LlmGuardError
from llmguard.policy import Rule, StagePlan
from llmguard.turns import Turns
from llmguard.types import Action, DetectorRun, Finding, Incremental, Outcome, Text
from llmguard.workers import Task, Workers

#: Code points of one check above which inline detectors go to the workers too: past it they would
#: hold up an event loop for more than about a millisecond, and no deadline could stop them.
INLINE_LIMIT = 32_768
#: Code points up to which one thread works at a time: longer scans are worth running side by side.
TURN_LIMIT = 8_192

_ONE_AT_A_TIME = Turns()
_SIDE_BY_SIDE = Turns(os.cpu_count() or 1)

Found = Sequence[Sequence[Finding]]


@dataclass(slots=True)
class Verdict:
    """What came out for one group of texts.

    Attributes:
        texts: what was looked at.
        findings: with their actions; ``text`` is the index in ``texts``.
        rules: for each finding the rule that decided it, or None when no rule matched.
        action: the strongest action so far.
        runs: how the detectors fared.
        planned: how many detectors the stage has.
        failed: how many of them could not say.
    """

    texts: Sequence[Text]
    planned: int
    findings: list[Finding] = field(default_factory=list)
    rules: list[Rule | None] = field(default_factory=list)
    action: Action = Action.ALLOW
    runs: list[DetectorRun] = field(default_factory=list)
    failed: int = 0

    @property
    def coverage(self) -> float:
        """Share of the planned detectors that looked, or did not have to since the texts were blocked already."""
        return (self.planned - self.failed) / self.planned if self.planned else 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One detector as one stage runs it."""

    name: str
    version: str
    detect: Callable[[Sequence[Text]], Found]
    categories: frozenset[str]
    breaker: Breaker
    deadline_s: float
    inline: bool
    together: bool = False
    growing: Incremental | None = None


class _Answer(NamedTuple):
    """What a detector on a worker said or raised, when it began and how long it took."""

    found: object
    error: BaseException | None
    began: float
    seconds: float


class _Job(NamedTuple):
    step: Step
    groups: list[int]
    task: Task[_Answer]
    started: float


class Run:
    """One pass of a stage's detectors over the texts of one or more decisions."""

    __slots__ = ("_flat", "_jobs", "_plan", "_workers", "verdicts")

    def __init__(
        self,
        plan: StagePlan,
        inline: tuple[Step, ...],
        pooled: tuple[Step, ...],
        groups: Sequence[Sequence[Text]],
        workers: Workers,
    ) -> None:
        self._plan = plan
        self._workers = workers
        self._jobs: list[_Job] = []
        planned = len(inline) + len(pooled)
        self.verdicts = [Verdict(texts, planned) for texts in groups]
        self._flat = groups[0] if len(groups) == 1 else [text for group in groups for text in group]
        later = inline + pooled
        left = []
        for index, verdict in enumerate(self.verdicts):
            if verdict.texts:
                left.append(index)
            else:
                verdict.runs += [DetectorRun(step.name, step.version, Outcome.SKIPPED) for step in later]
        if not left:
            return
        size = sum([len(text.content) for text in self._flat])
        if size <= INLINE_LIMIT:
            later = pooled
            turns = _ONE_AT_A_TIME if size <= TURN_LIMIT else _SIDE_BY_SIDE
            turn = turns.take() if inline else None
            try:
                for step in inline:
                    self._inline(step, left)
            finally:
                if turn is not None:
                    turn.release()
            if later:
                left = self._skip_blocked(later, left)
        if left:
            for step in later:
                self._submit(step, left)

    @property
    def pending(self) -> bool:
        """Whether detectors still run on the workers."""
        return bool(self._jobs)

    def wait(self) -> list[Verdict]:
        """Block until every detector has answered or its deadline has passed."""
        for job in self._jobs:  # a batch that fails appends one job for each of its groups
            concurrent.futures.wait((job.task.future,), timeout=_left(job))
            self._collect(job)
        self._jobs.clear()
        return self.verdicts

    async def wait_async(self) -> list[Verdict]:
        """`wait` for an event loop; when the caller is cancelled, nothing is waited for any more."""
        try:
            for job in self._jobs:
                if not job.task.future.done():
                    await asyncio.wait((asyncio.wrap_future(job.task.future),), timeout=_left(job))
                self._collect(job)
        except BaseException:
            self.cancel()
            raise
        self._jobs.clear()
        return self.verdicts

    def cancel(self) -> None:
        """Stop waiting: tasks that have not begun are dropped, and the breakers learn nothing."""
        for job in self._jobs:
            job.step.breaker.release()
            self._workers.abandon(job.task)
        self._jobs.clear()

    def _skip_blocked(self, steps: tuple[Step, ...], groups: list[int]) -> list[int]:
        left = []
        for index in groups:
            verdict = self.verdicts[index]
            if verdict.action is Action.BLOCK:
                verdict.runs += [DetectorRun(step.name, step.version, Outcome.SKIPPED) for step in steps]
            else:
                left.append(index)
        return left

    def _inline(self, step: Step, groups: list[int]) -> None:
        if step.together and len(groups) > 1:
            for index in groups:
                self._inline(step, [index])
            return
        if not step.breaker.allow():
            self._failed(step, groups, Outcome.OPEN)
            return
        texts = self._texts(groups)
        started = time.perf_counter()
        try:
            found = step.detect(texts)
            self._accept(step, groups, texts, found, started, time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - whatever a detector does, the policy decides what follows
            if len(groups) > 1:
                step.breaker.release()
                for index in groups:
                    self._inline(step, [index])
            else:
                self._broken(step, groups, started, error)
        else:
            step.breaker.success()

    def _submit(self, step: Step, groups: list[int], started: float | None = None) -> None:
        if step.together and len(groups) > 1:
            for index in groups:
                self._submit(step, [index])
            return
        if not step.breaker.allow():
            self._failed(step, groups, Outcome.OPEN)
            return
        texts = self._texts(groups)
        started = started or time.perf_counter()
        try:
            until = time.monotonic() + max(0.0, started + step.deadline_s - time.perf_counter())
            task = self._workers.submit(lambda: _answer(step.detect, texts, until))
        except LlmGuardError as error:
            self._broken(step, groups, started, error)
        else:
            self._jobs.append(_Job(step, groups, task, started))

    def _collect(self, job: _Job) -> None:
        step, groups, task, started = job
        if not task.future.done():
            self._workers.abandon(task)
            step.breaker.failure()
            self._failed(step, groups, Outcome.TIMEOUT, started, time.perf_counter() - started)
            return
        answer = task.future.result()
        error = answer.error
        if error is None:
            try:
                self._accept(step, groups, self._texts(groups), answer.found, answer.began, answer.seconds)
            except Exception as refused:  # noqa: BLE001 - whatever a detector does, the policy decides what follows
                error = refused
        if error is None:
            step.breaker.success()
        elif isinstance(error, DeadlineError):
            step.breaker.failure()
            self._failed(step, groups, Outcome.TIMEOUT, answer.began, answer.seconds)
        elif len(groups) > 1:
            step.breaker.release()
            for index in groups:
                self._submit(step, [index], started)
        else:
            self._broken(step, groups, answer.began, error)

    def _texts(self, groups: list[int]) -> Sequence[Text]:
        if len(groups) == len(self.verdicts):
            return self._flat
        return [text for index in groups for text in self.verdicts[index].texts]

    def _accept(
        self,
        step: Step,
        groups: list[int],
        texts: Sequence[Text],
        found: object,
        started: float,
        seconds: float,
    ) -> None:
        # Nearly every answer is a list of empty lists; it takes no further look to know that it is well formed.
        clean = type(found) is list and len(found) == len(texts) and not any(found)
        hits = {} if clean else validated(step.name, step.categories, texts, found)
        if not hits:
            run = DetectorRun(step.name, step.version, Outcome.PASS, started, seconds)
            for index in groups:
                self.verdicts[index].runs.append(run)
            return
        position = 0
        for index in groups:
            verdict = self.verdicts[index]
            outcome = Outcome.PASS
            for local, text in enumerate(verdict.texts):
                for finding in hits.get(position + local, ()):
                    if self._judge(step, verdict, local, text, finding) is not Action.ALLOW:
                        outcome = Outcome.HIT
            position += len(verdict.texts)
            verdict.runs.append(DetectorRun(step.name, step.version, outcome, started, seconds))

    def _judge(self, step: Step, verdict: Verdict, local: int, text: Text, found: Finding) -> Action:
        action, rule = self._plan.judge(step.name, found.category, found.score, text.role)
        verdict.findings.append(
            Finding(found.category, float(found.score), found.span, step.name, found.reasons, local, action)
        )
        verdict.rules.append(rule)
        if action.severity > verdict.action.severity:
            verdict.action = action
        return action

    def _broken(self, step: Step, groups: list[int], started: float, error: BaseException) -> None:
        step.breaker.failure()
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        self._failed(step, groups, Outcome.ERROR, started, time.perf_counter() - started, name)

    def _failed(
        self,
        step: Step,
        groups: list[int],
        outcome: Outcome,
        started: float = 0.0,
        seconds: float = 0.0,
        error: str = "",
    ) -> None:
        action, mode = self._plan.failure(step.name)
        run = DetectorRun(step.name, step.version, outcome, started, seconds, error, mode)
        for index in groups:
            verdict = self.verdicts[index]
            verdict.runs.append(run)
            verdict.failed += 1
            if action.severity > verdict.action.severity:
                verdict.action = action


def clean(steps: Sequence[Step], text: Text) -> bool:
    """Whether these detectors find nothing in a text, as in nearly every piece of a stream: a `Run` that keeps nothing.

    False says no more than that a `Run` has to tell: one of them finds something, fails, rests, or is not inline.
    """
    if len(text.content) > TURN_LIMIT:
        return False
    texts = (text,)
    turn = _ONE_AT_A_TIME.take()
    try:
        for step in steps:
            if not step.inline or step.breaker.state != "closed":
                return False
            found = step.detect(texts)
            if type(found) is not list or len(found) != 1 or found[0]:
                return False
            step.breaker.success()
    except Exception:  # noqa: BLE001 - the run that follows meets it again, and the policy decides
        return False
    finally:
        if turn is not None:
            turn.release()
    return True


def _left(job: _Job) -> float:
    return max(0.0, job.started + job.step.deadline_s - time.perf_counter())


def _answer(detect: Callable[[Sequence[Text]], Found], texts: Sequence[Text], until: float) -> _Answer:
    """The detector's answer; neither the queue nor the wait for others counts as its time.

    What it raises is handed over as a value: an event loop logs exceptions that nobody fetched, after a deadline
    say, and the text of a detector's exception may hold the text that it looked at.
    """
    limits.deadline.set(until)
    found, error = None, None
    began = time.perf_counter()
    try:
        found = detect(texts)
    except BaseException as raised:  # noqa: BLE001 - on a worker, an exit is no more than a broken detector
        error = raised
    return _Answer(found, error, began, time.perf_counter() - began)
