"""The two edges of sans-I/O code: a generator yields what has to be waited for, and a driver waits for it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Waits(Protocol):
    """Something that is not done yet: a check, or a run of detectors."""

    def wait(self) -> object:
        """Block until it is."""
        ...

    async def wait_async(self) -> object:
        """`wait` for an event loop."""
        ...


def drive(steps: Generator[Waits, None, T]) -> T:
    """What the steps return, waited for without an event loop."""
    try:
        while True:
            next(steps).wait()
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


async def adrive(steps: Generator[Waits, None, T]) -> T:
    """What the steps return, waited for on an event loop."""
    try:
        while True:
            await next(steps).wait_async()
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()
