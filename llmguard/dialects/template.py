"""Events of a stream that differ from one before in a piece of text alone: read without being parsed again.

Nearly every event of a stream is one. Once an event was parsed, checked and read, the bytes before and behind its piece
say how the next event is read that has the same ones: JSON knows no context, so where nothing but one string stands
between them the two parsed values differ in that string alone; and what a dialect reads from an event does not
depend on what a plain piece says.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from llmguard.dialects import edit, pointer
from llmguard.dialects.framing_raw import Raw
from llmguard.dialects.wire import Delta, Event
from llmguard.errors import DialectError

_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*+')
#: Bytes of an event that is worth being remembered; those of streams have some hundreds.
_LONGEST = 1 << 14
_STRING = re.compile(rb'(?:[^"\\\x00-\x1f]|\\.)*+')


@dataclass(frozen=True, slots=True)
class Template:
    """An event that others may be like.

    Attributes:
        raw: the event as it came.
        event: what it says: a piece of a text, and nothing else that counts.
        delta: that piece.
        before: the bytes up to the piece's string, with its opening quote.
        behind: those from its closing quote on.
        said: the first three.
    """

    raw: Raw = field(repr=False)
    event: Event = field(repr=False)
    delta: Delta
    before: bytes = field(repr=False)
    behind: bytes = field(repr=False)
    said: tuple[Raw, Event, Delta] = field(repr=False)

    @property
    def name(self) -> str:
        """The event's name."""
        return self.raw.frame.name if self.raw.frame is not None else ""

    def text(self, data: bytes) -> str | None:
        """The piece in an event that is like this one but for it; None where the event is another one.

        An empty piece is left to the parser: in some formats it is none.

        Args:
            data: all bytes of one event.
        """
        start, end = len(self.before), len(data) - len(self.behind)
        if end <= start or not data.startswith(self.before) or not data.endswith(self.behind):
            return None
        string = data[start:end]
        try:
            if _PLAIN.fullmatch(string) is not None:
                return string.decode()
            if _STRING.fullmatch(string) is not None:
                said: str = json.loads(f'"{string.decode()}"')
                return said
        except ValueError:
            pass  # who parses it says what is wrong with it
        return None

    def saying(self, text: str) -> bytes:
        """The event with another piece."""
        return self.before + edit.quote(text)[1:-1] + self.behind

    def payload(self, data: bytes) -> bytes:
        """The payload of an event that is like this one."""
        raw = self.raw
        return data[raw.at : len(data) - (len(raw.raw) - raw.at - len(raw.payload))]


def template(raw: Raw, event: Event) -> Template | None:
    """What others may be like; None where an event says more than one plain piece of a text.

    Args:
        raw: the event as it came, of a framing that has its payload as it is.
        event: what it says.
    """
    if raw.at < 0 or raw.payload[:1] != b"{" or len(event.deltas) != 1 or len(raw.raw) > _LONGEST:
        return None
    if event.repeats or event.parts or event.ends or event.uncovered or event.spoken or event.numbered is not None:
        return None
    if event.finish or event.usage is not None or event.error or event.last:
        return None
    (delta,) = event.deltas
    if delta.json or "#" in delta.path or delta.path.endswith(pointer.KEY):
        return None
    try:
        start, end = edit.place(raw.payload, delta.path)
    except DialectError:
        return None
    before, behind = raw.raw[: raw.at + start + 1], raw.raw[raw.at + end - 1 :]
    return Template(raw, event, delta, before, behind, (raw, event, delta))
