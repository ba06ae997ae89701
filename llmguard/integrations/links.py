"""What carries calls to an upstream: requests go in, answers come out piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from llmguard.integrations.headers import Headers
from llmguard.integrations.served import UpstreamError

#: What an answer's status may be: what is less comes before an answer, and more is none of HTTP.
ANSWERS = range(200, 600)


class Answer(Protocol):
    """One answer; its body is still to be read.

    Attributes:
        status: of HTTP, one of `ANSWERS`.
        headers: names in small letters.
    """

    status: int
    headers: Headers

    async def piece(self) -> bytes:
        """The next piece of the body; ``b""`` at its end.

        Raises:
            UpstreamError: it broke off, or takes too long.
        """
        ...

    async def close(self) -> None:
        """Leave it, read to its end or not."""
        ...


class Link(Protocol):
    """Connections to one server."""

    async def ask(self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]) -> Answer:
        """Send a request.

        Args:
            method: of HTTP.
            target: path and query.
            headers: well-formed, with one that says how long the body is, if there is any: ``content-length`` or
                ``transfer-encoding: chunked``.
            body: all of it, or its pieces.

        Raises:
            UpstreamError: the server can't be reached, is too slow, or breaks off; or the request can't be sent.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def unsendable() -> UpstreamError:
    """What a request gets that is none of HTTP."""
    return UpstreamError(400, "the request can't be sent on", "request")


def busy() -> UpstreamError:
    """What a call gets that has waited for a connection in vain."""
    return UpstreamError(503, "there are too many calls at a time", "busy")


def late() -> UpstreamError:
    """What a call gets that takes too long."""
    return UpstreamError(504, "the upstream took too long", "timeout")


def unreachable() -> UpstreamError:
    """What a call gets where nobody listens."""
    return UpstreamError(502, "the upstream can't be reached", "unreachable")


def broken() -> UpstreamError:
    """What a call gets whose answer broke off, or is none of HTTP."""
    return UpstreamError(502, "the upstream broke off", "broken")
