"""Runtimes and precisions on this CPU, as ratios against ONNX Runtime in FP32 in the same run; needs torch to export."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import graphs
from benchmarks.timing import row
from llmguard.inference.choice import choose, runtimes
from llmguard.inference.devices import Device
from llmguard.inference.processor import processor
from llmguard.inference.session import Session, open_session

FIRST = "ORT FP32, fused"
Variants = dict[str, tuple[str, str, Path]]


def variants(shape: str, directory: Path) -> Variants:
    """Runtime, precision and graph by name."""
    plain = graphs.export(shape, directory)
    fused = graphs.fused(plain, shape)
    dynamic, static, weights = graphs.dynamic(fused), graphs.static(plain), graphs.weights_only(plain)
    found = {
        FIRST: ("onnxruntime", "fp32", fused),
        "ORT FP32, plain": ("onnxruntime", "fp32", plain),
        "ORT INT8, its own products, dynamic": ("onnxruntime", "int8", dynamic),
        "ORT INT8, pairs, static": ("onnxruntime", "int8", static),
        "ORT INT8, weights only": ("onnxruntime", "int8", weights),
        "OpenVINO f32": ("openvino", "fp32", plain),
        "OpenVINO bf16": ("openvino", "bf16", plain),
        "OpenVINO bf16, fused graph": ("openvino", "bf16", fused),
        "OpenVINO INT8, pairs, static": ("openvino", "int8", static),
        "OpenVINO INT8, weights, activations on the way": ("openvino", "int8", weights),
    }
    return {name: value for name, value in found.items() if value[0] in runtimes()}


def measure(calls: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """The least seconds a call: what a neighbour on the machine does only ever adds."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # its own weights back into the caches
            started = clock()
            call()
            best[name] = min(best[name], clock() - started)
    return best


def main() -> bool:
    # On a machine that others use, CPU time says more than the wall's: BENCH_CLOCK=cpu, with one thread.
    cpu_time = os.environ.get("BENCH_CLOCK") == "cpu"
    clock = time.process_time if cpu_time else time.perf_counter
    cpu = processor()
    threads = 1 if cpu_time else cpu.cores
    print(f"  {cpu.name}: {', '.join(sorted(cpu.features))}; {threads} threads, {'CPU' if cpu_time else 'wall'} time")
    for paired, words in ((True, "pairs"), (False, "ORT's products")):
        best = choose(("fp32", "int8"), Device("cpu"), cpu, paired=paired, available=runtimes())[0]
        print(f"  auto, INT8 graph of {words}: {best.runtime} {best.precision}, since {best.why}")
    for shape in graphs.SHAPES:
        with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _shape(shape, variants(shape, Path(directory)), threads, clock)
    return True


def _shape(shape: str, found: Variants, threads: int, clock: Callable[[], float]) -> None:
    sessions = {
        name: open_session({how: path}, device="cpu", runtime=runtime, precision=how, threads=threads)
        if how != "bf16"
        else open_session({"fp32": path}, device="cpu", runtime=runtime, precision=how, threads=threads)
        for name, (runtime, how, path) in found.items()
    }
    for batch, rounds in ((1, 15), (32, 4 if shape == "MiniLM-L6" else 2)):
        arrays = graphs.feeds(batch, 128)
        wanted = sessions[FIRST].run(arrays)["logits"]
        took = measure({name: _call(opened, arrays) for name, opened in sessions.items()}, rounds, clock)
        for name, opened in sessions.items():
            off = float(np.abs(opened.run(arrays)["logits"] - wanted).max())
            row(
                f"{shape}, {batch} x 128: {name}",
                f"{took[name] * 1e3:,.1f} ms",
                f"{took[FIRST] / took[name]:.2f} times {FIRST}; {batch / took[name]:,.0f} texts/s; off by {off:.3f}",
            )
    for opened in sessions.values():
        opened.close()


def _call(opened: Session, arrays: dict[str, Any]) -> Callable[[], Any]:
    return lambda: opened.run(arrays)
