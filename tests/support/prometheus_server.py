"""A real Prometheus, as Debian has it, that scrapes what a test gives it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest


def needed(program: str) -> str:
    """The path of a program; without it the test is skipped, but fails in CI."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed: apt-get install prometheus prometheus-alertmanager")
        pytest.skip(f"{program} is not installed")
    return path


class PrometheusServer:
    """A Prometheus that runs."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        answer = self._client.post(path, data=query) if query else self._client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def ready(self) -> bool:
        """Whether it has scraped all targets."""
        try:
            answer = self._client.get("targets")
        except httpx.TransportError:
            return False
        targets = answer.json()["data"]["activeTargets"] if answer.status_code == 200 else ()
        return bool(targets) and all(one["health"] == "up" for one in targets)


def until(missing: Callable[[], list[str]]) -> list[str]:
    """What is missing in the end; a figure takes a few scrapes."""
    last = time.monotonic() + 60
    while (found := missing()) and time.monotonic() < last:
        time.sleep(0.5)
    return found


def free_port() -> int:
    """One on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@contextmanager
def scraping(config: str, folder: Path) -> Iterator[PrometheusServer]:
    """Run one by a configuration; its data and its log are in the folder."""
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    command = [
        needed("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=error",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.monotonic() + 60
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=60) as client:
            server = PrometheusServer(client)
            while not server.ready():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.1)
            yield server
    finally:
        process.terminate()
        process.wait(60)
