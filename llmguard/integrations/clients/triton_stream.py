"""A guarded stream of Triton's client for gRPC, whose answers come to one callback on a thread of the client's own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from llmguard.errors import DialectError
from llmguard.guard import Guard
from llmguard.integrations.clients.triton_line import Line
from llmguard.integrations.clients.triton_requests import Pair, Request, Requests, Turn
from llmguard.integrations.clients.values import Fallback


class Stream:
    """One stream, from ``start_stream`` to ``stop_stream``.

    Args:
        client: of tritonclient; not kept alive, since it stops its stream when nobody holds it any more.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        callback: gets what goes out.
        how: arguments of ``start_stream`` beside the callback.

    Raises:
        InferenceServerException: the client has a stream, or can't start one.
    """

    def __init__(
        self, client: Any, guard: Guard, fallback: Fallback | None, callback: Callable[..., Any], how: dict[str, Any]
    ) -> None:
        self._client = weakref.ref(client)
        self._guard = guard
        self._fallback = fallback
        self._callback = callback
        self._how = how
        self._requests = Requests(guard)
        self._lock = threading.Lock()
        self._aside: Line | None = None
        self._cancelled = False
        self._line = Line(self._ended)
        type(client).start_stream(self._line.of(client), callback=self._came, **how)

    def infer(self, given: dict[str, Any]) -> None:
        """Look at a request, and send it.

        Raises:
            Blocked: it must not go on.
            InferenceServerException: it can't be sent.
            TypeError: something in it has no JSON.
        """
        request = Request(self._guard, self._fallback, given)
        out = _waited(request.begin())
        if request.due is None:
            for _, error in out:
                if error is not None:
                    raise error
            self._handed(out)
            return
        self._requests.add(request)
        try:
            with request.due.making():
                self._send(self._client(), request)
        except BaseException as error:
            self._requests.remove(request)
            request.fail(error)
            raise

    def stop(self, stop: Callable[..., Any], cancel: bool) -> None:
        """End the stream, by the client's own method; what nobody reads any more is given up."""
        if cancel:
            with self._lock:
                self._cancelled = True
                if self._aside is not None:
                    self._aside.cancel()
        stop(cancel_requests=cancel)
        self._requests.close()

    @staticmethod
    def _send(client: Any, request: Request) -> None:
        given = {**request.given(), "request_id": request.wire, "enable_empty_final_response": True}
        client.__class__.async_stream_infer(client, **given)

    def _came(self, result: Any, error: Any) -> None:
        """The client's callback."""
        if self._line.broken:
            self._requests.fail(error)
            self._callback(result=None, error=error)
            return
        try:
            request = self._requests.whose(self._line.id, self._line.final)
        except DialectError as problem:
            self._callback(result=None, error=problem if error is None else error)
            return
        if request is not None:
            self._answered(request, result, error, final=self._line.final)

    def _answered(self, request: Request, result: Any, error: Any, *, final: bool | None) -> None:
        out = self._out(request, result, error, final=final)
        if request.over or request.due is not None:
            self._requests.left(request)
        self._handed(out)
        self._again(request)

    @staticmethod
    def _out(request: Request, result: Any, error: Any, *, final: bool | None) -> list[Pair]:
        if error is None:
            return _waited(request.take(result))
        if request.over or request.due is not None:
            return []
        if final:
            request.fail(error)
        return [(None, error)]

    def _ended(self) -> None:
        """The server has said all: requests whose last answer is marked by nobody end now."""
        for request in self._requests.ended():
            self._handed(_waited(request.end()))
            self._again(request)

    def _handed(self, out: list[Pair]) -> None:
        for result, error in out:
            self._callback(result=result, error=error)

    def _again(self, request: Request) -> None:
        """Make a request once more, on a line of its own: this one may have been stopped already.

        Its answers are collected first, so that the callback runs on one thread. Those of others wait meanwhile.
        """
        while request.due is not None and (client := self._client()) is not None:
            answers: list[tuple[Any, Any, bool | None]] = []
            try:
                self._made(client, request, answers)
            except Exception as problem:  # noqa: BLE001 - the callback is told, as of any error
                request.fail(problem)
                self._handed([(None, problem)])
                return
            for result, error, final in answers:
                self._handed(self._out(request, result, error, final=final))
            if request.due is None:
                self._handed(_waited(request.end()))

    def _made(self, client: Any, request: Request, answers: list[tuple[Any, Any, bool | None]]) -> None:
        line = Line()

        def came(result: Any, error: Any) -> None:
            answers.append((result, error, True if line.broken else line.final))

        own = line.of(client, aside=True)
        with self._lock:
            type(client).start_stream(own, callback=came, **self._how)
            self._aside = line
            if self._cancelled:
                line.cancel()
        try:
            self._send(own, request)
        finally:
            type(client).stop_stream(own)
            self._aside = None


def _waited(turn: Turn) -> list[Pair]:
    """What goes out after a turn, with all waited for that it waits for."""
    try:
        step = next(turn)
        while True:
            try:
                step.wait()
            except Exception as error:  # noqa: BLE001 - the turn ends by it
                step = turn.throw(error)
            else:
                step = next(turn)
    except StopIteration as end:
        out: list[Pair] = end.value
        return out
