"""Small real ONNX graphs with the inputs of a text encoder, built with the package onnx."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WORDS, WIDTH, LABELS = 50, 16, 3


def feeds(batch: int = 2, length: int = 5, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    ids = np.random.default_rng(seed).integers(1, WORDS, (batch, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    return rng.standard_normal((WORDS, WIDTH), np.float32), rng.standard_normal((WIDTH, LABELS), np.float32)


def expected(arrays: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """What the graphs below compute: the mean of the tokens' rows (types added), then a product."""
    table, head = weights()
    rows = table[arrays["input_ids"]] * arrays["attention_mask"][:, :, None] + arrays["token_type_ids"][:, :, None]
    return rows.mean(axis=1) @ head  # type: ignore[no-any-return]


def write(path: Path, kind: str = "fp32", *, external: bool = False) -> Path:
    """A graph with the outputs ``logits`` [batch, labels] and ``tokens`` [batch, length, width].

    Args:
        path: where to.
        kind: fp32, fp16 (weights and outputs), int8 (the head as a quantise-dequantise pair), dynamic (ORT's integers).
        external: weights in a second file beside it.
    """
    table, head = weights()
    half = kind == "fp16"
    number, kind_of = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    constants = {"table": table.astype(number), "head": head.astype(number), "last": np.array([2])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["mask3"]),
        helper.make_node("Cast", ["mask3"], ["mask"], to=kind_of),
        helper.make_node("Unsqueeze", ["token_type_ids", "last"], ["types3"]),
        helper.make_node("Cast", ["types3"], ["types"], to=kind_of),
        helper.make_node("Mul", ["rows", "mask"], ["masked"]),
        helper.make_node("Add", ["masked", "types"], ["tokens"]),
        helper.make_node("ReduceMean", ["tokens"], ["pooled"], axes=[1], keepdims=0),
    ]
    if kind == "int8":
        scale = np.abs(head).max(axis=0) / 127
        constants |= {"head": np.rint(head / scale).astype(np.int8), "scale": scale}
        constants["zero"] = np.zeros(LABELS, np.int8)
        nodes.append(helper.make_node("DequantizeLinear", ["head", "scale", "zero"], ["floats"], axis=1))
        nodes.append(helper.make_node("MatMul", ["pooled", "floats"], ["logits"]))
    elif kind == "dynamic":
        scale = np.float32(np.abs(head).max() / 127)
        constants |= {"head": np.rint(head / scale).astype(np.int8), "scale": np.array(scale)}
        nodes += [
            helper.make_node("DynamicQuantizeLinear", ["pooled"], ["q", "q_scale", "q_zero"]),
            helper.make_node("MatMulInteger", ["q", "head", "q_zero"], ["products"]),
            helper.make_node("Cast", ["products"], ["float_products"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["q_scale", "scale"], ["both"]),
            helper.make_node("Mul", ["float_products", "both"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("MatMul", ["pooled", "head"], ["logits"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [
        helper.make_tensor_value_info("logits", kind_of, ["batch", LABELS]),
        helper.make_tensor_value_info("tokens", kind_of, ["batch", "length", WIDTH]),
    ]
    graph = helper.make_graph(
        nodes, "small", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=100)
    else:
        onnx.save(model, path)
    return path
