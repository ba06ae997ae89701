"""What a text says once disguises are taken off: the normalised view, with the way back.

A view is a second reading of a text. Detectors scan ``view.content`` and report
``view.original(start, end)``, the smallest span of the original that covers what they saw.
All of it is linear in the text. ``decoding.py`` makes the views of encoded text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from bisect import bisect_right
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CONTROLS = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
"""C0 and C1 control characters that are no white space, as the inside of a character class."""

MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u3099\u309a\ufe20-\ufe2f"
"""Combining marks that stack on any base letter, as the inside of a character class."""

INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Code points that show nothing: Unicode's Default_Ignorable_Code_Point and the annotation marks."""

_CONTROL_BYTES = bytes([*range(9), *range(14, 32), 127])
_DROPPED = re.compile(f"[{CONTROLS}{INVISIBLE}]")
_OTHER = re.compile("[^\t-\r -~]")
_PRINTABLE = bytes([*range(9, 14), *range(32, 127)])
_FEW = 12
SPARSE = 1024
"""Characters for each change, from which on a text has few: what lies far from them is not read again."""
_TYPOGRAPHY = frozenset("‐‑–—‘’‚“”„‹›«»…•·©®™°€£§")
_MARK = re.compile(f"[{MARKS}]")
_STACK = re.compile(f"[^{MARKS}]?[{MARKS}]+", re.DOTALL)
_SPACES = {0x85: "\n", 0x2028: "\n", 0x2029: "\n", 0x2800: " "}

Edit = tuple[int, int, int]
"""Start and end in the text before, and the length of what stands there after."""


class Edits:
    """Maps offsets of an edited text back: parts replaced by something of another length, in order."""

    __slots__ = ("_new_ends", "_new_starts", "_old_ends", "_old_starts")

    def __init__(self, edits: list[Edit]) -> None:
        self._new_starts: list[int] = []
        self._new_ends: list[int] = []
        self._old_starts = [start for start, _, _ in edits]
        self._old_ends = [end for _, end, _ in edits]
        shift = 0
        for start, end, length in edits:
            self._new_starts.append(start + shift)
            self._new_ends.append(start + shift + length)
            shift += length - (end - start)

    def _char(self, position: int) -> tuple[int, int]:
        """The span that one character of the edited text comes from."""
        index = bisect_right(self._new_starts, position) - 1
        if index < 0:
            return position, position + 1
        if position < self._new_ends[index]:
            return self._old_starts[index], self._old_ends[index]
        old = self._old_ends[index] + position - self._new_ends[index]
        return old, old + 1

    def after(self, position: int) -> int:
        """Where an offset of the text before lies in the text after; inside an edit, where that begins."""
        index = bisect_right(self._old_starts, position) - 1
        if index < 0:
            return position
        if position < self._old_ends[index]:
            return self._new_starts[index]
        return self._new_ends[index] + position - self._old_ends[index]

    def spans(self) -> list[tuple[int, int]]:
        """What the edits wrote, in the text after."""
        return list(zip(self._new_starts, self._new_ends, strict=True))

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the text before that ``[start, end)`` of the text after comes from."""
        if start < end:
            return self._char(start)[0], self._char(end - 1)[1]
        before = self._char(start - 1)[1] if start else 0
        return before, before


class View:
    """A second reading of a text.

    Attributes:
        name: ``normalised``, or the encodings that were undone, joined by ``+`` (``base64+percent``).
        content: the reading.
        changed: the parts of it that show that something was hidden, in order, where they are few; None for all of it.
    """

    __slots__ = ("_steps", "changed", "content", "name")

    def __init__(
        self,
        name: str,
        content: str,
        steps: Callable[[], tuple[Edits, ...]] = tuple,
        changed: list[tuple[int, int]] | None = None,
    ) -> None:
        self.name = name
        self.content = content
        self.changed = changed
        self._steps: Callable[[], tuple[Edits, ...]] | tuple[Edits, ...] = steps

    def __repr__(self) -> str:
        return f"View({self.name!r}, {len(self.content)} characters)"

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The smallest half-open span of the original that covers ``content[start:end]``.

        Args:
            start: code points into ``content``.
            end: exclusive; an empty span maps to an empty span.
        """
        if callable(self._steps):
            self._steps = self._steps()
        for edits in reversed(self._steps):
            start, end = edits.original(start, end)
        return start, end


@cache
def confusables() -> dict[str, str]:
    """Characters that look like an ASCII character, and which; see data/README.md for the source."""
    path = resources.files("llmguard.detectors") / "data" / "confusables.json"
    table: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return {char: target for target, chars in table.items() for char in chars}


class _Skeletons(dict[int, str]):
    """For ``str.translate``: what a character is read as, worked out when first met.

    At most 2**17 entries are kept, so that hostile text cannot grow it without bound.
    """

    def __missing__(self, point: int) -> str:
        char = chr(point)
        skeleton = char if 0xD800 <= point < 0xE000 else _skeleton(char)
        if point < 0x20000 or skeleton != char:
            self[point] = skeleton
        return skeleton


def _skeleton(char: str) -> str:
    if char in "\t\n\v\f\r" or " " <= char <= "~":
        return char
    if ord(char) in _SPACES:
        return _SPACES[ord(char)]
    if _DROPPED.match(char):
        return ""
    compatible = unicodedata.normalize("NFKC", char)
    if not compatible.isascii():
        compatible = confusables().get(char) or compatible
    if compatible == char:
        return char
    return "".join(map(_skeleton, compatible))


_SKELETONS = _Skeletons()


class _Stacks(dict[str, str]):
    """What a base with its marks is read as: composed into one character; marks that don't compose are dropped.

    More than two marks on a base are stuffing: no alphabet that composes needs a third. At most 2**14 entries are kept.
    """

    def __missing__(self, stack: str) -> str:
        base = "" if _MARK.match(stack) else stack[0]
        plain = base
        if base and len(stack) <= 3:
            composed = unicodedata.normalize("NFC", stack)
            skeleton = _skeleton(composed) if len(composed) == 1 else ""
            plain = skeleton if len(skeleton) == 1 else base
            if len(self) < 1 << 14:
                self[stack] = plain
        return plain


_STACKS = _Stacks()


def _unstack(match: re.Match[str]) -> str:
    return _STACKS[match[0]]


def has_controls(content: str) -> bool:
    """Whether an ASCII text holds control characters other than white space; 1 ns a character."""
    return len(content.encode().translate(None, _CONTROL_BYTES)) != len(content)


def _odd_bytes(content: str) -> bytes:
    """UTF-8 of a text without printable ASCII and ASCII white space."""
    return content.encode("utf-8", "surrogatepass").translate(None, _PRINTABLE)


def odd_ones(content: str) -> set[str]:
    """The different characters of a text that are neither printable ASCII nor ASCII white space; 2 ns a character."""
    return set(_odd_bytes(content).decode("utf-8", "surrogatepass"))


def _odd_places(content: str) -> list[int]:
    """Where the odd ones stand; a few different ones are quicker looked for one by one."""
    odd = odd_ones(content)
    if len(odd) > _FEW:
        return [match.start() for match in _OTHER.finditer(content)]
    places: list[int] = []
    for char in odd:
        at = content.find(char)
        while at >= 0:
            places.append(at)
            at = content.find(char, at + 1)
    return sorted(places)


def is_plain(content: str) -> bool:
    """Whether nothing in a text can disguise a word: beside ASCII it has but typography and what stands for itself."""
    return all(
        char in _TYPOGRAPHY or (_SKELETONS[ord(char)] == char and not _MARK.match(char)) for char in odd_ones(content)
    )


def normalised(content: str) -> View:
    """The text as a reader sees it, in plain letters.

    NFKC character by character, homoglyphs to ASCII by Unicode's confusables (UTS 39), invisible, bidirectional,
    tag and control characters removed, and stacked combining marks reduced. Whole words of another
    script are mapped too where their letters look Latin: scan the text itself beside it.
    Printable ASCII is its own normalised view.
    """
    if content.isascii() and not has_controls(content):
        return View("normalised", content)
    single = _single(content)
    reading = single if single.isascii() or not _MARK.search(single) else _STACK.sub(_unstack, single)
    odd = _odd_bytes(content)
    if len(odd) * SPARSE > len(content):
        return View("normalised", reading, lambda: _normal_steps(content, single))
    steps = _normal_steps(content, single)
    first, second = steps
    changed = [(second.after(first.after(at)), second.after(first.after(at + 1))) for at in _odd_places(content)]
    return View("normalised", reading, lambda: steps, changed)


def _single(content: str) -> str:
    """Each character as its skeleton. A few different odd ones, as in most prose, are quicker replaced one by one."""
    odd = odd_ones(content)
    if len(odd) > _FEW:
        return content.translate(_SKELETONS)
    for char in odd:
        content = content.replace(char, _SKELETONS[ord(char)])
    return content


def _normal_steps(content: str, single: str) -> tuple[Edits, ...]:
    first = [(at, at + 1, len(new)) for at in _odd_places(content) if len(new := _SKELETONS[ord(content[at])]) != 1]
    stacks = () if single.isascii() else _STACK.finditer(single)
    second = [(match.start(), match.end(), len(_unstack(match))) for match in stacks]
    return Edits(first), Edits(second)
