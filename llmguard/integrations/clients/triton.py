"""The clients of Triton, HTTP and gRPC, sync and ``aio``: texts in tensors of BYTES.

Follows https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/client. ``infer`` and
``async_infer`` are guarded; streams over gRPC are refused, since their answers come to one callback for all requests.
An answer in tensors has no place for words of ours: where a policy replies, the call is blocked.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from llmguard.dialects import kserve
from llmguard.dialects.wire import Json
from llmguard.guard import Guard
from llmguard.integrations.clients.arguments import named
from llmguard.integrations.clients.closed import Closed
from llmguard.integrations.clients.pending import Pending
from llmguard.integrations.clients.triton_tensors import seen_input, seen_result, written_input, written_result
from llmguard.integrations.clients.values import Fallback, Way, check_fallback

C = TypeVar("C")

MODULES = ("tritonclient",)


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """A client of the same type whose calls are guarded.

    Args:
        client: an ``InferenceServerClient`` of ``tritonclient.http``, ``.grpc``, or their ``aio``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives an ``InferResult``.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """
    check_fallback(guard, fallback)
    made: Any = _Client(client, guard, fallback)
    return made  # type: ignore[no-any-return]


class _Client(Closed):
    passes: ClassVar[frozenset[str]] = frozenset(
        {"is_server_live", "is_server_ready", "is_model_ready", "get_server_metadata", "get_model_metadata", "close"}
        | {"get_model_config", "get_model_repository_index", "load_model", "unload_model", "get_inference_statistics"}
        | {"update_trace_settings", "get_trace_settings", "update_log_settings", "get_log_settings", "stop_stream"}
        | {"get_system_shared_memory_status", "register_system_shared_memory", "unregister_system_shared_memory"}
        | {"get_cuda_shared_memory_status", "register_cuda_shared_memory", "unregister_cuda_shared_memory"}
        | {"register_plugin", "unregister_plugin", "plugin"}
    )
    hint: ClassVar[str] = "infer or async_infer; for streams, the proxy and Triton's generate_stream"

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None) -> None:
        super().__init__(client)
        self._self_guard = guard
        self._self_fallback = fallback

    def infer(self, *args: Any, **kwargs: Any) -> Any:
        """An inference, or something to await that makes it."""
        method = self.__wrapped__.infer
        call = _Call(self._self_guard, self._self_fallback, named(method, args, kwargs))
        later = inspect.iscoroutinefunction(method)
        return call.way.make(call.body, lambda body: method(**call.given(body)), later=later, streams=False)

    def async_infer(self, *args: Any, **kwargs: Any) -> Any:
        """An inference that goes on by itself: the answer is looked at where it is asked for, or called back."""
        method = self.__wrapped__.async_infer
        given = named(method, args, kwargs)
        callback = given.pop("callback", None)
        call = _Call(self._self_guard, self._self_fallback, given)
        pending = _Later(call, self.__wrapped__.infer)
        if callback is None:
            own = None if pending.asked is None else method(**call.given(pending.asked))
            return _Request(own, pending)
        if pending.asked is None:
            return callback(pending.done, None)
        return method(**call.given(pending.asked), callback=pending.calling(callback))


class _Call:
    """One inference.

    Args:
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        given: arguments by name.

    Attributes:
        body: the request.
        way: how it is guarded.
    """

    def __init__(self, guard: Guard, fallback: Fallback | None, given: dict[str, Any]) -> None:
        self._given = given
        self._result: Any = None
        self.body: dict[str, Any] = {"inputs": [seen_input(tensor) for tensor in given["inputs"]]}
        if given.get("parameters"):
            self.body["parameters"] = given["parameters"]
        model = {"model": given.get("model_name") or ""}
        self.way = Way(guard, kserve.INFER, fallback, self._build, self._read, model, client="tritonclient")

    def given(self, body: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a cleared request."""
        views = zip(self._given["inputs"], self.body["inputs"], body["inputs"], strict=True)
        inputs = [tensor if new == view else written_input(tensor, new) for tensor, view, new in views]
        told = {"parameters": body["parameters"]} if "parameters" in body else {}
        return {**self._given, "inputs": inputs, **told}

    def _read(self, result: Any) -> Json:
        self._result = result
        return seen_result(result)

    def _build(self, value: Json) -> Any:
        return written_result(self._result, value)


class _Later(Pending):
    """An inference whose answer comes later.

    Args:
        call: that.
        again: makes it once more.
    """

    def __init__(self, call: _Call, again: Callable[..., Any]) -> None:
        self._call = call
        self._again = again
        super().__init__(call.way, call.body)

    def finish(self, result: Any) -> Any:
        """The answer as the caller gets it."""
        self.take(result)
        while self.asked is not None:
            self.take(self._again(**self._call.given(self.asked)))
        return self.done

    def calling(self, callback: Callable[..., Any]) -> Callable[[Any, Any], None]:
        """A callback that gets the answer once it has been looked at, or the error that it led to."""

        def called(result: Any, error: Any) -> None:
            if error is None:
                try:
                    result = self.finish(result)
                except Exception as problem:  # noqa: BLE001 - it is the callback's to deal with
                    result, error = None, problem
            else:
                self.close()
            callback(result, error)

        return called


class _Request:
    """The handle of an inference that goes on by itself, as tritonclient's ``InferAsyncRequest``."""

    def __init__(self, request: Any, pending: _Later) -> None:
        self._request = request
        self._pending = pending
        self._result: Any = None

    def get_result(self, block: bool = True, timeout: float | None = None) -> Any:
        """The answer, once it has been looked at; arguments and errors as of tritonclient."""
        if self._request is None:
            return self._pending.done
        if self._result is None:
            self._result = self._pending.finish(self._request.get_result(block, timeout))
        return self._result
