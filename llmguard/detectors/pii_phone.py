"""Phone numbers: ``phonenumbers`` is asked only where digits could be one, and only about regions that could take it.

Its matcher goes over the whole text once for each region and parses every run of digits many times. But
no number reaches across what cannot stand between two of its digits, so the text falls into clusters of digits
that can be looked at one by one. A region is asked about a cluster only if a stretch of the digits passes
``pii_numbers``, which takes in all that the region would.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

from llmguard.detectors.pii_numbers import RegionNumbers

Ask = Callable[[str, str], Iterable[tuple[int, int]]]
"""A text and a region in, the spans of the phone numbers in it out."""

_PUNCTUATION = r"[-xX/ .()\[\]~_\x7f]*"
_EXTENSION = r"[ \t,]*(?:ext=|e?xt(?:ensi(?:[o_]_?)?)?n?|anexo|int|[xX#~_\x7f]+)[:._\x7f]?[ \t,_\x7f-]*"
_GAP = rf"(?:{_PUNCTUATION}|;?{_EXTENSION})"
_CLUSTER = rf"(?i)(?:[(\[+_\x7f]{_PUNCTUATION})*[0-9](?:{_GAP}[0-9])*"
_ANY_DIGITS = rf"(?i)[0-9](?:{_GAP}[0-9]){{5}}"
"""Six digits within reach of each other; the shorter numbers that there are come beside it."""

_NOT_DIGITS = bytes(code for code in range(256) if not 0x30 <= code <= 0x39)
_BETWEEN = b"-/ .()[]"
_BLOCKS = bytes(code if 0x30 <= code <= 0x39 else 0x20 for code in range(256))
_KEYPAD = bytes.maketrans(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", b"22233344455566677778889999" * 2)
_MOST_BLOCKS = 8
_LONGEST_BLOCK = 20
_LONGEST = 32
_MARGIN = 3


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

    __slots__ = ("_ask", "_find", "_numbers", "_regions", "_shortest", "_whole", "prefilter")

    def __init__(self, regions: Sequence[str], ask: Ask, *, filtered: bool = True, whole: bool = True) -> None:
        import re2

        self._regions = tuple(dict.fromkeys(regions))
        self._ask = ask
        self._whole = whole
        self._numbers = RegionNumbers(self._regions) if filtered else None
        short = self._numbers.short_heads() if self._numbers else ("",)
        heads = "|".join(_GAP.join(f"{digit}" for digit in head) + f"{_GAP}[0-9]" if head else "[0-9]" for head in short)
        self.prefilter: tuple[str, ...] = (f"{_ANY_DIGITS}|{heads}" if heads else _ANY_DIGITS,)
        self._shortest = 4 if self._numbers else 1
        options = re2.Options()
        options.never_capture = True
        self._find = re2.compile(_CLUSTER.encode(), options).finditer

    def spans(self, text: str, proxy: bytes, but: Container[tuple[int, int]] = ()) -> Iterator[tuple[int, int]]:
        """Spans of the numbers found, region by region, so that one may come more than once.

        Args:
            text: any string.
            proxy: its proxy (``pii_proxy.proxy``).
            but: clusters of digits that are not looked at, by their span.
        """
        for cluster in self._find(proxy):
            start, end = cluster.span()
            if (start, end) in but:
                continue
            chunk = proxy[start:end]
            digits = chunk.translate(None, _NOT_DIGITS)
            if len(digits) < self._shortest:
                continue
            plain = not chunk.lstrip(b"+").translate(None, b"0123456789" + _BETWEEN) and text[start:end].isascii()
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

    def _candidates(self, chunk: bytes, digits: bytes, plain: bool) -> Sequence[str]:
        """The regions that could take a stretch of the cluster's digits."""
        numbers = self._numbers
        if numbers is None:
            return self._regions
        if not plain:
            if b"+" in chunk:
                return self._regions
            found = set(numbers.inside(digits))
            if len(found) < len(self._regions):
                found.update(numbers.inside(chunk.translate(_KEYPAD).translate(None, _NOT_DIGITS)))
            return [region for region in self._regions if region in found]
        blocks = chunk.translate(_BLOCKS).split()
        if len(blocks) > _MOST_BLOCKS or max(map(len, blocks)) > _LONGEST_BLOCK:
            if chunk.startswith(b"+"):
                return self._regions
            found = set(numbers.inside(digits))
            return [region for region in self._regions if region in found]
        if chunk.startswith(b"+") or b"+" in chunk:
            joined = b""
            for block in blocks:
                joined += block
                if numbers.international(joined):
                    return self._regions
        return self._aligned(blocks)

    def _aligned(self, blocks: Sequence[bytes]) -> Sequence[str]:
        """A number starts where a block of digits starts, and ends where one ends."""
        numbers = self._numbers
        assert numbers is not None
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
