"""The runtimes' modules, imported with everything off that would call home.

As their makers publish them, ONNX Runtime (from 1.29 on) and OpenVINO report home when they are merely imported: an
identifier of the device, the machine, names and hashes of models. A guard must not, so nothing of ours imports them but
through here.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

from llmguard.errors import MissingExtraError
from llmguard.inference.devices import check_installation


def onnxruntime() -> ModuleType:
    """The module ``onnxruntime``.

    Whoever wants its reports sets ``ORT_DISABLE_TELEMETRY=0``.

    Raises:
        MissingExtraError: it is not installed.
        ConfigurationError: it is installed twice over, and broken by that.
    """
    if "onnxruntime" not in sys.modules:
        check_installation()
    # Read once, when the library starts. Its reporting threads would also keep a forked child from ending.
    off = os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1") != "0"
    try:
        module = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtraError("running a model with ONNX Runtime", "onnxruntime", "cpu") from error
    if off:  # whoever imported it before us may not have set the variable
        module.disable_telemetry_events()
    return module


def openvino() -> ModuleType:
    """The module ``openvino``.

    Raises:
        MissingExtraError: it is not installed.
    """
    # OpenVINO goes on without its reporting package when that can't be imported.
    hidden = not {"openvino", "openvino_telemetry"} & sys.modules.keys()
    if hidden:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise MissingExtraError("running a model with OpenVINO", "openvino", "openvino") from error
    finally:
        if hidden:
            sys.modules.pop("openvino_telemetry", None)
