"""Disguises of a text: encodings, look-alike letters, spacing. Each is reversible by a reader who knows it."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable
from random import Random
from urllib.parse import quote

_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_LOOKALIKE = str.maketrans("aceiopxyACEHKMOPTX", "асеіорхуАСЕНКМОРТХ")


def _zero_width(text: str, rng: Random) -> str:
    return "".join(c + rng.choice(["", "", "\u200b", "\u200c"]) for c in text)


def _lookalike(text: str, rng: Random) -> str:
    return "".join(c.translate(_LOOKALIKE) if rng.random() < 0.5 else c for c in text)


ENCODINGS: dict[str, Callable[[str, Random], str]] = {
    "base64": lambda text, _: base64.b64encode(text.encode()).decode(),
    "hex": lambda text, rng: text.encode().hex(rng.choice([" ", ":"])) if rng.random() < 0.5 else text.encode().hex(),
    "rot13": lambda text, _: codecs.encode(text, "rot13"),
    "percent": lambda text, _: quote(text, safe=""),
    "reversed": lambda text, _: text[::-1],
    "leet": lambda text, _: text.translate(_LEET),
    "spaced": lambda text, rng: rng.choice([" ", "-", "."]).join(text),
    "homoglyph": _lookalike,
    "zero_width": _zero_width,
    "fullwidth": lambda text, _: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
}
READABLE = ("leet", "spaced", "homoglyph", "zero_width", "fullwidth")  # a reader sees through these without being told
OPAQUE = tuple(name for name in ENCODINGS if name not in READABLE)


def scruff(text: str, rng: Random) -> str:
    """Write as people do in a hurry: case, full stops and single letters go astray; most texts stay as they are."""
    draw = rng.random()
    if draw < 0.72:
        return text
    if draw < 0.82:
        return text.lower()
    if draw < 0.86:
        return text.upper()
    if draw < 0.92:
        return text.rstrip(".!?")
    letters = list(text)
    for _ in range(1 + len(letters) // 60):
        spot = rng.randrange(len(letters))
        if letters[spot].isalpha():
            letters[spot] = rng.choice(["", letters[spot] * 2, rng.choice("aeinrst")])
    return "".join(letters)
