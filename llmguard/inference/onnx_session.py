"""A model in ONNX Runtime, on the CPU or a GPU."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import DeviceError, InferenceError, ModelLoadError
from llmguard.inference.arrays import check_feeds, described, float32, warm_feeds
from llmguard.inference.bound import BoundRuns
from llmguard.inference.devices import PROVIDERS, Device, why_not
from llmguard.inference.devices import prepare as prepare_gpu
from llmguard.inference.forked import PerProcess
from llmguard.inference.runtimes import onnxruntime
from llmguard.inference.settings import Settings

_MEMORY = re.compile(r"failed to allocate|out of memory|bad_alloc|ALLOC_FAILED|std::length_error", re.IGNORECASE)
_DTYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}


class OnnxSession:
    """Runs one graph in ONNX Runtime; safe to share between threads, and made anew in a forked child.

    Args:
        path: the graph's file; weights in files of their own lie beside it.
        device: ``cpu``, ``cuda`` or ``tensorrt``.
        precision: what the graph computes in, for whoever asks.
        threads: how many one run uses.
        settings: the rest.

    Raises:
        ModelLoadError: the file is missing or damaged, its weights are, or a first run fails.
        DeviceError: the device is not there; says what is missing.

    Attributes:
        runtime: ``onnxruntime``.
        device: ``cpu``, ``cuda:0``, ``tensorrt:0`` …
        precision: as given.
        threads: as given.
        inputs: their names.
        outputs: their names.
    """

    runtime = "onnxruntime"

    def __init__(self, path: Path, *, device: Device, precision: str, threads: int, settings: Settings) -> None:
        self.device = str(device)
        self.precision = precision
        self.threads = threads
        self._settings = settings
        if not path.is_file():
            raise ModelLoadError(f"{path}: there is no such file")
        forbidden = "" if device.kind == "cpu" else f"{device} can't be used after a fork: start processes by spawn"
        self._native: PerProcess[Any] = PerProcess(
            lambda: _open(path, device, precision, threads, settings), forbidden=forbidden
        )
        native = self._native.get()
        self._types = {item.name: _DTYPES.get(item.type) for item in native.get_inputs()}
        self.inputs = tuple(self._types)
        self.outputs = tuple(item.name for item in native.get_outputs())
        self._options = _run_options(device, settings)
        self._bound = (
            BoundRuns(native, device, settings.cuda_graphs) if settings.cuda_graphs and device.kind == "cuda" else None
        )
        if settings.warm_up:
            self._warm_up(path, [(item.name, item.shape, self._types[item.name]) for item in native.get_inputs()])

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass.

        Args:
            feeds: an array for every input; integers of another width are converted.

        Returns:
            An array for every output; half precision comes as float32.

        Raises:
            InferenceError: arrays are missing or don't fit, the memory does not suffice, or the session is closed.
        """
        native = self._native.get()
        arrays = check_feeds(feeds, self._types)
        if self._bound is not None and self._bound.fits(arrays):
            results = self._guarded(lambda: self._bound.run(arrays), arrays)  # type: ignore[union-attr]
        else:
            results = self._guarded(lambda: native.run(None, arrays, self._options), arrays)
        return {name: float32(value) for name, value in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """Let go of the model; runs that are under way end."""
        self._bound = None
        self._native.close()

    def _guarded(
        self, call: Callable[[], list[NDArray[Any]]], arrays: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        try:
            return call()
        # ONNX Runtime's errors have no common root, and quote values of the inputs: only their kind goes on.
        except Exception as error:  # noqa: BLE001
            what = type(error).__name__
            if isinstance(error, MemoryError) or _MEMORY.search(str(error)):
                what = f"{self.device} has not enough memory"
            raise InferenceError(f"ONNX Runtime could not run the model on {described(arrays)}: {what}") from None

    def _warm_up(self, path: Path, inputs: list[tuple[str, list[Any], type[np.generic] | None]]) -> None:
        try:
            for shape in self._settings.cuda_graphs or ((1, 8),):
                feeds = warm_feeds(inputs, shape)
                if feeds is not None:
                    self.run(feeds)
        except InferenceError as error:
            raise ModelLoadError(f"{path}: the first run failed: {error}") from None


def _open(path: Path, device: Device, precision: str, threads: int, settings: Settings) -> Any:
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = settings.arena
    # A pattern is planned for each new shape; texts come in all lengths.
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # what goes wrong is raised; its log lines would quote values
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    # Weights are laid out for the processor and the file's own copy is not kept.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    wanted = providers(device, settings, precision)
    available = set(runtime.get_available_providers())
    if device.kind != "cpu":
        prepare_gpu()
        if problems := why_not(device):
            raise DeviceError(f"{device} can't be used: {'; '.join(problems)}")
    try:
        native = runtime.InferenceSession(
            os.fspath(path), options, providers=[item for item in wanted if item[0] in available]
        )
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common root
        if device.kind != "cpu" and not _about_the_file(error):
            raise DeviceError(f"{device} can't load {path} ({type(error).__name__}): {_reason(error)}") from None
        raise ModelLoadError(f"{path}: ONNX Runtime can't load it ({type(error).__name__}): {_reason(error)}") from None
    first = native.get_providers()[0]
    if first != wanted[0][0]:
        problems = why_not(device) or [f"ONNX Runtime fell back to {first} and gave no reason"]
        raise DeviceError(f"{device} can't be used: {'; '.join(problems)}")
    return native


def _about_the_file(error: Exception) -> bool:
    """Whether an error of loading is about the file and not about the device."""
    return type(error).__name__ in ("InvalidProtobuf", "InvalidGraph", "NoSuchFile", "NoModel")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def providers(device: Device, settings: Settings, precision: str = "fp32") -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers for a device with their options, the wanted one first and the CPU last.

    Args:
        device: ``cpu``, ``cuda`` or ``tensorrt``.
        settings: CUDA graphs and the cache.
        precision: of the graph.
    """
    found: list[tuple[str, dict[str, str]]] = [(PROVIDERS["cpu"], {})]
    if device.kind == "cpu":
        return found
    index = str(device.index)
    graphs = "1" if settings.cuda_graphs and device.kind == "cuda" else "0"
    # The arena grows by what is asked for: doubling would take memory that others on the GPU need.
    cuda = {"device_id": index, "arena_extend_strategy": "kSameAsRequested", "enable_cuda_graph": graphs}
    found.insert(0, (PROVIDERS["cuda"], cuda))
    if device.kind == "tensorrt":
        # Off for other graphs: TensorRT would compute floats in half precision that nobody asked for.
        engine = {"device_id": index, "trt_fp16_enable": "1" if precision == "fp16" else "0"}
        if settings.cache is not None:
            cache = {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1"}
            engine |= cache | {
                "trt_engine_cache_path": str(settings.cache),
                "trt_timing_cache_path": str(settings.cache),
            }
        found.insert(0, (PROVIDERS["tensorrt"], engine))
    return found


def _run_options(device: Device, settings: Settings) -> Any:
    options = onnxruntime().RunOptions()
    if settings.arena and settings.shrink and device.kind == "cpu":
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    if settings.cuda_graphs and device.kind == "cuda":
        options.add_run_config_entry("gpu_graph_id", "-1")  # this run is neither captured nor replayed
    return options
