"""Characters that turn the direction of a text.

References: CVE-2021-42574 (Trojan Source), Unicode UAX 9 (bidirectional algorithm).
"""

from __future__ import annotations

import re

from llmguard.types import Finding

BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Direction marks, embeddings, overrides, isolates and what closes them, as the inside of a character class."""

RTL = "\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
"""Right-to-left letters, as the inside of a character class."""

OVERRIDES = frozenset("\u202d\u202e")

_EMBEDDING_OR_LINE = re.compile("[\u202a-\u202e\u2066-\u2069]|[\n\u2029]")
_EMBEDDING = re.compile("[\u202a-\u202e\u2066-\u2069]")


def judge(hit: re.Match[str], rtl: bool, unbalanced: frozenset[int]) -> Finding | None:
    """The finding about one of these characters.

    Args:
        hit: one of ``BIDI``.
        rtl: whether right-to-left letters stand near it.
        unbalanced: see `unbalanced`.
    """
    char = hit[0]
    if char in OVERRIDES:
        return Finding("BIDI_CONTROL", 0.95, hit.span(), reasons=("text direction overridden", "CVE-2021-42574"))
    if hit.start() in unbalanced and (rtl or char in "\u202b\u2067"):
        return Finding("BIDI_CONTROL", 0.9, hit.span(), reasons=("an unclosed direction change", "CVE-2021-42574"))
    if rtl:
        return None
    if char in "\u200e\u200f\u061c":
        return Finding("BIDI_CONTROL", 0.3, hit.span(), reasons=("a direction mark without right-to-left text",))
    return Finding("BIDI_CONTROL", 0.5, hit.span(), reasons=("a direction change without right-to-left text",))


def unbalanced(content: str) -> frozenset[int]:
    """Positions of embeddings, overrides and isolates that are not closed in their line, and of stray closers."""
    wrong, open_ = _balance(content, 0, len(content))
    return frozenset([*wrong, *open_])


def opened(content: str, end: int) -> int:
    """Where the first direction change begins that a place's line has not closed before it; the place if none does."""
    line = max(content.rfind("\n", 0, end), content.rfind("\u2029", 0, end)) + 1
    if not _EMBEDDING.search(content, line, end):
        return end
    _, open_ = _balance(content, line, end)
    return open_[0] if open_ else end


def _balance(content: str, start: int, end: int) -> tuple[list[int], list[int]]:
    """Positions of what is wrong whatever follows, and of what is still open."""
    wrong: list[int] = []
    open_: list[tuple[int, bool]] = []
    for hit in _EMBEDDING_OR_LINE.finditer(content, start, end):
        char = hit[0]
        if char in "\n\u2029":
            wrong += [position for position, _ in open_]
            open_.clear()
        elif char in "\u202c\u2069":
            if open_ and open_[-1][1] == (char == "\u2069"):
                open_.pop()
            else:
                wrong.append(hit.start())
        else:
            open_.append((hit.start(), char >= "\u2066"))
    return wrong, [position for position, _ in open_]
