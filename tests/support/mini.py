"""A model directory shaped like guard-mini, small and without training: its words say what it sees."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from directories import digest
from onnx import TensorProto, helper, numpy_helper

from llmguard.inference import card_yaml

TOXICITY = ["toxic", "insult", "threat", "identity_attack", "obscene", "sexual"]
ENTITIES = ["O", *(f"{mark}-{kind}" for kind in ("PERSON", "LOCATION", "ORGANIZATION", "ADDRESS") for mark in "BI")]
OUTPUTS = {
    "toxicity": TOXICITY,
    "injection": ["user", "data"],
    "harmful": ["harmful"],
    "grounding": ["unsupported"],
    "entities": ENTITIES,
}
SAYS: dict[str, dict[str, tuple[str, ...]]] = {
    "idiot": {"toxicity": ("toxic", "insult")},
    "foreigners": {"toxicity": ("identity_attack",)},
    "ignore": {"injection": ("user", "data")},
    "reply": {"injection": ("data",)},
    "bomb": {"harmful": ("harmful",)},
    "moon": {"grounding": ("unsupported",)},
    "john": {"entities": ("B-PERSON",)},
    "smith": {"entities": ("I-PERSON",)},
    "paris": {"entities": ("B-LOCATION",)},
    "acme": {"entities": ("B-ORGANIZATION",)},
    "street": {"entities": ("I-ADDRESS",)},
    "12": {"entities": ("B-ADDRESS",)},
}
PLAIN = "the a is in to of my you and please day good all rules call at from works sun rises".split()  # noqa: SIM905
SURE = 5.0


def _columns() -> dict[str, slice]:
    found, start = {}, 0
    for head, labels in OUTPUTS.items():
        found[head] = slice(start, start + len(labels))
        start += len(labels)
    return found


def _table(words: list[str]) -> np.ndarray[Any, Any]:
    columns = _columns()
    table = np.full((len(words), max(own.stop for own in columns.values())), -SURE, np.float32)
    table[:, columns["entities"].start] = SURE
    for word, said in SAYS.items():
        for head, labels in said.items():
            for label in labels:
                table[words.index(word), columns[head].start + OUTPUTS[head].index(label)] = SURE
        if "entities" in said:
            table[words.index(word), columns["entities"].start] = -SURE
    return table


def graph(path: Path, words: list[str], *, by_word: bool = False) -> Path:
    """Rows of a table by token; a label's logit is its largest over the tokens, of a pair over those of the text.

    Args:
        path: where it is written.
        words: the vocabulary.
        by_word: whether the head for pairs scores each token.
    """
    columns = _columns()
    constants: dict[str, np.ndarray[Any, Any]] = {
        "table": _table(words),
        "last": np.array([2]),
        "axis": np.array([1]),
        "far": np.array(1000.0, np.float32),
        "one": np.array(1.0, np.float32),
        "two": np.array(2, np.int64),
        "at2": np.array([2]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["there", "one"], ["away"]),
        helper.make_node("Mul", ["away", "far"], ["pushed"]),
        helper.make_node("Unsqueeze", ["pushed", "last"], ["column"]),
        helper.make_node("Add", ["rows", "column"], ["seen"]),
        helper.make_node("Mod", ["token_type_ids", "two"], ["segment"]),
        helper.make_node("Cast", ["segment"], ["second"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["second", "one"], ["first"]),
        helper.make_node("Mul", ["first", "far"], ["context"]),
        helper.make_node("Unsqueeze", ["context", "last"], ["context3"]),
        helper.make_node("Add", ["seen", "context3"], ["own"]),
        helper.make_node("ReduceMax", ["seen", "axis"], ["embedding"], keepdims=0),
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", "wide"])]
    for head, own in columns.items():
        constants[f"{head}_from"], constants[f"{head}_to"] = np.array([own.start]), np.array([own.stop])
        source = "own" if head == "grounding" else "rows" if head == "entities" else "seen"
        cut = "entities" if head == "entities" else f"{head}_rows"
        nodes.append(helper.make_node("Slice", [source, f"{head}_from", f"{head}_to", "at2"], [cut]))
        shape: list[Any] = ["batch", "length", len(OUTPUTS[head])]
        if head == "grounding" and by_word:
            nodes.append(helper.make_node("Identity", [cut], [head]))
        elif head != "entities":
            nodes.append(helper.make_node("ReduceMax", [cut, "axis"], [head], keepdims=0))
            shape = ["batch", len(OUTPUTS[head])]
        outputs.append(helper.make_tensor_value_info(head, TensorProto.FLOAT, shape))
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in names]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "mini", inputs, outputs, tensors),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def tokenizer(path: Path, words: list[str]) -> Path:
    """WordPiece over those words and single letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate(words)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(path))
    return path


def words() -> list[str]:
    """The vocabulary."""
    letters = [*string.ascii_lowercase, *string.digits]
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *SAYS, *PLAIN, *string.punctuation, *letters]
    return list(dict.fromkeys([*known, *(f"##{letter}" for letter in letters)]))


def mini(folder: Path, *, name: str = "mini", max_tokens: int = 32, by_word: bool = False, **more: Any) -> Path:
    """Write the directory."""
    folder.mkdir(parents=True)
    known = words()
    files = [graph(folder / "model.onnx", known, by_word=by_word), tokenizer(folder / "tokenizer.json", known)]
    heads: list[dict[str, Any]] = [
        {"name": head, "output": head, "kind": "labels", "labels": labels, "activation": "sigmoid"}
        for head, labels in OUTPUTS.items()
    ]
    heads[3]["kind"] = "pair_tokens" if by_word else "pair"
    heads[4] |= {"kind": "tokens", "activation": "softmax"}
    heads.append({"name": "embedding", "output": "embedding", "kind": "embedding", "activation": "none"})
    card = {
        "format": 1,
        "name": name,
        "version": "1",
        "kind": "encoder",
        "licence": "Apache-2.0",
        "graphs": {"fp32": "model.onnx"},
        "tokenizer": {"max_tokens": max_tokens, "overlap": 4, "pad_id": 0, "case_types": True},
        "heads": heads,
        "files": {path.name: digest(path) for path in files},
        **more,
    }
    (folder / "card.yaml").write_text(card_yaml.write(card), encoding="utf-8")
    return folder


def nano(folder: Path, *, alarming: str = "idiot", **more: Any) -> Path:
    """Write a directory of the kind ``nano`` that is sure that all is well, but where ``alarming`` stands."""
    from llmguard.inference.nano import WEIGHTS
    from llmguard.kernels import hashing

    bits, labels = 12, 4
    folder.mkdir(parents=True)
    table = np.zeros((1 << bits, labels), np.int8)
    for block in hashing.features(alarming, bits):
        table[block] = 127
    np.save(folder / WEIGHTS, table)
    parts = {"toxicity": ["toxic"], "injection": ["user", "data"], "harmful": ["harmful"]}
    card = {
        "format": 1,
        "name": "small-nano",
        "version": "1",
        "kind": "nano",
        "licence": "Apache-2.0",
        "hashing": {"scheme": hashing.SCHEME, "window": 2, "scales": [0.1] * labels, "biases": [-6.0] * labels},
        "heads": [
            {"name": name, "output": name, "kind": "labels", "labels": own, "activation": "sigmoid"}
            for name, own in parts.items()
        ],
        "files": {WEIGHTS: digest(folder / WEIGHTS)},
        **more,
    }
    (folder / "card.yaml").write_text(card_yaml.write(card), encoding="utf-8")
    return folder
