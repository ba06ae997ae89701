"""Kernels against numpy and against what the memory gives: token histograms, loops, repetition, signatures."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.texts import CLEAN, prose
from benchmarks.timing import medians, microseconds, row
from llmguard.detectors.runaway import RunawayDetector
from llmguard.detectors.token_stats import TokenStatsDetector
from llmguard.kernels import near_duplicates, tokens, tokens_odds
from llmguard.kernels.compiling import kernel
from llmguard.kernels.heavy_hitters import HeavyHitters
from llmguard.kernels.tokens_loops import LoopTracker
from llmguard.types import Text

MANY, FEW = 50_000_000, 4_096
#: GPT-2's and Llama 3's.
VOCABULARIES = (50_257, 128_256)
ROUNDS = 7
CHUNK = 4

Array = np.ndarray[Any, Any]


def minima(calls: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds a call, the least of several rounds, the calls one after the other in each."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            least[name] = min(least[name], time.perf_counter() - started)
    return least


def numpy_histogram(ids: Array, bins: int) -> float:
    """Numpy's way: `bincount`, and the formula over what is there."""
    counts = np.bincount(ids, minlength=bins)
    shares = counts[counts > 0] / len(ids)
    return float(-(shares * np.log2(shares)).sum())


def reader() -> Callable[[Array], None]:
    """Reads an array once and does the least there is to do with it, with as many threads as the kernels use."""
    from numba import types

    @kernel(types.int64(types.Array(types.int64, 1, "C")), nogil=True)
    def total(values: Any) -> Any:
        found = 0
        for place in range(len(values)):
            found ^= values[place]
        return found

    def read(ids: Array) -> None:
        parts = np.array_split(ids.view(np.int64), os.cpu_count() or 1)
        threads = [threading.Thread(target=total, args=(part,)) for part in parts[1:]]
        for thread in threads:
            thread.start()
        total(parts[0])
        for thread in threads:
            thread.join()

    return read


def main() -> bool:
    """Print the rows."""
    tokens.warm()
    held = _histograms()
    held &= _loops()
    _others()
    return held


def _histograms() -> bool:
    read = reader()
    held = True
    for size in VOCABULARIES:
        draw = np.random.default_rng(size)
        held &= _many("uniform", draw.integers(0, size, MANY, dtype=np.int32), size, read)
        # Zipf's law by its inverse distribution function: the r-th most frequent of the ids comes 1 / r as often.
        rank = np.exp(draw.random(MANY, np.float32) * np.float32(np.log(size + 1))) - 1
        zipf = draw.permutation(size).astype(np.int32)[np.minimum(rank, size - 1).astype(np.int32)]
        held &= _many("Zipf", zipf, size, read)
        held &= _few(draw.integers(0, size, FEW, dtype=np.int32), size)
    return held & _few(np.random.default_rng(0).integers(0, 3_000, FEW, dtype=np.int32), 3_000)


def _many(name: str, ids: Array, size: int, read: Callable[[Array], None]) -> bool:
    took = minima(
        {
            "ours": lambda: tokens.histogram(ids, size),
            "read": lambda: read(ids),
            "numpy": lambda: numpy_histogram(ids, size),
        }
    )
    ratio, share = took["numpy"] / took["ours"], took["read"] / took["ours"]
    held = row(
        f"histogram and entropy, 50 M int32 of {size:,}, {name}",
        f"{took['ours'] * 1e3:.1f} ms",
        f"numpy {took['numpy'] * 1e3:.0f} ms: {ratio:.1f} times",
        ">= 8",
        holds=ratio >= 8,
    )
    rate = f"{ids.nbytes / took['read'] / 1e9:.1f} GB/s read"
    return held & row(
        "  the same, share of the memory's read rate", f"{share:.0%}", rate, ">= 60 %", holds=share >= 0.6
    )


def _few(ids: Array, size: int) -> bool:
    took = medians({"ours": lambda: tokens.histogram(ids, size), "numpy": lambda: numpy_histogram(ids, size)})
    ratio = took["numpy"] / took["ours"]
    return row(
        f"histogram and entropy, 4,096 int32 of {size:,}",
        microseconds(took["ours"]),
        f"numpy {microseconds(took['numpy'])}: {ratio:.1f} times",
        ">= 1",
        holds=ratio >= 1,
    )


def _loops() -> bool:
    ids = np.random.default_rng(1).integers(0, 50_000, 20_000, dtype=np.int32)
    listed = ids[:2_000].tolist()
    arrays = [ids[at : at + CHUNK] for at in range(0, 2_000, CHUNK)]
    lists = [listed[at : at + CHUNK] for at in range(0, 2_000, CHUNK)]
    looping = np.tile(ids[:300], 20)
    tracker = LoopTracker()

    def one_by_one() -> None:
        for token in listed:
            tracker.add(token)

    def in_chunks(chunks: list[Any]) -> None:
        for chunk in chunks:
            tracker.feed(chunk)

    took = minima(
        {
            "all at once": lambda: tracker.feed(ids),
            "a loop, all at once": lambda: tracker.feed(looping),
            "one by one": one_by_one,
            f"lists of {CHUNK}": lambda: in_chunks(lists),
            f"arrays of {CHUNK}": lambda: in_chunks(arrays),
        },
        30,
    )
    sizes = {"all at once": len(ids), "a loop, all at once": len(looping)}
    held = True
    for name, seconds in took.items():
        each = seconds / sizes.get(name, 2_000)
        held &= row(f"loop detection, {name}, a token", f"{each * 1e9:.0f} ns", "", "< 1,000 ns", holds=each < 1e-6)
    return held


def _others() -> None:
    ids = np.random.default_rng(2).integers(0, 5_000, FEW, dtype=np.int32)
    logs = -np.random.default_rng(3).exponential(1.0, FEW)
    runaway, statistics = RunawayDetector(), TokenStatsDetector()
    text, long = [Text(CLEAN)], [Text(prose(1_000_000))]
    growing = prose(3_000)
    hitters = HeavyHitters()
    took = medians(
        {
            "type-token ratio, 4,096 tokens": lambda: tokens.type_token_ratio(ids),
            "share of repeated trigrams, 4,096 tokens": lambda: tokens.repetition(ids),
            "  the same by a set of tuples": lambda: _trigrams(ids.tolist()),
            "longest span that comes again, 4,096 tokens": lambda: tokens.longest_repeat(ids),
            "burstiness, 4,096 tokens": lambda: tokens.burstiness(ids),
            "perplexity and probabilities, 4,096 tokens": lambda: tokens_odds.confidence(logs),
            "surprises, 4,096 tokens": lambda: tokens_odds.surprises(logs),
            "MinHash, 200 words": lambda: near_duplicates.minhash(CLEAN),
            "SimHash, 200 words": lambda: near_duplicates.simhash(CLEAN),
            "heavy hitters, 4,096 keys at once": lambda: hitters.feed(ids),
            "heavy hitters, one key": lambda: hitters.add(7),
            "runaway, 200 words": lambda: runaway.detect(text),
            "runaway, what is settled of 3,000 characters": lambda: runaway.settled(growing),
            "token_stats, 200 words": lambda: statistics.detect(text),
        }
    )
    took |= medians(
        {"runaway, 1 MB": lambda: runaway.detect(long), "token_stats, 1 MB": lambda: statistics.detect(long)}, rounds=3
    )
    for name, seconds in took.items():
        row(name, microseconds(seconds))


def _trigrams(ids: list[int]) -> float:
    runs = list(zip(ids, ids[1:], ids[2:], strict=False))
    return 1 - len(set(runs)) / len(runs)


if __name__ == "__main__":
    main()
