"""What every framing of a stream has in common: bytes come in, cut anywhere, and go out in pieces of one event each.

Nothing is lost on the way: put together, the pieces are the input, byte for byte, whatever is wrong with it. A decoder
does no I/O and never raises for what it reads: a piece says what is wrong with it, and the caller decides.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmguard.dialects import strict
from llmguard.dialects.wire import Frame, Json
from llmguard.errors import DialectError

if TYPE_CHECKING:
    from llmguard.dialects.template import Template

#: Bytes of one event; the longest of providers hold an image in base64.
LIMIT = 16 * 1024 * 1024


class Raw(NamedTuple):
    """A piece of a stream: one event, or what stands between events.

    Attributes:
        raw: its bytes, separators included.
        frame: the event that it says; None where it carries no payload (comments, keep-alives, blank lines, brackets)
            or is no event as a whole.
        payload: the bytes of the event's data, for `edit.rewrite`.
        at: where the payload begins in ``raw``; -1 where it is not one piece of it.
        error: why this is nothing that all readers read alike, so that it must not go out unless the caller knows
            better; then ``frame`` is None.
        incomplete: whether the stream ended, or its framing was lost, within this piece. Readers may still take it for
            an event.
        like: what this event is like, and its piece of text, where it was not parsed; then ``frame`` is None, and
            ``payload`` is empty.
    """

    raw: bytes
    frame: Frame | None = None
    payload: bytes = b""
    at: int = -1
    error: DialectError | None = None
    incomplete: bool = False
    like: tuple[Template, str] | None = None

    def __repr__(self) -> str:
        return f"Raw({len(self.raw)} bytes, frame={self.frame!r}, error={self.error!r}, incomplete={self.incomplete})"


class Decoder(Protocol):
    """Reads one stream. Memory is bounded by the limit of an event and what is fed at once; time is linear."""

    def feed(self, data: bytes) -> list[Raw]:
        """What has become whole with these bytes.

        Once the framing is lost (an event beyond the limit, a wrong checksum), all that follows is handed out as it
        comes, with the same error.
        """
        ...

    def close(self) -> list[Raw]:
        """The rest, when the stream has ended; nothing may be fed afterwards."""
        ...


class Encoder(Protocol):
    """Writes one stream: all that goes out passes through it, in order."""

    def kept(self, raw: Raw) -> bytes:
        """A piece as it came."""
        ...

    def rewritten(self, raw: Raw, data: bytes) -> bytes:
        """An event with another payload, and all else of it as it came.

        Raises:
            DialectError: it carries no payload, or the framing can't carry the new one.
        """
        ...

    def encode(self, frame: Frame) -> bytes:
        """An event of our own.

        Raises:
            DialectError: the framing can't carry its name.
        """
        ...

    def end(self) -> bytes:
        """What is still to be written when nothing follows."""
        ...


def read(payload: bytes, name: str) -> tuple[Frame | None, DialectError | None]:
    """The event of a payload that must be JSON, or why it is none."""
    try:
        return Frame(strict.parse(payload), name), None
    except DialectError as error:
        problem = str(error)
    return None, DialectError(problem)  # a new one: the other's traceback holds the payload


def printed(data: Json) -> bytes:
    """JSON in ASCII alone, on one line for all who split lines, or a plain string as it is."""
    if isinstance(data, str):
        return data.encode("utf-8", "replace")
    return json.dumps(data, separators=(",", ":")).encode()


def spliced(raw: Raw, data: bytes) -> bytes:
    """The piece with other bytes in place of its payload, which is one piece of it."""
    return raw.raw[: raw.at] + data + raw.raw[raw.at + len(raw.payload) :]


def check_payload(raw: Raw) -> None:
    """Raises DialectError where there is nothing that could be rewritten."""
    if raw.frame is None:
        raise DialectError("a piece of the stream that is no event can't be rewritten")


def too_long(limit: int) -> DialectError:
    """The error for an event beyond the limit."""
    return DialectError(f"an event of the stream is longer than {limit} bytes")
