"""Small real model directories, made without PyTorch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from llmguard.inference import card_yaml

LABELS = ["toxic", "insult"]
TEXT = "you are kind an idiot thanks good bad day"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *TEXT.split()]


def graph(path: Path, *, labels: int = len(LABELS), rows: int = 200, kind: str = "labels") -> Path:
    """Write a graph: embeddings, their mean over the text, one product, the logits."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    table = random.normal(size=(rows, 16)).astype(np.float32)
    middle = random.normal(size=(16, 32)).astype(np.float32)
    last = random.normal(size=(32, labels)).astype(np.float32)
    tensors = {"table": table, "middle": middle, "last": last, "axis": np.array([1]), "end": np.array([2])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "end"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("MatMul", ["kept", "middle"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
    ]
    free: list[Any] = ["batch", labels]
    if kind == "tokens":
        nodes.append(helper.make_node("MatMul", ["active", "last"], ["logits"]))
        free = ["batch", "length", labels]
    else:
        nodes.append(helper.make_node("ReduceMean", ["active", "axis"], ["mean"], keepdims=0))
        nodes.append(helper.make_node("MatMul", ["mean", "last"], ["logits"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, free)
    made = helper.make_graph(
        nodes, "small", inputs, [output], [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def tokenizer(path: Path) -> Path:
    """Write a tokenizer of a dozen words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(path))
    return path


def said(**more: Any) -> dict[str, Any]:
    """What the card of ``directory`` says, but for the files."""
    head = {"name": "toxicity", "output": "logits", "kind": "labels", "labels": LABELS, "activation": "sigmoid"}
    return {
        "format": 1,
        "name": "small",
        "version": "1",
        "kind": "encoder",
        "licence": "Apache-2.0",
        "graphs": {"fp32": "model.onnx"},
        "tokenizer": {"max_tokens": 32, "overlap": 4, "pad_id": 0},
        "heads": [head],
        **more,
    }


def digest(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def directory(folder: Path, **more: Any) -> Path:
    """Write a model directory with a graph, a tokenizer and a card."""
    folder.mkdir(parents=True)
    files = [graph(folder / "model.onnx"), tokenizer(folder / "tokenizer.json")]
    digests = {path.name: digest(path) for path in files}
    (folder / "card.yaml").write_text(card_yaml.write(said(**{"files": digests, **more})), encoding="utf-8")
    return folder
