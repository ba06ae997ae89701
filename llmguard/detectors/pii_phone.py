"""Phone numbers: ``phonenumbers`` is asked only where digits could be one, and only about regions that could take it.

Its matcher goes over the whole text once for each region and parses every run of digits many times. But
no number reaches across what cannot stand between two of its digits, so the text falls into clusters of digits
that can be looked at one by one. A region is asked about a cluster only if a stretch of the digits passes
``pii_numbers``, which takes in all that the region would.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

from llmguard.detectors.patterns import searcher
from llmguard.detectors.pii_numbers import RegionNumbers
from llmguard.detectors.pii_tables import worth_a_look

Ask = Callable[[str, str], Iterable[tuple[int, int]]]
"""A text and a region in, the spans of the phone numbers in it out."""

_PUNCTUATION = r"[-xX/ .()\[\]~_\x7f]*"
_EXTENSION = r"[ \t,]*(?:ext=|e?xt(?:ensi(?:[o_]_?)?)?n?|anexo|int|[xX#~_\x7f]+)[:._\x7f]?[ \t,_\x7f-]*"
_GAP = rf"(?:{_PUNCTUATION}|;?{_EXTENSION})"
_LEAD = rf"(?:[(\[+_\x7f]{_PUNCTUATION})*"
_ANY_DIGITS = rf"[0-9](?:{_GAP}[0-9]){{5}}"
"""Six digits within reach of each other; the shorter numbers that there are come beside it."""

_PROGRAM_BYTES = 64 << 20
_NOT_DIGITS = bytes(code for code in range(256) if not 0x30 <= code <= 0x39)
_BETWEEN = b"-/ .()[]"
_ENDS = " .)]\n\r"
_BLOCKS = bytes(code if 0x30 <= code <= 0x39 else 0x20 for code in range(256))
_KEYPAD = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", b"22233344455566677778889999" * 2)
_SECOND_NUMBER = re.compile(r"[\\/] *x", re.IGNORECASE)
_STARTS = re.compile(r"[\d(\[+\uff08\uff3b\uff0b]")
_MOST_BLOCKS = 8
_LONGEST_BLOCK = 20
_LONGEST = 40
"""Digits of a number at most: 17 of its own, behind international prefix, country code and two national prefixes."""

_MARGIN = 3
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MOST_KNOWN = 4096

_INNER = (
    lambda chunk: _suffixes(chunk, b"/"),
    lambda chunk: chunk.split(b"("),
    lambda chunk: _suffixes(chunk.replace(b"- ", b"\x00").replace(b" -", b"\x00"), b"\x00"),
    lambda chunk: chunk.split(b"."),
    lambda chunk: chunk.split(b" "),
)
"""The parts of a candidate that are tried when the whole is no number."""


def _suffixes(chunk: bytes, mark: bytes) -> list[bytes]:
    """What stands before the first mark, and what follows each mark up to the end."""
    parts = chunk.split(mark)
    return [parts[0], *(b"".join(parts[index:]) for index in range(1, len(parts)))]


class PhoneScan:
    """Where phone numbers are, for one recognizer.

    Args:
        regions: what the recognizer asks ``phonenumbers`` about.
        ask: how it asks.
        filtered: whether a region's own metadata may rule it out; false for leniencies that take
            invalid numbers.
        whole: whether a find that takes up a whole cluster makes all further regions needless.

    Attributes:
        prefilter: RE2 patterns over the proxy, all of which match somewhere if there is a number.
    """

    __slots__ = ("_ask", "_candidate", "_find", "_numbers", "_regions", "_shortest", "_whole", "prefilter")

    def __init__(self, regions: Sequence[str], ask: Ask, *, filtered: bool = True, whole: bool = True) -> None:
        import re2
        from phonenumbers import phonenumbermatcher

        # What the matcher takes for a candidate; without it long clusters are given to the matcher whole.
        self._candidate: Any = getattr(getattr(phonenumbermatcher, "_PATTERN", None), "search", None)
        self._regions = tuple(dict.fromkeys(regions))
        self._ask = ask
        self._whole = whole
        self._numbers = RegionNumbers(self._regions, filtered=filtered)
        heads = "|".join(_GAP.join(head) + f"{_GAP}[0-9]" if head else "[0-9]" for head in self._numbers.short_heads())
        least = f"{_ANY_DIGITS}|{heads}" if heads else _ANY_DIGITS
        self.prefilter: tuple[str, ...] = (f"(?i){least}",)
        self._shortest = 4 if filtered else 1
        options = re2.Options()
        options.never_capture = True
        options.max_mem = _PROGRAM_BYTES
        # Clusters with fewer digits, years above all, are not worth a visit: each costs more than a kilobyte of scan.
        cluster = rf"(?i){_LEAD}(?:[0-9]{_GAP})*?(?:{least})(?:{_GAP}[0-9])*"
        self._find = searcher(cluster, options)

    def spans(self, text: str, proxy: bytes, but: Container[tuple[int, int]] = ()) -> Iterator[tuple[int, int]]:
        """Spans of the numbers found, region by region, so that one may come more than once.

        Args:
            text: any string.
            proxy: its proxy (``pii_proxy.proxy``).
            but: clusters of digits that are not looked at, by their span.
        """
        end = 0
        while cluster := self._find(proxy, end):
            start, end = cluster
            if cluster in but:
                continue
            chunk = proxy[start:end]
            digits = chunk.translate(None, _NOT_DIGITS)
            if len(digits) < self._shortest or (
                self._numbers.filtered and self._in_word(text, start, end, len(digits))
            ):
                continue
            plain = not chunk.lstrip(b"+").translate(None, b"0123456789" + _BETWEEN) and text[start:end].isascii()
            if self._numbers.filtered and self._candidate and len(digits) > _LONGEST:
                yield from self._walk(text, start, end, self._places(text, chunk, start, end, plain=plain))
                continue
            regions = self._candidates(chunk, digits, plain)
            if not regions:
                continue
            low = max(0, start - 1)
            piece = text[low : end + _MARGIN]
            for region in regions:
                spans = [(low + first, low + last) for first, last in self._ask(piece, region)]
                spans = [span for span in spans if start <= span[0] < end]
                yield from spans
                if self._whole and plain and (start, end) in spans:
                    break

    @staticmethod
    def _in_word(text: str, start: int, end: int, digits: int) -> bool:
        """Whether one block of digits has a letter beside it: no number is taken out of a word."""
        if digits < end - start or digits > _LONGEST_BLOCK:
            return False
        return text[start - 1 : start] in _LETTERS or text[end : end + 1] in _LETTERS

    def _candidates(self, chunk: bytes, digits: bytes, plain: bool) -> Sequence[str]:
        """The regions that could take a stretch of the cluster's digits."""
        numbers = self._numbers
        if not plain:
            return self._somewhere(chunk, digits)
        blocks = chunk.translate(_BLOCKS).split()
        if len(blocks) > _MOST_BLOCKS or max(map(len, blocks)) > _LONGEST_BLOCK:
            return self._somewhere(chunk, digits)
        if b"+" in chunk:
            joined = b""
            for block in blocks:
                joined += block
                if numbers.international(joined):
                    return self._regions
        return self._aligned(blocks)

    def _somewhere(self, chunk: bytes, digits: bytes) -> Sequence[str]:
        """The regions that could take digits from anywhere in ``chunk``; letters may stand for digits."""
        numbers = self._numbers
        if b"+" in chunk:
            return self._regions
        found = set(numbers.inside(digits))
        if len(found) < len(self._regions):
            found.update(numbers.inside(chunk.translate(_KEYPAD).translate(None, _NOT_DIGITS)))
        return [region for region in self._regions if region in found]

    def _aligned(self, blocks: Sequence[bytes]) -> Sequence[str]:
        """A number starts where a block of digits starts, and ends where one ends."""
        numbers = self._numbers
        found: set[str] = set()
        for first in range(len(blocks)):
            joined = b""
            for block in blocks[first:]:
                joined += block
                if len(joined) > _LONGEST:
                    break
                if len(joined) >= self._shortest:
                    found.update(numbers.whole(joined))
        return [region for region in self._regions if region in found]

    def _places(self, text: str, chunk: bytes, start: int, end: int, *, plain: bool) -> list[int] | None:
        """Where in a long cluster candidates are worth a look; None when each of them has to be looked at."""
        behind = text[end : end + _MARGIN]
        lines = self._numbers.lines
        if not plain or b"+" in chunk or behind.strip(_ENDS) or lines is None:
            return None
        return worth_a_look(chunk, self._shortest, lines)

    def _walk(self, text: str, start: int, end: int, places: Sequence[int] | None) -> Iterator[tuple[int, int]]:
        """A long cluster, candidate by candidate, as the matcher itself goes along it.

        All regions see the same candidates up to the first that one of them takes; from there on that
        region goes its own way.
        """
        together = list(self._regions)
        known: dict[str, frozenset[str]] = {}
        position = start
        left = iter(places or ())
        while together:
            if places is not None:
                if (place := next(left, None)) is None:
                    return
                position = start + place
            match = self._candidate(text, position, end + _MARGIN)
            if not match or match.start() >= end:
                return
            first, candidate = match.start(), _trimmed(match.group())
            position = first + len(candidate)
            takers = self._takers(candidate, known)
            for region in [region for region in together if region in takers]:
                if span := self._number(text, first, position, match.end(), region):
                    together.remove(region)
                    yield span
                    yield from self._alone(text, span[1], end, region, known)

    def _alone(
        self, text: str, position: int, end: int, region: str, known: dict[str, frozenset[str]]
    ) -> Iterator[tuple[int, int]]:
        while (match := self._candidate(text, position, end + _MARGIN)) and match.start() < end:
            first, candidate = match.start(), _trimmed(match.group())
            position = first + len(candidate)
            takes = region in self._takers(candidate, known)
            if takes and (span := self._number(text, first, position, match.end(), region)):
                position = span[1]
                yield span

    def _number(self, text: str, first: int, past: int, end: int, region: str) -> tuple[int, int] | None:
        """The first number that a region sees in the candidate from ``first`` to ``past``."""
        # The character before may forbid a number, but must not become a part of it.
        low = first - 1 if first and not _STARTS.match(text, first - 1) else first
        spans = self._ask(text[low : end + _MARGIN], region)
        found = next(((begin + low, stop + low) for begin, stop in spans if begin + low >= first), None)
        return found if found and found[0] < past else None

    def _takers(self, candidate: str, known: dict[str, frozenset[str]]) -> frozenset[str]:
        """The regions that could take the candidate or one of the parts that are tried."""
        takers = known.get(candidate)
        if takers is None:
            if len(known) > _MOST_KNOWN:
                known.clear()
            takers = known[candidate] = frozenset(self._asked(candidate))
        return takers

    def _asked(self, candidate: str) -> Iterable[str]:
        numbers = self._numbers
        if not candidate.isascii():
            return self._regions
        chunk = candidate.encode()
        digits = chunk.translate(None, _NOT_DIGITS)
        if chunk.translate(None, b"0123456789" + _BETWEEN):
            return self._somewhere(chunk, digits)
        parts = {digits, *(part.translate(None, _NOT_DIGITS) for inner in _INNER for part in inner(chunk))}
        fitting = (part for part in parts if self._shortest <= len(part) <= _LONGEST)
        return {region for part in fitting for region in numbers.whole(part)}


def _trimmed(candidate: str) -> str:
    """A candidate up to where a second number begins."""
    second = _SECOND_NUMBER.search(candidate)
    return candidate[: second.start()] if second else candidate


def phone_scan(recognizer: Any) -> PhoneScan:
    """The scan of a Presidio ``PhoneRecognizer`` or of a subclass that overrides its ``analyze``."""
    from presidio_analyzer.predefined_recognizers import PhoneRecognizer

    regions, leniency = tuple(recognizer.supported_regions), recognizer.leniency
    filtered = leniency >= 1
    if type(recognizer).analyze is PhoneRecognizer.analyze:
        return PhoneScan(regions, functools.partial(_matcher_spans, leniency), filtered=filtered)

    def ask(piece: str, _: str) -> list[tuple[int, int]]:
        found = recognizer.analyze(piece, recognizer.supported_entities, None)
        return [(result.start, result.end) for result in found]

    return PhoneScan(regions, ask, filtered=filtered, whole=False)


def _matcher_spans(leniency: int, piece: str, region: str) -> list[tuple[int, int]]:
    import phonenumbers

    return [(match.start, match.end) for match in phonenumbers.PhoneNumberMatcher(piece, region, leniency=leniency)]
