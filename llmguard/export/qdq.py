"""Eight bits: quantise-dequantise with ranges found on calibration texts.

Not ONNX Runtime's dynamic kind: dynamic ranges are taken over the whole batch, so that a text's score would depend on
its neighbours, and OpenVINO can't read such graphs. On a MiniLM this kind is also faster (docs/models.md has figures).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import MissingExtraError, ModelLoadError
from llmguard.export.ranges import ranges

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Rows above which a table of embeddings is worth its own scales.
TABLE_ROWS = 128

_WEIGHTED = ("MatMul", "Gemm")
_QUANTIZED, _SCALE, _ONE = "_quantized", "_scale", "dequantize_one"


def int8(source: Path, target: Path, feeds: Iterable[Mapping[str, NDArray[Any]]], *, bits: int = 8) -> int:
    """Write the INT8 form of a graph.

    Weights of matrix products are symmetric with a scale for each output channel, embeddings with one for each row;
    what goes into a product is asymmetric uint8 with one range, clipped where the squared error is least.

    Args:
        source: a float32 graph whose products read their weights from initializers.
        target: where it is written.
        feeds: the graph's inputs for one calibration text at a time, without padding.
        bits: of the weights. 7 costs some accuracy and keeps processors with AVX2 but without VNNI from
            saturating: their instruction adds two products in 16 bits (ONNX Runtime's documentation on
            quantization, "reduce range").

    Returns:
        How many products were quantised.

    Raises:
        ModelLoadError: the graph holds no such product.
        MissingExtraError: ``onnx`` is not installed.
    """
    model = load(source)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in _WEIGHTED and node.input[1] in weights]
    if not products:
        raise ModelLoadError("no matrix product with a constant weight: nothing to quantise", source=str(source))
    limits = ranges(source, sorted({node.input[0] for node in products}), feeds)
    edit = _Edit(model, top=2 ** (bits - 1) - 1)
    for node in list(graph.node):
        if node in products:
            activation, weight = node.input[0], node.input[1]
            node.input[0] = edit.activation(activation, *limits[activation])
            node.input[1] = edit.weight(weight, axis=_channel_axis(node))
        elif node.op_type == "Gather" and node.input[0] in weights and _is_table(weights[node.input[0]]):
            edit.table(node)
    edit.save(target)
    return len(products)


def load(path: Path) -> ModelProto:
    """A graph with its weights.

    Raises:
        ModelLoadError: it can't be read.
        MissingExtraError: ``onnx`` is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("changing a graph", "onnx", "export") from None
    try:
        return onnx.load(path)
    except Exception as error:  # noqa: BLE001 - protobuf's and onnx's errors share no base class
        raise ModelLoadError(f"no readable ONNX graph ({type(error).__name__})", source=str(path)) from None


def _channel_axis(node: NodeProto) -> int:
    transposed = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else 1


def _is_table(tensor: Any) -> bool:
    return len(tensor.dims) == 2 and tensor.dims[0] > TABLE_ROWS and tensor.data_type == 1


class _Edit:
    """Takes a graph's floats out and puts integers in."""

    def __init__(self, model: ModelProto, top: int) -> None:
        from onnx import helper, numpy_helper

        self._model, self._graph, self._top = model, model.graph, top
        self._helper, self._arrays = helper, numpy_helper
        self._new: dict[str, list[NodeProto]] = {}  # by the output that they stand behind, "" for the start
        self._names: dict[str, str] = {}

    def weight(self, name: str, axis: int) -> str:
        """The dequantised weight's name."""
        if name not in self._names:
            values, scale = _symmetric(self._array(name), axis, self._top)
            self._put(name + _QUANTIZED, values)
            self._put(name + _SCALE, scale.reshape(-1))
            out = name + "_dequantized"
            inputs = [name + _QUANTIZED, name + _SCALE]
            self._add("", "DequantizeLinear", inputs, out, axis=axis)
            self._names[name] = out
        return self._names[name]

    def activation(self, name: str, low: float, high: float) -> str:
        """The name of the tensor after it went through uint8."""
        if name not in self._names:
            low, high = min(low, 0.0), max(high, 0.0)
            scale = np.float32(max((high - low) / 255, 1e-8))
            zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
            self._put(name + "_act_scale", scale)
            self._put(name + "_act_zero", zero)
            inputs = [name + "_act_scale", name + "_act_zero"]
            self._add(name, "QuantizeLinear", [name, *inputs], name + "_uint8")
            self._add(name, "DequantizeLinear", [name + "_uint8", *inputs], name + "_act")
            self._names[name] = name + "_act"
        return self._names[name]

    def table(self, node: NodeProto) -> None:
        """Rows of a table are looked up as integers and multiplied by their own scale."""
        name, indices, out = node.input[0], node.input[1], node.output[0]
        values, scale = _symmetric(self._array(name), 0, 127)
        self._put(name + _QUANTIZED, values)
        self._put(name + _SCALE, scale)
        self._put(_ONE, np.float32(1))
        at = f"{out}_row"
        made = [
            self._helper.make_node("Gather", [name + _QUANTIZED, indices], [at + "_int8"], name=at + "_int8"),
            self._helper.make_node("DequantizeLinear", [at + "_int8", _ONE], [at], name=at),
            self._helper.make_node("Gather", [name + _SCALE, indices], [at + _SCALE], name=at + _SCALE),
            self._helper.make_node("Mul", [at, at + _SCALE], [out], name=at + "_mul"),
        ]
        place = list(self._graph.node).index(node)
        self._graph.node.remove(node)
        for offset, one in enumerate(made):
            self._graph.node.insert(place + offset, one)

    def save(self, target: Path) -> None:
        """Put the new nodes in their places, leave out what nothing reads, and write the graph."""
        ordered = list(self._new.pop("", []))
        ordered += [made for one in self._inputs() for made in self._new.get(one, [])]
        for node in self._graph.node:
            ordered.append(node)
            ordered += [made for out in node.output for made in self._new.get(out, [])]
        used = {name for node in ordered for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(ordered)
        self._graph.initializer.extend(kept)
        target.write_bytes(self._model.SerializeToString())

    def _inputs(self) -> list[str]:
        return [one.name for one in self._graph.input]

    def _array(self, name: str) -> NDArray[np.float32]:
        tensor = next(one for one in self._graph.initializer if one.name == name)
        return np.asarray(self._arrays.to_array(tensor), np.float32)

    def _put(self, name: str, value: Any) -> None:
        if not any(one.name == name for one in self._graph.initializer):
            self._graph.initializer.append(self._arrays.from_array(np.asarray(value), name))

    def _add(self, behind: str, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        node = self._helper.make_node(kind, inputs, [output], name=output, **attributes)
        self._new.setdefault(behind, []).append(node)


def _symmetric(values: NDArray[np.float32], axis: int, top: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers in [-top, top] and, kept in shape, the scale of every slice along ``axis``."""
    others = tuple(one for one in range(values.ndim) if one != axis)
    scale = np.maximum(np.abs(values).max(axis=others, keepdims=True) / top, 1e-8).astype(np.float32)
    return np.rint(values / scale).astype(np.int8), scale
