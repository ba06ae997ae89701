"""Heavy hitters keep their bound, alone and merged, and refuse what they can't count."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.kernels.heavy_hitters import HeavyHitters, Hitter

keys = st.lists(st.integers(-2, 30) | st.integers(-(2**63), 2**63 - 1), max_size=200)


def check(counted: HeavyHitters, exact: Counter[int], size: int) -> None:
    assert counted.total == exact.total()
    assert counted.error <= counted.total / (size + 1)
    told = {hitter.key: hitter for hitter in counted.top(10**6)}
    assert len(told) <= 2 * size
    assert all(told[key].least <= exact[key] <= told[key].most for key in told)
    assert all(key in told for key, count in exact.items() if count > counted.error)


@given(keys, st.integers(1, 12), st.integers(1, 50))
def test_counts_are_too_low_by_no_more_than_the_bound(seen: list[int], size: int, step: int) -> None:
    one, many, merged = HeavyHitters(size), HeavyHitters(size), HeavyHitters(size)
    for place in range(0, len(seen), step):
        part = seen[place : place + step]
        for key in part:
            one.add(key)
        many.feed(part)
        other = HeavyHitters(size)
        other.feed(part)
        merged.merge(other)
    for counted in (one, many, merged, HeavyHitters.from_state(merged.state())):
        check(counted, Counter(seen), size)


def test_the_most_frequent_come_first() -> None:
    counted = HeavyHitters(10)
    counted.feed(np.array([3, 1, 3, 2, 2, 3], np.uint8))
    counted.add(9, 2)
    assert counted.top(3) == [Hitter(3, 3, 3), Hitter(2, 2, 2), Hitter(9, 2, 2)]
    assert counted.top(0) == counted.top(-1) == []


def test_threads_lose_no_count() -> None:
    counted = HeavyHitters(100)

    def work() -> None:
        for key in range(2_000):
            counted.add(key % 50)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counted.total == 8_000
    assert {hitter.least for hitter in counted.top(100)} == {160}


STATE: dict[str, Any] = {"size": 2, "total": 9, "error": 1, "keys": [1, 2], "counts": [3, 2]}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"keys": [1]}, {"counts": [3, 0]}, {"counts": ["3", 2]}, {"total": 3}, {"error": -1}, {"size": 0}),
        *({"keys": None}, {"keys": [1, 1]}, {"size": 2, "total": 99, "keys": [*range(5)], "counts": [1] * 5}),
    ],
)
def test_a_broken_state_is_refused(wrong: dict[str, Any]) -> None:
    assert HeavyHitters.from_state(STATE).state() == STATE
    for state in (STATE | wrong, {}):
        with pytest.raises(ValueError, match="this is no state of heavy hitters"):
            HeavyHitters.from_state(state)


def test_a_size_of_numpy_makes_a_state_for_a_file_too() -> None:
    made = HeavyHitters(np.int64(2))  # type: ignore[arg-type]
    made.add(7)
    assert HeavyHitters.from_state(json.loads(json.dumps(made.state()))).state() == made.state()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HeavyHitters(0), ValueError, "size must be from 1"),
        (lambda: HeavyHitters(2.0), TypeError, "size must be a whole number"),  # type: ignore[arg-type]
        (lambda: HeavyHitters().add("key"), TypeError, "key must be a whole number, not str"),  # type: ignore[arg-type]
        (lambda: HeavyHitters().add(1, 0), ValueError, "times must be from 1"),
        (lambda: HeavyHitters().add(1 << 64), ValueError, "key must be from"),
        (lambda: HeavyHitters().feed([1.5]), TypeError, "keys must be whole numbers"),  # type: ignore[list-item]
        (lambda: HeavyHitters(2).merge(HeavyHitters(3)), ValueError, "of the same size, 2, not 3"),
        (lambda: HeavyHitters().merge([1]), TypeError, "merge with their like"),  # type: ignore[arg-type]
    ],
)
def test_what_can_not_be_counted_is_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
