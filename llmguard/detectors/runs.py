"""Stretches of a text that loop, and stretches that are encoded data, from a few places where to look."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence

import numpy as np

#: A sample of GRAM code points is taken every STRIDE; one that comes again within REACH hints at a loop.
#: A loop of period p over STRIDE + GRAM + p code points or more holds a sample and its repetition.
GRAM, STRIDE, REACH = 16, 160, 1_024 + 16
_TRIES = 3
#: Code points next to a sample, on one side at least, that a loop of 240 or more is bound to repeat.
_NEAR = 64

_CHARS = string.ascii_letters + string.digits + "+/_=-"
_RUN = re.compile(r"[A-Za-z0-9+/_=\-\r\n]*")
#: Encoded data is wrapped at 64 or 76 columns; lines that are shorter on the average are lists.
_LINE = 40
_HEX = frozenset(string.hexdigits.encode())
_BASE32 = frozenset((string.ascii_uppercase + "234567=").encode())


def samples(content: str) -> tuple[list[int], list[int]]:
    """Where to look for loops and for blobs: samples that come again soon, and samples that hold no space."""
    repeats, solid = [], []
    find = content.find
    for start in range(0, len(content) - GRAM + 1, STRIDE):
        gram = content[start : start + GRAM]
        if find(gram, start + 1, start + REACH) >= 0:
            repeats.append(start)
        if " " not in gram:
            solid.append(start)
    return repeats, solid


def loops(content: str, places: Sequence[int], length: int, repeats: int) -> Iterator[tuple[int, int]]:
    """Stretches that repeat one unit, as half-open ranges in order, none overlapping.

    Args:
        content: the text.
        places: ascending places whose next GRAM code points come again within REACH.
        length: code points that a stretch must cover.
        repeats: how many times it must hold its unit.
    """
    past = 0
    for sample in places:
        if sample < past:
            continue
        gram = content[sample : sample + GRAM]
        again = sample
        for _ in range(_TRIES):
            again = content.find(gram, again + 1, sample + REACH)
            if again < 0:
                break
            period = again - sample
            if not _near(content, sample, period):
                continue
            end = _agree(content, sample, period, len(content) - period, 1) + period
            start = _agree(content, sample, period, past, -1)
            if end - start >= max(length, repeats * period):
                yield start, end
                past = end
                break


def _near(content: str, at: int, period: int) -> bool:
    begin = max(0, at - _NEAR)
    return (
        content[at : at + _NEAR] == content[at + period : at + period + _NEAR]
        or content[begin:at] == content[begin + period : at + period]
    )


def _agree(content: str, at: int, period: int, limit: int, step: int) -> int:
    """How far from ``at`` towards ``limit`` the text equals itself ``period`` code points further on."""
    size = 64
    while size:
        to = at + step * size
        low, high = (at, to) if step > 0 else (to, at)
        inside = to <= limit if step > 0 else to >= limit
        if inside and content[low:high] == content[low + period : high + period]:
            at = to
            size *= 2
        else:
            size //= 2
    return at


def blobs(
    content: str, places: Sequence[int], length: int, threshold: float
) -> Iterator[tuple[float, tuple[int, int]]]:
    """Runs of base64, base32 or hexadecimal digits with their scores, in order.

    English written without spaces in those alphabets has at most 4.9 bits a character, in capitals
    4.3; encoded English at least 4.97 in base64, 4.6 in base32, 3.1 in hexadecimal.

    Args:
        content: the text.
        places: ascending places whose next GRAM code points hold no space.
        length: code points that a run must have.
        threshold: bits a character for base64; lower for the smaller alphabets, in proportion.
    """
    past = 0
    for sample in places:
        if sample < past:
            continue
        before = content[max(past, sample - STRIDE - GRAM) : sample]
        start = sample - len(before) + len(before.rstrip(_CHARS + "\r\n"))
        past = max(sample + 1, _RUN.match(content, sample).end())  # type: ignore[union-attr]
        run = content[start:past]
        start += len(run) - len(run.lstrip("\r\n"))
        run = run.strip("\r\n")
        if len(run) < length or len(run) < _LINE * (run.count("\n") + 1):
            continue
        score = _score(run.replace("\r", "").replace("\n", "").encode("ascii"), threshold)
        if score is not None:
            yield score, (start, start + len(run))


def _score(run: bytes, threshold: float) -> float | None:
    """0.5 at the threshold of the run's alphabet, 1 where all of its characters are equally frequent."""
    counts = np.bincount(np.frombuffer(run, np.uint8))
    present = np.flatnonzero(counts).tolist()
    if max(present) <= ord("9"):
        return None
    shares = counts[present] / len(run)
    bits = -float((shares * np.log2(shares)).sum())
    least, most = threshold, 6.0
    if _HEX.issuperset(present):
        least, most = threshold * 3.0 / 4.9, 4.0
    elif _BASE32.issuperset(present):
        least, most = threshold * 4.45 / 4.9, 5.0
    if bits < least:
        return None
    return min(1.0, 0.5 + 0.5 * (bits - least) / (most - least)) if most > least else 1.0
