"""The columns of a table of observations: their bins, the names of their categories, and where numbers fall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.drift_bins import Layout
from llmguard.detectors.drift_features import NAN, Spec
from llmguard.detectors.drift_summary import NAMES, REST, Summary

_FLOATS = {float}


class Columns:
    """Specs in the order of a row, to which more may be added."""

    def __init__(self) -> None:
        self.specs: list[Spec] = []
        self._names: list[list[str] | None] = []
        self._codes: list[dict[str, int]] = []
        self._words: set[int] = set()
        self._together: dict[Layout, list[int]] = {}

    def __len__(self) -> int:
        return len(self.specs)

    def add(self, spec: Spec) -> int:
        """One more; its place in a row."""
        at = len(self.specs)
        self.specs.append(spec)
        if spec.layout.kind == "category":
            self._words.add(at)
        self._names.append([REST] if at in self._words else None)
        self._codes.append({REST: 0})
        self._together.setdefault(spec.layout, []).append(at)
        return at

    def empty(self, at: int) -> Summary:
        """A summary of a column, which shares its names with all others of it."""
        return Summary(self.specs[at].layout, self._names[at], fine=self.specs[at].fine)

    def row(self, values: Sequence[float | str | None]) -> list[float]:
        """The numbers that stand for values, one a column, or for the first columns; NaN for what can't be used."""
        if not self._words and set(map(type, values)) == _FLOATS:
            return cast("list[float]", values)
        return [
            NAN if value is None else self._code(at, value) if at in self._words else _number(value)
            for at, value in enumerate(values)
        ]

    def _code(self, at: int, word: float | str) -> float:
        """The number of a category's name; one for all names past the first `NAMES`."""
        if not isinstance(word, str):
            return NAN
        known = self._codes[at].get(word)
        if known is not None:
            return known
        names = self._names[at]
        if names is None or len(names) > NAMES:
            return 0.0
        self._codes[at][word] = len(names)
        names.append(word)
        return len(names) - 1

    def learn(self, at: int) -> None:
        """Know the names that a summary of elsewhere has brought in."""
        self._codes[at] = {name: place for place, name in enumerate(self._names[at] or ())}

    def places(self, block: NDArray[np.float64]) -> NDArray[np.int64]:
        """Fine bins of rows, -1 where there is no finite number; both of shape [calls, columns]."""
        finite = np.isfinite(block)
        block = np.where(finite, block, 0.0)
        places = np.empty(block.shape, np.int64)
        for layout, columns in self._together.items():
            places[:, columns] = layout.places(np.ascontiguousarray(block[:, columns]))
        return np.where(finite, places, -1)


def _number(value: float | str) -> float:
    try:
        return NAN if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        return NAN
