"""A callable of the caller's own, asked for what stands in for an answer: never on an event loop, where it is slow."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from llmguard.errors import ConfigurationError


class Asking:
    """One question to such a callable: yielded to a driver that waits for it, as checks are.

    On an event loop an async callable is awaited, and a plain one runs on a thread of the loop's own executor. It may
    ask another model, so it doesn't take a thread from the detectors.

    Args:
        ask: a function, plain or async.
        told: its argument.

    Attributes:
        answer: what it gave, once it was waited for.
    """

    __slots__ = ("_ask", "_told", "answer")

    def __init__(self, ask: Callable[[Any], Any], told: object) -> None:
        self._ask = ask
        self._told = told
        self.answer: Any = None

    def wait(self) -> None:
        """Ask on this thread.

        Raises:
            ConfigurationError: what it gave has to be awaited, and here is no event loop.
        """
        answer = self._asked()
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise ConfigurationError("a fallback or a reply that is async does not go with a call that is not")
        self.answer = answer

    async def wait_async(self) -> None:
        """Ask without holding the event loop up."""
        if is_async(self._ask):
            answer = self._ask(self._told)
        else:
            answer = await asyncio.to_thread(self._asked)
        self.answer = await answer if inspect.isawaitable(answer) else answer

    def _asked(self) -> Any:
        try:
            return self._ask(self._told)
        except StopIteration as error:  # it would end what waits, or never reach it
            raise RuntimeError("a fallback or a reply raised StopIteration") from error


def is_async(ask: Callable[..., Any]) -> bool:
    """Whether a call of it has to be awaited."""
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(type(ask).__call__)
