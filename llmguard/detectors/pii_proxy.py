r"""One ASCII byte for every code point, so that RE2 can speak for Python's Unicode patterns.

RE2's ``\b``, ``\d``, ``\s`` and ``\w`` know ASCII alone, and its offsets into UTF-8 are bytes. Presidio's
patterns run in the ``regex`` module, where these classes are Unicode's. The proxy of a text has one
byte for each code point: ASCII stays as it is, any other code point becomes an ASCII character of
the same kind. So offsets agree, ``\b`` is exact, and a class of a pattern only has to take in the
proxies of its members to over-approximate (``pii_translate`` does that).
"""

from __future__ import annotations

import functools
import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt

WORD = "_"
SPACE = " "
OTHER = "\x7f"

FOLDED = {"\u017f": "s", "\u212a": "k", "\u0130": "i", "\u0131": "i"}
"""The code points outside ASCII that match an ASCII letter when case is ignored, and that letter."""

RARE = {**FOLDED, **{chr(0x660 + value): str(value) for value in range(10)}}
"""Code points whose proxy is not of their kind alone: a class may take one and not the other."""

PROBES = {
    **{chr(code): chr(code) for code in range(128)},
    "\u00e9": WORD,
    "\u4e2d": WORD,
    "\u00a0": SPACE,
    "\u2028": SPACE,
    "\u20ac": OTHER,
    "\u00ad": OTHER,
}
"""One code point for each other kind that a class can tell apart, and its proxy."""

_RARE_BIT = np.uint8(0x80)
_SURROGATES = range(0xD800, 0xE000)


@functools.cache
def _table() -> npt.NDArray[np.uint8]:
    """The proxy of each of the 0x110000 code points; the kinds are those of the ``regex`` module itself."""
    import regex

    everything = "".join("\ufffd" if code in _SURROGATES else chr(code) for code in range(0x110000))
    table = np.full(0x110000, ord(OTHER), dtype=np.uint8)
    for pattern, proxy in ((r"\w+", WORD), (r"\s+", SPACE)):
        for match in regex.finditer(pattern, everything):
            table[match.start() : match.end()] = ord(proxy)
    for match in regex.finditer(r"\d", everything):
        table[match.start()] = ord(str(unicodedata.decimal(match.group(), 0))) | _RARE_BIT
    for char, proxy in FOLDED.items():
        table[ord(char)] = ord(proxy) | _RARE_BIT
    table[:128] = np.arange(128, dtype=np.uint8)
    return table


def prepare() -> None:
    """Build the table now (some 0.3 s, once in a process) rather than at the first text that needs it."""
    _table()


def proxy(text: str) -> tuple[bytes, bool]:
    """The proxy of ``text``, and whether there is one of the ``RARE`` kinds in it.

    Args:
        text: any string; lone surrogates count as ``OTHER``.

    Returns:
        As many bytes as the text has code points, all of them ASCII; and the truth value.
    """
    if text.isascii():
        return text.encode(), False
    codes: npt.NDArray[Any] = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    marked = _table()[codes]
    rare = bool((marked & _RARE_BIT).any())
    return (marked & ~_RARE_BIT if rare else marked).tobytes(), rare
