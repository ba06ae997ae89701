"""The choice between runtimes, as a caller meets it."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are built with onnx")
pytest.importorskip("onnxruntime", reason="runs in ONNX Runtime")

from small_graphs import expected, feeds, write

from llmguard.errors import ConfigurationError, DeviceError, ModelLoadError
from llmguard.inference import session as module
from llmguard.inference.choice import choose, runtimes
from llmguard.inference.devices import Device, why_not
from llmguard.inference.processor import processor
from llmguard.inference.session import open_session, resolve

NO_GPU = bool(why_not(Device("cuda")))
OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("session")
    return {kind: write(directory / f"{kind}.onnx", kind) for kind in ("fp32", "fp16", "int8")}


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["auto", "fp32", "int8"])
def test_every_way_gives_the_same(graphs: dict[str, Path], runtime: str, precision: str) -> None:
    if runtime == "openvino" and not OPENVINO:
        pytest.skip("openvino is not installed")
    opened = open_session(graphs, device="cpu", runtime=runtime, precision=precision, threads=1)
    assert runtime in ("auto", opened.runtime)
    assert precision in ("auto", opened.precision)
    assert opened.device == "cpu"
    np.testing.assert_allclose(opened.run(feeds())["logits"], expected(feeds()), atol=0.1)
    opened.close()


def test_auto_takes_what_the_choice_says(graphs: dict[str, Path]) -> None:
    opened = open_session(graphs, device="cpu")
    best = choose(graphs, Device("cpu"), processor(), paired=True, available=runtimes())[0]
    assert (opened.runtime, opened.precision) == (best.runtime, best.precision)


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
def test_auto_without_a_gpu_says_so_once(graphs: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    module._say_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="llmguard.inference"):
        assert {open_session(graphs).device for _ in range(3)} == {"cpu"}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "models run on the CPU" in said[0]
    for problem in why_not(Device("cuda")):
        assert problem in said[0]


@pytest.mark.skipif(not NO_GPU, reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_gpu_that_was_asked_for_is_never_the_cpu(graphs: dict[str, Path], device: str) -> None:
    with pytest.raises(DeviceError, match="can't be used"):
        open_session(graphs, device=device)


def test_openvino_means_the_cpu() -> None:
    assert resolve("auto", "openvino") == Device("cpu")
    assert resolve("cuda:1") == Device("cuda", 1)


def test_what_is_wrong_is_said(graphs: dict[str, Path]) -> None:
    with pytest.raises(ConfigurationError, match="threads"):
        open_session(graphs, threads=0)
    with pytest.raises(ConfigurationError, match="unknown device"):
        open_session(graphs, device="gpu")
    with pytest.raises(ModelLoadError, match="it has none"):
        open_session({}, device="cpu")


def test_a_damaged_file_is_named_whatever_runs_it(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(b"\x08\x07" + bytes(200))
    for precision in ("fp32", "int8"):
        with pytest.raises(ModelLoadError, match=r"damaged\.onnx"):
            open_session({precision: path}, device="cpu")


@pytest.mark.skipif(not OPENVINO, reason="openvino is not installed")
def test_a_graph_that_one_runtime_does_not_know(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An operator that ONNX Runtime alone has; the other runtime must not end the matter."""
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("CDist", ["x", "x"], ["y"], domain="com.microsoft", metric="euclidean")
    ids = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "width"])
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "n"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "odd", [ids], outputs), opset_imports=opsets, ir_version=9)
    onnx.save(model, tmp_path / "odd.onnx")
    with caplog.at_level(logging.WARNING, logger="llmguard.inference"):
        opened = open_session({"fp32": tmp_path / "odd.onnx"}, device="cpu")
    assert opened.runtime == "onnxruntime"
    assert opened.run({"x": np.eye(2, dtype=np.float32)})["y"].shape == (2, 2)
    if choose(("fp32",), Device("cpu"), processor(), paired=False, available=runtimes())[0].runtime == "openvino":
        assert "openvino could not load it" in caplog.text
