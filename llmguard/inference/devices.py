"""Which device is meant, and why a GPU can't be used where it can't."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from llmguard.errors import ConfigurationError, MissingExtraError, nearest

Kind = Literal["auto", "cpu", "cuda", "tensorrt"]

_PATTERN = re.compile(r"(auto|cpu|cuda|tensorrt)(?::(\d{1,3}))?")
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}
_LIBRARIES = {"cuda": "onnxruntime_providers_cuda", "tensorrt": "onnxruntime_providers_tensorrt"}
_MISSING = re.compile(r"^([\w.+-]+): cannot open shared object file")


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it is written: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt:0``.

    Attributes:
        kind: what.
        index: which GPU of several.
    """

    kind: Kind
    index: int = 0

    @classmethod
    def parse(cls, text: str) -> Device:
        """Read a device.

        Args:
            text: as a policy says it.

        Raises:
            ConfigurationError: it is none that runs here; a remote server's address is not a session's device.
        """
        match = _PATTERN.fullmatch(text)
        if match is None or (match[2] and match[1] in ("auto", "cpu")):
            known = ("auto", "cpu", "cuda", "cuda:0", "tensorrt", "tensorrt:0")
            raise ConfigurationError(f"unknown device {text!r}{nearest(text, known)}")
        return cls(match[1], int(match[2] or 0))  # type: ignore[arg-type] # the pattern knows four words

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.kind in ("cuda", "tensorrt") else self.kind


def installed(*names: str) -> dict[str, str]:
    """Versions of those of these distributions that are installed.

    Args:
        names: as pip calls them; two of them can hold the same import package.
    """
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_installation() -> str:
    """The distribution that the module ``onnxruntime`` comes from.

    Raises:
        MissingExtraError: none is installed.
        ConfigurationError: two are, so that one has overwritten the other's files, or removing one removed both's.
    """
    found = installed("onnxruntime", "onnxruntime-gpu")
    if len(found) == 2:
        raise ConfigurationError(
            "onnxruntime and onnxruntime-gpu are both installed, and each overwrites the other's files: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of them (llmguard[cpu] or llmguard[gpu])"
        )
    if find_spec("onnxruntime") is None:
        if found:
            raise ConfigurationError(
                f"{next(iter(found))} is installed without its files, as is left when a second distribution of "
                f"onnxruntime was uninstalled: pip install --force-reinstall {next(iter(found))}"
            )
        raise MissingExtraError("running a model with ONNX Runtime", "onnxruntime", "cpu")
    return next(iter(found), "onnxruntime")


def why_not(device: Device) -> list[str]:
    """What is missing for this GPU, each with the way out; empty when nothing known is.

    Looks at the driver, the number of GPUs, the package, the provider and the libraries that the provider needs.

    Args:
        device: of kind ``cuda`` or ``tensorrt``.
    """
    problems = []
    count, driver = gpus()
    if driver:
        problems.append(driver)
    elif device.index >= count:
        problems.append(f"{device} does not exist: the NVIDIA driver shows {count} GPU{'s' if count != 1 else ''}")
    found = installed("onnxruntime", "onnxruntime-gpu")
    if len(found) == 2:
        problems.append("onnxruntime and onnxruntime-gpu are both installed, and each overwrites the other's files")
    if "onnxruntime-gpu" not in found:
        problems.append(
            "onnxruntime-gpu is not installed; onnxruntime has no CUDA and must be removed before: "
            "pip uninstall onnxruntime; pip install 'llmguard[gpu]'"
        )
    elif len(found) == 1 and (missing := missing_library(device)):
        problems.append(missing)
    return problems


@functools.cache
def gpus() -> tuple[int, str]:
    """How many GPUs the NVIDIA driver shows, and why none where there is none.

    Asks the driver's own library, which is there exactly when the driver is (``nvidia-smi`` may not be).
    """
    if sys.platform == "darwin":
        return 0, "there is no NVIDIA driver for macOS"
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return 0, f"no NVIDIA driver: {name} can't be loaded (in a container: start it with --gpus all)"
    count = ctypes.c_int(0)
    # https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__INITIALIZE.html: 0 is success, 100 no device.
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return 0, f"the NVIDIA driver is installed but shows no GPU (error {code})"
    return count.value, ""


def missing_library(device: Device) -> str:
    """The first library that ONNX Runtime's provider for this device needs and that can't be loaded; "" if none.

    The loader resolves the libraries that a library needs before anything in it runs, and names the one it can't find.

    Args:
        device: of kind ``cuda`` or ``tensorrt``.
    """
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return ""
    prepare()
    windows = sys.platform == "win32"
    name = f"{_LIBRARIES[device.kind]}.dll" if windows else f"lib{_LIBRARIES[device.kind]}.so"
    path = Path(spec.origin).parent / "capi" / name
    if not path.is_file():
        return f"the installed onnxruntime has no {name}, which {device.kind} needs: is it the package for CPUs?"
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        if windows:
            return f"a CUDA library that {name} needs can't be loaded: pip install 'llmguard[gpu]'"
        # Any other complaint is about symbols that the provider's host has, not about a missing library.
        found = _MISSING.match(str(error))
        if found and found[1] != name:
            tensorrt = "install TensorRT and put its libraries on the loader's path"
            cure = tensorrt if found[1].startswith("libnvinfer") else "pip install 'llmguard[gpu]'"
            return f"{found[1]} can't be loaded, which {name} needs: {cure}"
    return ""


@functools.cache
def prepare() -> None:
    """Load the CUDA and cuDNN libraries that pip installed, which the system's loader would not find."""
    from llmguard.inference.runtimes import onnxruntime

    runtime = onnxruntime()
    if hasattr(runtime, "preload_dlls") and PROVIDERS["cuda"] in runtime.get_available_providers():
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it can't find; we say that ourselves
            runtime.preload_dlls()
