"""64 concurrent callers, batched against unbatched; and what a lone caller pays for the batcher."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.timing import medians, microseconds, row
from llmguard.inference.batcher import Batcher
from llmguard.inference.encoder import Encoder
from llmguard.inference.session import open_session
from llmguard.inference.store import open_model
from llmguard.inference.tokenizer import Tokenizer

CALLERS = 64
SECONDS = 3.0
ROUNDS = 5
TEXT = (
    "the a to of and in for on with at from by it is was that this meeting report price team week project number answer"
)
WORDS = TEXT.split()

Answer = Callable[[str], Any]


def guard_mini() -> tuple[Encoder, Answer, list[str]]:
    """The bundled encoder, a call that runs one text through its graph and no batcher, and texts of 10 to 80 words."""
    model = open_model("guard-mini")
    card = model.card
    session = open_session(model.graphs, card=card)
    encoder = Encoder(model, session)
    if card.tokenizer is None:
        raise SystemExit("guard-mini has no tokenizer")
    tokenizer = Tokenizer(model.tokenizer, card.tokenizer)

    def alone(text: str) -> Any:
        window = tokenizer.windows([text])[0][0]
        feeds = {"input_ids": window.ids, "attention_mask": np.ones_like(window.ids), "token_type_ids": window.type_ids}
        return session.run({name: feeds[name][None].astype(np.int64) for name in session.inputs})

    chance = random.Random(5)
    # More texts than the encoder keeps answers of.
    texts = [" ".join(chance.choices(WORDS, k=chance.choice((10, 15, 20, 40, 80)))) for _ in range(4096)]
    return encoder, alone, texts


def rate(answer: Answer, texts: Sequence[str]) -> float:
    """Texts a second of 64 callers, each of which waits for its answer before it asks again."""
    start = threading.Barrier(CALLERS + 1)
    until = [0.0]
    counts = [0] * CALLERS

    def work(caller: int) -> None:
        number = caller
        start.wait()
        while time.perf_counter() < until[0]:
            answer(texts[number % len(texts)])
            counts[caller] += 1
            number += CALLERS

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(CALLERS)]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    until[0] = started + SECONDS
    start.wait()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def compare(what: str, unbatched: Answer, batched: Answer, texts: Sequence[str], bound: float) -> bool:
    """Rates in turn, and the median of their ratios."""
    rates = [(rate(unbatched, texts), rate(batched, texts)) for _ in range(ROUNDS)]
    ratio = statistics.median([many / one for one, many in rates])
    one, many = rates[-1]
    against = f"to unbatched ({one:,.0f}/s; batched {many:,.0f}/s)"
    return row(what, f"{ratio:.2f}", against, f">= {bound}", holds=ratio >= bound)


class Device:
    """A device that is busy for a millisecond a run and some a text, whatever the texts: what a GPU is to a small model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Sequence[str]:
        with self._lock:
            time.sleep(0.001 + 5e-6 * len(texts))
        return texts


def words(text: str) -> int:
    """What a text counts in a batch."""
    return text.count(" ") + 1


def main() -> bool:
    encoder, alone, texts = guard_mini()
    device = Device()
    device_batcher: Batcher[str, str] = Batcher(device, length=words, max_items=64, max_tokens=16_384)
    plain_batcher: Batcher[str, str] = Batcher(list, length=words, max_items=32, max_tokens=4096)
    cpu = "64 callers, guard-mini on the CPU, 10 to 80 words"
    held = compare(cpu, alone, lambda text: encoder.encode([text]), texts, 0.95)
    gpu = "64 callers, a device of 1 ms a run (simulated)"
    held &= compare(gpu, lambda text: device([text]), lambda text: device_batcher.answer([text]), texts, 2.5)
    one = texts[0]
    took = medians({"plain": lambda: [one], "batcher": lambda: plain_batcher.answer([one])})
    cost = took["batcher"] - took["plain"]
    held &= row(
        "a lone caller, an idle model", microseconds(cost), "more than the run itself", "<= 60 us", holds=cost <= 6e-5
    )
    queued = medians({"queue": lambda: plain_batcher.submit([one]).result()})
    row("a lone caller through the queue", microseconds(queued["queue"]), "two threads wake each other")
    for batcher in (device_batcher, plain_batcher):
        held &= batcher.close()
    encoder.close()
    return held
