"""What of a text that still grows is settled for personal data, and from where on it must be looked at.

What starts at a place depends on what follows in three ways only. A match may be under way there: the automata of
``pii_live`` know. A find's score may wait for the word that it starts in, or that follows, to end, for that word
counts as its context. And the few patterns that begin with look-aheads over the whole rest wait for what these look
for. Finds never wait for those that start later: what makes one give way begins before it,
or with it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from llmguard.detectors.pii_classes import Untranslatable
from llmguard.detectors.pii_live import Before, UnderWay, before, beginnings
from llmguard.detectors.pii_nlp import STOP_WORDS, WINDOW, lemma
from llmguard.detectors.pii_proxy import proxy
from llmguard.detectors.pii_sources import Schedule

_WORD = re.compile(r"\w+")
_LOOK = 64
# Places that are tried for a cut that no match is under way at; each costs a look at all before it, and a chain of
# matches, each begun within the one before, may go back to the beginning of the text.
_TRIES = 32
_DENIED = r"(?:^|(?<=\W))("
"""How Presidio begins the pattern of a deny list: behind white space it holds as at the beginning of a text."""
_TAIL = re.compile(r"\(\?=\.\*\?((?:\[[^\]\\]+\]|\\d)(?:\{\d+\})?)\)")
_FLOATING = re.compile(rf"((?:\\b|\((?!\?)|\(\?:)*)((?:{_TAIL.pattern})+)")
"""A pattern's head that consumes nothing, and look-aheads over the whole rest."""

_PUNCTUATION = r"[-xX/ .()\[\]~_\x7f]{0,4}"
_EXTENSION = r"[ \t,]*(?:e?xt(?:ensi(?:o[_\x7f]?|_))?n?|anexo|int|_{2,4}|[xX#~_\x7f])[:.\x7f]?[ \t,-]*"
_PHONE = rf"(?:[(\[+\x7f]{_PUNCTUATION}){{0,2}}[0-9](?:(?:{_PUNCTUATION}|[- ]+|;ext=|{_EXTENSION})[0-9])*.{{0,2}}"
"""What ``phonenumbers`` takes for a candidate, over proxies (``_`` and ``\\x7f`` stand for all other scripts), and what
it looks at behind one: three characters tell whether it is a time."""


class _Floating:
    """A pattern that begins with look-aheads over the whole rest: which of its matches wait for what these look for.

    Args:
        pattern: the pattern without them.
        tails: what each of them looks for.
        flags: what the pattern is compiled with.
    """

    __slots__ = ("_match", "_tails")

    def __init__(self, pattern: str, tails: Sequence[str], flags: int) -> None:
        import regex

        self._match = regex.compile(pattern, flags).search
        self._tails = [regex.compile(f"(?r){tail}", flags).search for tail in tails]

    def start(self, text: str) -> int:
        """Where the first of them begins; the length of the text where none waits."""
        found = [tail(text) for tail in self._tails]
        last = min(match.start() if match else -1 for match in found)
        match = self._match(text, last + 1)
        return match.start() if match else len(text)


class _Automata:
    """The automata for texts with code points of the ``pii_proxy.RARE`` kinds, or for those without.

    Args:
        patterns: of all recognizers, with their flags.
        phones: whether phone numbers are looked for.
        rare: for which texts.

    Raises:
        Untranslatable: a pattern is not translated.

    Attributes:
        under_way: where the first match begins that depends on what follows.
        behind: where the first look-behind begins that reads what follows.
        of_lines: whether a pattern asks where a line begins.
        of_texts: whether a pattern asks where the text begins.
    """

    __slots__ = ("_floating", "behind", "of_lines", "of_texts", "under_way")

    def __init__(self, patterns: Iterable[tuple[str, int]], *, phones: bool, rare: bool) -> None:
        found = [beginnings(_PHONE, int(re.IGNORECASE | re.DOTALL), rare=rare)] if phones else []
        reads: list[Before] = []
        self._floating: list[_Floating] = []
        for pattern, flags in patterns:
            source = pattern
            if head := _FLOATING.match(pattern):
                source = head[1] + pattern[head.end() :]
                self._floating.append(_Floating(source, _TAIL.findall(head[2]), flags))
            elif pattern.startswith(_DENIED):
                source = "(" + pattern.removeprefix(_DENIED)
            found.append(beginnings(source, flags, rare=rare))
            reads.append(before(source, flags, rare=rare))
        self.under_way = _starts(found)
        self.behind = _starts(part for read in reads for part in read.behind)
        self.of_lines = any(read.of_lines for read in reads)
        self.of_texts = any(read.of_texts for read in reads)

    def start(self, text: str, data: bytes) -> int:
        """Where the first match begins that depends on what follows; the length of the text where none does."""
        place = self.under_way(data)
        for floating in self._floating:
            place = min(place, floating.start(text))
        return place


def _starts(patterns: Iterable[str]) -> Callable[[bytes], int]:
    kept = dict.fromkeys(patterns)
    return UnderWay(kept).start if kept else len


class Growing:
    """What the detector can say of a text that still grows.

    Args:
        recognizers: that the detector runs.
        schedules: which jobs a text needs, without code points of the ``pii_proxy.RARE`` kinds and with them.
        complete: whether RE2 knows all of the patterns; of a text with others nothing can be said.
    """

    def __init__(self, recognizers: Sequence[Any], schedules: tuple[Schedule, Schedule], *, complete: bool) -> None:
        self._recognizers = recognizers
        self._schedules = schedules
        self._complete = complete

    def settled(self, text: str) -> int:
        """Up to where the findings are final (``Incremental.settled``); 0 where a pattern is not translated.

        Args:
            text: as far as it has come.
        """
        data, rare = proxy(text)
        automata = self._automata(rare)
        if automata is None:
            return 0
        place = automata.start(text, data)
        due = self._schedules[rare].due
        low = max(0, place - _LOOK)
        if not due(data[low:]) and (low == 0 or any(_keywords(text, low, place))):
            return place
        known = _last_keyword(text, place)
        return known if known < place and due(data[max(0, known - 1) :]) else place

    def context(self, text: str, start: int) -> int:
        """From where on a text must be looked at (``Incremental.context``); 0 where a pattern is not translated.

        Args:
            text: as far as it has come.
            start: a place in it.
        """
        data, rare = proxy(text)
        automata = self._automata(rare)
        if automata is None or automata.of_texts:
            return 0
        place = _words_before(text, start)
        for _ in range(_TRIES):
            if place <= 0:
                break
            place = _gap(text, data, place, of_lines=automata.of_lines)
            head = data[:place]
            first = min(automata.under_way(head), automata.behind(head))
            if first == place:
                return place
            place = first
        return 0

    def _automata(self, rare: bool) -> _Automata | None:
        return self._rare if rare else self._usual

    @functools.cached_property
    def _usual(self) -> _Automata | None:
        return self._made(rare=False)

    @functools.cached_property
    def _rare(self) -> _Automata | None:
        return self._made(rare=True)

    def _made(self, *, rare: bool) -> _Automata | None:
        if not self._complete:
            return None
        patterns: dict[tuple[str, int], None] = {}
        phones = False
        for recognizer in self._recognizers:
            own = getattr(recognizer, "patterns", None)
            phones |= own is None
            for pattern in own or ():
                patterns[pattern.regex, int(recognizer.global_regex_flags)] = None
        try:
            return _Automata(patterns, phones=phones, rare=rare)
        except Untranslatable:
            return None


def _keywords(text: str, low: int, end: int) -> Iterator[tuple[int, int]]:
    """The keywords of ``pii_nlp`` that begin after ``low`` and end before ``end``, as half-open ranges."""
    for match in _WORD.finditer(text, low, end):
        if (match.start() > low or low == 0) and match.end() < end:
            word = match[0].lower()
            if word not in STOP_WORDS and lemma(word) not in STOP_WORDS:
                yield match.span()


def _last_keyword(text: str, end: int) -> int:
    """Where the last keyword ends that ends before ``end``; 0 where there is none."""
    look = _LOOK
    while True:
        low = max(0, end - look)
        last = max((stop for _, stop in _keywords(text, low, end)), default=0)
        if last or low == 0:
            return last
        look *= 4


def _words_before(text: str, start: int) -> int:
    """A place that so many keywords begin after, before ``start``, as a find at ``start`` can count."""
    look = _LOOK
    while True:
        low = max(0, start - look)
        begins = [begin for begin, _ in _keywords(text, low, start)]
        if len(begins) >= WINDOW:
            return begins[-WINDOW]
        if low == 0:
            return 0
        look *= 4


def _gap(text: str, data: bytes, place: int, *, of_lines: bool) -> int:
    """The last place up to ``place`` that stands behind what is no part of a word, or behind a line feed; 0 if none."""
    if of_lines:
        return data.rfind(b"\n", 0, place) + 1
    while place and (data[place - 1] in _WORD_BYTES or text[place - 1].isalnum()):
        place -= 1
    return place


_WORD_BYTES = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
