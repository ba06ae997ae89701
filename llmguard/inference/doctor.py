"""What this machine can do for models, and why not more."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

from llmguard.errors import LlmGuardError
from llmguard.inference.choice import choose, runtimes
from llmguard.inference.devices import Device, check_installation, gpus, installed, why_not
from llmguard.inference.processor import Processor, processor
from llmguard.inference.session import resolve

PACKAGES = (
    *("llmguard", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "openvino-telemetry"),
    *("tokenizers", "huggingface-hub", "numba", "torch"),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What ``auto`` makes of a model that has certain graphs.

    Attributes:
        graphs: what the model has files for.
        device: where it runs.
        runtime: by which runtime; "" if none is installed.
        precision: what it computes in.
        why: in words.
    """

    graphs: str
    device: str
    runtime: str
    precision: str
    why: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        python: version and implementation.
        system: operating system.
        packages: versions by name; those that are not installed are not in it.
        processor: the CPU.
        cpus: how many the machine has.
        providers: ONNX Runtime's, in its order.
        gpus: how many the NVIDIA driver shows.
        gpu_problems: why a GPU can't be used; empty if one can.
        problems: what is wrong with the installation.
        selections: what ``auto`` does.
    """

    python: str
    system: str
    packages: dict[str, str]
    processor: Processor
    cpus: int
    providers: tuple[str, ...]
    gpus: int
    gpu_problems: tuple[str, ...]
    problems: tuple[str, ...]
    selections: tuple[Selection, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        values = asdict(self)
        values["processor"] |= {
            "features": sorted(self.processor.features),
            **{name: getattr(self.processor, name) for name in ("amx", "bf16", "vnni")},
        }
        return values


def diagnose() -> Diagnosis:
    """Look at the machine; loads no model."""
    cpu, problems = processor(), []
    try:
        check_installation()
        from llmguard.inference.runtimes import onnxruntime

        providers = tuple(onnxruntime().get_available_providers())
    except LlmGuardError as error:
        problems.append(str(error))
        providers = ()
    return Diagnosis(
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=platform.platform(),
        packages=installed(*PACKAGES),
        processor=cpu,
        cpus=os.cpu_count() or 1,
        providers=providers,
        gpus=gpus()[0],
        gpu_problems=tuple(why_not(Device("cuda"))),
        problems=tuple(problems),
        selections=(
            _select("fp32", ("fp32",), cpu),
            _select("fp32, fp16, int8 as quantise-dequantise pairs", ("fp32", "fp16", "int8"), cpu, paired=True),
            _select("fp32, fp16, int8 as ONNX Runtime's own products", ("fp32", "fp16", "int8"), cpu),
        ),
    )


def _select(model: str, graphs: tuple[str, ...], cpu: Processor, *, paired: bool = False) -> Selection:
    device = resolve("auto")
    try:
        best = choose(graphs, device, cpu, paired=paired, available=runtimes())[0]
    except LlmGuardError as error:
        return Selection(model, str(device), "", "", str(error))
    return Selection(model, str(device), best.runtime, best.precision, best.why)
