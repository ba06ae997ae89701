"""The four clients of Triton, guarded, against servers on real sockets that echo texts."""

import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from fakes import Words
from small_server import serving

from llmguard import Blocked, ConfigurationError, Guard
from llmguard.errors import DialectError
from llmguard.integrations.clients import triton

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
pytest.importorskip("tritonclient")

RULES = [
    {"detector": "words", "categories": ["BAD"], "action": "redact"},
    {"detector": "words", "categories": ["WORSE"], "action": "block"},
]


def guard_of(**policy: Any) -> Guard:
    return Guard({"name": "p", "rules": RULES, **policy}, detectors=[Words("words", "bad", "worse")])


class Server:
    """What the model was asked, and what it says: a text tensor of two elements, and numbers beside it."""

    def __init__(self, says: list[bytes]) -> None:
        self.says = says
        self.asked: list[list[bytes]] = []
        self.parameters: dict[str, Any] = {}
        self.url = ""


def packed(texts: list[bytes]) -> bytes:
    return b"".join([len(text).to_bytes(4, "little") + text for text in texts])


def unpacked(raw: bytes) -> list[bytes]:
    texts = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        texts.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return texts


@contextmanager
def http_server(says: list[bytes]) -> Iterator[Server]:
    server = Server(says)

    def answer(path: str, body: Any) -> Any:
        if isinstance(body, bytes):
            text = body.decode("latin-1")
            head, end = json.JSONDecoder().raw_decode(text)
            server.asked.append(unpacked(text[end:].encode("latin-1")))
        else:
            head = body
            server.asked.append([one.encode() for one in head["inputs"][0]["data"]])
        server.parameters = head.get("parameters", {})
        said, numbers = packed(server.says), np.array([1.5], np.float32).tobytes()
        text_head = {"name": "text", "datatype": "BYTES", "shape": [len(server.says)]}
        outputs = [
            {**text_head, "parameters": {"binary_data_size": len(said)}},
            {"name": "score", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": len(numbers)}},
        ]
        data = json.dumps({"model_name": "m", "model_version": "1", "outputs": outputs}).encode()
        return data + said + numbers, {"Inference-Header-Content-Length": str(len(data))}

    with serving(answer) as served:
        server.url = served.url.removeprefix("http://")
        yield server


@contextmanager
def grpc_server(says: list[bytes]) -> Iterator[Server]:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    server = Server(says)

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
            server.asked.append(unpacked(request.raw_input_contents[0]))
            server.parameters = {key: value.string_param for key, value in request.parameters.items()}
            response = service_pb2.ModelInferResponse(model_name="m")
            response.outputs.add(name="text", datatype="BYTES", shape=[len(server.says)])
            response.outputs.add(name="score", datatype="FP32", shape=[1])
            response.raw_output_contents.extend([packed(server.says), np.array([1.5], np.float32).tobytes()])
            return response

    own = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), own)
    port = own.add_insecure_port("127.0.0.1:0")
    own.start()
    server.url = f"127.0.0.1:{port}"
    try:
        yield server
    finally:
        own.stop(None).wait()


def asked(kind: Any, *texts: str, **how: Any) -> Any:
    tensor = kind.InferInput("prompt", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_), **how)
    return tensor


def kinds() -> list[Any]:
    import tritonclient.grpc
    import tritonclient.http

    return [(tritonclient.http, http_server), (tritonclient.grpc, grpc_server)]


@pytest.fixture(params=[0, 1], ids=["http", "grpc"])
def kind(request: pytest.FixtureRequest) -> Any:
    return kinds()[request.param]


def test_texts_are_cleared_both_ways_and_numbers_stay(kind: Any) -> None:
    module, serve = kind
    with (
        serve([b"my bad answer", b"\xff\xfe"]) as server,
        guard_of() as guard,
        triton.wrap(module.InferenceServerClient(server.url), guard) as client,
    ):
        assert isinstance(client, module.InferenceServerClient)
        result = client.infer("m", [asked(module, "hi", "ho")])
        assert list(result.as_numpy("text")) == [b"my <BAD_1> answer", b"\xff\xfe"]
        assert list(result.as_numpy("score")) == [1.5]
        assert isinstance(result, module.InferResult)
        tensor = asked(module, "a bad thing", "fine")
        client.infer(model_name="m", inputs=[tensor], parameters={"system": "bad"})
        assert server.asked[-1] == [b"a <BAD_1> thing", b"fine"]
        assert server.parameters["system"] == "<BAD_1>"
        with pytest.raises(Blocked):
            client.infer("m", [asked(module, "worse")])
        assert len(server.asked) == 2


def test_texts_in_json_are_cleared_too() -> None:
    import tritonclient.http as module

    with (
        http_server([b"fine"]) as server,
        guard_of() as guard,
        triton.wrap(module.InferenceServerClient(server.url), guard) as client,
    ):
        result = client.infer("m", [asked(module, "a bad thing", binary_data=False)])
        assert server.asked == [[b"a <BAD_1> thing"]]
        assert list(result.as_numpy("text")) == [b"fine"]


def test_what_is_clean_is_the_same_object(kind: Any) -> None:
    module, _ = kind

    class Client:
        def infer(self, model_name: str, inputs: Any) -> Any:
            seen.append(inputs[0])
            return result

    seen: list[Any] = []
    with (
        kind[1]([b"fine"]) as server,
        guard_of() as guard,
        module.InferenceServerClient(server.url) as real,
    ):
        result = real.infer("m", [asked(module, "hi")])
        tensor = asked(module, "hi")
        assert triton.wrap(Client(), guard).infer("m", [tensor]) is result
        assert seen == [tensor]


async def test_the_asynchronous_clients_are_guarded(kind: Any) -> None:
    import tritonclient.grpc.aio
    import tritonclient.http.aio

    module, serve = kind
    aio = {"http": tritonclient.http.aio, "grpc": tritonclient.grpc.aio}[module.__name__.rpartition(".")[2]]
    with serve([b"my bad answer"]) as server, guard_of() as guard:
        client = triton.wrap(aio.InferenceServerClient(server.url), guard)
        result = await client.infer("m", [asked(module, "hi")])
        assert list(result.as_numpy("text")) == [b"my <BAD_1> answer"]
        with pytest.raises(Blocked):
            await client.infer("m", [asked(module, "worse")])
        await client.close()


def test_what_goes_on_by_itself_is_looked_at_where_it_is_asked_for() -> None:
    import tritonclient.http as module

    with (
        http_server([b"my bad answer"]) as server,
        guard_of() as guard,
        triton.wrap(module.InferenceServerClient(server.url), guard) as client,
    ):
        request = client.async_infer("m", [asked(module, "hi")])
        assert list(request.get_result().as_numpy("text")) == [b"my <BAD_1> answer"]
        assert request.get_result() is request.get_result()
        server.says = [b"worse"]
        request = client.async_infer("m", [asked(module, "hi")])
        with pytest.raises(Blocked):
            request.get_result()
        with pytest.raises(Blocked):
            client.async_infer("m", [asked(module, "worse")])


def test_callbacks_get_what_may_go_out() -> None:
    import tritonclient.grpc as module

    got: list[Any] = []
    ready = threading.Semaphore(0)

    def callback(result: Any, error: Any) -> None:
        got.append((result, error))
        ready.release()

    with (
        grpc_server([b"my bad answer"]) as server,
        guard_of() as guard,
        triton.wrap(module.InferenceServerClient(server.url), guard) as client,
    ):
        client.async_infer("m", [asked(module, "hi")], callback)
        assert ready.acquire(timeout=30)
        assert list(got[0][0].as_numpy("text")) == [b"my <BAD_1> answer"]
        server.says = [b"worse"]
        client.async_infer("m", [asked(module, "hi")], callback=callback)
        assert ready.acquire(timeout=30)
        assert got[1][0] is None
        assert isinstance(got[1][1], Blocked)


def test_a_policy_that_replies_has_no_words_here_and_a_fallback_has_a_result(kind: Any) -> None:
    module, serve = kind
    with serve([b"worse"]) as server:
        with (
            guard_of(on_block={"reply": "No."}) as guard,
            triton.wrap(module.InferenceServerClient(server.url), guard) as client,
            pytest.raises(Blocked),
        ):
            client.infer("m", [asked(module, "hi")])
        own = object()
        with (
            guard_of(on_block="fallback") as guard,
            triton.wrap(module.InferenceServerClient(server.url), guard, fallback=lambda _: own) as client,
        ):
            assert client.infer("m", [asked(module, "hi")]) is own
            if module.__name__.endswith("http"):
                assert client.async_infer("m", [asked(module, "worse")]).get_result() is own


def test_callbacks_are_called_by_name_as_without_a_guard() -> None:
    import tritonclient.grpc as module

    got: queue.Queue[Any] = queue.Queue()

    def callback(kept: str, result: Any, error: Any) -> None:
        got.put((kept, list(result.as_numpy("text")), error))

    with grpc_server([b"fine"]) as server, guard_of() as guard, module.InferenceServerClient(server.url) as bare:
        for client in (bare, triton.wrap(bare, guard)):
            client.async_infer("m", [asked(module, "hi")], partial(callback, kept="mine"))
            assert got.get(timeout=30) == ("mine", [b"fine"], None)


def test_a_request_without_inputs_is_an_error(kind: Any) -> None:
    module, _ = kind
    with guard_of() as guard, triton.wrap(module.InferenceServerClient("127.0.0.1:9"), guard) as client:
        for method in (client.infer, client.async_infer):
            with pytest.raises(TypeError, match="inputs: are missing"):
                method("m")


def of_grpc(raw: bytes, **parameters: str) -> Any:
    """A result over gRPC of one tensor with two elements."""
    import tritonclient.grpc as module
    from tritonclient.grpc import service_pb2

    response = service_pb2.ModelInferResponse(model_name="m")
    output = response.outputs.add(name="text", datatype="BYTES", shape=[2])
    for key, value in parameters.items():
        output.parameters[key].string_param = value
    response.raw_output_contents.append(raw)
    return module.InferResult(response)


def test_what_is_in_shared_memory_is_passed_on_and_not_covered() -> None:
    import tritonclient.grpc as module

    class Client:
        def infer(self, model_name: str, inputs: Any) -> Any:
            return result

    result = of_grpc(b"", shared_memory_region="own")
    with guard_of() as guard:
        assert triton.wrap(Client(), guard).infer("m", [asked(module, "hi")]) is result


@pytest.mark.parametrize("raw", [b"\x05\x00\x00\x00abc", b"\x05\x00", b"\x01\x00\x00\x00ab"])
def test_an_element_that_is_longer_than_its_tensor_is_an_error(raw: bytes) -> None:
    import tritonclient.grpc as module

    class Client:
        def infer(self, model_name: str, inputs: Any) -> Any:
            return of_grpc(raw)

    with guard_of() as guard, pytest.raises(DialectError, match="longer than its tensor"):
        triton.wrap(Client(), guard).infer("m", [asked(module, "hi")])


def test_zeros_at_the_end_of_an_element_stay() -> None:
    import tritonclient.grpc as module

    class Client:
        def infer(self, model_name: str, inputs: Any) -> Any:
            return of_grpc(packed([b"bad\0", b"x\0"]))

    with guard_of() as guard:
        result = triton.wrap(Client(), guard).infer("m", [asked(module, "hi")])
        assert list(result.as_numpy("text")) == [b"<BAD_1>\0", b"x\0"]


def test_what_is_unknown_is_refused(kind: Any) -> None:
    module, _ = kind
    with guard_of() as guard, triton.wrap(module.InferenceServerClient("127.0.0.1:9"), guard) as client:
        client.__wrapped__.tell = print
        with pytest.raises(ConfigurationError, match="is not guarded: use infer"):
            client.tell("x")
