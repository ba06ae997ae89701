"""Bodies of HTTP as httpx and httpx2 have them: read up to a limit, and given to the caller piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from functools import lru_cache
from itertools import chain
from typing import Any

from llmguard.integrations.http import HttpCall
from llmguard.operation import Operation


def joined(stream: Iterable[bytes], limit: int) -> bytes:
    """The body, or as much of it as shows that it has more bytes than the limit."""
    pieces, size = [], 0
    for piece in stream:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
    return b"".join(pieces)


async def ajoined(stream: AsyncIterable[bytes], limit: int) -> bytes:
    """`joined` for an event loop."""
    pieces, size = [], 0
    async for piece in stream:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            break
    return b"".join(pieces)


@lru_cache(maxsize=4)
def streams(library: Any) -> tuple[Any, Any]:
    """The library's streams over a generator, closed with it; it takes no others."""

    def begin(self: Any, first: bytes, pieces: Any, source: Any, call: HttpCall, told: Operation) -> None:
        self.first, self.pieces, self.source, self.call, self.told = first, pieces, source, call, told

    # A generator that was never begun ends without its last words, so its owner says them.
    def close(self: Any) -> None:
        self.pieces.close()
        self.source.close()
        self.told.abandon()
        self.call.close()

    async def aclose(self: Any) -> None:
        await self.pieces.aclose()
        await self.source.aclose()
        self.told.abandon()
        self.call.close()

    def each(self: Any) -> Any:
        return chain((self.first,), self.pieces) if self.first else self.pieces

    def aeach(self: Any) -> Any:
        return _after(self.first, self.pieces) if self.first else self.pieces

    return (
        type("GuardedByteStream", (library.SyncByteStream,), {"__init__": begin, "__iter__": each, "close": close}),
        type(
            "AsyncGuardedByteStream",
            (library.AsyncByteStream,),
            {"__init__": begin, "__aiter__": aeach, "aclose": aclose},
        ),
    )


async def _after(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
