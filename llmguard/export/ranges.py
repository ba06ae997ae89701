"""Which values go through a graph: the range of each tensor over calibration texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import MissingExtraError
from llmguard.inference import runtimes

#: Values of a tensor that are kept of each text, to judge the clipping by.
KEPT = 4096
#: Shares of the full range that are tried.
SHARES = np.linspace(1.0, 0.3, 29)


def ranges(
    source: Path, tensors: Sequence[str], feeds: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, tuple[float, float]]:
    """For each tensor the range that makes eight bits lose least.

    Args:
        source: a float32 graph.
        tensors: names of float tensors in it.
        feeds: the graph's inputs, one text at a time.

    Raises:
        ValueError: there are no texts.
        MissingExtraError: ``onnx`` or ``onnxruntime`` is not installed.
    """
    onnxruntime = runtimes.onnxruntime()
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("quantising", str(error.name), "export") from None
    model = onnx.load(source)
    inputs = {one.name for one in model.graph.input}
    shown = [name for name in tensors if name not in inputs]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in shown)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}
    random = np.random.default_rng(0)
    seen: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    for feed in feeds:
        values = dict(zip(shown, session.run(shown, {k: v for k, v in feed.items() if k in wanted}), strict=True))
        for name in tensors:
            seen[name].append(_sample(values[name] if name in values else feed[name], random))
    if not seen or not all(seen.values()):
        raise ValueError("no calibration texts")
    return {name: _clipped(np.concatenate(parts)) for name, parts in seen.items()}


def _sample(values: NDArray[Any], random: np.random.Generator) -> NDArray[np.float32]:
    """Some of the values, the extremes always among them."""
    flat = np.asarray(values, np.float32).reshape(-1)
    some = flat if flat.size <= KEPT else flat[random.integers(0, flat.size, KEPT)]
    return np.concatenate([some, [flat.min(), flat.max()]]).astype(np.float32)


def _clipped(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return min(((low * share, high * share) for share in SHARES), key=lambda limits: _error(values, *limits))


def _error(values: NDArray[np.float32], low: float, high: float) -> float:
    """The mean squared error of 256 steps between the limits."""
    scale = max((high - low) / 255, 1e-8)
    near = np.rint(np.clip(values, low, high) / scale) * scale
    return float(np.mean((values - near) ** 2))
