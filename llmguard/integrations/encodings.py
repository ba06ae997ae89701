"""Compressed bodies, taken apart within a bound: a small one must not become a large one unseen."""

from __future__ import annotations

import zlib

from llmguard.errors import LlmGuardError

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_STEP = 1 << 16


class BodyTooLargeError(LlmGuardError):
    """Raised for a body beyond the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body has more than {limit} bytes")


class UnknownEncodingError(LlmGuardError):
    """Raised for a body that is compressed in a way that is not read, or is damaged."""


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as its readers will see it.

    Args:
        body: as it came.
        encoding: the value of ``Content-Encoding`` in small letters, or "".
        limit: bytes that it may have, also after it was taken apart.

    Raises:
        BodyTooLargeError: it has more.
        UnknownEncodingError: it is compressed in another way than gzip or deflate, more than once, or is damaged.
    """
    if len(body) > limit:
        raise BodyTooLargeError(limit)
    if not encoding or not body:
        return body
    if encoding not in _WINDOWS:
        raise UnknownEncodingError("the body is compressed in a way that is not read here: use gzip, deflate or none")
    return _inflated(body, _WINDOWS[encoding], limit)


def _inflated(body: bytes, window: int, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    engine = zlib.decompressobj(window)
    rest = body
    try:
        while rest and not engine.eof:
            part = engine.decompress(rest, _STEP)
            size += len(part)
            if size > limit:
                raise BodyTooLargeError(limit)
            parts.append(part)
            rest = engine.unconsumed_tail
        while not engine.eof and (part := engine.flush(_STEP)):
            parts.append(part)
    except zlib.error:
        raise UnknownEncodingError("the body is not compressed in the way that it says") from None
    if not engine.eof or engine.unused_data:
        # What follows the first member some readers take for part of the body, and others don't.
        raise UnknownEncodingError("the compressed body is cut off, or something follows it")
    return b"".join(parts)
