"""Counting on the hot path: sums by label in a dict, and labels that cannot grow without bound."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from threading import Lock

from llmguard import semconv
from llmguard.semconv import OTHER

#: Labels whose values callers, servers and policy files make up.
MADE_UP = frozenset(
    {
        *(semconv.POLICY_ID, semconv.PROMPT_VERSION, semconv.CATEGORY, semconv.REQUEST_MODEL, semconv.RESPONSE_MODEL),
        *(semconv.SERVER_ADDRESS, semconv.SERVER_PORT, semconv.ERROR_TYPE),
    }
)
#: Series of a counter; what OpenTelemetry's specification has for a metric.
MAX_SUMS = 2_000
#: Series of a histogram, which takes some kilobytes for each and each reader.
MAX_HISTOGRAMS = 1_000


class Tally:
    """Sums by label, read when metrics are collected: an add costs a dict increment, not a measurement.

    Args:
        made_up: the places of labels that become ``other`` where there are too many sums.
        limit: how many sums there may be before that.
    """

    __slots__ = ("_limit", "_lock", "_made_up", "_sums")

    def __init__(self, made_up: Collection[int] = (), limit: int = MAX_SUMS) -> None:
        self._lock = Lock()
        self._made_up = made_up
        self._limit = limit
        self._sums: dict[tuple[str | bool, ...], int] = {}

    def add(self, labels: tuple[str | bool, ...], amount: int = 1) -> None:
        """Adds to the sum of these labels."""
        with self._lock:
            before = self._sums.get(labels)
            if before is None:
                before = 0
                if len(self._sums) >= self._limit:
                    places = self._made_up
                    labels = tuple([OTHER if at in places and label else label for at, label in enumerate(labels)])
                    before = self._sums.get(labels, 0)
            self._sums[labels] = before + amount

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


class Together:
    """Lets the first sets of labels of a metric through; of further ones only what nobody makes up.

    A hundred models, as many servers and as many answers are a million sets, however few there are of each.

    Args:
        limit: how many sets get through.
    """

    __slots__ = ("_limit", "_lock", "_seen")

    def __init__(self, limit: int = MAX_HISTOGRAMS) -> None:
        self._limit = limit
        self._lock = Lock()
        self._seen: set[tuple[tuple[str, str | int], ...]] = set()

    def __call__(self, labels: Mapping[str, str | int]) -> Mapping[str, str | int]:
        """The labels, or as many with ``other`` for names; a port goes with its server."""
        key = tuple(labels.items())
        if key in self._seen:
            return labels
        with self._lock:
            if len(self._seen) < self._limit:
                self._seen.add(key)
                return labels
        return {
            name: OTHER if name in MADE_UP else label for name, label in labels.items() if name != semconv.SERVER_PORT
        }
