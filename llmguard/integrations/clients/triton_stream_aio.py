"""A guarded stream of Triton's ``aio`` client for gRPC: requests from an iterator, results and errors to another.

Requests are looked at on the task that gRPC reads them on, answers where the caller reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

from llmguard.errors import DialectError
from llmguard.guard import Guard
from llmguard.integrations.clients.conduct import END
from llmguard.integrations.clients.triton_line import Line
from llmguard.integrations.clients.triton_requests import Pair, Request, Requests, Turn
from llmguard.integrations.clients.values import Fallback


class _Ready:
    """What may go out, and who waits for it. It knows nothing of the line, which ends when nobody reads any more."""

    def __init__(self) -> None:
        self.pairs: deque[Pair] = deque()
        self.more: asyncio.Future[None] | None = None

    def put(self, out: Iterable[Pair]) -> None:
        """Hand these out, whoever waits."""
        self.pairs += out
        if self.pairs and self.more is not None and not self.more.done():
            self.more.set_result(None)


class AioStream(AsyncIterator[Pair]):
    """What ``stream_infer`` gives: an asynchronous iterator of pairs, to be cancelled.

    Args:
        client: of tritonclient.
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        inputs: the caller's iterator of requests.
        how: arguments of ``stream_infer`` beside that.
    """

    def __init__(self, client: Any, guard: Guard, fallback: Fallback | None, inputs: Any, how: dict[str, Any]) -> None:
        self._client = client
        self._how = how
        self._requests = Requests(guard)
        self._ready = _Ready()
        self._pull: asyncio.Task[Any] | None = None
        self._aside: Line | None = None
        self._line = Line()
        checked = _checked(inputs, guard, fallback, self._requests, self._ready)
        self._source = _begun(client, self._line, checked, how)
        self._over = False

    async def __anext__(self) -> Pair:
        while not self._ready.pairs:
            if self._over:
                raise StopAsyncIteration
            try:
                await self._read()
            except BaseException as error:
                self._end(error)
                raise
        return self._ready.pairs.popleft()

    async def _read(self) -> None:
        """Wait for an answer, or for what stands in for one."""
        if self._pull is None:
            self._pull = asyncio.ensure_future(_next(self._source))
        self._ready.more = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._pull, self._ready.more), return_when=asyncio.FIRST_COMPLETED)
        if not self._pull.done():
            return
        pull, self._pull = self._pull, None
        pair = pull.result()
        if pair is END:
            self._over = True
            for request in self._requests.ended():
                self._ready.put(await _waited(request.end()))
                await self._again(request)
        else:
            await self._came(*pair)

    async def _came(self, result: Any, error: Any) -> None:
        final = self._line.final
        try:
            request = self._requests.whose(self._line.id, final)
        except DialectError as problem:
            self._ready.put([(None, problem if error is None else error)])
            return
        if request is None:
            return
        await self._answered(request, result, error, final=final)
        if request.over or request.due is not None:
            self._requests.left(request)
        await self._again(request)

    async def _answered(self, request: Request, result: Any, error: Any, *, final: bool | None) -> None:
        if error is None:
            self._ready.put(await _waited(request.take(result)))
        elif not request.over:
            if final:
                request.fail(error)
            self._ready.put([(None, error)])

    async def _again(self, request: Request) -> None:
        """Make a request once more, on a line of its own: this one may have had its last request."""
        while request.due is not None:
            self._aside = line = Line()
            source = _begun(self._client, line, _one({**request.given(), "request_id": request.wire}), self._how)
            try:
                async for result, error in source:
                    await self._answered(request, result, error, final=line.final)
                    if request.due is not None:
                        break
                else:
                    self._ready.put(await _waited(request.end()))
            except Exception as error:  # noqa: BLE001 - the line has broken, and the other one goes on
                request.fail(error)
                self._ready.put([(None, error)])
            finally:
                line.cancel()
                self._aside = None

    def cancel(self) -> Any:
        """End the stream, as tritonclient's iterator does: who reads gets a ``CancelledError``."""
        if self._aside is not None:
            self._aside.cancel()
        return self._source.cancel()

    async def aclose(self) -> None:
        """End the stream: there is nothing more to be read."""
        self._end(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def _end(self, error: BaseException | None) -> None:
        self._over = True
        self._ready.pairs.clear()
        if error is None:
            self._requests.close()
        else:
            self._requests.fail(error)
        self.cancel()
        if self._pull is not None:
            self._pull.cancel()
            self._pull = None

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                self._end(None)


def _begun(client: Any, line: Line, requests: AsyncIterator[Any], how: dict[str, Any]) -> Any:
    return client.__class__.stream_infer(line.of(client), inputs_iterator=requests, **how)


async def _checked(
    inputs: Any, guard: Guard, fallback: Fallback | None, requests: Requests, ready: _Ready
) -> AsyncIterator[Any]:
    """The requests that may be sent; what stands in for the answers to others is put where answers are read."""
    async for given in inputs:
        if type(given) is not dict or "model_name" not in given or "inputs" not in given:
            yield given  # tritonclient has an error for it
            continue
        try:
            request = Request(guard, fallback, given)
        except TypeError as error:
            ready.put([(None, error)])
            continue
        ready.put(await _waited(request.begin()))
        if request.due is not None:
            requests.add(request)
            yield {**request.given(), "request_id": request.wire}


async def _one(given: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield given


async def _next(source: AsyncIterator[Any]) -> Any:
    return await anext(source, END)


async def _waited(turn: Turn) -> list[Pair]:
    """What goes out after a turn, with all waited for that it waits for."""
    try:
        step = next(turn)
        while True:
            try:
                await step.wait_async()
            except Exception as error:  # noqa: BLE001 - the turn ends by it
                step = turn.throw(error)
            else:
                step = next(turn)
    except StopIteration as end:
        out: list[Pair] = end.value
        return out
