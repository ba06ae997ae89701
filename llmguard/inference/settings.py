"""How a session runs: threads, memory, warm-up, CUDA graphs, caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set about a session beside its device, runtime, precision and threads.

    Attributes:
        spinning: whether idle threads of ONNX Runtime wait in a busy loop. It shaves little off a run and burns a core
            between runs, so it is for a process that has its cores to itself.
        arena: whether ONNX Runtime keeps the memory of past runs for the next ones.
        shrink: whether memory that a large run took goes back to the system after it.
        throughput: OpenVINO serves many runs at once with a core each instead of one run with all cores.
        warm_up: run once at the start, so that the first text does not pay for it.
        cuda_graphs: (batch, length) shapes that are captured once and then replayed, on ``cuda``; others run as ever.
        cache: directory for what a device compiles (TensorRT's engines, OpenVINO's blobs); None keeps nothing.
    """

    spinning: bool = False
    arena: bool = True
    shrink: bool = True
    throughput: bool = False
    warm_up: bool = True
    cuda_graphs: tuple[tuple[int, int], ...] = ()
    cache: Path | None = None
