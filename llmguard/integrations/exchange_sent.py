"""What went out of a stream, as far as an ending of our own must know it: little, however long the stream is."""

from __future__ import annotations

from llmguard.dialects import pointer, strict
from llmguard.dialects.template import Template
from llmguard.dialects.wire import Event, Frame, Json
from llmguard.errors import DialectError

# Longer strings are texts; ids, names and types are shorter.
_WORD = 128
#: Events that are remembered; the oldest but the first ones go.
LIMIT = 256
_FIRST = 4


class Sent:
    """The events that began something, ended something or stand alone, each kind once, and the latest one.

    Of events that differ in their texts and counts alone, as keep-alives and reports of progress do, the latest is
    kept; of those that say a further piece of a text, none but the latest. The pieces themselves are left out.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Frame] = {}
        self._channels: set[str] = set()
        self._latest: tuple[bytes | Frame, str, list[str]] | tuple[Template, bytes] | None = None

    def add(self, payload: bytes, frame: Frame, event: Event, *, changed: bool) -> None:
        """Take an event.

        Args:
            payload: as it went out.
            frame: as it came.
            event: what it says.
            changed: whether it went out otherwise than it came.
        """
        new = [delta.channel for delta in event.deltas if delta.channel not in self._channels]
        places = [delta.path for delta in event.deltas]
        if places and not (new or event.ends or event.finish or event.error or event.last):
            self._latest = payload, frame.name, places
            return
        self._channels.update(new)
        self._latest = None
        self._keep(Frame(_without(_parsed(payload) if changed else frame.data, places), frame.name))

    def more(self, like: Template, data: bytes) -> None:
        """Take an event that is like one that was taken, but for a piece of text.

        Args:
            like: that one.
            data: all bytes of the event, as it went out.
        """
        self._latest = like, data

    def latest(self, frame: Frame, places: list[str]) -> None:
        """Take an event of our own that goes on with a text, and where its piece stands."""
        self._latest = frame, frame.name, places

    def frames(self) -> list[Frame]:
        """Them, in their order."""
        kept = list(self._kept.values())
        if self._latest is None:
            return kept
        if len(self._latest) == 2:
            like, raw = self._latest
            self._latest = like.payload(raw), like.name, [like.delta.path]
        said, name, places = self._latest
        data = said.data if isinstance(said, Frame) else _parsed(said)
        return [*kept, Frame(_without(data, places), name)]

    def __len__(self) -> int:
        return len(self._kept)

    def _keep(self, frame: Frame) -> None:
        kind = f"{frame.name}\0{_shape(frame.data)}"
        self._kept.pop(kind, None)
        self._kept[kind] = frame
        if len(self._kept) > LIMIT:
            del self._kept[list(self._kept)[_FIRST]]


def _parsed(payload: bytes) -> Json:
    try:
        return strict.parse(payload, surrogates=True)
    except DialectError:
        return payload.decode("utf-8", "replace")  # no JSON, as ``[DONE]``


def _without(data: Json, places: list[str]) -> Json:
    """A copy without the texts at some places, and without other strings that are long."""
    copy = _trimmed(data)
    for place in places:
        *above, key = pointer.tokens(place)
        holder = copy
        for token in above:
            holder = holder[int(token) if isinstance(holder, list) else token]
        holder[int(key) if isinstance(holder, list) else key] = ""
    return copy


def _trimmed(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _trimmed(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_trimmed(member) for member in value]
    return "" if isinstance(value, str) and len(value) > _WORD else value


def _shape(value: Json, key: str = "") -> str:
    """What tells an event from others: words, and numbers that say which; not texts, counts and times."""
    if isinstance(value, dict):
        return f"{{{','.join([f'{name}:{_shape(member, name)}' for name, member in value.items()])}}}"
    if isinstance(value, list):
        return f"[{','.join([_shape(member, key) for member in value])}]"
    if isinstance(value, str):
        return value if len(value) <= _WORD and value.isprintable() and " " not in value else "''"
    counts = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "0" if counts and not key.lower().endswith(("index", "id")) else repr(value)
