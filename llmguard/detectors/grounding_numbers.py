"""Numbers in a text, whatever they look like: ``1.2 million`` is ``1,200,000``, ``twenty-one`` is 21, ``3rd`` is 3."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from llmguard.detectors.grounding_words import Word, lexicon

_DIGITS = re.compile(
    r"(?<!\w)(?:(?P<sign>[$€£¥])\s?|(?P<quarter>[Qq](?=[1-4]\b)))?"
    r"(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,2}:\d{2}(?!\d)|\d{1,15}(?:\.\d{1,9})?)"
    r"(?:(?P<order>st|nd|rd|th)\b)?"
    r"(?:[\s-]?(?P<size>hundred|thousand|million|billion|trillion|[kK]|mn|bn|[mMbB])\b)?"
    r"(?:[\s-]?(?P<unit>%|[A-Za-z]{1,10}))?"
)
_LEAST = 2.0
"""Number words below it are mostly no numbers: one of them, at first."""


class Number(NamedTuple):
    """A number of a text.

    Attributes:
        start: first code point.
        end: code point after the last one, without a unit.
        value: what it is worth, with its magnitude.
        bare: what its digits say: 1.2 of 1.2 million.
        unit: name of its unit, or "".
        digits: how many it is written with: 2 for 1.2 million, 7 for 1,200,000; 0 for a number in words.
    """

    start: int
    end: int
    value: float
    bare: float
    unit: str
    digits: int


def numbers(text: str, words: Sequence[Word]) -> list[Number]:
    """The numbers of a text, in order; linear in the text.

    Args:
        text: any.
        words: its words.
    """
    found = [_written(match) for match in _DIGITS.finditer(text)]
    taken = {place for number in found for place in range(number.start, min(number.end, number.start + 32))}
    return sorted([*found, *_spelt(text, words, taken)])


def _written(match: re.Match[str]) -> Number:
    known = lexicon()
    digits = match["number"]
    if ":" in digits:
        hours, _, minutes = digits.partition(":")
        time = int(hours) + int(minutes) / 60
        return Number(match.start("number"), match.end("number"), time, time, "", 4)
    value = bare = float(digits.replace(",", ""))
    end = match.end("number")
    if match["size"]:
        value *= known.magnitudes[match["size"].lower()]
        end = match.end("size")
    elif match["order"]:
        end = match.end("order")
    unit = "quarter" if match["quarter"] else known.units.get(match["sign"] or "", "") or _unit(match["unit"])
    start = match.start("sign") if match["sign"] else match.start("quarter" if match["quarter"] else "number")
    return Number(start, end, value, bare, unit, sum(map(str.isdigit, digits)))


def _unit(word: str | None) -> str:
    if not word:
        return ""
    units, low = lexicon().units, word.lower()
    return units.get(low) or units.get(low.removesuffix("s"), "")


def _spelt(text: str, words: Sequence[Word], taken: set[int]) -> list[Number]:
    known = lexicon()
    found: list[Number] = []
    at = 0
    while at < len(words):
        first, value, whole = at, 0.0, 0.0
        while at < len(words) and words[at].start not in taken:
            low = words[at].low
            if at > first and text[words[at - 1].end : words[at].start].strip(" -\n") != "":
                break
            if low in known.numbers or (low in known.ordinals and low != "second"):
                value += known.numbers.get(low, known.ordinals.get(low, 0.0))
            elif low == "hundred" and at > first:
                value *= 100.0
            elif low in known.magnitudes and len(low) > 2 and at > first:
                whole, value = whole + value * known.magnitudes[low], 0.0
            else:
                break
            at += 1
        if at == first:
            at += 1
        elif whole + value >= _LEAST:
            unit = _unit(words[at].low) if at < len(words) else ""
            value += whole
            found.append(Number(words[first].start, words[at - 1].end, value, value, unit, 0))
    return found


def equal(claimed: Number, told: Number) -> bool:
    """Whether a number is the other, or the other rounded to fewer digits, as in 1.2 million for 1,187,000."""
    if claimed.unit and told.unit and claimed.unit != told.unit:
        return False
    if math.isclose(claimed.value, told.value, rel_tol=1e-9):
        return True
    # "from 20.9 to 21.5 million": the magnitude stands behind the last one alone.
    if claimed.bare == told.bare and (claimed.bare == claimed.value or told.bare == told.value):
        return True
    if not 0 < claimed.digits < told.digits or not claimed.value or not told.value:
        return False
    rounded = float(f"{told.value:.{max(0, claimed.digits - 1)}e}")
    return math.isclose(rounded, claimed.value, rel_tol=1e-9)
