"""One batch runs: its answers go to the callers they belong to, and a failure to the item that is to blame."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar, cast

from llmguard import limits
from llmguard.errors import DeadlineError, InferenceError, OverloadError
from llmguard.inference.batch_request import Item, Request

T = TypeVar("T")
R = TypeVar("R")

#: Failures in a row, without one success, that prove the model broken and not an item.
_BROKEN = 8


class Call(Request[T], Generic[T, R]):
    """A request, and the future that its caller waits for.

    The future stays pending until there is an answer, so that it can be cancelled as long as that makes sense. Whoever
    takes the one token of ``_turn`` answers it; the others find it answered.
    """

    __slots__ = ("_turn", "future", "left", "results")

    def __init__(
        self, values: Sequence[T], lengths: Sequence[int], *, deadline: float | None, tenant: str, arrived: float
    ) -> None:
        super().__init__(values, lengths, deadline=deadline, tenant=tenant, arrived=arrived)
        self.future: Future[list[R]] = Future()
        self.results: list[R] = [None] * len(values)  # type: ignore[list-item]  # filled before anybody sees it
        self.left = len(values)
        self._turn = [None]

    @property
    def answered(self) -> bool:
        """Whether there is nothing more to do."""
        return not self._turn

    def _first(self) -> bool:
        try:
            self._turn.pop()
        except IndexError:
            return False
        return True

    def put(self, index: int, result: R) -> None:
        """One item is answered; with the last the caller is."""
        self.results[index] = result
        self.left -= 1
        if not self.left and self._first() and self.future.set_running_or_notify_cancel():
            self.future.set_result(self.results)

    def fail(self, error: BaseException) -> bool:
        """The caller gets an error; False if it was answered before."""
        first = self._first()
        if first and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
        return first

    def withdraw(self) -> None:
        """The caller has cancelled the future."""
        if self._first():
            self.future.set_running_or_notify_cancel()


class Runs(Generic[T, R]):
    """Runs batches.

    When a batch fails, its items run again one by one, so that a poisoned one fails alone. After 8 failures without a
    success the model itself is broken, and the rest fails without being tried.

    Args:
        run: answers a batch, one result an item, in order.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._run = run

    def execute(self, items: Sequence[Item[T]]) -> tuple[float, list[Call[T, R]]]:
        """Run a batch and answer its callers.

        Returns:
            The seconds that it took, or NaN when it failed; and the calls that it became too late to run again.

        Raises:
            BaseException: what ended the run and is no `Exception`; the callers have got an `InferenceError`.
        """
        try:
            return self._execute(items)
        except BaseException as error:
            for item in items:
                self._owner(item).fail(InferenceError(f"the run was ended by {type(error).__name__}"))
            raise

    def _execute(self, items: Sequence[Item[T]]) -> tuple[float, list[Call[T, R]]]:
        started = time.monotonic()
        answers = self._attempt(items)
        took = time.monotonic() - started
        if not isinstance(answers, Exception):
            for item, answer in zip(items, answers, strict=True):
                self._owner(item).put(item.index, answer)
            return took, []
        if len(items) == 1 or isinstance(answers, DeadlineError | OverloadError):
            # What came too late, or found no room, would do so one by one as well, and hold up all behind it.
            for item in items:
                self._owner(item).fail(answers)
            return float("nan"), []
        return float("nan"), self._one_by_one(items)

    @staticmethod
    def _owner(item: Item[T]) -> Call[T, R]:
        return cast("Call[T, R]", item.request)  # nothing else is ever put into a batcher's queue

    def _attempt(self, items: Sequence[Item[T]]) -> Sequence[R] | Exception:
        # As long as anybody's answer is of use: a model on a server may take any time.
        until = max([self._owner(item).deadline for item in items])
        before = limits.deadline.set(None if math.isinf(until) else until)
        try:
            answers = list(self._run([item.value for item in items]))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for the answer
            return error
        finally:
            limits.deadline.reset(before)
        if len(answers) != len(items):
            return InferenceError(f"the model gave {len(answers)} answers to {len(items)} texts")
        return answers

    def _one_by_one(self, items: Sequence[Item[T]]) -> list[Call[T, R]]:
        late: list[Call[T, R]] = []
        failures, healthy = 0, False
        for item in items:
            call = self._owner(item)
            if call.answered:
                continue
            if time.monotonic() >= call.deadline:
                late.append(call)
                continue
            if failures >= _BROKEN and not healthy:
                call.fail(InferenceError(f"the model failed {failures} times in a row"))
                continue
            answers = self._attempt([item])
            if isinstance(answers, Exception):
                failures += 1
                call.fail(answers)
            else:
                healthy = True
                call.put(item.index, answers[0])
        return late


def refusal(reason: str, name: str, limit: int) -> InferenceError:
    """The error for a request that is not going to run.

    Args:
        reason: ``deadline``, ``full`` or ``closed``.
        name: of the batcher.
        limit: of its queue.
    """
    if reason == "deadline":
        return DeadlineError(f"the model {name!r} would answer after the deadline")
    if reason == "full":
        return OverloadError(f"the queue of the model {name!r} is full: it holds {limit} texts")
    return InferenceError(f"the model {name!r} is closed")
