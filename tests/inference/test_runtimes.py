"""Nothing calls home, whatever the runtimes' makers would like."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmguard.errors import MissingExtraError
from llmguard.inference import runtimes

# Whatever connects, looks up a name or starts a process is written down; the check is on what the process really did.
WATCHED = """
import json, os, sys
seen = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn"):
        seen.append(event)
sys.addaudithook(watch)
from llmguard.inference import runtimes
getattr(runtimes, sys.argv[1])()
print(json.dumps({"seen": seen, "modules": [name for name in sys.modules if "telemetry" in name]}))
"""


def run(runtime: str, home: Path, **environment: str) -> dict[str, object]:
    if importlib.util.find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "ORT_DISABLE_TELEMETRY")}
    kept |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), **environment}
    command = [sys.executable, "-c", WATCHED, runtime]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=kept)
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_import_leaves_nothing_behind_and_calls_nobody(tmp_path: Path, runtime: str) -> None:
    found = run(runtime, tmp_path)
    assert found["seen"] == []
    # Identifiers and queues of reports would lie here.
    assert list(tmp_path.rglob("*")) == []
    assert "openvino_telemetry.main" not in found["modules"]  # type: ignore[operator]


@pytest.mark.parametrize("given", ["0", "1"])
def test_who_sets_the_switch_is_obeyed(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", given)
    runtimes.onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == given


def test_the_switch_is_off_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    runtimes.onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(("runtime", "extra"), [("onnxruntime", "cpu"), ("openvino", "openvino")])
def test_a_runtime_that_can_not_be_imported(monkeypatch: pytest.MonkeyPatch, runtime: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'llmguard\[{extra}\]'"):
        getattr(runtimes, runtime)()
    assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"] is not None


def test_openvino_finds_its_own_package_again() -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    program = """
import sys
from llmguard.inference import runtimes
assert runtimes.openvino() is runtimes.openvino()
assert "openvino_telemetry" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
