"""A model on a server: HTTP with and without bytes, gRPC; over sockets, with ONNX Runtime behind them."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are built with onnx")
pytest.importorskip("onnxruntime", reason="runs behind the servers")
pytest.importorskip("httpx", reason="speaks HTTP")
pytest.importorskip("grpc", reason="speaks gRPC")

from directories import directory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inference_servers import Model, grpc_server, http_server
from mini import PLAIN, SAYS, mini
from small_graphs import expected, feeds, write

from llmguard import limits
from llmguard.errors import ConfigurationError, DeadlineError, DeviceError, InferenceError, ModelLoadError
from llmguard.inference.encoder import shared
from llmguard.inference.remote import RemoteSession
from llmguard.inference.session import open_session
from llmguard.inference.store import open_model

Serve = Callable[..., contextlib.AbstractContextManager[str]]
SERVERS: dict[str, Serve] = {
    "http": http_server,
    "json": partial(http_server, binary=False),
    "grpc": grpc_server,
}
each_server = pytest.mark.parametrize("serve", SERVERS.values(), ids=SERVERS)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("remote") / "model.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini(tmp_path_factory.mktemp("models") / "mini")


@pytest.fixture
def model(graph: Path) -> Model:
    return Model(graph)


@pytest.fixture(params=SERVERS)
def session(request: pytest.FixtureRequest, model: Model) -> Iterator[RemoteSession]:
    with SERVERS[request.param](model) as address:
        opened = RemoteSession(f"{address}/small")
        yield opened
        opened.close()


@contextlib.contextmanager
def until(seconds: float) -> Iterator[None]:
    token = limits.deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        limits.deadline.reset(token)


def test_a_session_like_any_other(session: RemoteSession) -> None:
    assert (session.runtime, session.precision) == ("remote", "fp32")
    assert session.device.startswith(("http://127.0.0.1:", "grpc://127.0.0.1:"))
    assert session.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert session.outputs == ("logits", "tokens")
    for shape in ((2, 5), (1, 1), (32, 128)):
        found = session.run(feeds(*shape))
        np.testing.assert_allclose(found["logits"], expected(feeds(*shape)), atol=1e-5)
        assert found["tokens"].shape == (*shape, 16)
        assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


@each_server
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(st.sampled_from([*PLAIN, *SAYS, "é", "🙂"]), max_size=40).map(" ".join), max_size=4))
def test_the_same_texts_get_the_same_answers_as_here(
    folder: Path, running: dict[Serve, str], serve: Serve, texts: list[str]
) -> None:
    here, there = (shared(str(folder), device=device, precision="fp32") for device in ("cpu", running[serve]))
    for one, other in zip(here.encode(texts), there.encode(texts), strict=True):
        assert [(window.start, window.end) for window in one.windows] == [(w.start, w.end) for w in other.windows]
        for row, served in zip(one.rows, other.rows, strict=True):
            assert row.keys() == served.keys()
            assert all(np.allclose(row[head], served[head], atol=1e-6) for head in row)
    assert there.session.runtime == "remote"


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[dict[Serve, str]]:
    card = open_model(str(folder)).card
    with contextlib.ExitStack() as stack:
        yield {serve: stack.enter_context(serve(Model(folder / "model.onnx", card.name))) for serve in SERVERS.values()}


def test_detectors_that_name_the_same_server_share_a_session(folder: Path, running: dict[Serve, str]) -> None:
    one = shared(str(folder), device=running[grpc_server])
    assert shared(str(folder), device=running[grpc_server]) is one
    assert shared(str(folder), device=running[http_server]) is not one


@each_server
@pytest.mark.parametrize(("floats", "precision", "error"), [("FP16", "fp16", 2e-2), ("BF16", "bf16", 0.2)])
def test_half_precision_comes_as_float32(graph: Path, serve: Serve, floats: str, precision: str, error: float) -> None:
    with serve(Model(graph, floats=floats)) as address:
        opened = RemoteSession(f"{address}/small")
        assert opened.precision == precision
        found = opened.run(feeds())["logits"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(feeds()), atol=error)
        assert RemoteSession(f"{address}/small", precision="int8").precision == "int8"


@each_server
def test_the_model_of_another_name_and_the_card_decide_what_is_asked(graph: Path, tmp_path: Path, serve: Serve) -> None:
    card = open_model(str(directory(tmp_path / "m"))).card
    model = Model(graph, name="on-the-server")
    model.outputs[0] = ("logits", "FP32", [-1, 2])
    with serve(model) as address:
        opened = open_session({}, device=f"{address}/on-the-server", card=card)
        assert opened.outputs == ("logits",)
        assert opened.run(feeds()).keys() == {"logits"}
        with pytest.raises(ModelLoadError, match=r"127\.0\.0\.1:\d+: the server has no model 'small'"):
            open_session({}, device=address, card=card)
        with pytest.raises(ConfigurationError, match="say which model"):
            open_session({}, device=address)
        with pytest.raises(ConfigurationError, match="runtime of its own"):
            open_session({}, device=address, card=card, runtime="openvino")
        with pytest.raises(ConfigurationError, match="unknown precision 'fp23'"):
            open_session({}, device=address, card=card, precision="fp23")


@each_server
@pytest.mark.parametrize(
    ("outputs", "inputs", "words"),
    [
        ([("tokens", "FP32", [-1, -1])], None, "has no output 'logits'.*it has tokens"),
        ([("logits", "FP32", [-1, 7])], None, "gives 7 numbers in logits.*2 labels"),
        ([("logits", "INT64", [-1, 2])], None, "gives logits as INT64"),
        ([], None, "has no output 'logits'.*it has none"),
        (None, [("image", "FP32", [-1])], "has the inputs image"),
        (None, [("input_ids", "BYTES", [-1])], "takes input_ids as BYTES"),
    ],
)
def test_a_server_with_another_model_is_refused_at_the_start(
    tmp_path: Path, graph: Path, serve: Serve, outputs: Any, inputs: Any, words: str
) -> None:
    card = open_model(str(directory(tmp_path / "m"))).card
    model = Model(graph)
    model.outputs = model.outputs if outputs is None else outputs
    model.inputs = model.inputs if inputs is None else inputs
    with serve(model) as address, pytest.raises(ModelLoadError, match=f"127.0.0.1.*'small'.*{words}"):
        open_session({}, device=address, card=card)


@each_server
def test_who_is_not_ready_is_refused_at_the_start(model: Model, serve: Serve) -> None:
    with serve(model) as address:
        model.ready = False
        with pytest.raises(ModelLoadError, match="the model 'small' is not ready"):
            RemoteSession(f"{address}/small")
        model.server_ready = False
        with pytest.raises(DeviceError, match="the server is not ready"):
            RemoteSession(f"{address}/small")
        model.mode = "refuse"
        with pytest.raises(DeviceError, match="refuses us"):
            RemoteSession(f"{address}/small")
        model.mode = "web"
        with pytest.raises(DeviceError, match="does not speak the Open Inference Protocol"):
            RemoteSession(f"{address}/small")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_server_is_said_with_its_address(scheme: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
        address = f"{scheme}://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(DeviceError, match=f"^{address}/small: no server answers"):
            RemoteSession(f"{address}/small")


@pytest.mark.parametrize("mode", ["error", "garbage", "short", "less"])
def test_a_failed_run_says_nothing_of_the_text(session: RemoteSession, model: Model, mode: str) -> None:
    model.mode = mode
    arrays = {**feeds(), "input_ids": np.full((2, 5), 17)}
    with pytest.raises(InferenceError) as caught:
        session.run(arrays)
    assert session.device in str(caught.value)
    assert "17" not in str(caught.value).replace(session.device, "")
    assert "bad input" not in str(caught.value)
    model.mode = ""
    np.testing.assert_allclose(session.run(feeds())["logits"], expected(feeds()), atol=1e-5)


def test_wrong_arrays_are_not_sent(session: RemoteSession, model: Model) -> None:
    runs = model.runs
    with pytest.raises(InferenceError, match="missing: token_type_ids"):
        session.run({name: array for name, array in feeds().items() if name != "token_type_ids"})
    with pytest.raises(InferenceError, match="input input_ids is float64"):
        session.run({**feeds(), "input_ids": np.ones((2, 5))})
    assert model.runs == runs


def test_a_server_that_hangs_is_given_up_at_the_deadline(session: RemoteSession, model: Model) -> None:
    model.mode = "hang"
    with until(0.3), pytest.raises(DeadlineError, match="did not answer in time"):
        session.run(feeds())
    model.mode = ""
    model.gate.set()
    np.testing.assert_allclose(session.run(feeds())["logits"], expected(feeds()), atol=1e-5)


def test_without_time_nothing_is_sent(session: RemoteSession, model: Model) -> None:
    runs = model.runs
    with until(-1), pytest.raises(DeadlineError, match="no time left"):
        session.run(feeds())
    assert model.runs == runs


@each_server
def test_a_lost_connection_fails_the_run_and_the_next_one_makes_a_new_one(graph: Path, serve: Serve) -> None:
    model = Model(graph)
    with ThreadPoolExecutor(1) as pool:
        with serve(model) as address:
            opened = RemoteSession(f"{address}/small")
            opened.run(feeds())
            model.entered.clear()
            model.mode = "hang" if serve is grpc_server else "drop"
            under_way = pool.submit(opened.run, feeds())
            assert model.entered.wait(30)
        with pytest.raises(InferenceError, match="was not run"):
            under_way.result(30)
        with pytest.raises(InferenceError, match="was not run"):
            opened.run(feeds())
        model.mode = ""
        with serve(model, port=int(address.rpartition(":")[2])):
            np.testing.assert_allclose(opened.run(feeds())["logits"], expected(feeds()), atol=1e-5)


def test_threads_share_a_session(session: RemoteSession) -> None:
    shapes = [(1 + n % 4, 1 + n % 7) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda shape: session.run(feeds(*shape, seed=shape[1]))["logits"], shapes))
    for shape, logits in zip(shapes, found, strict=True):
        np.testing.assert_allclose(logits, expected(feeds(*shape, seed=shape[1])), atol=1e-5)


def test_close_lets_a_run_end(session: RemoteSession, model: Model) -> None:
    model.mode = "hang"
    model.entered.clear()
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(session.run, feeds())
        assert model.entered.wait(30)
        session.close()
        session.close()
        with pytest.raises(InferenceError, match="closed"):
            session.run(feeds())
        model.gate.set()
        np.testing.assert_allclose(under_way.result(30)["logits"], expected(feeds()), atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_connections_of_its_own(model: Model) -> None:
    with http_server(model) as address:
        opened = RemoteSession(f"{address}/small")
        opened.run(feeds())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork with threads: as here
            child = os.fork()
        if not child:
            code = 1
            try:
                found = opened.run(feeds())["logits"]
                code = 0 if np.allclose(found, expected(feeds()), atol=1e-5) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        np.testing.assert_allclose(opened.run(feeds())["logits"], expected(feeds()), atol=1e-5)
