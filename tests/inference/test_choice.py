"""Which runtime runs which graph."""

from __future__ import annotations

from itertools import chain, combinations
from pathlib import Path

import pytest

from llmguard.errors import ConfigurationError, LlmGuardError, MissingExtraError, ModelLoadError
from llmguard.inference.choice import PRECISIONS, RUNTIMES, choose, for_openvino
from llmguard.inference.devices import Device
from llmguard.inference.processor import Processor

CPU, CUDA = Device("cpu"), Device("cuda")


def cpu(*features: str) -> Processor:
    return Processor("", "", frozenset(features), 2)


SAPPHIRE = cpu("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
GENOA = cpu("avx2", "avx512f", "avx512_vnni", "avx512_bf16")
CASCADE = cpu("avx2", "avx512f", "avx512_vnni")
HASWELL = cpu("avx2")
GRAVITON = cpu("asimd", "asimddp", "i8mm", "bf16")
UNKNOWN = cpu()
ALL = ("fp32", "fp16", "int8")


@pytest.mark.parametrize(
    ("processor", "graphs", "paired", "runtimes", "wanted"),
    [
        (SAPPHIRE, ALL, True, RUNTIMES, "openvino bf16 fp32"),
        (SAPPHIRE, ALL, False, ("onnxruntime",), "onnxruntime int8 int8"),
        (SAPPHIRE, ("int8",), True, RUNTIMES, "openvino int8 int8"),
        (GENOA, ALL, True, RUNTIMES, "openvino int8 int8"),
        (GENOA, ALL, False, RUNTIMES, "onnxruntime int8 int8"),
        (GENOA, ("fp32",), False, RUNTIMES, "openvino bf16 fp32"),
        (GENOA, ("fp32",), False, ("onnxruntime",), "onnxruntime fp32 fp32"),
        (GENOA, ALL, True, ("openvino",), "openvino int8 int8"),
        (CASCADE, ALL, True, RUNTIMES, "openvino int8 int8"),
        (CASCADE, ("fp32",), False, RUNTIMES, "openvino fp32 fp32"),
        (HASWELL, ALL, True, RUNTIMES, "openvino fp32 fp32"),
        (HASWELL, ALL, False, ("onnxruntime",), "onnxruntime fp32 fp32"),
        (HASWELL, ("int8",), True, RUNTIMES, "onnxruntime int8 int8"),
        (HASWELL, ("int8",), True, ("openvino",), "openvino int8 int8"),
        (HASWELL, ("fp16",), False, ("onnxruntime",), "onnxruntime fp16 fp16"),
        (GRAVITON, ALL, True, RUNTIMES, "onnxruntime int8 int8"),
        (UNKNOWN, ALL, True, RUNTIMES, "onnxruntime fp32 fp32"),
    ],
)
def test_on_a_cpu(
    processor: Processor, graphs: tuple[str, ...], paired: bool, runtimes: tuple[str, ...], wanted: str
) -> None:
    best = choose(graphs, CPU, processor, paired=paired, available=runtimes)[0]
    assert f"{best.runtime} {best.precision} {best.graph}" == wanted
    assert best.why


@pytest.mark.parametrize(
    ("graphs", "wanted"), [(ALL, "fp16"), (("fp32", "int8"), "fp32"), (("int8",), "int8"), (("fp32", "bf16"), "fp32")]
)
def test_on_a_gpu(graphs: tuple[str, ...], wanted: str) -> None:
    best = choose(graphs, CUDA, GENOA, paired=True)[0]
    assert (best.runtime, best.precision, best.graph) == ("onnxruntime", wanted, wanted)


def test_what_is_asked_for_is_what_is_taken() -> None:
    """Every wish on every CPU and every set of graphs is granted exactly or is an error of ours."""
    sets = chain.from_iterable(combinations(PRECISIONS, count) for count in range(5))
    granted = 0
    for graphs in sets:
        for processor in (SAPPHIRE, GENOA, CASCADE, HASWELL, GRAVITON, UNKNOWN):
            for device in (CPU, CUDA):
                for runtime in ("auto", *RUNTIMES):
                    for precision in ("auto", *PRECISIONS):
                        try:
                            found = choose(graphs, device, processor, paired=True, runtime=runtime, precision=precision)
                        except LlmGuardError:
                            assert not (
                                graphs
                                and precision in ("auto", *graphs)
                                and runtime == "auto"
                                and device is CPU
                                and "bf16" not in graphs
                            )
                            continue
                        granted += 1
                        for choice in found:
                            assert runtime in ("auto", choice.runtime)
                            assert precision in ("auto", choice.precision)
                            assert choice.graph in graphs
                            assert device is CPU or choice.runtime == "onnxruntime"
    assert granted > 500


def test_slow_ways_can_be_asked_for() -> None:
    assert choose(("fp32",), CPU, HASWELL, paired=False, precision="bf16")[0].runtime == "openvino"
    assert choose(ALL, CPU, SAPPHIRE, paired=True, runtime="onnxruntime", precision="fp32")[0].graph == "fp32"


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"runtime": "onxruntime"}, ConfigurationError, "did you mean 'onnxruntime'"),
        ({"precision": "fp8"}, ConfigurationError, "unknown precision 'fp8'"),
        ({"runtime": "openvino", "available": ("onnxruntime",)}, MissingExtraError, r"llmguard\[openvino\]"),
        ({"available": ()}, MissingExtraError, r"llmguard\[cpu\]"),
        ({"precision": "int8"}, ModelLoadError, "it has fp32"),
        ({"precision": "bf16", "runtime": "onnxruntime"}, ModelLoadError, "no graph of the model fits"),
    ],
)
def test_wishes_that_can_not_be_granted(wish: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        choose(("fp32",), CPU, GENOA, paired=False, **wish)  # type: ignore[arg-type]


def test_openvino_is_for_the_cpu() -> None:
    with pytest.raises(ConfigurationError, match="OpenVINO runs on the CPU, not on cuda:0"):
        choose(ALL, CUDA, GENOA, paired=False, runtime="openvino")


def test_integer_products_are_found_in_the_file(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="graphs are built with onnx")
    from small_graphs import write

    assert for_openvino(write(tmp_path / "pairs.onnx", "int8"))
    assert not for_openvino(write(tmp_path / "products.onnx", "dynamic"))
    empty = tmp_path / "empty.onnx"
    empty.touch()
    for path in (empty, tmp_path / "absent.onnx"):
        with pytest.raises(ModelLoadError, match=path.name):
            for_openvino(path)
