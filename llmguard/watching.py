"""What the detectors that look at every piece say of a text that grows: what is final, and what they still need."""

from __future__ import annotations

from llmguard.hits import checked
from llmguard.running import Step
from llmguard.stream_plan import Watchers
from llmguard.types import DetectorRun, Outcome


class Watching:
    """Detectors that look at one text as it grows.

    Args:
        watchers: which of them, and how each tells what is final.

    Attributes:
        steps: the detectors that look.
        broken: those that could not say, for the owner to judge and to empty.
    """

    __slots__ = ("_growing", "broken", "steps")

    def __init__(self, watchers: Watchers[Step]) -> None:
        self.steps = watchers.steps
        self._growing = watchers.growing
        self.broken: list[DetectorRun] = []

    def settled(self, seen: str, place: int, passed: int) -> int:
        """Up to where all of them say that what they find is final.

        Args:
            seen: the window, well-formed.
            place: the highest place that is of use.
            passed: the place up to which it was so before; at or below it the rest is not asked.
        """
        end = len(seen)
        for step, growing in zip(self.steps, self._growing, strict=True):
            if place <= passed:
                break
            try:
                settled = checked(step.name, growing.settled(seen), end)
                if settled < place:
                    place = settled
            except Exception as error:  # noqa: BLE001 - whatever a detector does, the policy decides what follows
                self._could_not(step, error)
        return place

    def needed(self, seen: str, start: int) -> int:
        """From where on the window is needed to judge what stands from ``start`` on."""
        keep = start
        for step, growing in zip(self.steps, self._growing, strict=True):
            try:
                keep = min(keep, checked(step.name, growing.context(seen, start), start))
            except Exception as error:  # noqa: BLE001 - see `settled`
                self._could_not(step, error)
                keep = 0
        return keep

    def stop(self) -> None:
        """Look no more."""
        self.steps, self._growing = (), ()

    def _could_not(self, step: Step, error: Exception) -> None:
        self.broken.append(DetectorRun(step.name, step.version, Outcome.ERROR, error=type(error).__qualname__))
