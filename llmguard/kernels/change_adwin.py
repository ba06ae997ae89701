"""A window that is as long as what is in it stays the same: ADWIN."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels import change_state

#: Rows of buckets: the last holds buckets of 2^39 values, more than a century of calls at a hundred a second.
_ROWS = 40
_HEADS = ("width", "total", "spread", "seen")


class Adwin:
    """A change of the mean between any two parts of a window, which then loses its older part.

    Of Bifet and Gavaldà ("Learning from Time-Changing Data with Adaptive Windowing", 2007): values are kept in O(log n)
    buckets, and every so often each cut between two buckets is tested by the bound of the paper's equation 3.1.

    Args:
        delta: the confidence of a test, in (0, 1); smaller is calmer. The bound holds for values in [0, 1]: scale them.
        clock: values from one test to the next; at least 1.
        least: values that either side of a cut has; at least 1.
        buckets: of one size; at least 2. More make finer cuts.

    Raises:
        TypeError: an option is no number.
        ValueError: an option is out of range.
        MissingExtraError: numba is not installed.
    """

    __slots__ = ("_filled", "_heads", "_options", "_squares", "_step", "_sums", "options")

    def __init__(self, *, delta: float = 0.002, clock: int = 32, least: int = 5, buckets: int = 5) -> None:
        self.options = {
            "delta": change_state.option("delta", delta, 0.0, 1.0),
            "clock": change_state.count("clock", clock, 1),
            "least": change_state.count("least", least, 1),
            "buckets": change_state.count("buckets", buckets, 2),
        }
        if self.options["buckets"] > 1000:
            raise ValueError(f"buckets must be from 2 to 1000, not {buckets}")
        self._options = np.array(list(self.options.values()), np.float64)
        self._heads = np.zeros(len(_HEADS))
        self._filled = np.zeros(_ROWS, np.int64)
        self._sums = np.zeros((_ROWS, buckets + 1))
        self._squares = np.zeros((_ROWS, buckets + 1))
        self._step = _compiled().step

    @property
    def width(self) -> int:
        """Values in the window."""
        return int(self._heads[0])

    @property
    def mean(self) -> float:
        """Of the window; 0 where nothing is in it."""
        return float(self._heads[1] / self._heads[0]) if self._heads[0] else 0.0

    @property
    def variance(self) -> float:
        """Of the window; 0 where nothing is in it."""
        return float(self._heads[2] / self._heads[0]) if self._heads[0] else 0.0

    def update(self, value: float) -> bool:
        """Takes one value in; True when the window was cut.

        Raises:
            TypeError: it is no number.
            ValueError: it is NaN or of more than 1e100; the state is as before.
        """
        checked = change_state.value(value)
        found: bool = self._step(self._heads, self._options, self._filled, self._sums, self._squares, checked)
        return found

    def update_many(self, values: ArrayLike) -> NDArray[np.int64]:
        """Takes values in as `update` would, one by one; the places at which it would have said True.

        Raises:
            TypeError: they are no numbers.
            ValueError: one is NaN or of more than 1e100; the state is as before.
        """
        row = change_state.values(values)
        hits = np.empty(row.size, np.int64)
        tables = (self._filled, self._sums, self._squares)
        return hits[: _compiled().walk(self._heads, self._options, *tables, row, hits)]

    def state(self) -> dict[str, Any]:
        """All that it knows, as a mapping of plain numbers, fit for JSON; some hundreds of numbers."""
        used = [(row, int(filled)) for row, filled in enumerate(self._filled)]
        while used and not used[-1][1]:
            used.pop()
        return {
            "detector": "adwin",
            "format": change_state.FORMAT,
            "options": self.options,
            "state": {
                **dict(zip(_HEADS, self._heads.tolist(), strict=True)),
                "sums": [self._sums[row, :filled].tolist() for row, filled in used],
                "squares": [self._squares[row, :filled].tolist() for row, filled in used],
            },
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> Adwin:
        """The detector that `state` described.

        Raises:
            TypeError: it is no mapping.
            ValueError: it is the state of another detector or format, or was cut short or altered.
        """
        options, numbers = change_state.opened(saved, "adwin")
        made: Adwin = change_state.made(cls, options, "adwin")
        made._heads = change_state.row(numbers, _HEADS, "adwin")
        sums, squares = numbers.get("sums"), numbers.get("squares")
        if not isinstance(sums, list) or not isinstance(squares, list) or not len(sums) == len(squares) <= _ROWS:
            raise ValueError("the state of 'adwin' has no sound buckets: it was cut short or altered")
        for row, (left, right) in enumerate(zip(sums, squares, strict=True)):
            made._fill(row, left, right)
        if made._heads[0] != np.sum(made._filled * 2.0 ** np.arange(_ROWS)):
            raise ValueError("the state of 'adwin' has buckets that don't add up to its width: it was altered")
        return made

    def _fill(self, row: int, sums: Any, squares: Any) -> None:
        try:
            left, right = np.array(sums, np.float64), np.array(squares, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError("the state of 'adwin' has buckets that are no numbers: it was altered") from error
        sound = left.ndim == 1 and left.shape == right.shape and left.size <= self.options["buckets"]
        if not sound or not np.isfinite(left).all() or not (right >= 0.0).all() or not np.isfinite(right).all():
            raise ValueError("the state of 'adwin' has no sound buckets: it was cut short or altered")
        self._filled[row] = left.size
        self._sums[row, : left.size] = left
        self._squares[row, : left.size] = right


@cache
def _compiled() -> ModuleType:
    try:
        from llmguard.kernels import change_adwin_jit
    except ImportError as error:
        raise MissingExtraError("change detection", "numba", "kernels") from error
    return change_adwin_jit
