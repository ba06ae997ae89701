"""One face for every runtime: arrays in, arrays out; and the choice between them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from llmguard.errors import ConfigurationError, ModelLoadError
from llmguard.inference.choice import Choice, choose, for_openvino, runtimes
from llmguard.inference.devices import Device, why_not
from llmguard.inference.processor import processor
from llmguard.inference.remote_address import is_address
from llmguard.inference.settings import Settings

if TYPE_CHECKING:
    from llmguard.inference.card import Card

_log = logging.getLogger("llmguard.inference")


class Session(Protocol):
    """A loaded model; safe to share between threads.

    Attributes:
        runtime: ``onnxruntime``, ``openvino`` or ``remote``.
        device: ``cpu``, ``cuda:0`` …, as it really is; a server's address.
        precision: what the graph computes in.
        inputs: the names of the arrays that a run wants.
        outputs: the names of the arrays that it gives.
    """

    runtime: str
    device: str
    precision: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass.

        Args:
            feeds: an array for every input.

        Raises:
            InferenceError: the run failed, the device's memory did not suffice, or the session is closed.
        """
        ...

    def close(self) -> None:
        """Let go of the model; runs that are under way end."""
        ...


def open_session(
    graphs: Mapping[str, Path],
    *,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    settings: Settings | None = None,
    card: Card | None = None,
) -> Session:
    """Load a model with the runtime and in the precision that suit the device.

    Args:
        graphs: the model's files by precision; weights in files of their own lie beside them.
        device: ``auto`` (a GPU if one can be used, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``;
            or the address of a server that has the model: ``grpc://host:8001``, ``https://host/model-name``.
        runtime: ``auto``, ``onnxruntime``, ``openvino``; a server has its own.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``int8``.
        threads: for one run; as many as this process has cores if not given. A server has its own.
        settings: the rest, of a model that runs here.
        card: the model's, which a server's model is compared with.

    Raises:
        ConfigurationError: one of these is none.
        DeviceError: the device was asked for and can't be used; says what is missing. No server answers.
        MissingExtraError: no runtime is installed, or not the one that was asked for.
        ModelLoadError: a file is missing or damaged, or no graph fits what was asked for; or the
            server has another model.
    """
    if threads is not None and threads < 1:
        raise ConfigurationError(f"threads must be at least 1, not {threads}")
    cpu = processor()
    if is_address(device):
        if runtime not in ("auto", "remote"):
            raise ConfigurationError(f"{device} has a runtime of its own, not {runtime!r}: leave runtime at auto")
        from llmguard.inference.remote import RemoteSession

        return RemoteSession(device, card=card, precision=precision)
    where = resolve(device, runtime)
    paired = where.kind == "cpu" and "int8" in graphs and for_openvino(graphs["int8"])
    choices = choose(graphs, where, cpu, paired=paired, runtime=runtime, precision=precision, available=runtimes())
    chosen, settings, threads = choices[0], settings or Settings(), threads or cpu.cores
    try:
        return _open(chosen, graphs[chosen.graph], where, threads, settings)
    except ModelLoadError as error:
        # The runtimes differ in the operators that they know. A damaged file fails in the second one as well.
        other = next((choice for choice in choices if choice.runtime != chosen.runtime), None)
        if other is None:
            raise
        try:
            session = _open(other, graphs[other.graph], where, threads, settings)
        except ModelLoadError:
            raise error from None
        _log.warning("%s runs the model, since %s could not load it", other.runtime, chosen.runtime)
        return session


def _open(choice: Choice, path: Path, device: Device, threads: int, settings: Settings) -> Session:
    if choice.runtime == "openvino":
        from llmguard.inference.openvino_session import OpenVinoSession

        return OpenVinoSession(path, precision=choice.precision, threads=threads, settings=settings)
    from llmguard.inference.onnx_session import OnnxSession

    return OnnxSession(path, device=device, precision=choice.precision, threads=threads, settings=settings)


def resolve(device: str, runtime: str = "auto") -> Device:
    """The device that is meant, with ``auto`` decided.

    Args:
        device: as a policy says it.
        runtime: as a policy says it; OpenVINO runs on the CPU.

    Raises:
        ConfigurationError: an unknown device.
    """
    wanted = Device.parse(device)
    if wanted.kind != "auto":
        return wanted
    if runtime == "openvino":
        return Device("cpu")
    problems = why_not(Device("cuda"))
    if not problems:
        return Device("cuda")
    _say_once("; ".join(problems))
    return Device("cpu")


@functools.cache
def _say_once(problems: str) -> None:
    _log.info("models run on the CPU: %s", problems)
