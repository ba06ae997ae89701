"""What is kept of a window: for each group of people three whole numbers an outcome, so that windows add up exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmguard.detectors.fairness_statistics import Sample
from llmguard.errors import ConfigurationError

#: What is compared between groups.
OUTCOMES = ("block", "refusal", "toxicity", "length")
#: Those that are shares of observations.
RATES = ("block", "refusal")
#: Scores are counted in whole millionths, about; so no order of adding them changes a sum.
SCORE_UNIT = 1 << 20
#: The group of a dimension that stands for all of its groups together.
ANY = ""
_WIDTH = 3 * len(OUTCOMES)

#: A dimension (``religion``, ``cohort.plan``) and a group of it.
Key = tuple[str, str]


class Counts:
    """How many, the sum and the sum of squares of each outcome's values, by group. Not thread-safe.

    Attributes:
        seen: how many observations were added.
        seconds: how long the window was open before it came into this process.
    """

    __slots__ = ("_cells", "seconds", "seen")

    def __init__(self) -> None:
        self._cells: dict[Key, list[int]] = {}
        self.seen = 0
        self.seconds = 0.0

    def add(self, keys: Iterable[Key], values: Sequence[tuple[int, int]]) -> None:
        """Count one observation.

        Args:
            keys: the groups that it counts to.
            values: the place of an outcome in `OUTCOMES`, and its value.
        """
        self.seen += 1
        steps = []
        for outcome, value in values:
            place = 3 * outcome
            steps.append((place, 1))
            if value:
                steps += ((place + 1, value), (place + 2, value * value))
        cells = self._cells
        for key in keys:
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = [0] * _WIDTH
            for place, step in steps:
                cell[place] += step

    def groups(self) -> list[Key]:
        """The groups that were seen, in alphabetical order."""
        return sorted(key for key in self._cells if key[1] != ANY)

    def sample(self, key: Key, outcome: int, *, scored: bool) -> Sample:
        """The values of one group.

        Args:
            key: the group; `ANY` for all of a dimension.
            outcome: its place in `OUTCOMES`.
            scored: whether the values are scores in `SCORE_UNIT`.
        """
        n, total, squares = self._cells.get(key, [0] * _WIDTH)[3 * outcome : 3 * outcome + 3]
        unit = SCORE_UNIT if scored else 1
        return Sample(n, total / unit, squares / unit**2)

    def rest(self, key: Key, outcome: int, *, scored: bool) -> Sample:
        """The values of the observations of the dimension that are not of this group."""
        every, own = (self._cells.get(one, [0] * _WIDTH) for one in ((key[0], ANY), key))
        n, total, squares = (every[place] - own[place] for place in range(3 * outcome, 3 * outcome + 3))
        unit = SCORE_UNIT if scored else 1
        return Sample(n, total / unit, squares / unit**2)

    def merge(self, other: Counts) -> None:
        """Add another window's counts; the order of merging changes nothing."""
        self.seen += other.seen
        self.seconds = max(self.seconds, other.seconds)
        for key, counts in other._cells.items():
            self._add(key, counts)

    def copy(self) -> Counts:
        """The same counts, apart from these."""
        made = Counts()
        made.merge(self)
        return made

    def size(self, key: Key) -> int:
        """In how many observations a group had the outcome that most of them had."""
        return max(self._cells.get(key, [0])[::3])

    def renamed(self, names: Mapping[Key, Key | None]) -> Counts:
        """A copy with some groups under another name, or without them; those of one name are added up."""
        made = Counts()
        made.seen, made.seconds = self.seen, self.seconds
        for key, counts in self._cells.items():
            name = names.get(key, key)
            if name is not None:
                made._add(name, counts)
        return made

    def _add(self, key: Key, counts: Sequence[int]) -> None:
        own = self._cells.get(key)
        self._cells[key] = list(counts) if own is None else [a + b for a, b in zip(own, counts, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        cells = [[*key, *self._cells[key]] for key in sorted(self._cells)]
        return {"seen": self.seen, "seconds": self.seconds, "cells": cells}

    @classmethod
    def from_dict(cls, said: Any) -> Counts:
        """The counts of `to_dict`.

        Raises:
            ConfigurationError: it is something else.
        """
        made = cls()
        match said:
            case {"seen": int(seen), "seconds": int() | float() as seconds, "cells": list(cells)}:
                if seen < 0 or not (math.isfinite(seconds) and seconds >= 0):
                    raise ConfigurationError("a window with a negative count or time")
                made.seen, made.seconds = seen, float(seconds)
            case _:
                raise ConfigurationError("a window must have seen, seconds and cells")
        for cell in cells:
            made._read(cell)
        return made

    def _read(self, cell: Any) -> None:
        match cell:
            case [str(dimension), str(group), *numbers] if len(numbers) == _WIDTH:
                if not all(type(number) is int and number >= 0 for number in numbers):
                    raise ConfigurationError(f"the counts of {dimension}.{group} are not whole numbers from 0 on")
                if max(numbers[::3]) > self.seen or (dimension, group) in self._cells:
                    raise ConfigurationError(f"the counts of {dimension}.{group} don't fit the window's {self.seen}")
                self._cells[dimension, group] = numbers
            case _:
                raise ConfigurationError(f"a group must have two names and {_WIDTH} counts")
