"""The Open Inference Protocol over HTTP: JSON, and arrays as bytes where the server has that extension."""

from __future__ import annotations

import json
import ssl
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from llmguard.errors import DeadlineError, DeviceError, InferenceError, MissingExtraError, ModelLoadError
from llmguard.inference.remote_address import Address
from llmguard.inference.remote_tensors import Description, Tensor, datatype, from_bytes, from_numbers, to_bytes
from llmguard.inference.remote_wire import LARGEST, START_S, clipped, token

# How long the JSON before the bytes is: https://github.com/triton-inference-server/server, extension_binary_data.
_JSON_LENGTH = "Inference-Header-Content-Length"
# uvicorn, below many of these servers, hangs up after 5 s without a request: be first, or a request meets the hang-up.
_KEEP_S = 4.0


class HttpTransport:
    """Speaks to one server. Thread-safe: connections are kept, one for each run at a time, and made anew when lost.

    Args:
        address: ``http`` or ``https``.
        binary: whether the server takes and gives arrays as bytes, if it was asked before.

    Raises:
        MissingExtraError: httpx is not installed.
    """

    def __init__(self, address: Address, *, binary: bool = False) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("a model on an HTTP server", "httpx", "remote") from None
        self._httpx = httpx
        self._address = address
        self._binary = binary
        self._client = httpx.Client(
            base_url=f"{address.scheme}://{address.authority}",
            headers={"Accept-Encoding": "identity", **token(address)},
            verify=ssl.create_default_context(),
            follow_redirects=False,
            # What is sent goes to the server that is named: no proxy, no password that the environment names.
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16, keepalive_expiry=_KEEP_S),
        )
        weakref.finalize(self, self._client.close).atexit = False

    def describe(self, model: str) -> Description:
        """What the server says about a model that is ready.

        Raises:
            DeviceError: there is no server, it is not ready, or speaks another protocol.
            ModelLoadError: it has no such model, or the model is not ready.
        """
        where, until = self._address, time.monotonic() + START_S
        status, _ = self._ask("/v2/health/ready", until)
        if status == 404:
            raise DeviceError(f"{where}: what answers there does not speak the Open Inference Protocol (HTTP 404)")
        if status != 200:
            raise DeviceError(f"{where}: the server is not ready (HTTP {status})")
        status, body = self._ask("/v2", until)
        server = _object(body) if status == 200 else {}
        self._binary = "binary_tensor_data" in (server.get("extensions") or ())
        status, body = self._ask(f"/v2/models/{model}", until)
        if status != 200:
            reason = clipped(str(_object(body).get("error", "")))
            said = f": {reason}" if reason else ""
            raise ModelLoadError(f"{where}: the server has no model {model!r} (HTTP {status}{said})")
        try:
            found = _object(body)
            description = Description(_tensors(found["inputs"]), _tensors(found["outputs"]), self._binary)
        except (KeyError, TypeError, ValueError):
            raise ModelLoadError(f"{where}: the server does not say what the model {model!r} takes and gives") from None
        status, _ = self._ask(f"/v2/models/{model}/ready", until)
        if status != 200:
            raise ModelLoadError(f"{where}: the model {model!r} is not ready (HTTP {status})")
        return description

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
        headers, body = _request(feeds, outputs, binary=self._binary)
        where = f"{self._address}: the model {model!r}"
        try:
            status, answered, content = self._exchange(
                "POST", f"/v2/models/{model}/infer", time.monotonic() + timeout_s, headers, body
            )
        except (self._httpx.TimeoutException, TimeoutError):
            raise DeadlineError(f"{where} did not answer in time") from None
        except (self._httpx.HTTPError, ssl.SSLError, ValueError) as error:
            raise InferenceError(f"{where} was not run ({type(error).__name__})") from None
        if status != 200:
            # The server's own words may quote the arrays.
            raise InferenceError(f"{where} was not run (HTTP {status})")
        try:
            return _arrays(content, answered.get(_JSON_LENGTH))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InferenceError(f"{where} gave an answer that is none ({type(error).__name__})") from None

    def _ask(self, path: str, until: float) -> tuple[int, bytes]:
        where = self._address
        try:
            status, _, body = self._exchange("GET", path, until)
        except (self._httpx.HTTPError, ssl.SSLError, TimeoutError, ValueError) as error:
            raise DeviceError(f"{where}: no server answers ({clipped(str(error)) or type(error).__name__})") from None
        if status in (401, 403):
            raise DeviceError(f"{where}: the server refuses us (HTTP {status}): is LLMGUARD_REMOTE_TOKEN right?")
        if 300 <= status < 400:
            raise DeviceError(f"{where}: the server sends us elsewhere (HTTP {status}): name the place itself")
        return status, body

    def _exchange(
        self, method: str, path: str, until: float, headers: Mapping[str, str] | None = None, content: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        found = bytearray()
        with self._client.stream(
            method, path, headers=headers, content=content, extensions={"timeout": _Until(until)}
        ) as answer:
            for chunk in answer.iter_raw():
                found += chunk
                if len(found) > LARGEST:
                    raise ValueError(f"an answer of more than {LARGEST} bytes")
                if time.monotonic() > until:
                    raise TimeoutError
            return answer.status_code, answer.headers, bytes(found)


class _Until(dict[str, float]):
    """httpx's time-outs, each of which is what is left when it begins: together they end when the first would."""

    def __init__(self, until: float) -> None:
        self._until = until
        super().__init__(dict.fromkeys(("connect", "read", "write", "pool"), self._left()))

    def get(self, key: str, default: Any = None) -> Any:
        """What is left, in seconds."""
        return self._left()

    def _left(self) -> float:
        return max(0.001, self._until - time.monotonic())


def _request(
    feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str], *, binary: bool
) -> tuple[dict[str, str], bytes]:
    inputs: list[dict[str, Any]] = []
    raw = []
    for name, array in feeds.items():
        one: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype(array)}
        if binary:
            raw.append(to_bytes(array))
            one["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            one["data"] = array.ravel().tolist()
        inputs.append(one)
    wanted = [{"name": name, **({"parameters": {"binary_data": True}} if binary else {})} for name in outputs]
    head = json.dumps({"inputs": inputs, "outputs": wanted}).encode()
    if not binary:
        return {"Content-Type": "application/json"}, head
    return {"Content-Type": "application/octet-stream", _JSON_LENGTH: str(len(head))}, b"".join([head, *raw])


def _arrays(content: bytes, json_length: str | None) -> dict[str, NDArray[Any]]:
    length = len(content) if json_length is None else int(json_length)
    if not 0 <= length <= len(content):
        raise ValueError("the JSON is longer than the answer")
    found = {}
    view, place = memoryview(content), length
    for one in json.loads(content[:length])["outputs"]:
        name, kind, shape = str(one["name"]), str(one["datatype"]), one["shape"]
        size = (one.get("parameters") or {}).get("binary_data_size")
        if size is None:
            found[name] = from_numbers(one["data"], kind, shape)
            continue
        found[name] = from_bytes(view[place : place + int(size)], kind, shape)
        place += int(size)
    return found


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _tensors(said: Any) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(str(one["name"]), str(one["datatype"]), tuple(int(size) for size in one["shape"])) for one in said
    )
