"""A time limit that an event loop's own work does not use up."""

from __future__ import annotations

import asyncio
from types import TracebackType

# Iterations of the loop that a wait lasts at least: whoever waits hears only after some that a connection stands.
_TICKS = 10


class Patience:
    """Waits for so long, as `asyncio.timeout`, but for the time that its event loop was busy.

    A loop that has been busy for longer than a timer's time finds at once that what was waited for has come and that
    the time is up, and the timer wins: with a thousand calls that come at a time the first ones would be told that
    nobody answers. So the time is cut into ticks, of which one iteration of the loop uses up one, however long it was.

    Args:
        seconds: that the loop waits.

    Raises:
        TimeoutError: at the end of the block, which was cancelled.
    """

    __slots__ = ("_deadline", "_left", "_loop", "_tick", "_timer")

    def __init__(self, seconds: float) -> None:
        self._tick = seconds / _TICKS
        self._left = _TICKS
        self._loop = asyncio.get_running_loop()
        self._deadline = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._deadline.__aenter__()
        self._timer = self._loop.call_later(self._tick, self._ticked)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._deadline.__aexit__(kind, error, trace)

    def _ticked(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._tick, self._ticked)
        else:
            self._deadline.reschedule(0)
