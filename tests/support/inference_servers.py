"""Small real servers of the Open Inference Protocol: ONNX Runtime behind HTTP, and behind gRPC, on a socket each.

They stand in for Triton and mlserver, which are too large for a test's environment, and can be told to misbehave.
The gRPC one is made of grpcio and of the client's own messages; that these are the protocol's is shown by bytes that
another client of it wrote.
"""

from __future__ import annotations

import contextlib
import io
import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4", "FP16": "<f2", "BF16": "<u2"}


class Model:
    """A graph under a name, and how its server behaves.

    Attributes:
        floats: the datatype of the outputs: FP32, FP16, BF16.
        mode: "" serves; ``error``, ``garbage``, ``redirect``, ``refuse`` and ``web`` answer that, ``drop`` hangs up,
            ``hang`` waits for the gate, ``short`` leaves out the last byte, ``less`` the last output.
    """

    def __init__(self, path: Path, name: str = "small", floats: str = "FP32") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.name, self.floats, self.mode = name, floats, ""
        self.ready = self.server_ready = True
        self.gate, self.entered = threading.Event(), threading.Event()
        self.runs = 0
        self.seen: dict[str, str] = {}
        self.inputs = [(item.name, "INT64", _sizes(item.shape)) for item in self._session.get_inputs()]
        self.outputs = [(item.name, floats, _sizes(item.shape)) for item in self._session.get_outputs()]

    def run(self, feeds: dict[str, np.ndarray[Any, Any]], wanted: list[str]) -> list[tuple[str, list[int], bytes]]:
        """Name, shape and bytes of the outputs."""
        self.runs += 1
        self.entered.set()
        if self.mode == "hang":
            assert self.gate.wait(60)
        found = zip(wanted, self._session.run(wanted, feeds), strict=True)
        answers = [(name, list(value.shape), _bytes(value, self.floats)) for name, value in found]
        if self.mode == "short":
            answers[-1] = (*answers[-1][:2], answers[-1][2][:-1])
        return answers[:-1] if self.mode == "less" else answers


def _sizes(shape: list[Any]) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in shape]


def _bytes(value: np.ndarray[Any, Any], floats: str) -> bytes:
    if floats == "BF16":
        return (np.ascontiguousarray(value, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return value.astype(NUMBERS[floats]).tobytes()


def _numbers(content: bytes, floats: str) -> list[float]:
    kind = np.dtype(NUMBERS[floats])
    found = np.frombuffer(content[: len(content) // kind.itemsize * kind.itemsize], kind)
    return ((found.astype(np.uint32) << 16).view(np.float32) if floats == "BF16" else found).tolist()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model: Model
    binary: bool

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):  # who asked may have gone
            self.wfile.write(content)

    def do_GET(self) -> None:
        model = self.model
        model.seen = dict(self.headers)
        odd = {"redirect": 302, "refuse": 401, "web": 404}
        if model.mode in odd:
            self.answer(odd[model.mode], b"<html>", Location="/elsewhere")
            return
        said = {key: _said(own) for key, own in _both(model)}
        answers: dict[str, tuple[int, Any]] = {
            "/v2/health/ready": (200 if model.server_ready else 503, b""),
            "/v2": (200, {"name": "test", "extensions": ["binary_tensor_data"] if self.binary else []}),
            f"/v2/models/{model.name}": (200, {"name": model.name, **said}),
            f"/v2/models/{model.name}/ready": (200 if model.ready else 400, b""),
        }
        self.answer(*answers.get(self.path, (400, {"error": "Request for unknown model"})))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.model.mode == "drop":
            self.model.entered.set()
            self.close_connection = True
        elif self.model.mode == "error":
            self.answer(500, {"error": f"bad input {body!r}"})
        elif self.model.mode == "garbage":
            self.answer(200, b"{")
        else:
            self.infer(body)

    def infer(self, body: bytes) -> None:
        assert self.path == f"/v2/models/{self.model.name}/infer"
        length = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        assert (length < len(body)) == self.binary
        head, raw = json.loads(body[:length]), io.BytesIO(body[length:])
        feeds = {}
        for one in head["inputs"]:
            kind = NUMBERS[one["datatype"]]
            size = one.get("parameters", {}).get("binary_data_size")
            flat = np.array(one["data"], kind) if size is None else np.frombuffer(raw.read(size), kind)
            feeds[one["name"]] = flat.reshape(one["shape"])
        outputs, contents = [], []
        for name, shape, content in self.model.run(feeds, [one["name"] for one in head["outputs"]]):
            said = {"name": name, "shape": shape, "datatype": self.model.floats}
            if self.binary:
                contents.append(content)
                outputs.append({**said, "parameters": {"binary_data_size": len(content)}})
            else:
                outputs.append({**said, "data": _numbers(content, self.model.floats)})
        answer = json.dumps({"model_name": self.model.name, "outputs": outputs}).encode()
        headers = {"Inference_Header_Content_Length": str(len(answer))} if self.binary else {}
        self.answer(200, b"".join([answer, *contents]), **headers)


def _both(model: Model) -> list[tuple[str, list[tuple[str, str, list[int]]]]]:
    return [("inputs", model.inputs), ("outputs", model.outputs)]


def _said(own: list[tuple[str, str, list[int]]]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in own]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def http_server(
    model: Model, *, binary: bool = True, port: int = 0, tls: tuple[Path, Path] | None = None
) -> Iterator[str]:
    """Serve a model over HTTP; the address. ``tls``: certificate and key."""
    handler = type("Handler", (_Handler,), {"model": model, "binary": binary})
    server = _Server(("127.0.0.1", port), handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://{'localhost' if tls else '127.0.0.1'}:{server.server_address[1]}"
    finally:
        model.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _methods(model: Model) -> dict[str, Any]:
    import grpc

    from llmguard.inference.remote_messages import messages

    kinds = messages()

    def server_ready(request: Any, context: Any) -> Any:
        model.seen = dict(context.invocation_metadata())
        if model.mode == "refuse":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
        if model.mode == "web":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown service")
        return kinds["ServerReadyResponse"](ready=model.server_ready)

    def model_ready(request: Any, context: Any) -> Any:
        return kinds["ModelReadyResponse"](ready=model.ready)

    def model_metadata(request: Any, context: Any) -> Any:
        if request.name != model.name:
            context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model")
        return kinds["ModelMetadataResponse"](name=model.name, **{key: _said(own) for key, own in _both(model)})

    def model_infer(request: Any, context: Any) -> Any:
        assert request.model_name == model.name
        if model.mode == "error":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"bad input {request.raw_input_contents}")
        feeds = {
            one.name: np.frombuffer(raw, NUMBERS[one.datatype]).reshape(list(one.shape))
            for one, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        answers = model.run(feeds, [one.name for one in request.outputs])
        outputs = [{"name": name, "datatype": model.floats, "shape": shape} for name, shape, _ in answers]
        raw = [content for *_, content in answers]
        if model.mode == "garbage":
            raw = raw * 2
        return kinds["ModelInferResponse"](model_name=model.name, outputs=outputs, raw_output_contents=raw)

    own = {
        "ServerReady": server_ready,
        "ModelReady": model_ready,
        "ModelMetadata": model_metadata,
        "ModelInfer": model_infer,
    }
    return {
        name: grpc.unary_unary_rpc_method_handler(
            method,
            request_deserializer=kinds[f"{name}Request"].FromString,
            response_serializer=kinds[f"{name}Response"].SerializeToString,
        )
        for name, method in own.items()
    }


@contextlib.contextmanager
def grpc_server(model: Model, *, port: int = 0, tls: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Serve a model over gRPC; the address. ``tls``: certificate and key."""
    import grpc

    from llmguard.inference.remote_messages import SERVICE

    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, _methods(model)),))
    if tls is not None:
        pair = (tls[1].read_bytes(), tls[0].read_bytes())
        bound = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([pair]))
    else:
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"grpc{'s' if tls else ''}://{'localhost' if tls else '127.0.0.1'}:{bound}"
    finally:
        stopped = server.stop(None)
        model.gate.set()
        stopped.wait()
        pool.shutdown()
