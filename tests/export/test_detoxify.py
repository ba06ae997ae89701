"""Detoxify's checkpoints through Detoxify itself and through us."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CLASSES, FAMILIES, torch_or_skip
from checkpoints import detoxify as make

from llmguard.errors import ModelLoadError
from llmguard.export import detoxify
from llmguard.export.build import export
from llmguard.export.parity import Bound, encoder, runner
from llmguard.export.samples import PARITY
from llmguard.inference.store import open_model

torch = torch_or_skip()

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the exporter's and transformers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    make(folder, request.param)
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    make(tmp_path, "bert")
    return tmp_path


def test_scores_are_detoxifys(made: Path, tmp_path: Path) -> None:
    from detoxify import Detoxify

    theirs = Detoxify(checkpoint=str(made / "checkpoint.ckpt"), huggingface_config_path=str(made / "config"))
    original = detoxify.load(str(made / "checkpoint.ckpt"), config=str(made / "config"))
    card = export(original, tmp_path / "out", precisions=("fp32",))
    model = open_model(str(tmp_path / "out"))
    assert model.card == card
    assert card.tokenizer is not None
    head = card.head("toxicity")
    assert head.labels == ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")
    encode, run = encoder(model.tokenizer, card.tokenizer), runner(model.graphs["fp32"], head, "fp32")
    scores = {text: theirs.predict(text) for text in PARITY}
    expected = np.array([[scores[text][label] for label in head.labels] for text in PARITY])
    assert expected.std(axis=0).min() > 0.01  # a model that says the same of every text would prove nothing
    found = np.concatenate([run(encode(text)) for text in PARITY])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert card.figures["fused"] == {"attention": 2, "normalisation": 5, "gelu": 2}


def test_smaller_precisions_are_near_and_without_pytorch(bert: Path, tmp_path: Path) -> None:
    found = []
    original = detoxify.load(str(bert / "checkpoint.ckpt"), config=str(bert / "config"))
    bounds = {"fp32": Bound(greatest=1e-4), "fp16": Bound(greatest=5e-3), "int8": Bound(mean=0.02, agreement=0.95)}
    export(original, tmp_path / "out", bounds=bounds, report=found.append)
    assert [parity.precision for parity in found] == ["fp32", "fp16", "int8"]
    program = f"""
import sys
from llmguard.export.parity import encoder, runner
from llmguard.inference.store import open_model
model = open_model({str(tmp_path / "out")!r})
encode = encoder(model.tokenizer, model.card.tokenizer)
for precision, path in model.graphs.items():
    assert runner(path, model.card.heads[0], precision)(encode("you are kind")).shape == (1, 6)
print(sorted(name for name in ("torch", "transformers", "detoxify") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"


def test_a_graph_that_is_too_far_leaves_nothing_behind(bert: Path, tmp_path: Path) -> None:
    original = detoxify.load(str(bert / "checkpoint.ckpt"), config=str(bert / "config"))
    with pytest.raises(ModelLoadError, match="the int8 graph is too far from the original: mean difference"):
        export(original, tmp_path / "new" / "out", precisions=("int8",), bounds={"int8": Bound(mean=1e-9)})
    assert list((tmp_path / "new").iterdir()) == []


def save(bert: Path, **more: Any) -> Path:
    loaded = torch.load(bert / "checkpoint.ckpt", weights_only=True)
    arch = {**loaded["config"]["arch"]["args"], **more.pop("arch", {})}
    said = {"dataset": {"args": {"classes": more.pop("classes", CLASSES)}}, "arch": {"args": arch}}
    torch.save({"config": said, "state_dict": loaded["state_dict"], **more}, bert / "changed.ckpt")
    return bert / "changed.ckpt"


def load(bert: Path, name: str = "changed.ckpt") -> None:
    detoxify.load(str(bert / name), config=str(bert / "config"))


def test_labels_that_are_not_as_many_as_outputs(bert: Path) -> None:
    save(bert, classes=CLASSES[:5])
    with pytest.raises(ModelLoadError, match="5 classes are named, the model has 6 outputs"):
        load(bert)
    save(bert, classes=CLASSES[:5], arch={"num_classes": 5})
    with pytest.raises(ModelLoadError, match=r"doesn't fit its configuration: 'classifier\.weight' has another shape"):
        load(bert)


def test_parts_that_do_not_fit(bert: Path, tmp_path: Path) -> None:
    save(bert, arch={"model_name": "BertForSequenceClasification"})
    with pytest.raises(ModelLoadError, match="did you mean 'BertForSequenceClassification'"):
        load(bert)
    save(bert, arch={"model_name": "RobertaForSequenceClassification"})
    with pytest.raises(ModelLoadError, match="the configuration is of a 'bert'"):
        load(bert)
    save(bert, state_dict={})
    with pytest.raises(ModelLoadError, match=r"doesn't fit its configuration: .* is missing"):
        load(bert)
    torch.save({"state_dict": {}}, bert / "changed.ckpt")
    with pytest.raises(ModelLoadError, match="no checkpoint of Detoxify: the key 'config' is missing"):
        load(bert)
    make(tmp_path / "other", "roberta")  # its tokenizer knows more words than this model
    shutil.copy(tmp_path / "other" / "config" / "tokenizer.json", bert / "config" / "tokenizer.json")
    with pytest.raises(ModelLoadError, match="the tokenizer doesn't fit: its highest token is"):
        load(bert, "checkpoint.ckpt")


class _Harm:
    def __reduce__(self) -> Any:
        return print, ("a pickle ran",)


def test_a_pickle_that_would_run_is_not_read(bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(bert, more=_Harm())
    with pytest.raises(ModelLoadError, match="it holds more than tensors and plain containers"):
        load(bert)
    (bert / "changed.ckpt").write_bytes(pickle.dumps(_Harm()))
    with pytest.raises(ModelLoadError, match="no checkpoint"):
        load(bert)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 10, 1000, -1000])
def test_a_truncated_checkpoint(bert: Path, size: int) -> None:
    (bert / "changed.ckpt").write_bytes((bert / "checkpoint.ckpt").read_bytes()[:size])
    with pytest.raises(ModelLoadError, match=r"changed\.ckpt: .*checkpoint"):
        load(bert)


def test_a_release_that_does_not_exist() -> None:
    with pytest.raises(ModelLoadError, match=r"'orignal' is neither .* \(did you mean 'original'\?\)"):
        detoxify.load("orignal")


def test_a_release_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelLoadError, match=r"the release 'original' can't be downloaded .*: fetch https://"):
        detoxify.load("original")


def test_no_configuration(bert: Path) -> None:
    with pytest.raises(ModelLoadError, match="no configuration and tokenizer of"):
        detoxify.load(str(bert / "checkpoint.ckpt"), config=str(bert / "nowhere"))
