from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from directories import LABELS, graph
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="changing graphs needs onnx")
pytest.importorskip("onnxruntime", reason="running graphs needs onnxruntime")

from llmguard.errors import ModelLoadError
from llmguard.export import quantize
from llmguard.export.ranges import ranges


def feeds(texts: int = 20, length: int = 12) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(1)
    for _ in range(texts):
        ids = random.integers(0, 200, (1, length))
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def run(path: Path, feed: dict[str, Any]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], feed)
    return np.asarray(logits)


def run_openvino(path: Path, feed: dict[str, Any]) -> np.ndarray:
    openvino = pytest.importorskip("openvino", reason="the second runtime is not installed")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(compiled(feed)["logits"])


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return graph(tmp_path / "model.onnx")


@pytest.mark.parametrize("bits", [8, 7])
def test_eight_bits_are_near(full: Path, tmp_path: Path, bits: int) -> None:
    small = tmp_path / "int8.onnx"
    assert quantize.int8(full, small, feeds(), bits=bits) == 2
    assert small.stat().st_size < full.stat().st_size / 2
    for feed in feeds(5):
        expected = run(full, feed)
        np.testing.assert_allclose(run(small, feed), expected, atol=0.05 * np.abs(expected).max() + 0.05)
        np.testing.assert_allclose(run_openvino(small, feed), run(small, feed), atol=0.05)


def test_weights_stay_within_their_bits(full: Path, tmp_path: Path) -> None:
    import onnx

    quantize.int8(full, tmp_path / "int8.onnx", feeds(), bits=7)
    tensors = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert np.abs(tensors["middle_quantized"].astype(int)).max() == 63
    assert tensors["middle_scale"].shape == (32,)
    assert tensors["table_scale"].shape == (200, 1)
    assert "middle" not in tensors


def test_a_text_does_not_depend_on_its_neighbours(full: Path, tmp_path: Path) -> None:
    quantize.int8(full, tmp_path / "int8.onnx", feeds())
    alone = [run(tmp_path / "int8.onnx", feed) for feed in feeds(6)]
    batch = {name: np.concatenate([feed[name] for feed in feeds(6)]) for name in ("input_ids", "attention_mask")}
    np.testing.assert_allclose(run(tmp_path / "int8.onnx", batch), np.concatenate(alone), atol=1e-5)


def test_half_precision(full: Path, tmp_path: Path) -> None:
    quantize.fp16(full, tmp_path / "fp16.onnx")
    assert (tmp_path / "fp16.onnx").stat().st_size < full.stat().st_size * 0.7
    for feed in feeds(5):
        found = run(tmp_path / "fp16.onnx", feed)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, run(full, feed), atol=0.02)
        np.testing.assert_allclose(run_openvino(tmp_path / "fp16.onnx", feed), run(full, feed), atol=0.02)


def test_two_graphs_share_their_weights(full: Path, tmp_path: Path) -> None:
    import onnx

    folder = tmp_path / "shared"
    folder.mkdir()
    quantize.int8(full, tmp_path / "one.onnx", feeds())
    small, half, weights = quantize.share_weights(tmp_path / "one.onnx", folder)
    assert (small.name, half.name, weights.name) == ("int8.onnx", "fp16.onnx", "weights.bin")
    kinds = Counter(node.op_type for node in onnx.load(half, load_external_data=False).graph.node)
    assert kinds["QuantizeLinear"] == 0
    for feed in feeds(5):
        np.testing.assert_array_equal(run(small, feed), run(tmp_path / "one.onnx", feed))
        np.testing.assert_allclose(run_openvino(small, feed), run(small, feed), atol=0.05)
        expected = run(full, feed)
        np.testing.assert_allclose(run(half, feed), expected, atol=0.05 * np.abs(expected).max() + 0.05)
        np.testing.assert_allclose(run_openvino(half, feed), run(half, feed), atol=0.02)


def test_the_shared_file_holds_each_weight_once(full: Path, tmp_path: Path) -> None:
    import onnx

    quantize.int8(full, tmp_path / "one.onnx", feeds())
    small, half, weights = quantize.share_weights(tmp_path / "one.onnx", tmp_path)
    places = []
    for path in (small, half):
        tensors = onnx.load(path, load_external_data=False).graph.initializer
        places.append({one.name: {e.key: e.value for e in one.external_data} for one in tensors if one.external_data})
    assert places[0] == places[1]
    assert set(places[0]) == {"table_quantized"}  # the others are smaller than a page is worth
    assert weights.stat().st_size == 200 * 16


def test_a_graph_without_products(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "none", [value], [out]),
        opset_imports=[helper.make_opsetid("", 19)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "none.onnx")
    with pytest.raises(ModelLoadError, match="nothing to quantise"):
        quantize.int8(tmp_path / "none.onnx", tmp_path / "out.onnx", feeds())


@pytest.mark.parametrize("harm", [lambda data: data[: len(data) // 2], lambda data: b"\xff" + data, lambda data: b"{}"])
def test_a_damaged_graph(full: Path, tmp_path: Path, harm: Any) -> None:
    full.write_bytes(harm(full.read_bytes()))
    with pytest.raises(ModelLoadError, match=r"model\.onnx: no readable ONNX graph"):
        quantize.fp16(full, tmp_path / "out.onnx")


def test_ranges_cover_the_values_and_zero(full: Path) -> None:
    low, high = ranges(full, ["active"], feeds())["active"]
    assert low == 0
    assert high > 0
    with pytest.raises(ValueError, match="no calibration texts"):
        ranges(full, ["active"], iter(()))


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_symmetric_integers_are_the_nearest(seed: int) -> None:
    from llmguard.export.qdq import _symmetric

    values = np.random.default_rng(seed).normal(size=(7, len(LABELS))).astype(np.float32)
    integers, scale = _symmetric(values, 1, 127)
    assert scale.shape == (1, len(LABELS))
    assert (np.abs(integers * scale - values) <= scale / 2 + 1e-6).all()
