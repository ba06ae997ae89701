r"""Server-sent events, as the WHATWG's standard reads them, and stricter where readers in the field differ from it.

Lines end in ``\n``, ``\r\n`` or ``\r``, also mixed, and an empty line ends an event. Comments and empty lines between
events are pieces of their own, so that a keep-alive goes out at once.

An error beyond the standard, because another reader could find a text where we saw none:

- a line that is no known field (in other capitals, behind a space), and so a JSON body that calls itself a stream;
- a payload that is no JSON, and holds a bracket, but ``[DONE]``;
- data of several lines of which one alone is JSON already: for clients that go line by line;
- in what is no data, a character at which some split lines (``str.splitlines`` does at U+2028).

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llmguard.dialects.framing_raw import LIMIT, Raw, check_payload, printed, read, spliced, too_long
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError

if TYPE_CHECKING:
    from llmguard.dialects.template import Template

_BOM = b"\xef\xbb\xbf"
_DONE = b"[DONE]"
_EOL = re.compile(rb"\r\n|\r|\n")
_BLANK = re.compile(rb"[\r\n](?:(?<=\r)\n)?+(?:\r\n|\r|\n)")
_LINE = re.compile(rb"([^:\r\n]*+)(?:: ?([^\r\n]*+))?+(\r\n|\r|\n)")
_ODD = re.compile(rb"[\x0b\x0c\x1c-\x1e]|\xc2\x85|\xe2\x80[\xa8\xa9]")
_KNOWN = frozenset({b"id", b"retry", b""})


class SseDecoder:
    """Takes a stream of server-sent events apart.

    Args:
        limit: bytes of one event.

    Attributes:
        like: events that have been read; one that is like one of them is not parsed.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.like: tuple[Template, ...] = ()
        self._limit = limit
        self._held = bytearray()
        self._searched = 0
        self._begun = False
        self._returns = False
        self._after_cr = False
        self._lost: DialectError | None = None

    def feed(self, data: bytes) -> list[Raw]:
        """The events that have become whole, and what stands between them."""
        if self._lost is not None:
            return [Raw(bytes(data), error=self._lost, incomplete=True)] if data else []
        held = self._held
        self._returns = self._returns or b"\r" in data
        if self._is_one(data):
            return [self._read(bytes(data))]
        held += data
        raws = [] if self._begun and not self._after_cr else self._opening()
        start = len(raws[0].raw) if raws else 0
        while start < len(held) and self._begun and 0 < self._size(start, end := self._end(start)) <= self._limit:
            raws.append(self._read(bytes(held[start:end])))
            start = end
        if start:
            self._after_cr = start == len(held) and held[-1] == 13
            del held[:start]
        # What could be the first of two line ends is looked at again, and no more than that.
        self._searched = max(0, len(held) - 2)
        if self._begun and len(held) > self._limit:
            self._lost = too_long(self._limit)
            raws += self._rest(self._lost)
        return raws

    def close(self) -> list[Raw]:
        """An event that no empty line ended; the standard's readers drop it, others don't."""
        return self._rest(None)

    def _is_one(self, data: bytes) -> bool:
        """Whether it is one whole event, as nearly every piece that a server sends is."""
        if self._held or self._returns or self._after_cr or not self._begun or data[:1] in (b"", b":", b"\n"):
            return False
        return 2 < len(data) <= self._limit and data.find(b"\n\n") == len(data) - 2

    def _read(self, data: bytes) -> Raw:
        for one in self.like:
            text = one.text(data)
            if text is not None:
                return Raw(data, like=(one, text))
        return piece(data)

    def _end(self, start: int) -> int:
        """Where the piece ends that begins at ``start``, a comment, an empty line or an event; -1 if not here yet."""
        held = self._held
        at = max(start, self._searched)
        single = held[start] in b":\r\n"
        if not self._returns:  # a plain search is ten times as fast
            mark = b"\n" if single else b"\n\n"
            where = held.find(mark, at)
            return where + len(mark) if where >= 0 else -1
        found = (_EOL if single else _BLANK).search(held, at)
        return found.end() if found is not None else -1

    def _size(self, start: int, end: int) -> int:
        r"""Bytes of a piece, without the ``\n`` of a ``\r\n`` at its end, which may come by itself; below 1: none."""
        return end - start - (self._returns and self._held[end - 2 : end] == b"\r\n")

    def _opening(self) -> list[Raw]:
        r"""A byte order mark at the very start; or the ``\n`` whose ``\r`` has already ended a line."""
        held = self._held
        if self._after_cr and held:
            self._after_cr = False
            return [Raw(b"\n")] if held[0] == 10 else []
        if self._begun or (len(held) < len(_BOM) and _BOM.startswith(held)):
            return []
        self._begun = True
        return [Raw(_BOM)] if held.startswith(_BOM) else []

    def _rest(self, error: DialectError | None) -> list[Raw]:
        rest = bytes(self._held)
        self._held.clear()
        return [Raw(rest, error=error, incomplete=True)] if rest else []


class SseEncoder:
    """Writes a stream of server-sent events."""

    def kept(self, raw: Raw) -> bytes:
        """The piece as it came."""
        return raw.raw

    def rewritten(self, raw: Raw, data: bytes) -> bytes:
        """The event with other data; its name, its id and what else it says stay."""
        check_payload(raw)
        if raw.at >= 0 and data[:1] != b" " and b"\n" not in data and b"\r" not in data:
            return spliced(raw, data)
        lines = list(_LINE.finditer(raw.raw))
        last = max([at for at, line in enumerate(lines) if line[1] == b"data"])
        pieces: list[bytes] = []
        for at, line in enumerate(lines):
            if at == last:  # not the first: its end and what then follows could make one line end out of two
                pieces += [b"data: " + text + line[3] for text in _EOL.split(data)]
            elif line[1] != b"data":
                pieces.append(line[0])
        return b"".join(pieces)

    def encode(self, frame: Frame) -> bytes:
        """An event with a name, where the frame has one, and its data."""
        name = printed(frame.name)
        if _EOL.search(name) is not None:
            raise DialectError("a line break in the name of an event")
        lines = [b"event: " + name] if name else []
        lines += [b"data: " + text for text in _EOL.split(printed(frame.data))]
        return b"\n".join([*lines, b"", b""])

    def end(self) -> bytes:
        """Nothing: a stream of events just stops."""
        return b""


def piece(raw: bytes) -> Raw:
    """What the lines up to an empty one say, or a comment or an empty line."""
    if raw[:6] == b"data: " and raw.find(b"\n") == len(raw) - 2 and b"\r" not in raw:
        return _event(raw, "", [raw[6:-2]], 6)  # nearly every event; what follows would say the same, in twice the time
    name = b""
    texts: list[bytes] = []
    at = -1
    for line in _LINE.finditer(raw):
        field, value = line[1], line[2]
        if field == b"data":
            texts.append(value or b"")
            at = line.start(2)
        elif field == b"event":
            name = value or b""
        elif field not in _KNOWN:
            return Raw(raw, error=DialectError("a line of the stream is no field of an event"))
        if value and field != b"data" and _ODD.search(value) is not None:
            return Raw(raw, error=DialectError("a line of the stream can be read as two"))
    try:
        called = name.decode()
    except UnicodeDecodeError:
        return Raw(raw, error=DialectError("the name of an event is no UTF-8"))
    return _event(raw, called, texts, at)


def _event(raw: bytes, name: str, texts: list[bytes], at: int) -> Raw:
    payload = texts[0] if len(texts) == 1 else b"\n".join(texts)
    if not payload:
        return Raw(raw)
    frame, error = _said(payload, name, texts)
    return Raw(raw, frame, payload, at if len(texts) == 1 else -1, error)


def _said(payload: bytes, name: str, texts: list[bytes]) -> tuple[Frame | None, DialectError | None]:
    """The event of a payload that is JSON, or a plain string in which no reader could find any."""
    if len(texts) > 1 and any([_is_json(text) for text in texts]):
        return None, DialectError("a line of an event's data is JSON of its own")
    if payload[:1] == b"{":
        return read(payload, name)
    if payload.strip(b" \t") == _DONE:
        return Frame(_DONE.decode(), name), None
    error = None
    if payload.lstrip(b" \t\n")[:1] != b'"':
        frame, error = read(payload, name)
        if frame is not None:
            return frame, None
    if b"{" in payload or b"[" in payload:
        return None, error or DialectError("a string with a bracket where JSON belongs")
    try:  # as it stands, a JSON string in its quotes: '"x"' is not 'x'
        return Frame(payload.decode(), name), None
    except UnicodeDecodeError as failed:
        where = failed.start
    return None, DialectError(f"no UTF-8 at byte {where}")


def _is_json(text: bytes) -> bool:
    return text.strip(b" \t")[:1] in (b"{", b"[") and read(text, "")[0] is not None
