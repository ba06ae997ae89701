"""Timing by medians, with things to compare measured in turn, so that a machine's drift hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Call = Callable[[], Any]


def medians(calls: Mapping[str, Call], *, rounds: int = 15, seconds: float = 0.02) -> dict[str, float]:
    """Seconds a call at the median, by name.

    Each round runs every call for about ``seconds``, one after the other, and notes its mean.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        call()
        repeats[name] = max(1, int(seconds / max(time.perf_counter() - started, 1e-7)))
    means: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                count = repeats[name]
                started = time.perf_counter()
                for _ in range(count):
                    call()
                means[name].append((time.perf_counter() - started) / count)
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in means.items()}


def row(what: str, value: str, against: str = "", bound: str = "", *, holds: bool | None = None) -> bool:
    """Print one row; a row with a bound says whether it holds."""
    verdict = "" if holds is None else "ok" if holds else "MISSED"
    print(f"  {what:<58} {value:>14}  {against:<44} {bound:<16} {verdict}", flush=True)
    return holds is not False


def microseconds(seconds: float) -> str:
    """For a row."""
    return f"{seconds * 1e6:,.1f} us"
