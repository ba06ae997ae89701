r"""What a pattern reads without end before it is known to match, taken out of it so that each character is read once.

The ``regex`` module tries a look-ahead anew at each place, to the end of a run or of the text: quadratic time in
both. But ``(?=[a-z]*\d)`` holds at a place just if the next digit, or character that is no letter, is a digit, and
all places before that one share the answer; and ``(?=.*?\d)`` holds up to the last digit of the text.
Behind a match ``\s*:?\s*`` splits a row of white space in all ways; ``\s*(?::\s*)?`` says the same in one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

_SINGLE = r"(?:\[[^\]\\]+\]|\\d)"
_HEAD = re.compile(r"((?:\\b|\((?!\?)|\(\?:)*)((?:\(\?=[^()]*\))+)")
_ONE = re.compile(r"\(\?=([^()]*)\)")
_FLOATING = re.compile(rf"\.\*\?({_SINGLE}(?:\{{\d+\}})?)")
_RUNNING = re.compile(rf"({_SINGLE})\*({_SINGLE})")
_COLON = re.compile(r"(\\s\*:\?\\s\*)(?![?+*{])|\[\^?\]?(?:\\.|[^\]\\])*\]|\\.", re.DOTALL)


class Lifted(NamedTuple):
    """A pattern without the look-aheads at its head that read without end.

    Attributes:
        pattern: in the ``regex`` module's syntax.
        floating: likewise; a match of each must begin at or after the start.
        running: likewise; the first match of each at or after the start must be one of its group.
    """

    pattern: str
    floating: tuple[str, ...] = ()
    running: tuple[str, ...] = ()


def lifted(pattern: str, flags: int, asserts: int) -> Lifted:
    """Take look-aheads over a whole run, or over the whole rest, off a pattern's head.

    Args:
        pattern: in the ``regex`` module's syntax.
        flags: what it is compiled with.
        asserts: look-arounds at the head of its parse tree, which stand before all of its branches.
    """
    head = _HEAD.match(pattern)
    if not head or len(_ONE.findall(head[2])) != asserts:
        return Lifted(pattern)
    floating: list[str] = []
    running: list[str] = []
    kept = head[1]
    for ahead in _ONE.finditer(head[2]):
        if (far := _FLOATING.fullmatch(ahead[1])) and flags & re.DOTALL:
            floating.append(far[1])
        elif near := _RUNNING.fullmatch(ahead[1]):
            running.append(rf"({near[2]})|(?!{near[1]})[\s\S]")
        else:
            kept += ahead[0]
    return Lifted(kept + pattern[head.end() :], tuple(floating), tuple(running))


def unambiguous(pattern: str) -> str:
    """The pattern with white space around an optional colon written so that there is one way to match it."""
    return _COLON.sub(lambda part: r"\s*(?::\s*)?" if part[1] else part[0], pattern)


class Running:
    """Where in one text a look-ahead over a run holds, asked from left to right.

    Args:
        search: for the first match at or after a place, of a pattern of ``Lifted.running``.
        text: the text.
    """

    __slots__ = ("_holds", "_search", "_stop", "_text")

    def __init__(self, search: Callable[[str, int], Any], text: str) -> None:
        self._search = search
        self._text = text
        self._stop = -1
        self._holds = False

    def holds(self, start: int) -> bool:
        """Whether it holds at a place that is not before the last one asked for."""
        if start > self._stop:
            match = self._search(self._text, start)
            self._stop = match.start() if match else len(self._text)
            self._holds = bool(match and match[1])
        return self._holds
