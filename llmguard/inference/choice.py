"""Which runtime runs which of a model's graphs, decided from the device and from what the CPU can do."""

from __future__ import annotations

import mmap
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from llmguard.errors import ConfigurationError, MissingExtraError, ModelLoadError, nearest
from llmguard.inference.devices import Device, installed
from llmguard.inference.processor import Processor

RUNTIMES = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")

# Integer products as ONNX Runtime writes them; OpenVINO takes them apart into slow ones.
_INTEGER = (b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul", b"MatMulInteger", b"QAttention")

# OpenVINO computes in the precision that it is told to, whatever floats the file holds; ONNX Runtime in the file's own.
_CONVERTED = {"fp32": ("fp32", "fp16"), "fp16": ("fp16", "fp32"), "bf16": ("bf16", "fp32", "fp16"), "int8": ("int8",)}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        runtime: one of `RUNTIMES`.
        precision: one of `PRECISIONS`.
        graph: the key of the graph's file.
        why: in words, for people.
    """

    runtime: str
    precision: str
    graph: str
    why: str


def runtimes() -> tuple[str, ...]:
    """The runtimes that are installed."""
    found = installed("onnxruntime", "onnxruntime-gpu", "openvino")
    return tuple(name for name in RUNTIMES if any(package.startswith(name) for package in found))


def choose(
    graphs: Collection[str],
    device: Device,
    processor: Processor,
    *,
    paired: bool,
    runtime: str = "auto",
    precision: str = "auto",
    available: Collection[str] = RUNTIMES,
) -> list[Choice]:
    """Every way to run these graphs that fits what was asked for, the best first.

    Args:
        graphs: the precisions that the model has a file for.
        device: ``cpu``, ``cuda`` or ``tensorrt``; not ``auto``.
        processor: the CPU.
        paired: whether the INT8 graph is one for OpenVINO, see `for_openvino`.
        runtime: one of `RUNTIMES`, or ``auto``.
        precision: one of `PRECISIONS`, or ``auto``.
        available: the runtimes that are installed.

    Raises:
        ConfigurationError: an unknown runtime or precision, or OpenVINO for a GPU.
        MissingExtraError: the runtime is not installed.
        ModelLoadError: no graph of the model can be run like that.
    """
    _known("runtime", runtime, RUNTIMES)
    _known("precision", precision, PRECISIONS)
    if device.kind != "cpu" and runtime == "openvino":
        raise ConfigurationError(f"OpenVINO runs on the CPU, not on {device}: leave runtime or device at auto")
    if runtime != "auto" and runtime not in available:
        raise MissingExtraError(f"runtime: {runtime}", runtime, "cpu" if runtime == "onnxruntime" else "openvino")
    ranked = _on_cpu(processor, paired=paired) if device.kind == "cpu" else _on_gpu()
    found = [
        Choice(by, how, graph, why)
        for by, how, why in ranked
        if by in available and runtime in ("auto", by) and precision in ("auto", how)
        for graph in (_CONVERTED[how] if by == "openvino" else (how,))
        if graph in graphs
    ]
    if found:
        return found
    if not any(by in available for by, _, _ in ranked):
        raise MissingExtraError("running a model", "onnxruntime", "cpu")
    wanted = f"precision {precision!r} and runtime {runtime!r}"
    raise ModelLoadError(
        f"no graph of the model fits {wanted} on {device}: it has {', '.join(sorted(graphs)) or 'none'}"
    )


def for_openvino(path: Path) -> bool:
    """Whether OpenVINO can run this INT8 graph in integers: it has quantise-dequantise pairs, not products of integers.

    The names of a graph's operators stand in its file as they are, so the file is searched and not parsed.

    Args:
        path: an ONNX file.

    Raises:
        ModelLoadError: it can't be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return not any(content.find(name) >= 0 for name in _INTEGER)
    except (OSError, ValueError) as error:  # mmap refuses an empty file with a ValueError
        raise ModelLoadError(f"{path}: can't be read: {error}") from None


def _on_cpu(processor: Processor, *, paired: bool) -> list[tuple[str, str, str]]:
    """Runtime, precision and why, best first; docs/inference.md has the figures."""
    bf16 = (
        "openvino",
        "bf16",
        "the CPU multiplies bf16 on tiles (AMX)" if processor.amx else "the CPU has AVX512-BF16",
    )
    int8 = ("openvino", "int8", "the CPU has integer dot products (VNNI) and the graph has quantise-dequantise pairs")
    own8 = ("onnxruntime", "int8", "the CPU has integer dot products (VNNI)")
    full = [("openvino", "fp32", "no faster precision fits"), ("onnxruntime", "fp32", "no faster precision fits")]
    rest = [
        ("onnxruntime", "int8", "the model has only this graph"),
        ("onnxruntime", "fp16", "the model has only this graph"),
    ]
    x86 = bool(processor.features & {"avx2", "avx512f"})
    ranked = []
    if processor.amx:
        ranked.append(bf16)
    if processor.vnni and x86 and paired:
        ranked.append(int8)
    if processor.vnni:
        ranked.append(own8)
    if processor.bf16 and x86 and not processor.amx:
        ranked.append(bf16)
    ranked += full if x86 else full[::-1]
    # What is slow here but may be asked for by name, or be all that the model has.
    asked = [("openvino", "int8", "asked for"), ("openvino", "bf16", "asked for"), ("openvino", "fp16", "asked for")]
    seen = {(by, how) for by, how, _ in ranked}
    return ranked + [row for row in rest + asked if row[:2] not in seen]


def _on_gpu() -> list[tuple[str, str, str]]:
    return [
        ("onnxruntime", "fp16", "half precision runs on tensor cores"),
        ("onnxruntime", "fp32", "the model has no fp16 graph"),
        ("onnxruntime", "bf16", "the model has no fp16 graph"),
        ("onnxruntime", "int8", "the model has no other graph"),
    ]


def _known(what: str, word: str, known: Collection[str]) -> None:
    if word != "auto" and word not in known:
        raise ConfigurationError(f"unknown {what} {word!r}{nearest(word, ('auto', *known))}")
