"""OpenVINO behind our face: numbers, threads, forks, damage, memory, silence."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are built with onnx")
pytest.importorskip("onnxruntime", reason="the runtimes are compared")
if __import__("importlib.util").util.find_spec("openvino") is None:
    pytest.skip("runs in OpenVINO", allow_module_level=True)

from small_graphs import expected, feeds, write

from llmguard.errors import InferenceError, ModelLoadError
from llmguard.inference.openvino_session import OpenVinoSession, properties
from llmguard.inference.processor import processor
from llmguard.inference.settings import Settings


def session(path: Path, *, precision: str = "fp32", settings: Settings | None = None) -> OpenVinoSession:
    return OpenVinoSession(path, precision=precision, threads=2, settings=settings or Settings())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("openvino") / "model.onnx")


def test_what_it_is_and_computes(graph: Path) -> None:
    opened = session(graph)
    assert (opened.runtime, opened.device, opened.precision) == ("openvino", "cpu", "fp32")
    assert opened.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert opened.outputs == ("logits", "tokens")
    for batch, length in ((1, 1), (3, 9), (2, 40)):
        arrays = feeds(batch, length, seed=length)
        result = opened.run(arrays)
        assert list(result) == ["logits", "tokens"]
        assert result["tokens"].shape == (batch, length, 16)
        np.testing.assert_allclose(result["logits"], expected(arrays), atol=1e-4)


@pytest.mark.parametrize("kind", ["fp32", "fp16"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_file_in_other_precisions(tmp_path: Path, kind: str, precision: str) -> None:
    if precision == "bf16" and not processor().bf16:
        pytest.skip("the CPU has no bf16")
    result = session(write(tmp_path / "model.onnx", kind), precision=precision).run(feeds())
    assert {value.dtype for value in result.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(result["logits"], expected(feeds()), atol=0.1)


def test_int8_weights(tmp_path: Path) -> None:
    result = session(write(tmp_path / "model.onnx", "int8"), precision="int8").run(feeds())
    np.testing.assert_allclose(result["logits"], expected(feeds()), atol=0.1)


@pytest.mark.parametrize("settings", [Settings(throughput=True), Settings(shrink=False), Settings(warm_up=False)])
def test_settings_change_no_number(graph: Path, settings: Settings) -> None:
    np.testing.assert_allclose(session(graph, settings=settings).run(feeds())["logits"], expected(feeds()), atol=1e-4)


def test_what_openvino_is_told(tmp_path: Path) -> None:
    found = properties("bf16", 3, Settings())
    assert found["INFERENCE_PRECISION_HINT"] == "bf16"
    assert found["INFERENCE_NUM_THREADS"] == "3"
    assert found["PERFORMANCE_HINT"] == "LATENCY"
    assert found["CACHE_DIR"] == ""
    other = properties("fp32", 1, Settings(throughput=True, cache=tmp_path))
    assert (other["PERFORMANCE_HINT"], other["CACHE_DIR"]) == ("THROUGHPUT", str(tmp_path))
    # Activations are quantised where the weights are, and nowhere else.
    assert other["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == "0"
    assert properties("int8", 1, Settings())["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == ("128" if processor().vnni else "0")


def test_weights_in_a_second_file(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", external=True)
    np.testing.assert_allclose(session(path).run(feeds())["logits"], expected(feeds()), atol=1e-4)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.onnx: OpenVINO can't load it"):
        session(path)


@pytest.mark.parametrize("content", [b"", b"no graph at all", None])
def test_a_damaged_file_is_named(tmp_path: Path, graph: Path, content: bytes | None) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(graph.read_bytes()[:400] if content is None else content)
    with pytest.raises(ModelLoadError, match=r"damaged\.onnx"):
        session(path)
    with pytest.raises(ModelLoadError, match="no such file"):
        session(tmp_path / "absent.onnx")


def test_feeds_that_are_not_the_inputs(graph: Path) -> None:
    opened = session(graph)
    with pytest.raises(InferenceError, match=r"missing: attention_mask, token_type_ids"):
        opened.run({"input_ids": feeds()["input_ids"]})


def test_a_failed_run_says_shapes_and_no_values(graph: Path) -> None:
    opened = session(graph)
    with pytest.raises(InferenceError, match=r"attention_mask \[2, 4\]") as caught:
        opened.run({**feeds(), "attention_mask": np.ones((2, 4), np.int64)})
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    np.testing.assert_allclose(opened.run(feeds())["logits"], expected(feeds()), atol=1e-4)


@pytest.mark.parametrize("settings", [Settings(), Settings(throughput=True)])
def test_threads_share_a_session(graph: Path, settings: Settings) -> None:
    opened = session(graph, settings=settings)
    start = threading.Barrier(8)
    wrong: list[object] = []

    def work(seed: int) -> None:
        start.wait()
        try:
            for turn in range(40):
                # Some are large enough to give memory back while others run.
                arrays = feeds(1 + turn % 3, 1 + (seed + turn) % 30 + 2500 * (turn % 10 == 0), seed)
                if np.abs(opened.run(arrays)["logits"] - expected(arrays)).max() > 1e-3:
                    wrong.append(seed)
        except InferenceError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_closed(graph: Path) -> None:
    opened = session(graph)
    opened.close()
    opened.close()
    with pytest.raises(InferenceError, match="closed"):
        opened.run(feeds())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_its_own(graph: Path) -> None:
    program = """
import os, sys
from pathlib import Path
sys.path.insert(0, "tests/support")
import numpy as np
from small_graphs import expected, feeds
from llmguard.inference.session import open_session
opened = open_session({"fp32": Path(sys.argv[1])}, runtime="openvino", precision="fp32", threads=2)
opened.run(feeds())
child = os.fork()
if not child:
    arrays = feeds(64, 40)
    assert np.abs(opened.run(arrays)["logits"] - expected(arrays)).max() < 1e-3
    print("child", flush=True)
    sys.exit(0)  # an orderly end, destructors and all
assert os.waitpid(child, 0)[1] == 0
opened.run(feeds())
print("parent")
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, str(graph)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["child", "parent"]
