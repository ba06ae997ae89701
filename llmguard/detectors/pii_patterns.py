"""One pattern of a recognizer, run only where it can match: the same matches as ``finditer``, in linear time.

RE2 finds the places, the ``regex`` module confirms each. Every true match starts at a place that RE2 finds
(``pii_translate``), so looking at the places from left to right and going on at the end of each match
gives the matches of ``finditer`` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llmguard.detectors.patterns import searcher
from llmguard.detectors.pii_ahead import Running
from llmguard.detectors.pii_classes import Untranslatable
from llmguard.detectors.pii_email import Addresses
from llmguard.detectors.pii_translate import Translation, translate

_PROGRAM_BYTES = 16 << 20

Match = Any
"""A match of the ``regex`` module, which has no types of its own."""


class PatternScan:
    """A pattern with its flags, and how to find its matches.

    Args:
        pattern: in the ``regex`` module's syntax.
        flags: what it is compiled with.
        rare: whether it is for texts with code points of the ``pii_proxy.RARE`` kinds, or for those without.
        ending: in RE2's syntax; what must stand in a match for the recognizer's check to pass (`translate`).

    Attributes:
        prefilter: RE2 patterns over the proxy, all of which match somewhere if the pattern does; none of
            them when the pattern is not translated and has to run on every text.
    """

    __slots__ = ("_confirm", "_find", "_floating", "_inside", "_matches", "_running", "_translation", "prefilter")

    def __init__(self, pattern: str, flags: int, *, rare: bool = True, ending: str = "") -> None:
        import re2
        import regex

        self._confirm = regex.compile(pattern, flags)
        self._matches: Callable[[str, bytes], Iterator[Match]] = self._everywhere
        self.prefilter: tuple[str, ...] = ()
        options = re2.Options()
        options.never_capture = True
        options.log_errors = False
        options.max_mem = _PROGRAM_BYTES
        try:
            translation = translate(pattern, flags, rare=rare, ending=ending)
            self._find = searcher(translation.finder, options)
        except (Untranslatable, re2.error):
            return
        self._translation: Translation = translation
        self._confirm = regex.compile(translation.confirm, flags)
        self._floating = [regex.compile(f"(?r){tail}", flags).search for tail in translation.floating]
        self._running = [regex.compile(stop, flags).search for stop in translation.running]
        self.prefilter = (translation.finder, *translation.needs)
        self._inside = Addresses(pattern, flags).matches if ending else self._confirm.finditer
        self._matches = self._in_runs if translation.run else self._behind if translation.lookback else self._at

    def matches(self, text: str, proxy: bytes) -> Iterator[Match]:
        """All matches that are not empty, from left to right, none overlapping another.

        Args:
            text: any string.
            proxy: its proxy (``pii_proxy.proxy``).
        """
        return self._matches(text, proxy)

    def _everywhere(self, text: str, proxy: bytes) -> Iterator[Match]:
        del proxy
        return (match for match in self._confirm.finditer(text) if match.end() > match.start())

    def _in_runs(self, text: str, proxy: bytes) -> Iterator[Match]:
        position = 0
        while run := self._find(proxy, position):
            start, position = run
            yield from self._inside(text, start, position)

    def _behind(self, text: str, proxy: bytes) -> Iterator[Match]:
        find, confirm = self._find, self._confirm.match
        lookback, lead = self._translation.lookback, self._translation.lead
        position = 0
        while place := find(proxy, position):
            tail = place[0] + 1
            start = max(position, tail - lookback)
            start += len(proxy[start:tail].rstrip(lead))
            match = None
            while start < tail and not (match := confirm(text, start)):
                start += 1
            if match:
                yield match
                position = match.end()
            else:
                position = tail

    def _at(self, text: str, proxy: bytes) -> Iterator[Match]:
        find, confirm, before = self._find, self._confirm.match, self._translation.before
        last = len(text)
        for tail in self._floating:
            found = tail(text)
            if found is None:
                return
            last = min(last, found.start())
        running = [Running(search, text) for search in self._running]
        position = 0
        while place := find(proxy, position - 1 if before and position else position):
            start = place[0]
            if before and (start or position):
                start += 1
            if start > last:
                return
            match = confirm(text, start) if all(ahead.holds(start) for ahead in running) else None
            if match is None and before and start == 0:
                start = 1
                match = confirm(text, start)
            if match:
                yield match
                position = match.end()
            else:
                position = start + 1
