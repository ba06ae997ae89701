"""One JSON array that grows: Gemini's streams without ``alt=sse``.

Every member is an object, and a piece is the comma before it, the space around that, and the member, so that it goes
out as soon as its last brace has come. The brackets are pieces of their own.
"""

from __future__ import annotations

import re
from typing import Literal

from llmguard.dialects.framing_raw import LIMIT, Raw, check_payload, printed, read, too_long
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError

_SPACE = re.compile(rb"[ \t\r\n]*+")
_INSIDE = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_PASSED = re.compile(rb'(?:[^"{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
_Next = Literal["[", "first", "comma", "member", "end"]


class ArrayDecoder:
    """Takes a growing array apart.

    Args:
        limit: bytes of one member.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()
        self._at = 0
        self._next: _Next = "["
        self._member = 0
        self._depth = 0
        self._quoted = False
        self._lost: DialectError | None = None

    def feed(self, data: bytes) -> list[Raw]:
        """The members that have become whole, and the brackets."""
        if self._lost is not None:
            return [Raw(bytes(data), error=self._lost, incomplete=True)] if data else []
        held = self._held
        held += data
        raws: list[Raw] = []
        start = 0
        while self._lost is None and (self._within() if self._depth else self._between()):
            if self._at - start > self._limit:
                break
            piece = bytes(held[start : self._at])
            raws.append(self._piece(piece, self._member - start))
            start = self._at
        del held[:start]
        self._at -= start
        self._member -= start
        if max(self._at, 0 if self._lost else len(held)) > self._limit:
            self._lost = too_long(self._limit)  # also where something else is wrong behind the limit
        return raws if self._lost is None else raws + self._rest(self._lost)

    def close(self) -> list[Raw]:
        """What is behind the last member; incomplete unless the array was closed."""
        if self._lost is not None:
            return []
        return self._rest(None) if self._next != "end" else []

    def _between(self) -> bool:
        """Goes on to the end of a piece outside of members, or into the next member."""
        held = self._held
        while True:
            begin = self._at
            self._at = _end(_SPACE, held, begin)
            if self._at == len(held):
                return self._next == "end" and bool(held) and self._at > begin
            byte = chr(held[self._at])
            if byte == "[" and self._next == "[":
                self._at += 1
                self._next = "first"
                return True
            if byte == "]" and self._next in ("first", "comma"):
                self._at += 1
                self._next = "end"
                return True
            if byte == "," and self._next == "comma":
                self._at += 1
                self._next = "member"
            elif byte == "{" and self._next in ("first", "member"):
                self._member = self._at
                self._at += 1
                self._depth = 1
                return self._within()
            else:
                self._lost = DialectError("the stream is no array of objects")
                return False

    def _within(self) -> bool:
        """Goes on to the end of the member; strings are passed over as a whole where they are whole."""
        held = self._held
        while self._at < len(held):
            if self._quoted:
                self._at = _end(_INSIDE, held, self._at)
                if self._at == len(held) or held[self._at] != ord('"'):
                    return False
                self._quoted = False
                self._at += 1
            self._at = _end(_PASSED, held, self._at)
            if self._at == len(held):
                return False
            byte = held[self._at]
            self._at += 1
            if byte == ord('"'):
                self._quoted = True
            else:
                self._depth += 1 if byte == ord("{") else -1
                if not self._depth:
                    self._next = "comma"
                    return True
        return False

    def _piece(self, raw: bytes, at: int) -> Raw:
        if not raw.endswith(b"}"):
            return Raw(raw)
        payload = raw[at:]
        frame, error = read(payload, "")
        return Raw(raw, frame, payload, at, error)

    def _rest(self, error: DialectError | None) -> list[Raw]:
        rest = bytes(self._held)
        self._held.clear()
        return [Raw(rest, error=error, incomplete=True)]


class ArrayEncoder:
    """Writes a growing array; members may be left out, added and changed, and it stays one.

    The closing bracket waits for `end`, so that members may still be added.
    """

    def __init__(self) -> None:
        self._open = False
        self._members = False
        self._end = b""

    def kept(self, raw: Raw) -> bytes:
        """The piece as it came, but for a comma that has become right or wrong."""
        if raw.at >= 0:
            return self._before(raw) + raw.raw[raw.at :]
        if raw.incomplete or raw.error is not None:
            return raw.raw
        if self._end or raw.raw.endswith(b"]"):
            self._end += raw.raw
            return b""
        if raw.raw.endswith(b"["):
            self._open = True
        return raw.raw

    def rewritten(self, raw: Raw, data: bytes) -> bytes:
        """The member with another value; the comma and the space before it stay."""
        check_payload(raw)
        return self._before(raw) + data

    def encode(self, frame: Frame) -> bytes:
        """A member of our own; it has no name."""
        opening = b"" if self._open else b"["
        comma = b",\r\n" if self._members else b""
        self._open = self._members = True
        return opening + comma + printed(frame.data)

    def end(self) -> bytes:
        """The closing bracket, as it came where it came."""
        opening = b"" if self._open else b"["
        closing = self._end or b"]"
        self._open, self._end = True, b""
        return opening + closing

    def _before(self, raw: Raw) -> bytes:
        opening = b"" if self._open else b"["
        before = raw.raw[: raw.at]
        if self._members and b"," not in before:
            before = b"," + before
        elif not self._members:
            before = before.replace(b",", b"")
        self._open = self._members = True
        return opening + before


def _end(pattern: re.Pattern[bytes], data: bytearray, at: int) -> int:
    """Where the match ends; the patterns here match anywhere, if only nothing."""
    found = pattern.match(data, at)
    return at if found is None else found.end()
