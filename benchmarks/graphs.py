"""BERT-shaped graphs with random weights, exported from PyTorch and quantised in the ways that runtimes want."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPES = {
    "MiniLM-L6": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "BERT-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def feeds(batch: int, length: int, seed: int = 0) -> dict[str, Any]:
    ids = np.random.default_rng(seed).integers(1, 30_000, (batch, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def export(shape: str, directory: Path) -> Path:
    """The plain graph, with six labels."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(num_labels=6, attn_implementation="eager", **SHAPES[shape])
    model = BertForSequenceClassification(config)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits

    path = directory / "plain.onnx"
    example = tuple(torch.from_numpy(array) for array in feeds(2, 16).values())
    axes = {name: {0: "batch", 1: "length"} for name in INPUTS}
    torch.onnx.export(
        Logits().eval(),
        example,
        str(path),
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_axes=axes | {"logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    return path


def fused(plain: Path, shape: str) -> Path:
    """Attention and layer norms as ONNX Runtime's own operators."""
    from onnxruntime.transformers import optimizer

    path = plain.with_name("fused.onnx")
    sizes = SHAPES[shape]
    model = optimizer.optimize_model(
        str(plain), "bert", num_heads=sizes["num_attention_heads"], hidden_size=sizes["hidden_size"], opt_level=0
    )
    model.save_model_to_file(str(path))
    return path


def dynamic(graph: Path) -> Path:
    """INT8 as ONNX Runtime's products of integers; activations are quantised in each run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = graph.with_name("dynamic.onnx")
    quantize_dynamic(
        str(graph),
        str(path),
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Attention"],
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    return path


def static(plain: Path) -> Path:
    """INT8 as quantise-dequantise pairs with ranges fixed beforehand."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter([feeds(2, 64, seed) for seed in range(4)])

        def get_next(self) -> Any:
            return next(self.rows, None)

    path = plain.with_name("static.onnx")
    quantize_static(
        str(plain),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )
    return path


def weights_only(plain: Path) -> Path:
    """INT8 weights of every product, one scale a column, that are dequantised before it; activations stay floats."""
    path = plain.with_name("weights.onnx")
    model = onnx.load(plain)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, gone = [], set()
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            name = node.input[1]
            if name not in gone:
                gone.add(name)
                values = numpy_helper.to_array(constants[name])
                scale = np.maximum(np.abs(values).max(axis=0) / 127, 1e-12).astype(np.float32)
                rounded = np.rint(values / scale).astype(np.int8)
                parts = {"rounded": rounded, "scale": scale, "zero": np.zeros_like(scale, np.int8)}
                model.graph.initializer.extend(numpy_helper.from_array(v, f"{name}.{k}") for k, v in parts.items())
                names = [f"{name}.{part}" for part in parts]
                nodes.append(helper.make_node("DequantizeLinear", names, [f"{name}.floats"], axis=1))
            node.input[1] = f"{name}.floats"
        nodes.append(node)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in gone]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    onnx.save(model, path)
    return path
