"""A guarded generator function: its texts are checked before the call, what it yields as it comes.

The order of events is one generator (`_conduct`) that yields what it waits for, pulls or hands out; a sync and an async
driver do it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, NamedTuple

from llmguard import shapes
from llmguard.calls import Checks, Guarded
from llmguard.streaming import StreamCheck
from llmguard.types import Decision, Stage


class _Start(NamedTuple):
    """Call the function."""

    bound: inspect.BoundArguments


class _Pull(NamedTuple):
    """Ask it for its next value."""


class _Emit(NamedTuple):
    """Hand a value to the caller."""

    value: Any


_END = object()
_Events = Generator[Any, Any, None]


def guarded_generator(how: Guarded) -> Callable[..., Any]:
    """A generator function, sync or async, with checks around it and the same signature."""
    made = _asynchronous(how) if inspect.isasyncgenfunction(how.function) else _synchronous(how)
    return functools.update_wrapper(made, how.function)


def _synchronous(how: Guarded) -> Callable[..., Any]:
    def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        events = _conduct(how, how.texts.bound(args, kwargs))
        source: Any = None
        answer: Any = None
        try:
            while (event := _next(events, answer)) is not _END:
                answer = None
                if isinstance(event, _Emit):
                    yield event.value
                elif isinstance(event, _Pull):
                    answer = next(source, _END)
                elif isinstance(event, _Start):
                    _close(source)
                    source = how.function(*event.bound.args, **event.bound.kwargs)
                else:
                    event.wait()
        finally:
            events.close()
            _close(source)

    return generate


def _asynchronous(how: Guarded) -> Callable[..., Any]:
    async def agenerate(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        events = _conduct(how, how.texts.bound(args, kwargs))
        source: Any = None
        answer: Any = None
        try:
            while (event := _next(events, answer)) is not _END:
                answer = None
                if isinstance(event, _Emit):
                    yield event.value
                elif isinstance(event, _Pull):
                    answer = await anext(source, _END)
                elif isinstance(event, _Start):
                    await _aclose(source)
                    source = how.function(*event.bound.args, **event.bound.kwargs)
                else:
                    await event.wait_async()
        finally:
            events.close()
            await _aclose(source)

    return agenerate


def _next(events: _Events, answer: Any) -> Any:
    try:
        return events.send(answer)
    except StopIteration:
        return _END


def _close(source: Any) -> None:
    if source is not None:
        source.close()


async def _aclose(source: Any) -> None:
    if source is not None:
        await source.aclose()


def _conduct(how: Guarded, bound: inspect.BoundArguments) -> _Events:
    retries = how.guard.policy.retries
    with how.guard.call_scope() as checks:
        stopped, beside = yield from how.clear(bound, checks)
        if beside is not None:
            # What the answer begins with would go out while the input may still be stopped.
            yield beside
            decision = beside.finish()[0]
            stopped = decision if decision.blocked else None
        if stopped is not None:
            yield _Emit((yield from how.stopped(stopped, None)))
            return
        while True:
            yield _Start(bound)
            reader = _Reader(how, checks, bound)
            blocked = yield from reader.read()
            if blocked is None:
                return
            if not retries or reader.emitted:
                yield _Emit((yield from how.stopped(blocked, reader.last)))
                return
            retries -= 1
            how.texts.tell(bound, blocked)


class _Reader:
    """One run of the function: values in, cleared values out.

    Args:
        how: which part of a value is text.
        checks: of the call.
        bound: the arguments, for the documents that the answer must keep to.

    Attributes:
        emitted: whether anything was handed out.
        last: the last value that held text.
    """

    def __init__(self, how: Guarded, checks: Checks, bound: inspect.BoundArguments) -> None:
        self._how = how
        self._check: StreamCheck = checks.stream(Stage.OUTPUT, how.texts.about(bound))
        self._check.open()
        self._later: list[Any] = []
        self.emitted = False
        self.last: Any = None

    def read(self) -> Generator[Any, Any, Decision | None]:
        """Read to the end; the decision where it blocks."""
        while (value := (yield _Pull())) is not _END:
            text = self._how.part.get(value)
            if text is None or (text == "" and self._how.part is not shapes.WHOLE):
                self._later.append(value)
            elif not isinstance(text, str):
                raise TypeError(f"the guarded function yielded {type(text).__name__} where text was expected")
            else:
                self.last = value
                out = yield from self._check.feed(text)
                if self._check.blocked:
                    return self._check.finish()
                yield from self._out(out)
            if not self._check.holds:
                yield from self._rest()
        out = yield from self._check.end()
        decision = self._check.finish()
        if decision.blocked:
            return decision
        yield from self._out(out)
        yield from self._rest()
        return None

    def _out(self, text: str) -> Generator[Any, Any, None]:
        if text:
            self.emitted = True
            yield _Emit(self._how.part.put(self.last, text))

    def _rest(self) -> Generator[Any, Any, None]:
        """Values without text keep their place behind the text that came before them."""
        for value in self._later:
            self.emitted = True
            yield _Emit(value)
        self._later.clear()
