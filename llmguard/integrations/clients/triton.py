"""The clients of Triton, HTTP and gRPC, sync and ``aio``: texts in tensors of BYTES.

Follows https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/client. Guarded are ``infer``,
``async_infer``, and over gRPC streams: ``start_stream`` with ``async_stream_infer``, and ``stream_infer`` of ``aio``.
A whole answer in tensors has no place for words of ours: where a policy replies, the call is blocked.
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
from llmguard.integrations.clients.triton_request import Asked
from llmguard.integrations.clients.triton_stream import Stream
from llmguard.integrations.clients.triton_stream_aio import AioStream
from llmguard.integrations.clients.triton_tensors import seen_result, written_result
from llmguard.integrations.clients.values import Fallback, Way, check_fallback

C = TypeVar("C")

MODULES = ("tritonclient",)


def wrap(client: C, guard: Guard, *, fallback: Fallback | None = None) -> C:
    """A client of the same type whose calls are guarded.

    Args:
        client: an ``InferenceServerClient`` of ``tritonclient.http``, ``.grpc``, or their ``aio``.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so; gives an ``InferResult``, or in a stream a text.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """
    check_fallback(guard, fallback)
    made: Any = _Client(client, guard, fallback)
    return made  # type: ignore[no-any-return]


class _Client(Closed):
    passes: ClassVar[frozenset[str]] = frozenset(
        {"is_server_live", "is_server_ready", "is_model_ready", "get_server_metadata", "get_model_metadata"}
        | {"get_model_config", "get_model_repository_index", "load_model", "unload_model", "get_inference_statistics"}
        | {"update_trace_settings", "get_trace_settings", "update_log_settings", "get_log_settings"}
        | {"get_system_shared_memory_status", "register_system_shared_memory", "unregister_system_shared_memory"}
        | {"get_cuda_shared_memory_status", "register_cuda_shared_memory", "unregister_cuda_shared_memory"}
        | {"register_plugin", "unregister_plugin", "plugin"}
    )
    hint: ClassVar[str] = "infer, async_infer, async_stream_infer or stream_infer"

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None) -> None:
        super().__init__(client)
        self._self_guard = guard
        self._self_fallback = fallback
        self._self_stream: Stream | None = None

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
            return callback(result=pending.done, error=None)
        return method(**call.given(pending.asked), callback=pending.calling(callback))

    def start_stream(self, *args: Any, **kwargs: Any) -> None:
        """A stream over gRPC, whose callback gets what goes out."""
        given = named(self.__wrapped__.start_stream, args, kwargs)
        callback = _needed(given, "callback")
        self._self_stream = Stream(self.__wrapped__, self._self_guard, self._self_fallback, callback, given)

    def async_stream_infer(self, *args: Any, **kwargs: Any) -> None:
        """An inference over the stream: it is looked at, and sent, before this returns."""
        given = named(self.__wrapped__.async_stream_infer, args, kwargs)
        if self._self_stream is None:
            from tritonclient.utils import InferenceServerException

            raise InferenceServerException("there is no stream: call start_stream of the wrapped client first")
        self._self_stream.infer(given)

    def stop_stream(self, cancel_requests: bool = False) -> None:
        """End the stream; arguments as of tritonclient."""
        stop = self.__wrapped__.stop_stream
        if self._self_stream is None:
            stop(cancel_requests=cancel_requests)
            return
        self._self_stream.stop(stop, cancel_requests)
        self._self_stream = None

    def stream_infer(self, *args: Any, **kwargs: Any) -> AioStream:
        """Inferences over a stream of an asynchronous client: an iterator of results and errors."""
        given = named(self.__wrapped__.stream_infer, args, kwargs)
        inputs = _needed(given, "inputs_iterator")
        return AioStream(self.__wrapped__, self._self_guard, self._self_fallback, inputs, given)

    def close(self) -> Any:
        """End the client, and its stream; of an asynchronous client, something to await that does."""
        if self._self_stream is not None:
            self.stop_stream()
        return self.__wrapped__.close()

    def __exit__(self, *error: object) -> Any:
        if self._self_stream is not None:
            self.stop_stream()
        return super().__exit__(*error)


def _needed(given: dict[str, Any], name: str) -> Any:
    """An argument that there must be, taken out."""
    if name not in given:
        raise TypeError(f"{name}: is missing")
    return given.pop(name)


class _Call:
    """One inference.

    Args:
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        given: arguments by name.

    Attributes:
        body: the request.
        way: how it is guarded.
        given: the arguments of a cleared request.
    """

    def __init__(self, guard: Guard, fallback: Fallback | None, given: dict[str, Any]) -> None:
        asked = Asked(given)
        self._result: Any = None
        self.body, self.given = asked.body, asked.given
        self.way = Way(guard, kserve.INFER, fallback, self._build, self._read, asked.segments, client="tritonclient")

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
            callback(result=result, error=error)

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
