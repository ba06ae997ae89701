"""What is kept of a feature's values: counts, exact moments and a sketch of the quantiles, of constant size."""

from __future__ import annotations

import base64
import binascii
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.drift_bins import Layout
from llmguard.errors import ConfigurationError, MissingExtraError

#: The name that all categories share which came after the first `NAMES`.
REST = "other"
NAMES = 255
# Rank error below 1 % at 99 % confidence by the sketch's own account (datasketches' normalized_rank_error).
_SKETCH_K = 350
# Moments are sums of whole multiples of 2^-40 (below 2^21) or 2^-20, so that no order of merging changes them.
_BITS, _SPLIT = 50, 25
_BLOCK = 2048
# Values that are counted at most: far below what 64 bits hold, so that a few of them may be added up.
_MOST = 1 << 53


class Summary:
    """The values of one feature over some calls.

    Args:
        layout: of the bins.
        names: of a category's places; shared by all summaries of a feature, and only ever added to.
        fine: whether the values are small, so that the moments count in 2^-40 in place of 2^-20.

    Attributes:
        counts: how many values fell into each bin.
        missing: how many calls had no finite value.
    """

    __slots__ = ("_sketch", "_squares", "_sum", "counts", "fine", "layout", "maximum", "minimum", "missing", "names")

    def __init__(self, layout: Layout, names: list[str] | None = None, *, fine: bool = False) -> None:
        self.layout = layout
        self.names = names
        self.fine = fine
        self.counts: NDArray[np.int64] = np.zeros(layout.size, np.int64)
        self.missing = 0
        self.minimum, self.maximum = float("inf"), float("-inf")
        self._sum = self._squares = 0
        self._sketch = None if layout.kind == "category" else kll().kll_doubles_sketch(_SKETCH_K)

    @property
    def n(self) -> int:
        """How many values."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """NaN without values. Values past 2^30 (2^10 for prices and scores) count as that."""
        return self._sum / self._unit / self.n if self.n else float("nan")

    @property
    def std(self) -> float:
        """Of all values, as a population; NaN without any."""
        n = self.n
        return ((n * self._squares - self._sum**2) ** 0.5) / n / self._unit if n else float("nan")

    @property
    def _unit(self) -> int:
        return 1 << (40 if self.fine else 20)

    def add(self, values: NDArray[np.float64], places: NDArray[np.int64]) -> None:
        """Take finite values into account.

        Args:
            values: shape [n].
            places: their bins, as the layout says.
        """
        counted = np.bincount(places, minlength=len(self.counts))
        if len(counted) > len(self.counts):
            self.counts = np.concatenate((self.counts, np.zeros(len(counted) - len(self.counts), np.int64)))
        self.counts += counted
        if self._sketch is None:
            return
        self._sketch.update(values)
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))
        most = float(1 << _BITS)
        whole = np.rint(np.minimum(np.maximum(values * self._unit, -most), most)).astype(np.int64)
        high, low = whole >> _SPLIT, whole & ((1 << _SPLIT) - 1)
        for start in range(0, len(values), _BLOCK):  # no sum of a block leaves 64 bits
            h, part = high[start : start + _BLOCK], low[start : start + _BLOCK]
            self._sum += (int(h.sum()) << _SPLIT) + int(part.sum())
            self._squares += (int(h @ h) << 2 * _SPLIT) + (int(h @ part) << _SPLIT + 1) + int(part @ part)

    def merge(self, other: Summary) -> None:
        """Take in all that another summary holds: counts and moments exactly, the sketch within its error.

        Raises:
            ConfigurationError: the other one's bins are others.
        """
        if other.layout != self.layout or other.fine != self.fine:
            raise ConfigurationError("two summaries of a feature have different bins: they are of different settings")
        counts = other.counts
        if self.names is not None and other.names is not None and other.names is not self.names:
            places = _places(self.names, other.names[: len(counts)])
            counts = np.bincount(places, weights=counts).astype(np.int64) if len(places) else counts[:0]
        if len(counts) > len(self.counts):
            self.counts = np.concatenate((self.counts, np.zeros(len(counts) - len(self.counts), np.int64)))
        self.counts[: len(counts)] += counts
        self.missing += other.missing
        self._sum += other._sum
        self._squares += other._squares
        self.minimum, self.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        if self._sketch is not None and other._sketch is not None:
            self._sketch.merge(other._sketch)

    def copy(self) -> Summary:
        """A summary of its own that says the same."""
        made = Summary(self.layout, self.names, fine=self.fine)
        made.merge(self)
        made._sketch = copy(self._sketch)  # merging into an empty one may drop other values
        return made

    def quantiles(self, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values at ranks in [0, 1], within the sketch's error; NaN without values or of a category."""
        if self._sketch is None or self._sketch.is_empty():
            return np.full(len(ranks), np.nan)
        return np.asarray(self._sketch.get_quantiles(ranks), np.float64)

    def named(self) -> dict[str, int]:
        """A category's counts by name, those that occurred."""
        return (
            {self.names[place]: int(self.counts[place]) for place in np.flatnonzero(self.counts)} if self.names else {}
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in a state file; the counts by bin, or by name."""
        filled = np.flatnonzero(self.counts)
        said: dict[str, Any] = {"missing": self.missing, "at": filled.tolist(), "counts": self.counts[filled].tolist()}
        if self._sketch is None:
            return said
        said |= {"sum": str(self._sum), "squares": str(self._squares)}
        if self.n:
            said |= {"minimum": self.minimum, "maximum": self.maximum}
        return said | {"sketch": base64.b64encode(self._sketch.serialize()).decode()}

    @classmethod
    def from_json(cls, said: dict[str, Any], layout: Layout, names: list[str] | None, *, fine: bool) -> Summary:
        """What `to_json` said.

        Raises:
            ValueError: or KeyError, TypeError: it is not what `to_json` says.
        """
        made = cls(layout, names, fine=fine)
        at, counts = np.array(said["at"], np.int64), np.array(said["counts"], np.int64)
        size = len(names) if names is not None else layout.size
        if at.shape != counts.shape or (len(at) and (at.min() < 0 or at.max() >= size or counts.min() < 0)):
            raise ValueError("counts that don't fit their bins")
        made.counts = np.zeros(size, np.int64)
        np.add.at(made.counts, at, counts)
        made.missing = count(said["missing"])
        if sum(map(count, said["counts"])) > _MOST:
            raise ValueError("more values than can be counted")
        if made._sketch is None:
            return made
        made._sum, made._squares = int(said["sum"]), int(said["squares"])
        if made.n:
            made.minimum, made.maximum = float(said["minimum"]), float(said["maximum"])
        # By the inequality of Cauchy and Schwarz no values have other moments; and the order of NaN is none.
        ordered = not made.n or -np.inf < made.minimum <= made.maximum < np.inf
        if not ordered or made.n * made._squares < made._sum**2 or (not made.n and (made._sum or made._squares)):
            raise ValueError("moments that no values have")
        try:
            made._sketch = kll().kll_doubles_sketch.deserialize(base64.b64decode(said["sketch"], validate=True))
        except (binascii.Error, RuntimeError, IndexError, MemoryError) as error:
            raise ValueError("a sketch that can't be read") from error
        ends = (made._sketch.get_min_value(), made._sketch.get_max_value()) if made._sketch.n else (np.inf, -np.inf)
        if made._sketch.n != made.n or ends != (made.minimum, made.maximum):
            raise ValueError("a sketch of other values than the counts")
        return made


def count(said: object) -> int:
    """A number of values or calls."""
    if isinstance(said, bool) or not isinstance(said, int) or not 0 <= said <= _MOST:
        raise ValueError("no number of values")
    return said


def _places(names: list[str], others: list[str]) -> NDArray[np.int64]:
    """Where each of the others stands in the names, which grow by those that are new."""
    known = {name: place for place, name in enumerate(names)}
    for name in others:
        if name not in known:
            known[name] = len(names)
            names.append(name)
    return np.array([known[name] for name in others], np.int64)


def kll() -> Any:
    """The package of the sketches.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import datasketches
    except ImportError:
        raise MissingExtraError("DriftMonitor", "datasketches", "drift") from None
    return datasketches
