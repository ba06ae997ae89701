"""Directories that become INT8 and directories that are written, without PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from directories import LABELS, digest, directory, graph, said

pytest.importorskip("onnx", reason="changing graphs needs onnx")

from llmguard.errors import ConfigurationError, ModelLoadError
from llmguard.export.build import add_int8
from llmguard.export.directory import copy, finish, staged
from llmguard.export.parity import Bound, Parity, compare
from llmguard.inference import card_yaml
from llmguard.inference.card import Head
from llmguard.inference.store import open_model

LOOSE = {"int8": Bound(mean=0.1)}
HEAD = Head.model_validate(said()["heads"][0])


def test_a_directory_gets_its_int8_graph(tmp_path: Path) -> None:
    path = directory(tmp_path / "small", figures={"auc": 0.5})
    found: list[Parity] = []
    card = add_int8(open_model(str(path)), bounds=LOOSE, report=found.append)
    assert open_model(str(path)).card == card
    assert card.graphs == {"fp32": "model.onnx", "int8": "int8.onnx"}
    assert card.figures == {"auc": 0.5, "parity": [found[0].figures()]}
    assert found[0].texts == 30
    again = add_int8(open_model(str(path)), bounds=LOOSE)
    assert again.figures["parity"] == card.figures["parity"]
    assert [one.name for one in tmp_path.iterdir()] == ["small"]


def test_a_graph_that_is_too_far_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    before = {one.name: digest(one) for one in path.iterdir()}
    with pytest.raises(ModelLoadError, match="the int8 graph is too far from the original"):
        add_int8(open_model(str(path)), bounds={"int8": Bound(mean=1e-9)})
    assert {one.name: digest(one) for one in path.iterdir()} == before
    assert [one.name for one in tmp_path.iterdir()] == ["small"]


def test_token_heads_are_quantised_too(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    graph(path / "model.onnx", labels=3, kind="tokens")
    head = {"name": "t", "output": "logits", "kind": "tokens", "labels": ["O", "B-X", "I-X"], "activation": "softmax"}
    files = {name: digest(path / name) for name in ("model.onnx", "tokenizer.json")}
    (path / "card.yaml").write_text(card_yaml.write(said(heads=[head], files=files)))
    assert "int8" in add_int8(open_model(str(path)), bounds=LOOSE).graphs


def change(path: Path, **more: object) -> None:
    files = {name: digest(path / name) for name in ("model.onnx", "tokenizer.json")}
    (path / "card.yaml").write_text(card_yaml.write(said(**{"files": files, **more})))


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    change(path, graphs={"fp16": "model.onnx"})
    with pytest.raises(ModelLoadError, match="has no fp32 graph to quantise"):
        add_int8(open_model(str(path)))
    change(path, heads=[{**said()["heads"][0], "output": "scores"}])
    with pytest.raises(ModelLoadError, match="the graph has no output 'scores'"):
        add_int8(open_model(str(path)))
    (path / "tokenizer.json").write_text("{}")
    change(path)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json: no tokenizer"):
        add_int8(open_model(str(path)))


def test_a_directory_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"

    def broken() -> None:
        with staged(target) as stage:
            (stage / "x").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert list(target.parent.iterdir()) == []
    with staged(target) as stage:
        (stage / "x").write_text("whole")
        assert not target.exists()
    assert (target / "x").read_text() == "whole"
    with pytest.raises(ConfigurationError, match="is there already"), staged(target):
        raise AssertionError
    with staged(target, replace=True) as stage:
        (stage / "y").write_text("new")
    assert [one.name for one in target.iterdir()] == ["y"]
    assert [one.name for one in target.parent.iterdir()] == ["b"]


def test_a_copy_holds_what_the_card_names(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    (path / "notes.txt").write_text("mine")
    copied = copy(open_model(str(path)), tmp_path / "copy")
    assert open_model(str(tmp_path / "copy")) == copied
    assert sorted(one.name for one in copied.path.iterdir()) == ["card.yaml", "model.onnx", "tokenizer.json"]


def test_a_wrong_card_is_not_written(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    (path / "card.yaml").unlink()
    with pytest.raises(ModelLoadError, match="did you mean 'encoder'"):
        finish(path, {**said(kind="encodr"), "format": 1})
    assert not (path / "card.yaml").exists()


def test_what_a_comparison_counts() -> None:
    theirs = np.array([[0.4, 0.6], [0.9, 0.1]], np.float32)
    ours = np.array([[0.6, 0.7], [0.9, 0.1]], np.float32)
    found = compare("int8", HEAD, iter([(theirs, ours)]))
    assert (found.texts, round(found.greatest, 6), round(found.mean, 6), found.agreement) == (1, 0.2, 0.075, 0.75)
    chosen = compare("int8", HEAD.model_copy(update={"activation": "softmax"}), iter([(theirs, ours)]))
    assert chosen.agreement == 1.0
    with pytest.raises(ModelLoadError, match=r"max difference of the probabilities 0\.2, the bound is 0\.1"):
        found.check(Bound(greatest=0.1))
    with pytest.raises(ModelLoadError, match=r"75\.0% of the labels agree, the bound is 98\.0%"):
        found.check(Bound(agreement=0.98))
    with pytest.raises(ModelLoadError, match="the export gives"):
        compare("int8", HEAD, iter([(theirs, ours[:1])]))
    with pytest.raises(ConfigurationError, match="no texts"):
        compare("int8", HEAD, iter([]))
    assert len(LABELS) == theirs.shape[1]
