"""guard-nano: microseconds a text against the time that one pass over its characters takes, long texts, threads."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.texts import CLEAN, adversarial, prose
from benchmarks.timing import medians, microseconds, row
from llmguard.inference.card import Card, Head
from llmguard.inference.card_hashing import Hashing
from llmguard.inference.nano import WEIGHTS, Nano
from llmguard.inference.store import ModelDirectory
from llmguard.kernels import hashing

SIZE = 1_000_000
SECONDS = 0.5
ROUNDS = 5


def model(directory: Path) -> Nano:
    """A model of guard-nano's size with random weights: how fast it is does not depend on them."""
    labels = ("toxic", "user", "data", "harmful")
    np.save(directory / WEIGHTS, np.random.default_rng(0).integers(-127, 128, (1 << 18, len(labels)), np.int8))
    card = Card(
        format=1,
        name="random",
        version="1",
        kind="nano",
        licence="Apache-2.0",
        hashing=Hashing(scheme=hashing.SCHEME, window=2, scales=(0.01,) * 4, biases=(0.0,) * 4),
        heads=(Head(name="all", output="all", kind="labels", labels=labels, activation="sigmoid"),),
        files={WEIGHTS: "0" * 64},
    )
    return Nano(ModelDirectory(directory, card))


def _floor(text: str) -> int:
    """What any scan of a text in Python pays at least: its code points as an array, looked at once."""
    return int(np.frombuffer(text.encode("utf-32-le"), np.uint32).max())


def _rate(call: Callable[[], object], threads: int) -> float:
    """Calls a second by that many threads."""
    stop = time.perf_counter() + SECONDS
    counts = [0] * threads

    def work(index: int) -> None:
        while time.perf_counter() < stop:
            call()
            counts[index] += 1

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


def _threads(what: str, call: Callable[[], object], bound: float) -> bool:
    ratios = []
    for _ in range(ROUNDS):
        one = _rate(call, 1)
        ratios.append(_rate(call, 8) / one)
    ratio = statistics.median(ratios)
    return row(what, f"{ratio:.2f}", f"8 threads to 1 ({one:,.0f}/s)", f">= {bound}", holds=ratio >= bound)


def main() -> bool:
    weights = np.zeros((1 << 18, 4), np.int8)
    with tempfile.TemporaryDirectory() as directory:
        nano = model(Path(directory))
    long = prose(SIZE)
    hostile = adversarial(SIZE) | {"emoji": "😀" * SIZE, "CJK": "漢字" * (SIZE // 2), "nothing": "\u200b" * SIZE}
    took = medians(
        {
            "text": lambda: nano.logits([CLEAN]),
            "sums": lambda: hashing.highest([CLEAN], weights, 2),
            "floor": lambda: _floor(CLEAN),
            "word": lambda: nano.logits(["hello"]),
            "batch": lambda: nano.logits([CLEAN] * 32),
        }
    )
    each = took["batch"] / 32
    ratio = took["text"] / took["floor"]
    held = row(
        f"{len(CLEAN.split())} words, logits",
        microseconds(took["text"]),
        f"one look at each character {microseconds(took['floor'])}: {ratio:.1f} times",
        "< 100 us",
        holds=took["text"] < 100e-6,
    )
    row("the same, kernel and its call alone", microseconds(took["sums"]), f"{took['sums'] / took['text']:.2f} of it")
    row("the same, in batches of 32, a text", microseconds(each), f"{each / took['text']:.2f} of it")
    row("one word", microseconds(took["word"]), f"{took['word'] / took['text']:.2f} of it")
    calls = {name: lambda text=text: nano.logits([text]) for name, text in hostile.items()}
    took = medians(
        {"long": lambda: nano.logits([long]), "tenth": lambda: nano.logits([long[: SIZE // 10]]), **calls}, rounds=3
    )
    ratio = took["long"] / took["tenth"]
    held &= row(
        "1 MB of prose", f"{took['long'] * 1e3:.1f} ms", f"{ratio:.1f} times a tenth of it", "<= 15", holds=ratio <= 15
    )
    worst = max(calls, key=lambda name: took[name])
    ratio = took[worst] / took["long"]
    held &= row(
        f"1 MB of the worst: {worst}",
        f"{took[worst] * 1e3:.1f} ms",
        f"{ratio:.2f} times prose",
        "<= 1.5",
        holds=ratio <= 1.5,
    )
    held &= _threads("200 words", lambda: nano.logits([CLEAN]), 0.85)
    held &= _threads("100 kB, without the lock", lambda: nano.logits([long[: SIZE // 10]]), 1.3)
    return held


if __name__ == "__main__":
    main()
