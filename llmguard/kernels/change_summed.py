"""What the detectors that keep a few sums have in common: all but their options and their compiled step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.kernels import change_state


class Summed:
    """A detector whose state is one short row of numbers, which `change_jit` steps through under the detector's name.

    Whoever derives from it names itself and the numbers, checks its ``options``, and calls `_begin`.
    """

    __slots__ = ("_options", "_state", "_step", "_walk", "options")

    _KIND: ClassVar[str]
    _NAMES: ClassVar[tuple[str, ...]]
    options: dict[str, Any]

    def _begin(self, options: Iterable[float]) -> None:
        jit = change_state.compiled()
        self._options = np.array(list(options), np.float64)
        self._state = np.zeros(len(self._NAMES))
        self._step = getattr(jit, self._KIND)
        self._walk = getattr(jit, f"{self._KIND}_row")

    def update(self, value: float) -> bool:
        """Takes one value in; True when the mean has changed.

        Raises:
            TypeError: it is no number.
            ValueError: it is NaN or of more than 1e100; the state is as before.
        """
        found: bool = self._step(self._state, self._options, change_state.value(value))
        return found

    def update_many(self, values: ArrayLike) -> NDArray[np.int64]:
        """Takes values in as `update` would, one by one; the places at which it would have said True.

        Raises:
            TypeError: they are no numbers.
            ValueError: one is NaN or of more than 1e100; the state is as before.
        """
        row = change_state.values(values)
        hits = np.empty(row.size, np.int64)
        return hits[: self._walk(self._state, self._options, row, hits)]

    def state(self) -> dict[str, Any]:
        """All that it knows, as a mapping of plain numbers, fit for JSON."""
        numbers = dict(zip(self._NAMES, self._state.tolist(), strict=True))
        return {"detector": self._KIND, "format": change_state.FORMAT, "options": self.options, "state": numbers}

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> Self:
        """The detector that `state` described.

        Raises:
            TypeError: it is no mapping.
            ValueError: it is the state of another detector or format, or was cut short or altered.
        """
        options, numbers = change_state.opened(saved, cls._KIND)
        made: Self = change_state.made(cls, options, cls._KIND)
        made._state = change_state.row(numbers, cls._NAMES, cls._KIND)
        return made
