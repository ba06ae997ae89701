"""Which keys come most often, in memory that does not grow: Misra-Gries counters that merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from llmguard.kernels.arguments import Ids, check_whole, whole_numbers


class Hitter(NamedTuple):
    """A key that came often.

    Attributes:
        key: which.
        least: it came at least that often.
        most: and at most that often.
    """

    key: int
    least: int
    most: int


class HeavyHitters:
    """Counts keys with at most ``2 * size`` counters.

    After n keys no count is too low by more than n / (size + 1), and none is too high; so every key that came more
    often than that is among the counted ones. ``error`` says how much it can be at the moment, which is mostly less.
    Merging keeps the bound (Misra and Gries, "Finding repeated elements", 1982; Agarwal et al., "Mergeable Summaries",
    2012).

    Keys are whole numbers of 64 bits: ids of tokens, hashes of prompts. Thread-safe.

    Args:
        size: how many keys are of interest, 1 to 1,048,576.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is out of range.
    """

    __slots__ = ("_counts", "_error", "_lock", "_size", "_total")

    def __init__(self, size: int = 1_000) -> None:
        check_whole("size", size, 1, 1 << 20)
        self._size = int(size)
        self._counts: dict[int, int] = {}
        self._total = 0
        self._error = 0
        self._lock = Lock()

    @property
    def total(self) -> int:
        """How many keys came."""
        return self._total

    @property
    def error(self) -> int:
        """How much a count can be too low, at most ``total / (size + 1)``."""
        return self._error

    def add(self, key: int, times: int = 1) -> None:
        """Counts a key.

        Raises:
            TypeError: the key or the number of times is no whole number.
            ValueError: it came less than once, or the key has more than 64 bits.
        """
        check_whole("key", key, -(1 << 63), (1 << 64) - 1)
        check_whole("times", times, 1, 1 << 62)
        with self._lock:
            self._take([(int(key), int(times))], int(times))

    def feed(self, keys: Ids) -> None:
        """Counts many keys: sorting them first costs less than counting each.

        Raises:
            TypeError: they are no whole numbers.
            ValueError: they have more than one dimension, or one has 64 bits or more.
        """
        found, counts = np.unique(whole_numbers(keys, "keys"), return_counts=True)
        with self._lock:
            self._take(zip(found.tolist(), counts.tolist(), strict=True), int(counts.sum()))

    def merge(self, other: HeavyHitters) -> None:
        """Adds what another one of the same size counted.

        Raises:
            TypeError: it is none.
            ValueError: it has another size, so that the bound would be lost.
        """
        if not isinstance(other, HeavyHitters):
            raise TypeError(f"heavy hitters merge with their like, not with {type(other).__name__}")
        theirs = other.state()
        if theirs["size"] != self._size:
            raise ValueError(f"heavy hitters merge with those of the same size, {self._size}, not {theirs['size']}")
        with self._lock:
            self._error += int(theirs["error"])
            self._take(zip(theirs["keys"], theirs["counts"], strict=True), int(theirs["total"]))

    def top(self, number: int = 10) -> list[Hitter]:
        """The keys that came most often, the most frequent first; of equals the smaller key."""
        with self._lock:
            ranked = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[: max(0, number)]
            return [Hitter(key, count, count + self._error) for key, count in ranked]

    def state(self) -> dict[str, Any]:
        """All that is known, as numbers and lists, for a file."""
        with self._lock:
            keys, counts = list(self._counts), list(self._counts.values())
            return {"size": self._size, "total": self._total, "error": self._error, "keys": keys, "counts": counts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> HeavyHitters:
        """One that goes on from a state.

        Raises:
            ValueError: it is no state, or was cut.
        """
        try:
            made = cls(state["size"])
            made._counts = dict(zip(state["keys"], state["counts"], strict=True))
            made._total, made._error = state["total"], state["error"]
            numbers = [*state["keys"], *state["counts"], state["total"], state["error"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no state of heavy hitters: {type(error).__name__}") from error
        whole = all(type(number) is int for number in numbers) and min(made._counts.values(), default=1) >= 1
        whole &= len(made._counts) == (len(numbers) - 2) // 2 <= 2 * made._size
        if not whole or not 0 <= made._error * (made._size + 1) <= made._total - sum(made._counts.values()):
            raise ValueError("this is no state of heavy hitters: its numbers contradict each other")
        return made

    def _take(self, counted: Iterable[tuple[int, int]], total: int) -> None:
        counts = self._counts
        for key, times in counted:
            counts[key] = counts.get(key, 0) + times
        self._total += total
        if len(counts) <= 2 * self._size:
            return
        # The count after the size-th goes from all: from size + 1 keys at least, which is what bounds the error.
        less = sorted(counts.values(), reverse=True)[self._size]
        self._error += less
        self._counts = {key: count - less for key, count in counts.items() if count > less}
