from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import huggingface as make
from checkpoints import torch_or_skip

from llmguard.errors import ConfigurationError, ModelLoadError
from llmguard.export import huggingface
from llmguard.export.build import export
from llmguard.export.parity import encoder, runner
from llmguard.inference.store import open_model

torch = torch_or_skip()

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TEXT = "you are very kind"


@pytest.mark.parametrize(
    ("more", "activation", "labels"),
    [
        ({"id2label": {0: "SAFE", 1: "INJECTION"}}, "softmax", ("SAFE", "INJECTION")),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "sigmoid", ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"num_labels": 1}, "sigmoid", ("LABEL_0",)),
    ],
)
def test_sequence_classifiers(tmp_path: Path, more: dict[str, object], activation: str, labels: tuple[str]) -> None:
    model = make(tmp_path / "in", "bert", **more)
    card = export(huggingface.load(str(tmp_path / "in")), tmp_path / "out", precisions=("fp32",))
    head = card.head("labels")
    assert (head.activation, head.labels) == (activation, labels)
    opened = open_model(str(tmp_path / "out"))
    assert card.tokenizer is not None
    feed = encoder(opened.tokenizer, card.tokenizer)(TEXT)
    with torch.no_grad():
        logits = model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits
    expected = logits.softmax(-1) if activation == "softmax" else logits.sigmoid()
    np.testing.assert_allclose(runner(opened.graphs["fp32"], head, "fp32")(feed), expected.numpy(), atol=1e-5)


def test_token_labels_become_bio(tmp_path: Path) -> None:
    names = ["B-PER", "S-PER", "I-PER", "EMAIL", "O", "E-PER"]
    model = make(tmp_path / "in", "roberta", "Token", id2label=dict(enumerate(names)))
    card = export(huggingface.load(str(tmp_path / "in")), tmp_path / "out", precisions=("fp32", "int8"), bounds={})
    head = card.head("tokens")
    assert head.labels == ("O", "B-PER", "I-PER", "I-EMAIL")
    opened = open_model(str(tmp_path / "out"))
    assert card.tokenizer is not None
    feed = encoder(opened.tokenizer, card.tokenizer)(TEXT)
    with torch.no_grad():
        p = model(torch.from_numpy(feed["input_ids"]), torch.from_numpy(feed["attention_mask"])).logits.softmax(-1)
    expected = torch.stack([p[..., 4], p[..., 0] + p[..., 1], p[..., 2] + p[..., 5], p[..., 3]], dim=-1)
    found = runner(opened.graphs["fp32"], head, "fp32")(feed)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert found.shape[1] == feed["input_ids"].shape[1]


def test_labels_without_an_o() -> None:
    with pytest.raises(ModelLoadError, match="none of its token labels is 'O'"):
        huggingface.bio(["B-X", "I-X"], "somewhere")


def test_windows_are_as_long_as_the_positions_allow(tmp_path: Path) -> None:
    make(tmp_path / "in", "roberta")
    assert huggingface.load(str(tmp_path / "in")).window.max_tokens == 128
    assert huggingface.load(str(tmp_path / "in"), max_tokens=64).window.overlap == 8
    with pytest.raises(ConfigurationError, match="max_tokens: 129 is more than the 128"):
        huggingface.load(str(tmp_path / "in"), max_tokens=129)


def test_what_is_no_classifier(tmp_path: Path) -> None:
    make(tmp_path / "in")
    config = json.loads((tmp_path / "in" / "config.json").read_text())
    (tmp_path / "in" / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(ModelLoadError, match="BertForMaskedLM: only sequence and token classifiers"):
        huggingface.load(str(tmp_path / "in"))
    (tmp_path / "in" / "config.json").write_text(json.dumps({**config, "problem_type": "regression", "num_labels": 1}))
    with pytest.raises(ModelLoadError):
        huggingface.load(str(tmp_path / "in"))


def test_damaged_weights(tmp_path: Path) -> None:
    make(tmp_path / "in")
    file = tmp_path / "in" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="can't be loaded: Safetensor"):
        huggingface.load(str(tmp_path / "in"))


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    make(tmp_path / "in")
    make(tmp_path / "other", "roberta")
    (tmp_path / "in" / "tokenizer.json").write_bytes((tmp_path / "other" / "tokenizer.json").read_bytes())
    with pytest.raises(ModelLoadError, match="the tokenizer doesn't fit"):
        huggingface.load(str(tmp_path / "in"))


def test_a_module_in_training_mode_is_refused(tmp_path: Path) -> None:
    from llmguard.export.onnx_export import to_onnx

    with pytest.raises(ConfigurationError, match="training mode"):
        to_onnx(
            torch.nn.Linear(1, 1).train(),
            tmp_path / "x.onnx",
            inputs=("input_ids",),
            outputs={"logits": ("batch",)},
            layers=1,
            attention_heads=1,
            hidden=1,
        )
