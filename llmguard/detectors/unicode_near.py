"""Whether letters of a script stand near a place in a text.

What people mix by habit is told from deceit by the script of the text around it. Only the neighbourhood counts, so that
a long text is not read again and again, and a stream waits but for that much.
"""

from __future__ import annotations

import re
from functools import cache

#: Code points to each side. Ours: a paragraph or two, so that a list or a heading between them belongs to them.
NEAR = 500


class Near:
    """Looks for letters around places that are asked for in ascending order; linear in the text in all.

    Args:
        letters: the inside of a character class.
        content: the text.
    """

    __slots__ = ("_at", "_content", "_search")

    def __init__(self, letters: str, content: str) -> None:
        self._search = _patterns(letters)[0].search
        self._content = content
        self._at = -1

    def has(self, start: int, end: int) -> bool:
        """Whether one of the letters stands in ``[start, end)`` or up to ``NEAR`` code points from it."""
        low = max(0, start - NEAR)
        if self._at < low:
            hit = self._search(self._content, low)
            self._at = hit.start() if hit else len(self._content) + NEAR
        return self._at < end + NEAR


def last_near(letters: str, content: str, end: int) -> int:
    """Where the last of the letters stands among the ``NEAR`` code points before a place; the place if none does."""
    hit = _patterns(letters)[1].match(content, max(0, end - NEAR), end)
    return hit.end() - 1 if hit else end


@cache
def _patterns(letters: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return re.compile(f"[{letters}]"), re.compile(f".*[{letters}]", re.DOTALL)
