"""Whether lines follow one another as they were written."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from llmguard.exporters.audit_lines import START, Line

Tell = Callable[[str, int, str, str], None]


class Order:
    """Follows the lines of a log; a line out of its place is named once, and does not put the rest out of place.

    Args:
        tell: takes a file, a sequence, what and why.

    Attributes:
        n: sequence of the last line in its place.
        hash: its hash, or "" when the next line can't be held against it.
        first: sequence of the first line, and the hash it has of the one before.
    """

    def __init__(self, tell: Tell) -> None:
        self.n = 0
        self.hash = START
        self.first = (1, START)
        self._tell = tell
        self._begun = False
        self._file = ""
        self._gaps: list[tuple[int, int, str]] = []
        self._suspect: tuple[tuple[str, int], tuple[str, int]] | None = None

    def take(self, file: str, line: Line) -> bool:
        """Look at the next line; whether it stands in its place."""
        if not self._begun:
            self._begun = True
            self.first = (line.n, line.prev)
            self.n, self.hash = line.n - 1, line.prev
        wanted = self.n + 1
        if line.n < wanted and line.prev != self.hash:
            self._early(file, line)
            return False
        if line.n != wanted and line.prev == self.hash:
            # The chain says that this is its place, so the number is what was written over.
            self._settle(linked=True)
            self._tell(file, wanted, "changed", f"the line says that it is sequence {line.n}")
            self.n, self.hash, self._file = wanted, "", file
            return False
        if line.n > wanted:
            self._settle(linked=True)
            self._gaps.append((wanted, line.n - 1, file))
        elif self.hash and line.prev != self.hash:
            self._settle(linked=False)
            self._suspect = (self._file, line.n - 1), (file, line.n)
        else:
            self._settle(linked=True)
        self.n, self.hash, self._file = line.n, line.hash, file
        return True

    def unknown(self, file: str) -> None:
        """Pass a line that can't be read, in the place of the next."""
        self._settle(linked=True)
        self.n, self.hash, self._file = self.n + 1, "", file

    def lost(self, n: int) -> bool:
        """Whether a line is missing, or after the last."""
        return n > self.n or self._gap(n) is not None

    def end(self) -> None:
        """Tell of what never came."""
        self._settle(linked=True)
        for first, last, file in self._gaps:
            which = "the line is not there" if first == last else f"the lines to sequence {last} are not there"
            self._tell(file, first, "missing", which)

    def _settle(self, *, linked: bool) -> None:
        """Say which of two lines was changed that don't hold together: the later one if it has lost the next, too."""
        if self._suspect is not None:
            file, n = self._suspect[not linked]
            self._tell(file, n, "changed", "the line and the next do not hold together")
            self._suspect = None

    def _gap(self, n: int) -> int | None:
        """The place of the gap that a sequence is in; they ascend."""
        place = bisect_right(self._gaps, n, key=lambda gap: gap[0]) - 1
        return place if place >= 0 and n <= self._gaps[place][1] else None

    def _early(self, file: str, line: Line) -> None:
        place = self._gap(line.n)
        if place is None:
            self._tell(file, line.n, "doubled", "the line was there before")
            return
        first, last, where = self._gaps[place]
        self._gaps[place : place + 1] = [
            gap for gap in ((first, line.n - 1, where), (line.n + 1, last, where)) if gap[0] <= gap[1]
        ]
        self._tell(file, line.n, "moved", "the line stands after later ones")
