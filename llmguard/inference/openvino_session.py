"""A model in OpenVINO, on the CPU."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import InferenceError, ModelLoadError
from llmguard.inference.arrays import check_feeds, described, float32, warm_feeds
from llmguard.inference.forked import PerProcess
from llmguard.inference.processor import processor
from llmguard.inference.runtimes import openvino
from llmguard.inference.settings import Settings

_DTYPES: dict[str, type[np.generic]] = {
    "i64": np.int64,
    "i32": np.int32,
    "f32": np.float32,
    "f16": np.float16,
    "f64": np.float64,
    "boolean": np.bool_,
}
_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}

# Activations that meet INT8 weights are quantised on the way, so many numbers of a row under one scale. 128 divides the
# widths of BERT's kin (384, 768, 1024 and four times these); docs/inference.md has what other groups cost.
_GROUP = "128"

# A run on more numbers than this an input gives its memory back: OpenVINO would keep what its largest run took.
# Smaller runs keep theirs, since taking it anew costs about 5 % of a run.
_SWELLS = 2048


class OpenVinoSession:
    """Runs one graph in OpenVINO; safe to share between threads, and made anew in a forked child.

    Args:
        path: the graph's file (ONNX, or OpenVINO's own .xml); weights in files of their own lie beside it.
        precision: what to compute in; ``int8`` is for a graph whose weights are INT8.
        threads: how many all runs use together.
        settings: the rest.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ModelLoadError: the file is missing or damaged, its weights are, or a first run fails.

    Attributes:
        runtime: ``openvino``.
        device: ``cpu``.
        precision: as given.
        threads: as given.
        inputs: their names.
        outputs: their names.
    """

    runtime = "openvino"
    device = "cpu"

    def __init__(self, path: Path, *, precision: str, threads: int, settings: Settings) -> None:
        self.precision = precision
        self.threads = threads
        self._shrink = settings.shrink
        if not path.is_file():
            raise ModelLoadError(f"{path}: there is no such file")
        self._native = PerProcess(lambda: _Compiled(path, precision, threads, settings))
        model = self._native.get().model
        self._types = {item.any_name: _DTYPES.get(item.element_type.get_type_name()) for item in model.inputs}
        self.inputs = tuple(self._types)
        self.outputs = tuple(item.any_name for item in model.outputs)
        if settings.warm_up:
            self._warm_up(path, model)

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
        try:
            with native.request() as request:
                request.infer(arrays, share_inputs=True)
                # The request's own memory is the next run's, so what goes out is copied.
                return {name: float32(np.array(request.get_tensor(name).data)) for name in self.outputs}
        # OpenVINO's errors quote values of the inputs: only their kind goes on.
        except Exception as error:  # noqa: BLE001
            what = "not enough memory" if isinstance(error, MemoryError) else type(error).__name__
            raise InferenceError(f"OpenVINO could not run the model on {described(arrays)}: {what}") from None
        finally:
            if self._shrink and max(array.size for array in arrays.values()) > _SWELLS:
                native.shrink()

    def close(self) -> None:
        """Let go of the model; runs that are under way end."""
        self._native.close()

    def _warm_up(self, path: Path, model: Any) -> None:
        inputs = [
            (
                item.any_name,
                [d.get_length() if d.is_static else None for d in item.partial_shape],
                self._types[item.any_name],
            )
            for item in model.inputs
        ]
        feeds = warm_feeds(inputs, (1, 8))
        if feeds is None:
            return
        try:
            self.run(feeds)
        except InferenceError as error:
            raise ModelLoadError(f"{path}: the first run failed: {error}") from None


class _Compiled:
    """A compiled model and its requests: a request is one run's at a time, so each run borrows one."""

    def __init__(self, path: Path, precision: str, threads: int, settings: Settings) -> None:
        runtime = openvino()
        try:
            self._core = runtime.Core()
            model = self._core.read_model(path)
            self.model = self._core.compile_model(model, "CPU", properties(precision, threads, settings))
            count = int(self.model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            # Last in, first out: what served last is warm, and requests that nobody needs stay small.
            self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
            for _ in range(max(1, count)):
                self._idle.put(self.model.create_infer_request())
        except Exception as error:  # noqa: BLE001 - whatever OpenVINO says about a file, the file can't be used
            reason = " ".join(str(error).split())[:300]
            raise ModelLoadError(f"{path}: OpenVINO can't load it ({type(error).__name__}): {reason}") from None

    @contextlib.contextmanager
    def request(self) -> Iterator[Any]:
        """An idle request; waits for one when all are busy."""
        request = self._idle.get()
        try:
            yield request
        finally:
            self._idle.put(request)

    def shrink(self) -> None:
        """Give the memory of past runs back to the system, unless one is under way."""
        with contextlib.suppress(RuntimeError):  # refused while a run is under way; the next large one asks again
            self.model.release_memory()


def properties(precision: str, threads: int, settings: Settings) -> dict[str, str]:
    """OpenVINO's settings for a model, by its own names.

    Args:
        precision: what to compute in.
        threads: for all runs together.
        settings: throughput or latency, and the cache.
    """
    found = {
        "PERFORMANCE_HINT": "THROUGHPUT" if settings.throughput else "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads),
        # A guard shares the machine with what it guards: pinned threads would wait for one busy core while others idle.
        "ENABLE_CPU_PINNING": "NO",
        "CACHE_DIR": "" if settings.cache is None else str(settings.cache),
    }
    if precision == "int8":
        # What is not a product of INT8 stays in floats: bf16 where tiles make that fast, else float32.
        found["INFERENCE_PRECISION_HINT"] = "bf16" if processor().amx else "f32"
        found["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _GROUP if processor().vnni else "0"
    else:
        found["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
        found["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"
    return found
