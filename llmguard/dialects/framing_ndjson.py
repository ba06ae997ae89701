r"""JSON values, one a line (NDJSON, JSON Lines), as Ollama streams them.

A line ends in ``\n``; a ``\r`` before it belongs to the line end. A ``\r`` elsewhere is white space for some and
a line end for other readers, so such a line is an error. The last line needs no end.

Follows https://github.com/ndjson/ndjson-spec.
"""

from __future__ import annotations

from llmguard.dialects.framing_raw import LIMIT, Raw, check_payload, printed, read, spliced, too_long
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError


class NdjsonDecoder:
    """Takes a stream of lines apart.

    Args:
        limit: bytes of one line.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()
        self._lost: DialectError | None = None

    def feed(self, data: bytes) -> list[Raw]:
        """The lines that have become whole."""
        if self._lost is not None:
            return [Raw(bytes(data), error=self._lost, incomplete=True)] if data else []
        held = self._held
        searched = len(held)
        held += data
        raws: list[Raw] = []
        start = 0
        while (end := held.find(b"\n", max(start, searched)) + 1) and end - start <= self._limit:
            raws.append(_piece(bytes(held[start:end])))
            start = end
        del held[:start]
        if len(held) > self._limit:
            self._lost = too_long(self._limit)
            raws.append(Raw(bytes(held), error=self._lost, incomplete=True))
            held.clear()
        return raws

    def close(self) -> list[Raw]:
        """A last line without an end: whole if it is JSON, otherwise cut off."""
        rest = bytes(self._held)
        self._held.clear()
        if not rest:
            return []
        piece = _piece(rest)
        return [piece] if piece.error is None else [Raw(rest, error=piece.error, incomplete=True)]


class NdjsonEncoder:
    """Writes a stream of lines; the last one read may have had no end, and then gets one before another follows."""

    def __init__(self) -> None:
        self._open = False

    def kept(self, raw: Raw) -> bytes:
        """The line as it came."""
        return self._line(raw.raw)

    def rewritten(self, raw: Raw, data: bytes) -> bytes:
        """The line with another value; its end and the white space around the value stay."""
        check_payload(raw)
        if b"\n" in data or b"\r" in data:
            raise DialectError("a line break in the payload of a line")
        return self._line(spliced(raw, data))

    def encode(self, frame: Frame) -> bytes:
        """A line of our own; it has no name."""
        return self._line(printed(frame.data) + b"\n")

    def end(self) -> bytes:
        """Nothing: a stream of lines just stops."""
        return b""

    def _line(self, line: bytes) -> bytes:
        before = b"\n" if self._open and line else b""
        self._open = not line.endswith(b"\n") if line else self._open
        return before + line


def _piece(raw: bytes) -> Raw:
    line = raw[:-1].removesuffix(b"\r") if raw.endswith(b"\n") else raw
    payload = line.strip(b" \t")
    if not payload:
        return Raw(raw)
    if b"\r" in payload:
        return Raw(raw, error=DialectError("a carriage return within a line"))
    frame, error = read(payload, "")
    return Raw(raw, frame, payload, raw.index(payload), error)
