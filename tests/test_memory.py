"""That nothing grows with what a guard has decided, whatever callers call themselves."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import memory
from llmguard.vault import Vault


def ours() -> Counter[str]:
    """How many objects of our own classes there are, by class."""
    gc.collect()
    kinds = (type(one) for one in gc.get_objects())
    return Counter(
        f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if str(kind.__module__).startswith("llmguard")
    )


def test_as_many_objects_as_before(tmp_path: Path) -> None:
    # Caches that are small, so that they are full from the first look on.
    everything = memory.Everything(tmp_path, Vault(max_entries=100))
    try:
        everything.run(2_000)
        everything.flush()
        before = ours()
        everything.run(2_000)
        everything.flush()
        grown = ours() - before
        series = everything.series()
    finally:
        everything.close()
    assert {kind: count for kind, count in grown.items() if count > 100} == {}
    assert series < memory.SERIES


@pytest.mark.slow
def test_a_million_decisions_leave_memory_where_it_was(tmp_path: Path) -> None:
    seen: list[int] = []
    began, ended = memory.soak(tmp_path, memory.DECISIONS, memory.FIRST, lambda done, size, series: seen.append(series))
    assert abs(ended / began - 1) <= memory.BOUND
    assert max(seen) <= memory.SERIES
