"""What the doctor finds is what the engine does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmguard.inference.choice import runtimes
from llmguard.inference.devices import Device, why_not
from llmguard.inference.doctor import diagnose
from llmguard.inference.processor import processor


def test_it_is_json_and_complete() -> None:
    found = diagnose()
    values = json.loads(json.dumps(found.to_dict()))
    assert values["processor"]["cores"] == processor().cores
    assert set(values["processor"]["features"]) == processor().features
    assert values["processor"]["vnni"] == processor().vnni
    assert tuple(values["gpu_problems"]) == tuple(why_not(Device("cuda")))
    assert "llmguard" in values["packages"]
    assert [row["graphs"].split(",")[0] for row in values["selections"]] == ["fp32"] * 3


def test_it_says_what_a_session_does(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="graphs are built with onnx")
    pytest.importorskip("onnxruntime", reason="runs in ONNX Runtime")
    from small_graphs import write

    from llmguard.inference.session import open_session

    full, half = write(tmp_path / "fp32.onnx"), write(tmp_path / "fp16.onnx", "fp16")
    pairs, products = write(tmp_path / "int8.onnx", "int8"), write(tmp_path / "dynamic.onnx", "dynamic")
    models = (
        {"fp32": full},
        {"fp32": full, "fp16": half, "int8": pairs},
        {"fp32": full, "fp16": half, "int8": products},
    )
    for selection, graphs in zip(diagnose().selections, models, strict=True):
        opened = open_session(graphs)
        assert (selection.runtime, selection.precision, selection.device) == (
            opened.runtime,
            opened.precision,
            opened.device,
        )


def test_a_broken_installation_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.31.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = diagnose()
    assert found.providers == ()
    assert any("each overwrites the other's files" in problem for problem in found.problems)
    assert any("both installed" in problem for problem in found.gpu_problems)


def test_without_a_runtime_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmguard.inference.doctor.runtimes", lambda: ())
    for selection in diagnose().selections:
        assert selection.runtime == ""
        assert "llmguard[cpu]" in selection.why
    assert isinstance(runtimes(), tuple)
