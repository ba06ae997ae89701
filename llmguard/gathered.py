"""A text that comes in many small pieces, kept as few long ones.

A Python string of six letters takes 55 bytes, and `io.StringIO` keeps the pieces as they came until it is read.
"""

from __future__ import annotations

_PIECES = 64


class Gathered:
    """Pieces of a text, put together now and then: memory is that of the text and of the last few pieces."""

    __slots__ = ("_blocks", "_pieces")

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._pieces: list[str] = []

    def write(self, piece: str) -> None:
        """Add a piece at the end."""
        if not piece:
            return
        self._pieces.append(piece)
        if len(self._pieces) == _PIECES:
            self._blocks.append("".join(self._pieces))
            self._pieces.clear()

    def getvalue(self) -> str:
        """The text so far."""
        text = "".join([*self._blocks, *self._pieces])
        self._blocks = [text]
        self._pieces.clear()
        return text
