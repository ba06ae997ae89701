"""Amazon's event stream: binary messages with typed headers and two checksums, as Bedrock streams them.

A message is its length and its headers' length (four bytes each, the highest first), the CRC-32 of these eight bytes,
the headers, the payload, and the CRC-32 of all before. A wrong length or checksum loses the framing.

An event's name is its ``:event-type``, an exception's its ``:exception-type``. A message of the type ``error`` says its
text in a header: its name is the ``:error-code``, its data ``{"message": …}``, and a rewritten one says the new text
there.

Follows https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from llmguard.dialects import strict
from llmguard.dialects.framing_raw import LIMIT, Raw, check_payload, printed, read, too_long
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError

_PRELUDE = struct.Struct(">II")
_WORD = struct.Struct(">I")
_SHORT = struct.Struct(">H")
_AROUND = 16  # both lengths and both checksums
_MAX_HEADERS = 128 * 1024
_BYTES, _STRING = 6, 7
_SIZES = {
    0: 0,
    1: 0,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    8: 8,
    9: 16,
}  # bytes of a value by its type: booleans, integers, time, UUID
_TYPES = {"event": ":event-type", "exception": ":exception-type", "error": ":error-code"}


class AwsDecoder:
    """Takes a stream of messages apart.

    Args:
        limit: bytes of one message.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()
        self._lost: DialectError | None = None

    def feed(self, data: bytes) -> list[Raw]:
        """The messages that have become whole."""
        if self._lost is not None:
            return [Raw(bytes(data), error=self._lost, incomplete=True)] if data else []
        held = self._held
        held += data
        raws: list[Raw] = []
        start = 0
        while self._lost is None and len(held) - start >= 12:
            length = self._length(bytes(held[start : start + 12]))
            if self._lost is not None or len(held) - start < length:
                break
            message = bytes(held[start : start + length])
            if zlib.crc32(message[:-4]) != _WORD.unpack(message[-4:])[0]:
                self._lost = DialectError("the checksum of a message is wrong")
                break
            raws.append(_piece(message))
            start += length
        del held[:start]
        return raws if self._lost is None else raws + self._rest(self._lost)

    def close(self) -> list[Raw]:
        """A message that was cut off."""
        return self._rest(None)

    def _length(self, prelude: bytes) -> int:
        """The length of the message that begins so; its framing is lost where it can't be."""
        length, headers = _PRELUDE.unpack_from(prelude)
        if zlib.crc32(prelude[:8]) != _WORD.unpack_from(prelude, 8)[0]:
            self._lost = DialectError("the checksum of a message's lengths is wrong")
        elif headers > _MAX_HEADERS or headers + _AROUND > length:
            self._lost = DialectError("the lengths of a message and of its headers don't fit together")
        elif length > self._limit:
            self._lost = too_long(self._limit)
        return int(length)

    def _rest(self, error: DialectError | None) -> list[Raw]:
        rest = bytes(self._held)
        self._held.clear()
        return [Raw(rest, error=error, incomplete=True)] if rest else []


class AwsEncoder:
    """Writes a stream of messages."""

    def kept(self, raw: Raw) -> bytes:
        """The message as it came."""
        return raw.raw

    def rewritten(self, raw: Raw, data: bytes) -> bytes:
        """The message with another payload and its headers as they were; lengths and checksums are computed anew."""
        check_payload(raw)
        size = _PRELUDE.unpack_from(raw.raw)[1]
        headers = raw.raw[12 : 12 + size]
        if raw.at >= 0:
            return _message(headers, data)
        said = strict.parse(data)
        if not isinstance(said, dict) or not isinstance(said.get("message"), str):
            raise DialectError("/message: is no string")
        pieces = [
            _header(":error-message", said["message"]) if name == ":error-message" else headers[start:end]
            for name, _, start, end in _headers(headers)
        ]
        return _message(b"".join(pieces), raw.raw[12 + size : -4])

    def encode(self, frame: Frame) -> bytes:
        """An event, or an exception where the frame's name says so."""
        kind = "exception" if frame.name.endswith(("Exception", "Error")) else "event"
        said = {_TYPES[kind]: frame.name, ":content-type": "application/json", ":message-type": kind}
        return _message(b"".join([_header(*header) for header in said.items()]), printed(frame.data))

    def end(self) -> bytes:
        """Nothing: a stream of messages just stops."""
        return b""


def _piece(message: bytes) -> Raw:
    size = _PRELUDE.unpack_from(message)[1]
    payload = message[12 + size : -4]
    try:
        headers = _strings(message[12 : 12 + size])
    except DialectError as wrong:
        problem = str(wrong)
        return Raw(message, error=DialectError(problem))
    kind = headers.get(":message-type", "event")
    name = headers.get(_TYPES.get(kind, ""), "")
    if kind not in _TYPES:
        return Raw(message, error=DialectError("a message of an unknown type"))
    if kind == "error":
        if payload:
            return Raw(message, error=DialectError("an error with a payload"))
        data = {"message": headers.get(":error-message", "")}
        return Raw(message, Frame(data, name), printed(data), -1)
    if not payload:  # read as an empty object by Amazon's own clients
        return Raw(message, Frame({}, name), payload, 12 + size)
    frame, error = read(payload, name)
    return Raw(message, frame, payload, 12 + size, error)


def _strings(headers: bytes) -> dict[str, str]:
    """The headers that are strings.

    Raises:
        DialectError: they are malformed, or one stands there twice.
    """
    seen: set[str] = set()
    said: dict[str, str] = {}
    for name, value, _, _ in _headers(headers):
        if name in seen:
            raise DialectError("a header of a message stands there twice")
        seen.add(name)
        if value is not None:
            said[name] = value
    return said


def _headers(data: bytes) -> Iterator[tuple[str, str | None, int, int]]:
    """Each header's name, its value where that is a string, and where it begins and ends."""
    at = 0
    while at < len(data):
        start = at
        named = at + 1 + data[at]
        kind = data[named] if named < len(data) else -1
        at = named + 1
        if kind in (_BYTES, _STRING) and at + 2 <= len(data):
            size = _SHORT.unpack_from(data, at)[0]
            at += 2
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise DialectError("a header of a message has an unknown type or is cut off")
        if at + size > len(data):
            raise DialectError("a header of a message is cut off")
        name = _text(data[start + 1 : named])
        yield name, _text(data[at : at + size]) if kind == _STRING else None, start, at + size
        at += size


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise DialectError("a header of a message is no UTF-8")


def _header(name: str, value: str) -> bytes:
    text = value.encode("utf-8", "replace")
    if len(text) > 0x7FFF:
        raise DialectError("a header of a message would be longer than 32,767 bytes")
    called = name.encode()
    return bytes([len(called)]) + called + bytes([_STRING]) + _SHORT.pack(len(text)) + text


def _message(headers: bytes, payload: bytes) -> bytes:
    prelude = _PRELUDE.pack(_AROUND + len(headers) + len(payload), len(headers))
    message = b"".join([prelude, _WORD.pack(zlib.crc32(prelude)), headers, payload])
    return message + _WORD.pack(zlib.crc32(message))
