"""Runs on buffers that stay where they are, so that a GPU can replay what it once recorded.

A CUDA graph is a recording of a run's kernels with the addresses that they read and write, right for one shape and one
set of buffers. ONNX Runtime keeps one recording for each number that a run is given.
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.inference.devices import Device
from llmguard.inference.runtimes import onnxruntime


class BoundRuns:
    """One set of buffers for each of some (batch, length) shapes.

    Args:
        native: ONNX Runtime's session.
        device: where the buffers lie.
        shapes: what is recorded; any other shape does not fit.
    """

    def __init__(self, native: Any, device: Device, shapes: tuple[tuple[int, int], ...]) -> None:
        self._native = native
        self._device = ("cuda", device.index) if device.kind == "cuda" else ("cpu", 0)
        self._numbers = {shape: number for number, shape in enumerate(shapes, 1)}
        self._buffers: dict[tuple[int, int], tuple[Any, dict[str, Any], Any]] = {}
        # The buffers are one run's at a time.
        self._lock = threading.Lock()

    def fits(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Whether these arrays have one of the shapes.

        Args:
            arrays: by input.
        """
        return all(array.shape in self._numbers for array in arrays.values())

    def run(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """One run on the buffers of this shape, which are made at its first.

        Args:
            arrays: by input, all of one of the shapes.

        Returns:
            An array for each output, in the graph's order.
        """
        first = next(iter(arrays.values())).shape
        shape = (first[0], first[1])
        with self._lock:
            if shape not in self._buffers:
                self._buffers[shape] = self._bind(shape, arrays)
            binding, inputs, options = self._buffers[shape]
            for name, array in arrays.items():
                inputs[name].update_inplace(array)
            self._native.run_with_iobinding(binding, options)
            return [np.array(value.numpy()) for value in binding.get_outputs()]

    def _bind(self, shape: tuple[int, int], arrays: Mapping[str, NDArray[Any]]) -> tuple[Any, dict[str, Any], Any]:
        runtime = onnxruntime()
        name, index = self._device
        binding = self._native.io_binding()
        inputs = {key: runtime.OrtValue.ortvalue_from_numpy(array, name, index) for key, array in arrays.items()}
        for key, value in inputs.items():
            binding.bind_ortvalue_input(key, value)
        # The outputs' sizes are not known before a run, and a recording needs their addresses to stay.
        results = self._native.run(None, dict(arrays), self._uncaptured())
        for output, result in zip(self._native.get_outputs(), results, strict=True):
            value = runtime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(result), name, index)
            binding.bind_ortvalue_output(output.name, value)
        options = runtime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(self._numbers[shape]))
        return binding, inputs, options

    @staticmethod
    def _uncaptured() -> Any:
        options = onnxruntime().RunOptions()
        options.add_run_config_entry("gpu_graph_id", "-1")
        return options
