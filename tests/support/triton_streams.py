"""A server of Triton's protocol for streams over gRPC, on a real socket, that answers as a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any

import numpy as np

FINAL = "triton_final_response"
EMPTY = "triton_enable_empty_final_response"
PATIENCE = 60


@dataclass
class Fails:
    """An error in place of an answer: as of a model, which says whether it is its last one, or as of Triton itself."""

    message: str
    final: bool | None = True


class Dies:
    """The server breaks the whole stream off."""


@dataclass
class Model:
    """How requests are answered, and what was asked.

    Attributes:
        say: from the text that was asked, and how many were asked before, the pieces of the answer: bytes, a list of
            them for a tensor of several elements, a mapping of tensors (and of parameters, by ``@`` and their names), a
            `Fails`, a `Dies`, or an event to wait for.
        ids: whether answers have the id of their request.
        flags: whether they say which is the last one.
        empty_last: whether that is an empty one behind the others, for those that want it.
        together: how many requests are read before they are answered in turns.
        asked: texts of the requests.
        seen: their ids.
        parameters: likewise.
        raw: whether texts stand behind the tensors.
        broken: whether they are longer than their tensors.
    """

    say: Callable[[bytes, int], Iterable[Any]]
    ids: bool = True
    flags: bool = True
    empty_last: bool = True
    together: int = 1
    raw: bool = True
    broken: bool = False
    asked: list[bytes] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def stream(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        while batch := list(islice(requests, self.together)):
            turns = zip_longest(*[self._answers(request, context) for request in batch])
            yield from (answer for turn in turns for answer in turn if answer is not None)

    def _answers(self, request: Any, context: Any) -> Iterator[Any]:
        self.seen.append(request.id)
        self.parameters.append(dict(request.parameters))
        text = request.raw_input_contents[0][4:] if request.raw_input_contents else b""
        self.asked.append(text)
        pieces = list(self.say(text, len(self.asked) - 1))
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1 and not self.empty_last
            made = self._made(piece, request, last, context)
            if made is not None:
                yield made
        if self.flags and self.empty_last and EMPTY in request.parameters and not _failed(pieces):
            yield self._made({}, request, True, context)

    def _made(self, piece: Any, request: Any, last: bool, context: Any) -> Any:
        import grpc
        from tritonclient.grpc import service_pb2

        if isinstance(piece, threading.Event):
            assert piece.wait(PATIENCE)
            return None
        if isinstance(piece, Dies):
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        made = service_pb2.ModelStreamInferResponse()
        own = made.infer_response
        own.id = request.id if self.ids else ""
        if isinstance(piece, Fails):
            made.error_message = piece.message
            if piece.final is not None:
                own.parameters[FINAL].bool_param = piece.final
            return made
        own.model_name = request.model_name
        if self.flags:
            own.parameters[FINAL].bool_param = last
        for name, value in (piece if isinstance(piece, dict) else {"text": piece}).items():
            self._put(own, name, value)
        return made

    def _put(self, response: Any, name: str, value: Any) -> None:
        if name.startswith("@"):
            response.parameters[name[1:]].string_param = value
            return
        if isinstance(value, np.ndarray):
            response.outputs.add(name=name, datatype="UINT32", shape=list(value.shape))
            response.raw_output_contents.append(value.astype(np.uint32).tobytes())
            return
        texts = value if isinstance(value, list) else [value]
        output = response.outputs.add(name=name, datatype="BYTES", shape=[1, len(texts)])
        if self.raw:
            more = 9 if self.broken else 0
            raw = b"".join([(len(one) + more).to_bytes(4, "little") + one for one in texts])
            response.raw_output_contents.append(raw)
        else:
            output.contents.bytes_contents.extend(texts)


def _failed(pieces: list[Any]) -> bool:
    return any(isinstance(piece, Fails) and piece.final is not False for piece in pieces)


@contextmanager
def streaming(say: Callable[[bytes, int], Iterable[Any]], **how: Any) -> Iterator[Model]:
    """Serve a model until the block is left; arguments as of `Model`."""
    import grpc
    from tritonclient.grpc import service_pb2_grpc

    model = Model(say, **how)

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
            return model.stream(request_iterator, context)

    own = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), own)
    model.url = f"127.0.0.1:{own.add_insecure_port('127.0.0.1:0')}"
    own.start()
    try:
        yield model
    finally:
        own.stop(None).wait()


def asked(text: str, **how: Any) -> dict[str, Any]:
    """Arguments of a request that says a text."""
    import tritonclient.grpc as module

    tensor = module.InferInput("prompt", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[text.encode()]], dtype=np.object_))
    return {"model_name": "m", "inputs": [tensor], **how}


def texts(result: Any, name: str = "text") -> list[bytes]:
    """The elements of a result's tensor; none where it has no such tensor."""
    values = result.as_numpy(name)
    return [] if values is None else values.flatten().tolist()
