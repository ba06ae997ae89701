from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from directories import digest, directory, said

from llmguard.errors import ModelLoadError
from llmguard.inference import card_yaml, hub
from llmguard.inference.store import bundled, open_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_directory_is_opened(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    (path / "notes.txt").write_text("not named by the card, so nobody looks at it")
    model = open_model(str(path))
    assert model.card.name == "small"
    assert model.graphs == {"fp32": path / "model.onnx"}
    assert model.tokenizer == path / "tokenizer.json"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b""), "truncated, damaged or changed: its 0 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated, damaged or changed"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "truncated, damaged or changed"),
        (
            lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
            "damaged or changed",
        ),
        (lambda path: (path.unlink(), path.mkdir()), "is missing"),
    ],
)
def test_a_harmed_file_is_named(tmp_path: Path, name: str, harm: object, message: str) -> None:
    path = directory(tmp_path / "small")
    open_model(str(path))  # a good answer is remembered, but not for a file that has changed
    harm(path / name)  # type: ignore[operator]
    with pytest.raises(ModelLoadError, match=message) as raised:
        open_model(str(path))
    assert repr(name) in str(raised.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    (path / "model.onnx").unlink()
    os.mkfifo(path / "model.onnx")
    with pytest.raises(ModelLoadError, match=r"'model\.onnx' of the model 'small' is missing"):
        open_model(str(path))


def test_a_card_can_not_lead_out_of_its_directory(tmp_path: Path) -> None:
    path = directory(tmp_path / "small")
    secret = tmp_path / "secret"
    secret.write_text("x")
    files = {"../secret": digest(secret), **{name: digest(path / name) for name in ("model.onnx", "tokenizer.json")}}
    (path / "card.yaml").write_text(card_yaml.write(said(files=files)))
    with pytest.raises(ModelLoadError, match="no plain relative path"):
        open_model(str(path))


def test_a_directory_without_a_card(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="card is missing"):
        open_model(str(tmp_path))
    (tmp_path / "card.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ModelLoadError, match="not UTF-8"):
        open_model(str(tmp_path))


def test_no_such_model() -> None:
    with pytest.raises(ModelLoadError, match="there is no model 'gard-mini'"):
        open_model("gard-mini")
    for name in bundled():
        with pytest.raises(ModelLoadError, match=f"did you mean '{name}'"):
            open_model(name + "x")


def test_what_is_in_the_wheel_is_whole() -> None:
    for name in bundled():
        assert open_model(name).card.name == name


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://owner/name", "none is given"),
        ("hf://owner/name@main", "'main' can move"),
        (f"hf://owner/name@{COMMIT[:-1]}", "can move"),
        (f"hf://name@{COMMIT}", "is not hf://owner/name@revision"),
        (f"hf://owner/../name@{COMMIT}", "is not hf://owner/name@revision"),
        (f"hf://owner/name@{COMMIT}#../x", "is not hf://owner/name@revision"),
    ],
)
def test_a_place_on_the_hub_is_pinned(source: str, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        open_model(source)


def test_a_place_on_the_hub() -> None:
    assert hub.parse(f"hf://owner/na.me@{COMMIT}#a/b") == hub.Place("owner/na.me", COMMIT, "a/b")


class _Hub(ThreadingHTTPServer):
    """What the hub's client asks for, over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(("127.0.0.1", 0), _Files)


class _Files(BaseHTTPRequestHandler):
    server: _Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        body = self._answer()
        if body is not None:
            self.wfile.write(body)

    def _answer(self) -> bytes | None:
        path = self.server.folder / self.path.partition(f"/owner/name/resolve/{COMMIT}/")[2].partition("?")[0]
        if not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return None
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{digest(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "repository"
    directory(folder / "models" / "small")
    server = _Hub(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder / "models" / "small", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(tmp_path: Path, endpoint: str, **more: str) -> dict[str, str]:
    pytest.importorskip("huggingface_hub", reason="the hub's client is not installed")
    program = f"""
import json
from llmguard.errors import ModelLoadError
from llmguard.inference.store import open_model
try:
    model = open_model("hf://owner/name@{COMMIT}#models/small")
    print(json.dumps({{"name": model.card.name, "path": str(model.path)}}))
except ModelLoadError as error:
    print(json.dumps({{"error": str(error)}}))
"""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", **more}
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_hub_then_offline(tmp_path: Path, served: tuple[Path, str]) -> None:
    _, endpoint = served
    assert "not in the cache, and offline was asked for" in ask(tmp_path, endpoint, HF_HUB_OFFLINE="1")["error"]
    first = ask(tmp_path, endpoint)
    assert first["name"] == "small"
    assert ask(tmp_path, "http://127.0.0.1:9", HF_HUB_OFFLINE="1") == first


def test_a_repository_whose_files_are_not_those_of_its_card(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, endpoint = served
    (folder / "model.onnx").write_bytes(b"changed")
    assert "'model.onnx' of the model 'small' is truncated, damaged or changed" in ask(tmp_path, endpoint)["error"]


def test_a_repository_that_lacks_a_file(tmp_path: Path, served: tuple[Path, str]) -> None:
    folder, endpoint = served
    (folder / "model.onnx").unlink()
    error = ask(tmp_path, endpoint)["error"]
    assert "'model.onnx' of owner/name@0123456789ab can't be had" in error
    assert "\n" not in error
