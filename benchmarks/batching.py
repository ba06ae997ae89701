"""64 concurrent callers, batched against unbatched; and what a lone caller pays for the batcher."""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import medians, microseconds, row
from llmguard.inference import runtimes
from llmguard.inference.batcher import Batcher

CALLERS = 64
SECONDS = 1.5
ROUNDS = 5
WIDTH, INNER, LAYERS, WORDS = 256, 1024, 3, 1000

Ids = Any
Answer = Callable[[Ids], Any]


def graph(path: Path) -> None:
    """An encoder without attention: an embedding, some residual layers, a mean over the tokens."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(chance.normal(0, 0.05, shape).astype(np.float32), name)

    weights = [weight("table", WORDS, WIDTH)]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["h0"])]
    for layer in range(LAYERS):
        weights += [weight(f"up{layer}", WIDTH, INNER), weight(f"down{layer}", INNER, WIDTH)]
        nodes += [
            helper.make_node("MatMul", [f"h{layer}", f"up{layer}"], [f"a{layer}"]),
            helper.make_node("Relu", [f"a{layer}"], [f"b{layer}"]),
            helper.make_node("MatMul", [f"b{layer}", f"down{layer}"], [f"c{layer}"]),
            helper.make_node("Add", [f"h{layer}", f"c{layer}"], [f"h{layer + 1}"]),
        ]
    weights.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    nodes.append(helper.make_node("ReduceMean", [f"h{LAYERS}", "axes"], ["out"], keepdims=0))
    body = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", WIDTH])],
        weights,
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))


def rate(answer: Answer, texts: Sequence[Ids]) -> float:
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


def compare(what: str, unbatched: Answer, batched: Answer, texts: Sequence[Ids], bound: float) -> bool:
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

    def __call__(self, texts: Sequence[Ids]) -> Sequence[Ids]:
        with self._lock:
            time.sleep(0.001 + 5e-6 * len(texts))
        return texts


def main() -> bool:
    onnxruntime = runtimes.onnxruntime()

    chance = random.Random(5)
    texts = [np.full(chance.choice((12, 16, 24, 32, 48, 64)), number % WORDS, np.int64) for number in range(997)]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        graph(Path(folder) / "model.onnx")
        session = onnxruntime.InferenceSession(
            str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def run(batch: Sequence[Ids]) -> list[Ids]:
        ids = np.zeros((len(batch), max([len(text) for text in batch])), np.int64)
        for number, text in enumerate(batch):
            ids[number, : len(text)] = text
        return list(session.run(["out"], {"input_ids": ids})[0])

    device = Device()
    graph_batcher: Batcher[Ids, Ids] = Batcher(run, length=len, max_items=32, max_tokens=4096)
    device_batcher: Batcher[Ids, Ids] = Batcher(device, length=len, max_items=64, max_tokens=16_384)
    plain_batcher: Batcher[Ids, Ids] = Batcher(list, length=len, max_items=32, max_tokens=4096)
    cpu = "64 callers, an ONNX graph on the CPU, 12 to 64 tokens"
    held = compare(cpu, lambda text: run([text]), lambda text: graph_batcher.answer([text]), texts, 0.95)
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
    for batcher in (graph_batcher, device_batcher, plain_batcher):
        held &= batcher.close()
    return held
