"""The cleared events of a stream, as an iterator and as an asynchronous one.

Both end the source when they are closed, left as a context manager, or dropped.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

from llmguard.integrations.clients.conduct import END, Emit, Leave, Pull, Send, Steps

Sender = Callable[[dict[str, Any]], Any]


class Events(Iterator[Any]):
    """A stream that is read without an event loop.

    Args:
        steps: the order of events.
        send: makes the call; gives the source, an iterable.

    Raises:
        Blocked: the request must not go on; likewise what else the steps and the call raise.
    """

    def __init__(self, steps: Steps, send: Sender) -> None:
        self._steps = steps
        self._send = send
        self._source: Any = None
        self._iterator: Iterator[Any] = iter(())
        self._step: Any = None
        self._over = False
        self._run(begin=True)

    def __next__(self) -> Any:
        if isinstance(self._step, Emit) and not self._over:
            event, self._step = self._step.event, None
            return event
        self._run()
        if self._over:
            raise StopIteration
        event, self._step = self._step.event, None
        return event

    def _run(self, *, begin: bool = False) -> None:
        """Go on to the next event, or to where the source is first asked for one."""
        try:
            while not self._over:
                self._step = self._steps.send(self._answered(self._step))
                if isinstance(self._step, Emit) or (begin and isinstance(self._step, Pull)):
                    return
        except StopIteration:
            self.close()
        except BaseException:
            self.close()
            raise

    def _answered(self, step: Any) -> Any:
        if isinstance(step, Pull):
            return self._pulled()
        if isinstance(step, Send):
            with step.making():
                self._source = self._send(step.body)
                self._iterator = iter(self._source)
        elif isinstance(step, Leave):
            self._leave()
        elif step is not None:
            step.wait()
        return None

    def _pulled(self) -> Any:
        try:
            return next(self._iterator, END)
        except Exception as error:
            with contextlib.suppress(StopIteration):
                self._steps.throw(error)  # tells the check why, and raises it again
            raise

    def _leave(self) -> None:
        source, self._source, self._iterator = self._source, None, iter(())
        if hasattr(source, "close"):
            source.close()

    def close(self) -> None:
        """End it, and the source."""
        if not self._over:
            self._over = True
            self._steps.close()
            self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_over"):
            self.close()


class AsyncEvents(AsyncIterator[Any]):
    """A stream that is read on an event loop; arguments as of `Events`, of which the source is asynchronous."""

    def __init__(self, steps: Steps, send: Sender) -> None:
        self._steps = steps
        self._send = send
        self._source: Any = None
        self._iterator: Any = None
        self._step: Any = None
        self._over = False

    async def begin(self) -> None:
        """Look at the request and send it; errors as of `Events`."""
        await self._run(begin=True)

    async def __anext__(self) -> Any:
        if isinstance(self._step, Emit) and not self._over:
            event, self._step = self._step.event, None
            return event
        await self._run()
        if self._over:
            raise StopAsyncIteration
        event, self._step = self._step.event, None
        return event

    async def _run(self, *, begin: bool = False) -> None:
        try:
            while not self._over:
                self._step = self._steps.send(await self._answered(self._step))
                if isinstance(self._step, Emit) or (begin and isinstance(self._step, Pull)):
                    return
        except StopIteration:
            await self.aclose()
        except BaseException:
            await self.aclose()
            raise

    async def _answered(self, step: Any) -> Any:
        if isinstance(step, Pull):
            return await self._pulled()
        if isinstance(step, Send):
            with step.making():
                source = self._send(step.body)
                self._source = await source if inspect.isawaitable(source) else source
                self._iterator = aiter(self._source)
        elif isinstance(step, Leave):
            await self._leave()
        elif step is not None:
            await step.wait_async()
        return None

    async def _pulled(self) -> Any:
        try:
            return await anext(self._iterator, END)
        except Exception as error:
            with contextlib.suppress(StopIteration):
                self._steps.throw(error)
            raise

    async def _leave(self) -> None:
        source, self._source, self._iterator = self._source, None, None
        closing = getattr(source, "aclose", None) or getattr(source, "close", None)
        if closing is not None:
            ended = closing()
            if inspect.isawaitable(ended):
                await ended

    async def aclose(self) -> None:
        """End it, and the source."""
        if not self._over:
            self._over = True
            self._steps.close()
            await self._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._steps.close()  # the source ends with its last reference: there may be no loop to await it on
