"""Devices as they are written, and what is said about one that can't be used."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.inference import devices
from llmguard.inference.devices import Device, check_installation, gpus, installed, missing_library, why_not


@pytest.mark.parametrize(
    ("text", "device", "written"),
    [
        ("auto", Device("auto"), "auto"),
        ("cpu", Device("cpu"), "cpu"),
        ("cuda", Device("cuda", 0), "cuda:0"),
        ("cuda:3", Device("cuda", 3), "cuda:3"),
        ("tensorrt", Device("tensorrt", 0), "tensorrt:0"),
        ("tensorrt:1", Device("tensorrt", 1), "tensorrt:1"),
    ],
)
def test_devices(text: str, device: Device, written: str) -> None:
    assert Device.parse(text) == device
    assert str(device) == written
    assert Device.parse(written) == device


@pytest.mark.parametrize("text", ["", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:-1", "CUDA", "cuda:0 ", "grpc://h:8001"])
def test_no_devices(text: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown device"):
        Device.parse(text)


def test_a_slip_is_helped() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'cuda'"):
        Device.parse("cudaa")


@given(st.text(max_size=12))
def test_any_text_is_a_device_or_an_error(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert Device.parse(str(Device.parse(text))) == Device.parse(text)


def distribution(directory: Path, name: str, version: str = "1.31.1") -> None:
    """What pip leaves of a package for importlib.metadata."""
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path of its own with no packages on it."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    for name in ("onnxruntime", "onnxruntime.capi"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_nothing_is_installed(alone: Path) -> None:
    assert installed("onnxruntime", "onnxruntime-gpu") == {}
    with pytest.raises(MissingExtraError, match=r"llmguard\[cpu\]"):
        check_installation()


def test_two_packages_over_each_other(alone: Path) -> None:
    (alone / "onnxruntime").mkdir()
    (alone / "onnxruntime" / "__init__.py").touch()
    for name in ("onnxruntime", "onnxruntime-gpu"):
        distribution(alone, name)
    with pytest.raises(ConfigurationError, match="each overwrites the other's files: pip uninstall onnxruntime onnx"):
        check_installation()
    assert any("both installed" in problem for problem in why_not(Device("cuda")))


def test_files_that_went_with_the_other_package(alone: Path) -> None:
    distribution(alone, "onnxruntime-gpu")
    with pytest.raises(ConfigurationError, match="--force-reinstall onnxruntime-gpu"):
        check_installation()


def test_one_package(alone: Path) -> None:
    (alone / "onnxruntime").mkdir()
    (alone / "onnxruntime" / "__init__.py").touch()
    distribution(alone, "onnxruntime", "1.25.0")
    assert check_installation() == "onnxruntime"
    assert any("onnxruntime-gpu is not installed" in problem for problem in why_not(Device("cuda")))


def test_the_package_for_cpus_has_no_provider(alone: Path) -> None:
    (alone / "onnxruntime").mkdir()
    (alone / "onnxruntime" / "__init__.py").write_text(
        "def get_available_providers(): return []\ndef disable_telemetry_events(): pass\n"
    )
    devices.prepare.cache_clear()
    distribution(alone, "onnxruntime-gpu")
    try:
        assert "is it the package for CPUs?" in missing_library(Device("cuda"))
        (alone / "onnxruntime" / "capi").mkdir()
        (alone / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"not a library")
        assert missing_library(Device("cuda")) == ""  # there, and no library of another's is missing
    finally:
        devices.prepare.cache_clear()


def test_no_driver_is_said() -> None:
    count, why = gpus()
    if count:
        pytest.skip("this machine has a GPU")
    assert why
    assert why in why_not(Device("cuda"))


def test_a_gpu_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: (1, ""))
    assert any("cuda:1 does not exist: the NVIDIA driver shows 1 GPU" in p for p in why_not(Device("cuda", 1)))
    assert not any("does not exist" in p for p in why_not(Device("cuda", 0)))


def test_what_is_installed_has_versions() -> None:
    assert installed("pytest") == {"pytest": pytest.__version__}
    if importlib.util.find_spec("onnxruntime"):
        assert check_installation() in ("onnxruntime", "onnxruntime-gpu")
