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

from collections.abc import Mapping, Sequence

from llmguard.detectors.covered import Covered
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
    found: dict[str, list[Hit]] = {}
    for hit in kept:
        found.setdefault(hit.category, []).append(hit)
    winners = [(GIVES_WAY[category], _covered(found[category])) for category in GIVES_WAY if category in found]
    sure = [
        (category, _covered([hit for hit in found[category] if hit.score >= 1])) for category in CHECKED & found.keys()
    ]
    if not winners and not sure:
        return kept
    return [
        hit
        for hit in kept
        if not any(hit.category in losers and spans.covers(hit.start, hit.end) for losers, spans in winners)
        and not (
            hit.score < UNSURE
            and any(hit.category != category and spans.covers(hit.start, hit.end) for category, spans in sure)
        )
    ]


def _covered(hits: Sequence[Hit]) -> Covered:
    return Covered([(hit.start, hit.end) for hit in hits])
