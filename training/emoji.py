"""One token for every emoji: the base knows almost none, and reads all the others as one unknown word."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_RANGES = ((0x1F1E6, 0x1F1FF), (0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x2B00, 0x2BFF))
#: Symbols that people write for letters; the tokenizer reads them as those, so that a word stays a word.
_LETTERS = {"\U0001f170": "a", "\U0001f171": "b", "\U0001f17e": "o", "\U0001f17f": "p", "\u2139": "i", "\u24c2": "m"}
_CLASS = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _RANGES) + "]"


def emoji() -> dict[str, str]:
    """Symbols by their Unicode names in lower case, skin tones and flag letters among them."""
    named = {}
    for first, last in _RANGES:
        for code in range(first, last + 1):
            name = unicodedata.name(chr(code), "")
            if name and unicodedata.category(chr(code)) in ("So", "Sk"):
                named[chr(code)] = name.lower()
    return named


def widened(tokenizer: str) -> tuple[str, Mapping[int, Sequence[str]]]:
    """A tokenizer whose vocabulary has all emoji, each split from its neighbours.

    Args:
        tokenizer: a WordPiece tokenizer.json.

    Returns:
        the new tokenizer.json, and for each new token the words of its Unicode name, which begin its embedding.
    """
    made: dict[str, Any] = json.loads(tokenizer)
    vocabulary: dict[str, int] = made["model"]["vocab"]
    words: dict[int, Sequence[str]] = {}
    for char, name in emoji().items():
        if char not in vocabulary:
            vocabulary[char] = len(vocabulary)
            words[vocabulary[char]] = name.replace("-", " ").split()
    replaced = [{"type": "Replace", "pattern": {"String": char}, "content": to} for char, to in _LETTERS.items()]
    made["normalizer"] = {"type": "Sequence", "normalizers": [*replaced, made["normalizer"]]}
    split = {"type": "Split", "pattern": {"Regex": _CLASS}, "behavior": "Isolated", "invert": False}
    made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, made["pre_tokenizer"]]}
    made["truncation"] = made["padding"] = None
    return json.dumps(made, ensure_ascii=False), words
