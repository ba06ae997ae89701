"""One spelling for what reads the same: case and width folded, with the way back to the original."""

from __future__ import annotations

import functools
import threading
import unicodedata
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: What a folded code point is to a word: nothing; a part of one; a word of its own, as in scripts
#: written without spaces; or the continuation of the letter before it.
OTHER, WORD, ALONE, EXTENDS = range(4)

#: Default_Ignorable_Code_Point of the Unicode Character Database (DerivedCoreProperties 16.0).
_IGNORED_RANGES = (
    *((0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
#: Thai and Lao, Myanmar, Khmer, Hiragana, Han: scripts that put no space between words. Katakana
#: keeps its runs together, as in UAX #29.
_SPACELESS_RANGES = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3041, 0x309F)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFD)),
)
#: Vowels and final consonants that Hangul syllables decompose into.
_JAMO = range(0x1161, 0x1200)
#: Code points that one may stand for; the few that stand for more (U+FDFA for 18, squared words) are
#: left as they are, so that no text grows more than fourfold.
MAX_EXPANSION = 4
_POINTS = 0x110000
_UNKNOWN = 0
_MANY = 1 << 24

Points = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int32]


_IGNORED = frozenset(chr(point) for first, last in _IGNORED_RANGES for point in range(first, last + 1))


def _kind(char: str) -> int:
    if ord(char) in _JAMO or unicodedata.category(char)[0] == "M":
        return EXTENDS
    if char == "_":
        return WORD
    if not char.isalnum():
        return OTHER
    point = ord(char)
    return ALONE if any(first <= point <= last for first, last in _SPACELESS_RANGES) else WORD


def joined(before: int, after: int) -> bool:
    """Whether two neighbours are of one word, by their kinds; what extends letters begins one only after no letter."""
    if before == OTHER or after == OTHER:
        return False
    return after == EXTENDS or (before != ALONE and after != ALONE)


class Folded(NamedTuple):
    """A folded text.

    Attributes:
        data: it in UTF-8.
        kinds: one byte a folded code point: ``OTHER``, ``WORD``, ``ALONE`` or ``EXTENDS``.
        starts: byte offset of each folded code point in ``data``; None when each takes one byte.
        source: index of the original code point that each folded one came from; None when it is the same.
    """

    data: bytes
    kinds: bytes
    starts: Offsets | None = None
    source: Offsets | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original code points that the folded ones in ``[start, end)`` came from, whole ones always."""
        if self.source is None:
            return start, end
        part = self.source[start:end]
        return int(part.min()), int(part.max()) + 1


class Folding:
    """The mapping ``NFD(toNFKC_Casefold(text))`` of the Unicode Standard, section 3.13, in linear time.

    Each code point is folded by itself (NFKC, case, default ignorable ones dropped, decomposed; any
    white space becomes a space), then combining marks are put in canonical order.
    ``unicodedata.normalize`` gives the same, but takes quadratic time on long runs of combining
    marks, and says nothing about offsets.

    Tables are filled as code points turn up; an instance may be used by many threads.

    Args:
        case_sensitive: whether case is left alone.
    """

    def __init__(self, *, case_sensitive: bool) -> None:
        self._case_sensitive = case_sensitive
        # Folded code point plus one; _UNKNOWN when not yet seen; _MANY plus a row of the expansions
        # when it is not exactly one.
        self._one = np.zeros(_POINTS, np.uint32)
        self._class = np.zeros(_POINTS, np.uint8)
        self._kinds = np.zeros(_POINTS, np.uint8)
        self._expansions = np.zeros((16, MAX_EXPANSION), np.uint32)
        self._lengths = np.zeros(16, np.uint8)
        self._rows = 0
        self._lock = threading.Lock()
        ascii_text = "".join(map(chr, range(128)))
        self._learn(np.arange(128, dtype=np.uint32))
        folded = (self._one[:128] - 1).astype(np.uint8).tobytes()
        self._table = folded + bytes(range(128, 256))
        self._ascii_kinds = bytes(map(_kind, ascii_text)) + bytes(128)

    def __reduce__(self) -> Any:
        return functools.partial(folding, case_sensitive=self._case_sensitive), ()

    def data(self, text: str) -> bytes:
        """The folded text in UTF-8."""
        if text.isascii():
            return text.encode().translate(self._table)
        return self._fold(text)[0].tobytes().decode("utf-32-le", "surrogatepass").encode("utf-8", "surrogatepass")

    def fold(self, text: str) -> Folded:
        """The folded text and the way back."""
        if text.isascii():
            data = text.encode().translate(self._table)
            return Folded(data, data.translate(self._ascii_kinds))
        points, source = self._fold(text)
        data = points.tobytes().decode("utf-32-le", "surrogatepass").encode("utf-8", "surrogatepass")
        widths = 1 + (points >= 0x80).astype(np.uint8) + (points >= 0x800) + (points >= 0x10000)
        return Folded(data, self._kinds[points].tobytes(), np.cumsum(widths, dtype=np.int32) - widths, source)

    def begins(self, char: str) -> bool:
        """Whether a text cut before this code point folds as it does when whole: it begins a letter, or is none."""
        if char.isascii():
            return True
        first = self._fold_one(char)[:1]
        return first != "" and _kind(first) != EXTENDS

    def _fold(self, text: str) -> tuple[Points, Offsets | None]:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        folded = self._one[points]
        if not folded.all():
            self._learn(np.unique(points[folded == _UNKNOWN]))
            folded = self._one[points]
        folded = folded - 1
        source = None
        many = folded >= _MANY
        if many.any():
            folded, source = self._expand(folded, many)
        classes = self._class[folded]
        if ((classes[:-1] > classes[1:]) & (classes[1:] > 0)).any():
            # Canonical ordering: within each letter and its marks, a stable sort by combining class.
            order = np.lexsort((classes, np.cumsum(classes == 0, dtype=np.int32))).astype(np.int32)
            folded = folded[order]
            source = order if source is None else source[order]
        return folded, source

    def _expand(self, folded: Points, many: npt.NDArray[np.bool_]) -> tuple[Points, Offsets]:
        rows = folded[many] - _MANY
        lengths = np.ones(len(folded), np.uint8)
        lengths[many] = self._lengths[rows]
        source = np.repeat(np.arange(len(folded), dtype=np.int32), lengths)
        out = folded[source]
        where = np.flatnonzero(out >= _MANY)
        begins = np.cumsum(lengths, dtype=np.int32) - lengths
        out[where] = self._expansions[out[where] - _MANY, where - begins[source[where]]]
        return out, source

    def _learn(self, points: Points) -> None:
        with self._lock:
            for point in points.tolist():
                chars = self._fold_one(chr(point))
                for char in chars:
                    self._kinds[ord(char)] = kind = _kind(char)
                    if kind == EXTENDS:
                        self._class[ord(char)] = unicodedata.combining(char)
                # The entry that readers look at is written last.
                self._one[point] = 1 + (ord(chars) if len(chars) == 1 else _MANY + self._expansion(chars))

    def _expansion(self, chars: str) -> int:
        row = self._rows
        if row == len(self._lengths):
            self._expansions = np.concatenate([self._expansions, np.zeros_like(self._expansions)])
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
        self._expansions[row, : len(chars)] = [ord(char) for char in chars]
        self._lengths[row] = len(chars)
        self._rows += 1
        return row

    def _fold_one(self, char: str) -> str:
        if char.isspace():
            return " "
        plain = unicodedata.normalize("NFKD", char)
        if not self._case_sensitive:
            plain = unicodedata.normalize("NFKD", plain.casefold())
        if len(plain) == 1:
            return "" if plain in _IGNORED else plain
        plain = "".join(part for part in plain if part not in _IGNORED)
        return plain if len(plain) <= MAX_EXPANSION else char


@functools.cache
def folding(*, case_sensitive: bool) -> Folding:
    """The one folding of a kind that all detectors share."""
    return Folding(case_sensitive=case_sensitive)
