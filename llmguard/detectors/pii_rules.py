"""Presidio's known false hits, settled after it: which find gives way to which.

Three rules, in this order; each only removes finds.

1. A web address without ``http`` whose top-level domain goes on as a word is none: ``john.sm`` in ``john.smith``.
2. Inside a find of ``GIVES_WAY``'s left side, a find of one of the right side's categories is a part read wrongly:
   the host of an e-mail address as a web address, three numbers of an IP address as a phone number.
3. Inside a find of a ``CHECKED`` category that its checksum confirmed (score 1), a find of another category that
   is not sure (below ``UNSURE``) is a part read wrongly: eight digits of a card as a bank account.

A web address keeps what is inside it: a number in a path can be a real one.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

from llmguard.detectors.pii_results import Hit

GIVES_WAY: Mapping[str, frozenset[str]] = {
    "EMAIL_ADDRESS": frozenset({"URL"}),
    "IP_ADDRESS": frozenset({"PHONE_NUMBER", "DATE_TIME", "URL"}),
    "MAC_ADDRESS": frozenset({"PHONE_NUMBER", "DATE_TIME", "IP_ADDRESS"}),
    "UUID": frozenset({"PHONE_NUMBER", "DATE_TIME", "CREDIT_CARD", "US_SSN", "US_BANK_NUMBER", "US_DRIVER_LICENSE"}),
    "DATE_TIME": frozenset({"PHONE_NUMBER"}),
}
CHECKED = frozenset({"CREDIT_CARD", "CRYPTO", "IBAN_CODE"})
UNSURE = 0.75
"""A find of 0.4 with a context word has this score: it is sure enough to stand beside a confirmed one."""


def _wins(outer: Hit, inner: Hit) -> bool:
    if inner.category in GIVES_WAY.get(outer.category, frozenset()):
        return True
    return outer.category in CHECKED and outer.score >= 1 and inner.category != outer.category and inner.score < UNSURE


def _cut_short(hit: Hit, text: str) -> bool:
    """Whether a web address stops in the middle of a word."""
    if hit.category != "URL" or hit.end >= len(text) or not (text[hit.end].isalnum() or text[hit.end] == "_"):
        return False
    found = text[hit.start : hit.end].casefold().lstrip("\"'")
    return not found.startswith(("http://", "https://")) and "/" not in found


def settle(hits: Sequence[Hit], text: str) -> list[Hit]:
    """The finds that stay, in the order that they came in.

    Args:
        hits: what Presidio found in ``text``.
        text: the text.
    """
    kept = [hit for hit in hits if not _cut_short(hit, text)]
    outer = sorted((hit.start, hit.end, hit) for hit in kept if hit.category in GIVES_WAY or hit.category in CHECKED)
    if not outer:
        return kept
    # Ends never fall along the finds that nothing before reaches past, so that those around a place are neighbours.
    longest = max(end - start for start, end, _ in outer)
    starts = [start for start, _, _ in outer]
    stay = []
    for hit in kept:
        index = bisect.bisect_right(starts, hit.start)
        lost = False
        while index and not lost and starts[index - 1] >= hit.end - longest:
            index -= 1
            _, end, other = outer[index]
            lost = end >= hit.end and other is not hit and _wins(other, hit)
        if not lost:
            stay.append(hit)
    return stay
