"""A time limit that an event loop's own work does not use up."""

import asyncio
import time

import pytest

from llmguard.integrations.patience import Patience


async def test_what_does_not_come_is_waited_for_no_longer() -> None:
    waited = asyncio.Event()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with Patience(0.05):
                await waited.wait()


async def test_what_comes_in_time_ends_the_wait() -> None:
    loop = asyncio.get_running_loop()
    come = asyncio.Event()
    loop.call_later(0.01, come.set)
    async with Patience(60):
        await come.wait()


async def test_time_in_which_the_loop_was_busy_does_not_count() -> None:
    come = asyncio.Event()

    async def steps() -> None:
        for _ in range(4):  # of a connection that comes to stand
            await asyncio.sleep(0)
            time.sleep(0.1)  # noqa: ASYNC251 - that is what it is about
        come.set()

    stepping = asyncio.create_task(steps())
    async with Patience(0.05):
        await come.wait()
    await stepping


async def test_whoever_leaves_for_another_reason_is_told_that_one() -> None:
    with pytest.raises(LookupError):
        async with Patience(60):
            raise LookupError
    waiting = asyncio.create_task(_long())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _long() -> None:
    async with Patience(60):
        await asyncio.Event().wait()
