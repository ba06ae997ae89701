"""What stands in for an answer is asked without an event loop, and on one without holding it up."""

import asyncio
import functools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from llmguard.asking import Asking, is_async
from llmguard.errors import ConfigurationError


async def later(told: object) -> str:
    await asyncio.sleep(0)
    return f"later: {told}"


def plain(told: object) -> str:
    return f"{threading.current_thread().name}: {told}"


class Later:
    async def __call__(self, told: object) -> str:
        return await later(told)


def test_without_a_loop_it_is_asked_on_the_same_thread() -> None:
    asking = Asking(plain, "x")
    asking.wait()
    assert asking.answer == f"{threading.current_thread().name}: x"


@pytest.mark.parametrize("ask", [later, Later(), functools.partial(later), lambda told: later(told)])
async def test_what_is_async_is_awaited_and_goes_with_nothing_else(ask: Any) -> None:
    asking = Asking(ask, "x")
    await asking.wait_async()
    assert asking.answer == "later: x"
    with pytest.raises(ConfigurationError, match="is async"):
        Asking(ask, "x").wait()


async def test_what_is_plain_runs_on_another_thread_of_a_loop() -> None:
    asking = Asking(plain, "x")
    await asking.wait_async()
    assert asking.answer.endswith(": x")
    assert asking.answer != f"{threading.current_thread().name}: x"


async def test_what_it_raises_is_raised() -> None:
    def broken(_: object) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError):
        Asking(broken, "x").wait()
    with pytest.raises(KeyError):
        await Asking(broken, "x").wait_async()


def test_a_class_is_plain() -> None:
    assert not is_async(Later)
    assert is_async(Later())


def test_one_that_has_nothing_left_to_give_fails_and_does_not_end_what_asks() -> None:
    replies: Iterator[str] = iter([])
    with pytest.raises(RuntimeError, match="StopIteration"):
        Asking(lambda _: next(replies), None).wait()


async def test_so_it_does_on_an_event_loop() -> None:
    replies: Iterator[str] = iter([])
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(Asking(lambda _: next(replies), None).wait_async(), 60)
