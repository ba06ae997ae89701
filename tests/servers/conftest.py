"""Real servers as processes of their own, each in an environment of its own: see docs/servers.md."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgi_calls import served

from llmguard import Guard
from llmguard.integrations.proxy import Proxy
from llmguard.integrations.upstream import Upstream

ROOT = Path(__file__).parents[2]
PATIENCE = 240  # seconds until a server runs: the slowest imports for half a minute on an idle machine

Running = Callable[..., AbstractContextManager[str]]


def missing(what: str) -> None:
    """Skip, but where everything has been installed so that nothing is skipped."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing: make test-slow installs it")
    pytest.skip(f"{what} is missing: make test-slow installs it")


@pytest.fixture(scope="session")
def python_of() -> Callable[[str], str]:
    """The Python of a server's environment, which may be named by a variable as ``LLMGUARD_LLAMA_PYTHON``."""

    def found(name: str) -> str:
        named = os.environ.get(f"LLMGUARD_{name.upper()}_PYTHON")
        python = Path(named) if named else ROOT / f".venv-{name}" / "bin" / "python"
        if not python.is_file():
            missing(f"the environment {python.parent.parent}")
        return str(python)

    return found


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Running:
    """Runs a server's command while a block lasts, once its health path answers; gives its URL."""

    @contextmanager
    def run(command: list[str], port: int, health: str, **environment: str) -> Iterator[str]:
        url, log = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("server") / "log"
        own = {"PYTHONSAFEPATH": "", "PYTHONPATH": "", "NO_COLOR": "1", **environment}
        with log.open("wb") as told:
            process = subprocess.Popen(command, stdout=told, stderr=told, cwd=log.parent, env={**os.environ, **own})
        try:
            _await(process, url + health, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return run


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(PATIENCE * 4):
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code < 400:
                return
        except httpx.TransportError:
            pass
        try:
            process.wait(0.25)  # between two questions; a server that has died won't answer any
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(f"no answer at {url}; the server said:\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A port that nothing listens on."""

    def found() -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return int(server.getsockname()[1])

    return found


@pytest.fixture(scope="session")
def guard() -> Iterator[Guard]:
    """Redacts addresses and stops at herons, wherever they are."""
    rules = [
        {"detector": "pii", "categories": ["EMAIL_ADDRESS"], "threshold": 0.4, "action": "redact"},
        {"detector": "keywords", "action": "block"},
    ]
    with Guard({"name": "p", "rules": rules, "detectors": {"keywords": {"deny": ["heron"]}}}) as made:
        yield made


@pytest.fixture(scope="session")
def proxied(guard: Guard) -> Callable[[str], AbstractContextManager[str]]:
    """Puts the proxy before a server while a block lasts; gives its URL."""

    @contextmanager
    def put(url: str) -> Iterator[str]:
        with served(Proxy(Upstream(url), guard)) as (at, _):
            yield at

    return put


@pytest.fixture(scope="session")
def llama_model(python_of: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model; `tiny_gguf` says how it answers."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([python_of("llama"), str(Path(__file__).with_name("tiny_gguf.py")), str(path)], check=True)
    return path


@pytest.fixture(scope="session")
def llama_url(
    python_of: Callable[[str], str], running: Running, free_port: Callable[[], int], llama_model: Path
) -> Iterator[str]:
    """Where llama-cpp-python's server serves that model."""
    port = free_port()
    options: dict[str, Any] = {"model": llama_model, "model_alias": "tiny", "port": port, "n_ctx": 1024, "n_threads": 1}
    options |= {"embedding": True, "verbose": False}
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    with running([python_of("llama"), "-m", "llama_cpp.server", *flags], port, "/v1/models") as url:
        yield url
