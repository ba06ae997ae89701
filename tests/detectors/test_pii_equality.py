"""Before the rule on false hits the findings are Presidio's own: same spans, same types, same scores."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.pii import PiiDetector
from llmguard.detectors.pii_engine import analyzer
from llmguard.detectors.pii_nlp import engine
from llmguard.types import Text

SAMPLE = Path(__file__).parents[1] / "data" / "pii_sample.jsonl"
Found = set[tuple[str, int, int, float]]

PIECES = [
    "192.168.1.1",
    "4111111111111111",
    "john@ex.co.uk",
    "212-555-0123",
    "+49 30 1234567",
    "0800 1111",
    "DE89370400440532013000",
    "2001:db8::1",
    "12/11/2020",
    "00:1A:2B:3C:4D:5E",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
    "900-70-1234",
    "AB123456C",
    "\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
    "https://a.b.com/x?y=1",
    "SSN",
    "card",
    "the",
    "john.smith",
    "http://",
    "\u017fs",
    "\u212a",
    "\u0130i\u0131",
    "\u4e2d\u6587",
    " ext ",
    "claim ",
    "rx: ",
]
hostile = st.lists(
    st.one_of(
        st.sampled_from(PIECES),
        st.sampled_from([*list(" -./()[]+:,;x#\n\t@%$_"), "  ", "::", "€", "\xa0", "—"]),
        st.text(alphabet="0123456789", min_size=1, max_size=24),
        st.text(max_size=3),
    ),
    max_size=20,
).map("".join)


@cache
def pair(countries: str = "") -> tuple[PiiDetector, Any]:
    detector = PiiDetector(settle=False, countries="all") if countries else PiiDetector(settle=False)
    return detector, analyzer(detector.recognizers, engine(["en"]), ["en"], 0.0)


def ours(detector: PiiDetector, text: str) -> Found:
    return {(f.category, *f.span, f.score) for f in detector.detect([Text(text)])[0] if f.span}


def theirs(presidio: Any, text: str) -> Found:
    return {(r.entity_type, r.start, r.end, r.score) for r in presidio.analyze(text, "en")}


def sample() -> Iterator[str]:
    yield from (json.loads(row)["text"] for row in SAMPLE.read_text(encoding="utf-8").splitlines())


def everything() -> Iterator[str]:
    yield from sample()
    if root := os.environ.get("LLMGUARD_DATA"):
        for path in sorted(Path(root).glob("*/pii/*.jsonl.gz")):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from (json.loads(row)["text"] for row in file)


def test_every_text_of_the_data_has_presidios_findings() -> None:
    detector, presidio = pair()
    seen = 0
    for text in everything():
        found = ours(detector, text)
        seen += len(found)
        assert found == theirs(presidio, text), text
    assert seen > 100


def test_every_text_of_the_sample_has_presidios_findings_with_all_countries() -> None:
    detector, presidio = pair("all")
    assert len(detector.recognizers) > 85
    for text in sample():
        assert ours(detector, text) == theirs(presidio, text), text


@settings(max_examples=150, deadline=None)
@given(hostile)
def test_hostile_text_has_presidios_findings(text: str) -> None:
    detector, presidio = pair()
    assert ours(detector, text) == theirs(presidio, text)


@settings(max_examples=40, deadline=None)
@given(hostile)
def test_hostile_text_has_presidios_findings_with_all_countries(text: str) -> None:
    detector, presidio = pair("all")
    assert ours(detector, text) == theirs(presidio, text)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from(["1 ", "2-", "49 ", "030/", "0", "7", "555.", "(212) ", " - ", "2125550123", "+1"]), min_size=40
    )
)
def test_long_rows_of_digits_have_presidios_findings(parts: list[str]) -> None:
    detector, presidio = pair()
    text = "".join(parts)
    assert ours(detector, text) == theirs(presidio, text)


@pytest.mark.parametrize(
    ("options", "presidios"),
    [
        ({"entities": ["URL", "US_SSN"]}, {"entities": ["URL", "US_SSN"]}),
        ({"score_threshold": 0.5}, {"score_threshold": 0.5}),
        ({"allow_list": ["212-555-0123", "536-22-8756"]}, {"allow_list": ["212-555-0123", "536-22-8756"]}),
        (
            {"allow_list": [r"\d{3}-", "^www"], "allow_list_match": "regex"},
            {"allow_list": [r"\d{3}-", "^www"], "allow_list_match": "regex"},
        ),
    ],
)
def test_options_do_what_presidios_do(options: dict[str, Any], presidios: dict[str, Any]) -> None:
    detector, presidio = PiiDetector(settle=False, **options), pair()[1]
    for text in list(sample())[-150:]:
        want = {(r.entity_type, r.start, r.end, r.score) for r in presidio.analyze(text, "en", **presidios)}
        assert ours(detector, text) == want, text
