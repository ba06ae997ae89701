from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.pii import PiiDetector
from llmguard.detectors.pii_results import Hit
from llmguard.detectors.pii_rules import settle
from llmguard.types import Text


@pytest.fixture(scope="module")
def pair() -> tuple[PiiDetector, PiiDetector]:
    return PiiDetector(), PiiDetector(settle=False)


@pytest.mark.parametrize(
    ("text", "lost", "stays"),
    [
        ("ask john.smith about it", {("URL", "john.sm")}, set()),
        ("mail jane@example.com", {("URL", "example.com")}, {("EMAIL_ADDRESS", "jane@example.com")}),
        (
            "john.smith@example.com",
            {("URL", "john.sm"), ("URL", "example.com")},
            {("EMAIL_ADDRESS", "john.smith@example.com")},
        ),
        ("at 192.168.10.24 now", {("PHONE_NUMBER", "192.168.10.24")}, {("IP_ADDRESS", "192.168.10.24")}),
        ("see example.com today", set(), {("URL", "example.com")}),
        (
            "https://a.com/u/212-555-0123",
            set(),
            {("URL", "https://a.com/u/212-555-0123"), ("PHONE_NUMBER", "212-555-0123")},
        ),
    ],
)
def test_known_false_hits_give_way(
    pair: tuple[PiiDetector, PiiDetector], text: str, lost: set[tuple[str, str]], stays: set[tuple[str, str]]
) -> None:
    settled, raw = (
        {(f.category, text[slice(*f.span)]) for f in detector.detect([Text(text)])[0] if f.span} for detector in pair
    )
    assert raw - settled == lost
    assert settled == stays


def test_a_confirmed_find_wins_over_unsure_ones_inside_it() -> None:
    card = Hit("CREDIT_CARD", 0, 16, 1.0)
    bank, phone = Hit("US_BANK_NUMBER", 0, 16, 0.05), Hit("PHONE_NUMBER", 4, 14, 0.75)
    assert settle([card, bank, phone], "4" * 20) == [card, phone]
    unsure = Hit("CREDIT_CARD", 0, 16, 0.3)
    assert settle([unsure, bank, phone], "4" * 20) == [unsure, bank, phone]


def _stays(hit: Hit, hits: list[Hit], text: str) -> bool:
    return all(hit in settle([hit, other], text) for other in hits if other != hit)


@given(
    st.lists(
        st.builds(
            lambda category, start, length, score: Hit(category, start, start + length, score),
            st.sampled_from(["URL", "EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS", "CREDIT_CARD", "US_SSN", "UUID"]),
            st.integers(0, 30),
            st.integers(1, 20),
            st.sampled_from([0.05, 0.4, 0.75, 1.0]),
        ),
        max_size=12,
        unique=True,
    )
)
def test_each_find_is_settled_against_each_other_one(hits: list[Hit]) -> None:
    text = " " * 60
    assert settle(hits, text) == [hit for hit in hits if _stays(hit, hits, text)]
