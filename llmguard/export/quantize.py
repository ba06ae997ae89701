"""Smaller and faster graphs: INT8, FP16, and both over one file of weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from llmguard.errors import MissingExtraError
from llmguard.export.qdq import int8, load
from llmguard.inference import runtimes

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

__all__ = ["FP16", "INT8", "WEIGHTS", "fp16", "int8", "share_weights"]

#: What ``share_weights`` writes.
INT8, FP16, WEIGHTS = "int8.onnx", "fp16.onnx", "weights.bin"

# A page, so that a runtime may map the file instead of reading it.
_ALIGNMENT = 4096
# Smaller tensors stay in the graph.
_SHARED_BYTES = 1024


def fp16(source: Path, target: Path) -> None:
    """Write the FP16 form of a graph; its inputs and outputs keep their types.

    Raises:
        ModelLoadError: ``source`` can't be read.
        MissingExtraError: ``onnx`` or ``onnxruntime`` is not installed.
    """
    target.write_bytes(_half(load(source)).SerializeToString())


def share_weights(source: Path, folder: Path) -> tuple[Path, Path, Path]:
    """From an INT8 graph make an INT8 and an FP16 one that read the same integers from one file.

    The FP16 graph dequantises the weights and leaves the activations alone, so it is a little nearer to the original
    than the INT8 one. Runtimes fold the dequantised weights at load or do it in each run, which costs memory bandwidth.

    Args:
        source: a graph by ``int8``.
        folder: where ``int8.onnx``, ``fp16.onnx`` and ``weights.bin`` are written.

    Returns:
        The paths of the three.

    Raises:
        ModelLoadError: ``source`` can't be read.
        MissingExtraError: ``onnx`` or ``onnxruntime`` is not installed.
    """
    small = load(source)
    half = _half(_without_activation_steps(copy.deepcopy(small)))
    places: dict[bytes, int] = {}
    with (folder / WEIGHTS).open("wb") as file:
        for model in (small, half):
            for tensor in model.graph.initializer:
                if tensor.data_type == tensor.INT8 and len(tensor.raw_data) >= _SHARED_BYTES:
                    if tensor.raw_data not in places:
                        file.write(bytes(-file.tell() % _ALIGNMENT))
                        places[tensor.raw_data] = file.tell()
                        file.write(tensor.raw_data)
                    _outside(tensor, places[tensor.raw_data])
    for name, model in ((INT8, small), (FP16, half)):
        (folder / name).write_bytes(model.SerializeToString())
    return folder / INT8, folder / FP16, folder / WEIGHTS


def _half(model: ModelProto) -> ModelProto:
    runtimes.onnxruntime()  # with its reports off
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise MissingExtraError("FP16", str(error.name), "export") from None
    # Shapes are not needed for it, and inference stops at ONNX Runtime's own operators.
    half: ModelProto = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    return half


def _without_activation_steps(model: ModelProto) -> ModelProto:
    """Take out every pair that rounds an activation."""
    graph = model.graph
    rounded = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    instead: dict[str, str] = {}
    gone = set(rounded)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded:
            instead[node.output[0]] = rounded[node.input[0]].input[0]
            gone.add(node.output[0])
    kept = [node for node in graph.node if node.output[0] not in gone]
    for node in kept:
        for position, name in enumerate(node.input):
            node.input[position] = instead.get(name, name)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)
    return model


def _outside(tensor: TensorProto, offset: int) -> None:
    """Leave a tensor's bytes to the file of weights."""
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
