"""ONNX Runtime behind our face: numbers, threads, forks, damage, memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are built with onnx")
pytest.importorskip("onnxruntime", reason="runs in ONNX Runtime")

from small_graphs import expected, feeds, write

from llmguard.errors import DeviceError, InferenceError, ModelLoadError
from llmguard.inference.bound import BoundRuns
from llmguard.inference.devices import Device
from llmguard.inference.onnx_session import OnnxSession, providers
from llmguard.inference.settings import Settings

CPU = Device("cpu")


def session(path: Path, *, precision: str = "fp32", threads: int = 2, settings: Settings | None = None) -> OnnxSession:
    return OnnxSession(path, device=CPU, precision=precision, threads=threads, settings=settings or Settings())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_what_it_is_and_computes(graph: Path) -> None:
    opened = session(graph)
    assert (opened.runtime, opened.device, opened.precision, opened.threads) == ("onnxruntime", "cpu", "fp32", 2)
    assert opened.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert opened.outputs == ("logits", "tokens")
    for batch, length in ((1, 1), (3, 9), (2, 40)):
        arrays = feeds(batch, length, seed=length)
        result = opened.run(arrays)
        assert list(result) == ["logits", "tokens"]
        assert result["tokens"].shape == (batch, length, 16)
        np.testing.assert_allclose(result["logits"], expected(arrays), atol=1e-5)


@pytest.mark.parametrize(("kind", "bound"), [("fp16", 2e-2), ("int8", 5e-2), ("dynamic", 1e-1)])
def test_other_precisions_come_as_float32(tmp_path: Path, kind: str, bound: float) -> None:
    opened = session(write(tmp_path / "model.onnx", kind), precision=kind)
    result = opened.run(feeds())
    assert {value.dtype for value in result.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(result["logits"], expected(feeds()), atol=bound)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(arena=False),
        Settings(shrink=False),
        Settings(spinning=True),
        Settings(warm_up=False),
        Settings(cuda_graphs=((2, 5),)),  # says nothing about a CPU
    ],
)
def test_settings_change_no_number(graph: Path, settings: Settings) -> None:
    np.testing.assert_array_equal(
        session(graph, settings=settings).run(feeds())["logits"], session(graph).run(feeds())["logits"]
    )


def test_weights_in_a_second_file(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", external=True)
    assert (tmp_path / "model.onnx.data").is_file()
    np.testing.assert_allclose(session(path).run(feeds())["logits"], expected(feeds()), atol=1e-5)


def test_a_missing_second_file_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx", external=True)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.onnx: ONNX Runtime can't load it"):
        session(path)


@pytest.mark.parametrize("content", [b"", b"no graph at all", None])
def test_a_damaged_file_is_named(tmp_path: Path, graph: Path, content: bytes | None) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(graph.read_bytes()[:400] if content is None else content)
    with pytest.raises(ModelLoadError, match=r"damaged\.onnx"):
        session(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such file"):
        session(tmp_path / "absent.onnx")


def test_feeds_that_are_not_the_inputs(graph: Path) -> None:
    opened = session(graph)
    arrays = feeds()
    with pytest.raises(InferenceError, match=r"missing: token_type_ids; unknown: other"):
        opened.run({"input_ids": arrays["input_ids"], "attention_mask": arrays["attention_mask"], "other": np.ones(1)})
    with pytest.raises(InferenceError, match="float64"):
        opened.run({**arrays, "input_ids": arrays["input_ids"] * 1.5})
    np.testing.assert_array_equal(
        opened.run({name: value.astype(np.int32) for name, value in arrays.items()})["logits"],
        opened.run(arrays)["logits"],
    )


def test_a_failed_run_says_shapes_and_no_values(graph: Path) -> None:
    opened = session(graph)
    arrays = feeds()
    arrays["input_ids"][1, 3] = 987_654
    with pytest.raises(InferenceError, match=r"input_ids \[2, 5\]") as caught:
        opened.run(arrays)
    assert "987" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    with pytest.raises(InferenceError):
        opened.run({**feeds(), "attention_mask": np.ones((2, 4), np.int64)})
    np.testing.assert_allclose(opened.run(feeds())["logits"], expected(feeds()), atol=1e-5)


def test_memory_that_does_not_suffice_is_said(graph: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests/support")
from small_graphs import feeds
from llmguard.errors import InferenceError
from llmguard.inference.devices import Device
from llmguard.inference.onnx_session import OnnxSession
from llmguard.inference.settings import Settings
opened = OnnxSession(Path(sys.argv[1]), device=Device("cpu"), precision="fp32", threads=1, settings=Settings())
arrays = feeds(1000, 5000)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), used + (200 << 20)))
try:
    opened.run(arrays)
except InferenceError as error:
    print(error)
opened.run(feeds())
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("limits memory as Linux does")
    command = [sys.executable, "-c", program, str(graph)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "input_ids [1000, 5000]" in result.stdout
    assert "cpu has not enough memory" in result.stdout


def test_threads_share_a_session(graph: Path) -> None:
    opened = session(graph)
    start = threading.Barrier(8)
    wrong: list[int] = []

    def work(seed: int) -> None:
        start.wait()
        for turn in range(40):
            arrays = feeds(1 + turn % 3, 1 + (seed + turn) % 30, seed)
            if np.abs(opened.run(arrays)["logits"] - expected(arrays)).max() > 1e-4:
                wrong.append(seed)

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
    gc.collect()
    with pytest.raises(InferenceError, match="closed"):
        opened.run(feeds())


FORKED = """
import os, sys
from pathlib import Path
sys.path.insert(0, "tests/support")
import numpy as np
from small_graphs import expected, feeds
from llmguard.inference.session import open_session
opened = open_session({"fp32": Path(sys.argv[1])}, runtime=sys.argv[2], device="cpu", precision="fp32", threads=2)
opened.run(feeds())
child = os.fork()
if not child:
    arrays = feeds(64, 40)
    assert np.abs(opened.run(arrays)["logits"] - expected(arrays)).max() < 1e-4
    print("child", flush=True)
    sys.exit(0)  # an orderly end, destructors and all
assert os.waitpid(child, 0)[1] == 0
opened.run(feeds())
print("parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_its_own(graph: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(graph), "onnxruntime"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.split() == ["child", "parent"]


@pytest.mark.parametrize("device", [Device("cuda"), Device("tensorrt", 1)])
def test_a_gpu_that_is_not_there_is_an_error(graph: Path, device: Device) -> None:
    from llmguard.inference.devices import why_not

    if not why_not(device):
        pytest.skip("it is there")
    with pytest.raises(DeviceError, match=f"{device} can't be used: ") as caught:
        OnnxSession(graph, device=device, precision="fp32", threads=1, settings=Settings())
    for problem in why_not(device):
        assert problem in str(caught.value)


def test_providers_are_asked_for_in_order(tmp_path: Path) -> None:
    assert providers(CPU, Settings()) == [("CPUExecutionProvider", {})]
    cuda = providers(Device("cuda", 2), Settings(cuda_graphs=((8, 128),)))
    assert [name for name, _ in cuda] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert cuda[0][1]["device_id"] == "2"
    assert cuda[0][1]["enable_cuda_graph"] == "1"
    tensorrt = providers(Device("tensorrt", 1), Settings(cache=tmp_path, cuda_graphs=((8, 128),)))
    assert tensorrt[0][0] == "TensorrtExecutionProvider"
    assert tensorrt[0][1]["trt_engine_cache_path"] == str(tmp_path)
    assert tensorrt[1][1]["enable_cuda_graph"] == "0"
    assert tensorrt[0][1]["trt_fp16_enable"] == "0"
    assert providers(Device("tensorrt"), Settings(), "fp16")[0][1]["trt_fp16_enable"] == "1"
    assert "trt_engine_cache_enable" not in providers(Device("tensorrt"), Settings())[0][1]


def test_bound_buffers_give_what_runs_give(graph: Path) -> None:
    """The buffers that a CUDA graph needs, here on the CPU."""
    opened = session(graph)
    bound = BoundRuns(opened._native.get(), CPU, ((2, 5), (4, 8)))
    assert not bound.fits(feeds(3, 5))
    kept = []
    for seed in range(4):
        for shape in ((2, 5), (4, 8)):
            arrays = feeds(*shape, seed)
            assert bound.fits(arrays)
            kept.append((bound.run(arrays)[0], expected(arrays)))
    for result, wanted in kept:  # no result is overwritten by a later run
        np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_a_large_run_leaves_no_memory_behind(graph: Path) -> None:
    program = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/support")
from small_graphs import feeds
from llmguard.inference.session import open_session
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
opened = open_session({"fp32": Path(sys.argv[1])}, runtime="onnxruntime", device="cpu", precision="fp32")
before = resident()
opened.run(feeds(400, 5000))
opened.run(feeds())  # what the large run gave out is its reader's until then
print(resident() - before)
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    command = [sys.executable, "-c", program, str(graph)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    # The tokens' rows alone are 122 MB, twice over.
    assert int(result.stdout) < 60
