"""Timing by medians, with things to compare measured in turn, so that a machine's drift hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Call = Callable[[], Any]


def medians(
    calls: Mapping[str, Call], *, rounds: int = 15, seconds: float = 0.03, rest: float = 0.0
) -> dict[str, float]:
    """Seconds a call at the median over all calls, by name.

    Each round runs every call for about ``seconds``, one after the other, and times each single call.

    Args:
        calls: by name.
        rounds: how many.
        seconds: for each call in each round.
        rest: seconds to sleep after each, so that what a call leaves to other threads is not put on the next one's bill.
    """
    took: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    gc.collect()
    gc.disable()
    clock = time.perf_counter
    try:
        for _ in range(rounds):
            for name, call in calls.items():
                seen = took[name]
                until = clock() + seconds
                while True:
                    started = clock()
                    call()
                    ended = clock()
                    seen.append(ended - started)
                    if ended > until:
                        break
                if rest:
                    time.sleep(rest)
    finally:
        gc.enable()
    return {name: statistics.median(values) for name, values in took.items()}


def row(what: str, value: str, against: str = "", bound: str = "", *, holds: bool | None = None) -> bool:
    """Print one row; a row with a bound says whether it holds."""
    verdict = "" if holds is None else "ok" if holds else "MISSED"
    print(f"  {what:<58} {value:>14}  {against:<44} {bound:<16} {verdict}", flush=True)
    return holds is not False


def microseconds(seconds: float) -> str:
    """For a row."""
    return f"{seconds * 1e6:,.1f} us"
