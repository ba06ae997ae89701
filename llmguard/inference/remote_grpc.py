"""The Open Inference Protocol over gRPC."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from llmguard.errors import DeadlineError, DeviceError, InferenceError, MissingExtraError, ModelLoadError
from llmguard.inference.remote_address import Address
from llmguard.inference.remote_messages import CONTENTS, SERVICE, messages
from llmguard.inference.remote_tensors import Description, Tensor, datatype, from_bytes, from_numbers, to_bytes
from llmguard.inference.remote_wire import LARGEST, START_S, clipped, token

_METHODS = ("ServerReady", "ModelReady", "ModelMetadata", "ModelInfer")
_GONE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class GrpcTransport:
    """Speaks to one server. Thread-safe: runs share a connection, and a lost one is replaced by the next run.

    Args:
        address: ``grpc`` or ``grpcs``.

    Raises:
        MissingExtraError: grpcio or protobuf is not installed.
    """

    def __init__(self, address: Address) -> None:
        try:
            import grpc
        except ImportError:
            raise MissingExtraError("a model on a gRPC server", "grpc", "remote") from None
        self._grpc = grpc
        self._address = address
        self._messages = messages()
        self._lock = threading.Lock()
        self._line: _Line | None = None

    def describe(self, model: str) -> Description:
        """What the server says about a model that is ready.

        Raises:
            DeviceError: there is no server, it is not ready, or speaks another protocol.
            ModelLoadError: it has no such model, or the model is not ready.
        """
        where, until = self._address, time.monotonic() + START_S
        if not self._ask("ServerReady", until).ready:
            raise DeviceError(f"{where}: the server is not ready")
        found = self._ask("ModelMetadata", until, model, name=model)
        if not self._ask("ModelReady", until, model, name=model).ready:
            raise ModelLoadError(f"{where}: the model {model!r} is not ready")
        inputs, outputs = (
            tuple(Tensor(one.name, one.datatype, tuple(one.shape)) for one in own)
            for own in (found.inputs, found.outputs)
        )
        return Description(inputs, outputs)

    def infer(
        self, model: str, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str], timeout_s: float
    ) -> dict[str, NDArray[Any]]:
        """One run.

        Args:
            model: its name.
            feeds: arrays by input.
            outputs: the names that are wanted.
            timeout_s: until then the answer must be there.

        Raises:
            DeadlineError: it is not.
            InferenceError: the run failed, the connection was lost, or the answer is none.
        """
        request = self._messages["ModelInferRequest"](model_name=model)
        for name, array in feeds.items():
            request.inputs.add(name=name, datatype=datatype(array), shape=array.shape)
            request.raw_input_contents.append(to_bytes(array))
        for name in outputs:
            request.outputs.add(name=name)
        try:
            answer = self._call("ModelInfer", request, timeout_s)
        except self._grpc.RpcError as error:
            code = error.code().name
            if code == "DEADLINE_EXCEEDED":
                raise DeadlineError(f"{self._address}: the model {model!r} did not answer in time") from None
            # The server's own words may quote the arrays.
            raise InferenceError(f"{self._address}: the model {model!r} was not run ({code})") from None
        try:
            return arrays(answer)
        except ValueError as error:
            raise InferenceError(f"{self._address}: the answer of the model {model!r} is none: {error}") from None

    def _ask(self, method: str, until: float, model: str = "", **fields: str) -> Any:
        try:
            return self._call(
                method, self._messages[f"{method}Request"](**fields), max(0.001, until - time.monotonic())
            )
        except self._grpc.RpcError as error:
            code, said = error.code().name, clipped(error.details() or "")
        where = self._address
        if code in _GONE:
            raise DeviceError(f"{where}: no server answers ({said or code})")
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            raise DeviceError(f"{where}: the server refuses us ({code}): is LLMGUARD_REMOTE_TOKEN right?")
        if model and code != "UNIMPLEMENTED":
            raise ModelLoadError(f"{where}: the server has no model {model!r} ({code}: {said})")
        raise DeviceError(f"{where}: what answers there does not speak the Open Inference Protocol ({code})")

    def _call(self, method: str, request: Any, timeout_s: float) -> Any:
        with self._lock:
            if self._line is None:
                self._line = _Line(self._grpc, self._address, self._messages)
            line = self._line
        try:
            return line.methods[method](request, timeout=timeout_s, metadata=line.metadata)
        except self._grpc.RpcError as error:
            if error.code().name in _GONE:
                # A new connection has no back-off to wait for, and is not the one that hangs.
                with self._lock:
                    if self._line is line:
                        self._line = None
            raise


class _Line:
    """A connection; closed when the last run on it has ended and nobody holds it."""

    def __init__(self, grpc: Any, address: Address, kinds: Mapping[str, Any]) -> None:
        options = [
            ("grpc.max_receive_message_length", LARGEST),
            ("grpc.max_send_message_length", -1),
            # What is sent goes to the server that is named, not to a proxy that the environment names.
            ("grpc.enable_http_proxy", 0),
            # Otherwise a new connection to the same server would inherit the lost one's back-off.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if address.secure:
            roots = os.environ.get("SSL_CERT_FILE")
            credentials = grpc.ssl_channel_credentials(Path(roots).read_bytes() if roots else None)
            channel = grpc.secure_channel(address.authority, credentials, options)
        else:
            channel = grpc.insecure_channel(address.authority, options)
        self.metadata = tuple((key.lower(), value) for key, value in token(address).items())
        self.methods = {
            name: channel.unary_unary(
                f"/{SERVICE}/{name}",
                request_serializer=kinds[f"{name}Request"].SerializeToString,
                response_deserializer=kinds[f"{name}Response"].FromString,
            )
            for name in _METHODS
        }
        weakref.finalize(self, channel.close).atexit = False


def arrays(answer: Any) -> dict[str, NDArray[Any]]:
    """The outputs of an answer, whose contents are raw or by type.

    Args:
        answer: a ``ModelInferResponse``.

    Raises:
        ValueError: contents are missing, or don't fit shape or datatype.
    """
    raw = answer.raw_output_contents
    if raw and len(raw) != len(answer.outputs):
        raise ValueError(f"{len(answer.outputs)} outputs with {len(raw)} contents")
    found = {}
    for place, one in enumerate(answer.outputs):
        if raw:
            found[one.name] = from_bytes(raw[place], one.datatype, one.shape)
        else:
            field = CONTENTS.get(one.datatype)
            if field is None:
                raise ValueError("an output has a datatype that can't be without raw contents")
            found[one.name] = from_numbers(list(getattr(one.contents, field)), one.datatype, one.shape)
    return found
