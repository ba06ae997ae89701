"""Counting on the hot path: sums by label in a dict, and labels that cannot grow without bound."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from llmguard.semconv import OTHER


class Tally:
    """Sums by label, read when metrics are collected: an add costs a dict increment, not a measurement."""

    __slots__ = ("_lock", "_sums")

    def __init__(self) -> None:
        self._lock = Lock()
        self._sums: dict[tuple[str | bool, ...], int] = {}

    def add(self, labels: tuple[str | bool, ...], amount: int = 1) -> None:
        """Adds to the sum of these labels."""
        with self._lock:
            self._sums[labels] = self._sums.get(labels, 0) + amount

    def sums(self) -> Iterable[tuple[tuple[str | bool, ...], int]]:
        """The labels and their sums so far."""
        with self._lock:
            return tuple(self._sums.items())


class Bounded:
    """Lets the first values of a label through and calls the rest ``other``.

    A label whose values come from callers (a model, a prompt's version) would otherwise let one caller
    fill the metrics store.

    Args:
        limit: how many values get through.
    """

    __slots__ = ("_limit", "_lock", "_seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or ``other``; "" stays ""."""
        if not value or value in self._seen:
            return value
        with self._lock:
            if len(self._seen) < self._limit:
                self._seen.add(value)
                return value
        return OTHER
