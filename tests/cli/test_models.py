"""``llmguard models`` as a user meets it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import detoxify as make
from checkpoints import torch_or_skip
from directories import directory
from typer.testing import CliRunner

from llmguard.cli.main import app
from llmguard.inference.card import Card
from llmguard.inference.store import bundled, open_model


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def test_what_is_bundled_is_listed() -> None:
    result = run("list")
    assert result.exit_code == 0
    for name in bundled():
        assert name in result.stdout


def test_a_card_is_printed_as_it_is(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    result = run("info", path)
    assert result.exit_code == 0
    assert Card.parse(result.stdout) == open_model(str(path)).card


def test_files_are_checked(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    assert run("verify", path).stdout == f"{path}: 'small' version '1': 2 files are good\n"
    (path / "model.onnx").write_bytes(b"")
    result = run("verify", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'model.onnx' of the model 'small' is truncated, damaged or changed" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unknown_model() -> None:
    result = run("info", "nothing")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no model 'nothing'" in result.stderr


def test_pull_copies_and_does_not_overwrite(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    assert run("pull", path, tmp_path / "copy").stdout == f"{tmp_path / 'copy'}: 'small' version '1'\n"
    assert open_model(str(tmp_path / "copy")).card.name == "small"
    assert "is there already" in run("pull", path, tmp_path / "copy").stderr
    assert "can move" in run("pull", "hf://owner/name@main", tmp_path / "other").stderr
    assert not (tmp_path / "other").exists()


def test_quantize(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="quantising needs onnx")
    path = directory(tmp_path / "small")
    refused = run("quantize", path, "--max-mean", "0")
    assert (refused.exit_code, "too far from the original" in refused.stderr) == (2, True)
    texts = tmp_path / "texts"
    texts.write_text("you are kind\n\nbad day\n")
    result = run("quantize", path, "--texts", texts, "--max-mean", "1", "--min-agreement", "0", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["precision"] == "int8"
    assert "int8" in open_model(str(path)).graphs
    texts.write_text("\n")
    assert "holds no text" in run("quantize", path, "--texts", texts).stderr
    assert "can't be read (FileNotFoundError)" in run("quantize", path, "--texts", tmp_path / "none").stderr


def test_export_wants_one_source(tmp_path: Path) -> None:
    for arguments in ([], ["--detoxify", "original", "--hf", "x"]):
        result = run("export", tmp_path / "out", *arguments)
        assert result.exit_code == 2
        assert "give one of --detoxify and --hf" in result.stderr


def test_export_without_pytorch_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run("export", tmp_path / "out", "--hf", tmp_path)
    assert result.exit_code == 2
    assert "pip install 'llmguard[export]'" in result.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_export_prints_the_parity(tmp_path: Path) -> None:
    torch_or_skip()
    make(tmp_path / "in")
    wanted = ["--detoxify", tmp_path / "in" / "checkpoint.ckpt", "--config", tmp_path / "in" / "config"]
    result = run("export", tmp_path / "out", *wanted, "--precision", "fp32", "--precision", "fp16")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("fp32: on 30 texts the probabilities differ by ")
    assert lines[1].startswith("fp16: ")
    assert lines[-1].startswith(f"{tmp_path / 'out'}: 'detoxify-checkpoint': fp16.onnx ")
    assert set(open_model(str(tmp_path / "out")).graphs) == {"fp32", "fp16"}
    again = run("export", tmp_path / "out", *wanted)
    assert "is there already" in again.stderr
