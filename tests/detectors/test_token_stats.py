"""The token_stats detector: what floods, loops and blobs look like, and what ordinary text does not."""

from __future__ import annotations

import base64
import math
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.token_stats import TokenStatistics, TokenStatsDetector, statistics
from llmguard.errors import ConfigurationError
from llmguard.testing import check_detector
from llmguard.types import Finding, Text

PROSE = (
    "The harbour was quiet when the last ferry came in, and nobody on the quay looked up. Marta counted the "
    "crates twice, wrote the number on her sleeve, and went to find the harbour master. He was asleep behind "
    "a newspaper from the week before; the kettle beside him had boiled dry. She turned off the stove, opened "
    "a window, and read the tide table on the wall until he woke. It said that high water would come at four, "
    "which left her three hours to load everything, call her brother, and decide what to tell the customs men "
    "about the seven boxes that were marked as fish but hummed faintly when one stood close to them. "
)
BLOB = base64.b64encode(random.Random(7).randbytes(300)).decode()


def find(content: str, **options: float) -> list[Finding]:
    (found,) = TokenStatsDetector(**options).detect([Text(content)])  # type: ignore[arg-type]
    return found


def categories(content: str, **options: float) -> set[str]:
    return {finding.category for finding in find(content, **options)}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "aaaa",
        "ha " * 60,
        PROSE,
        PROSE * 2,
        "def add(a, b):\n    return a + b\n\n\n" + "-" * 78 + "\nclass Adder:\n    pass\n" + PROSE,
        "См. также: "
        + "Пролетарии всех стран, соединяйтесь, говорил он тихо и медленно шёл дальше по набережной. " * 1,
        "東京都は日本の首都であり、世界最大級の都市圏を形成している。人口は約千四百万人で、政治、経済、文化の中心である。"
        * 2,
        "sha512 " + random.Random(1).randbytes(64).hex() + " " + PROSE,
        "https://example.com/a/very/long/path/that/goes-on-and-on-and-on-with-words-in-it-and-more-words-after-those/"
        "until-it-is-longer-than-a-blob-would-have-to-be-but-it-still-reads-like-plain-english-text.html " + PROSE,
        "\n".join(str(n * 7_919) for n in range(100)),
    ],
)
def test_ordinary_text_is_left_alone(content: str) -> None:
    assert find(content) == []


@pytest.mark.parametrize(
    ("flood", "expected"),
    [
        ("ö " * 150, (0, 300)),
        ("=" * 300, (0, 300)),
        (") ] } " * 60, (0, 360)),
        ("\n" * 400, (0, 400)),
        ("I will not answer that question today. " * 8, (0, 312)),
        (PROSE.upper() * 4, (0, 4 * len(PROSE))),
        ("🙂🙃" * 200, (0, 400)),
    ],
)
@pytest.mark.parametrize("before", ["", "Listen: ", PROSE, PROSE[:-7] + "\n"])
@pytest.mark.parametrize("after", ["", "#then", "\n" + PROSE])
def test_a_loop_is_found_with_its_span(flood: str, expected: tuple[int, int], before: str, after: str) -> None:
    spans = [f.span for f in find(before + flood + after) if f.category == "LOOP"]
    assert len(spans) == 1
    start, end = spans[0] or (0, 0)
    # The neighbours may happen to continue the loop by a few characters.
    assert abs(start - len(before) - expected[0]) <= 2
    assert abs(end - len(before) - expected[1]) <= 2


def test_two_loops_are_two_findings() -> None:
    content = "a-" * 200 + PROSE + "b+" * 200
    assert [f.span for f in find(content) if f.category == "LOOP"] == [
        (0, 400),
        (400 + len(PROSE), 800 + len(PROSE)),
    ]


def test_a_loop_scores_a_half_at_the_threshold_and_more_beyond() -> None:
    scores = [f.score for n in (120, 240, 1_200) for f in find("a-" * n) if f.category == "LOOP"]
    assert scores == [0.5, 0.75, 0.95]


def test_loop_options() -> None:
    three = "I will not answer that question today, and not tomorrow, nor on any other day of this week either. " * 3
    assert "LOOP" not in categories(three)
    assert "LOOP" in categories(three, loop_repeats=3)
    assert "LOOP" not in categories("a-" * 200, loop_length=401)


def test_repetition_that_is_no_loop() -> None:
    rng = random.Random(3)
    content = "".join(rng.choices(["access granted now. ", "please say it. ", "access granted? "], k=60))
    found = [f for f in find(content) if f.category == "REPETITION"]
    assert [f.span for f in found] == [(0, len(content))]
    assert 0.8 < found[0].score <= 1.0
    assert "REPETITION" not in categories(content, repetition=1.0)


def test_repetition_of_blocks_side_by_side_is_one_finding() -> None:
    rng = random.Random(3)
    flood = "".join(rng.choices(["access granted now. ", "please say it. ", "access granted? "], k=600))
    (found,) = [f for f in find(flood) if f.category == "REPETITION"]
    assert found.span == (0, len(flood))


def test_low_entropy_is_about_the_whole_text() -> None:
    bits = "".join(random.Random(5).choices("01", k=600))
    (low,) = [f for f in find(bits) if f.category == "LOW_ENTROPY"]
    assert low.span is None
    assert low.score == pytest.approx(1 - 1 / 5, abs=0.01)
    assert "LOW_ENTROPY" not in categories(bits, low_entropy=0.9)
    assert "LOW_ENTROPY" not in categories(bits[:199])


@pytest.mark.parametrize(
    "blob",
    [
        BLOB,
        base64.b64encode(PROSE.encode()).decode(),
        base64.urlsafe_b64encode(random.Random(2).randbytes(200)).decode(),
        base64.b32encode(PROSE.encode()).decode(),
        PROSE.encode().hex(),
        base64.encodebytes(random.Random(4).randbytes(400)).decode().strip(),
        base64.encodebytes(random.Random(4).randbytes(400)).decode().strip().replace("\n", "\r\n"),
    ],
)
@pytest.mark.parametrize("before", ["", "Decode this: ", PROSE, PROSE + "data:text/plain;base64,"])
@pytest.mark.parametrize("after", ["", "\n", " and do it.", '"}' + PROSE])
def test_a_blob_is_found_with_its_span(blob: str, before: str, after: str) -> None:
    found = [f for f in find(before + blob + after) if f.category == "HIGH_ENTROPY"]
    assert [f.span for f in found] == [(len(before), len(before) + len(blob))]
    assert 0.5 <= found[0].score <= 1.0


def test_blob_options() -> None:
    assert categories(BLOB) == {"HIGH_ENTROPY"}
    assert categories(BLOB, blob_length=1_000) == set()
    assert categories(base64.b64encode(PROSE.encode()).decode(), high_entropy=6.0) == set()


def test_length_counts_tokens_by_bytes() -> None:
    assert categories("word " * 3, max_tokens=4) == set()
    (long,) = find("word " * 8, max_tokens=5)
    assert (long.category, long.span, long.score) == ("EXCESSIVE_LENGTH", None, 0.75)
    assert categories("日本" * 3, max_tokens=4) == {"EXCESSIVE_LENGTH"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1, not 0"),
        ({"max_tokens": True}, "max_tokens must be a whole number"),
        ({"loop_length": 10}, "loop_length must be a whole number of at least 240"),
        ({"loop_repeats": 1.5}, "loop_repeats must be a whole number"),
        ({"repetition": 2}, "repetition must be in [0.05, 1.0], not 2"),
        ({"low_entropy": math.nan}, "low_entropy must be a number, not nan"),
        ({"high_entropy": "4"}, "high_entropy must be a number, not '4'"),
        ({"blob_length": 20}, "blob_length must be a whole number of at least 176"),
    ],
)
def test_wrong_options_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        find("", **options)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", TokenStatistics(0, 0, 0.0, 1.0, 0.0)),
        ("aaaa", TokenStatistics(1, 4, 0.0, 1.0, 0.0)),
        ("abab ab", TokenStatistics(2, 7, 1.449, 1.0, 0.0)),
        ("a b a b a b", TokenStatistics(3, 11, 1.539, 2 / 6, 0.5)),
        ("äöäö", TokenStatistics(2, 4, 1.0, 1.0, 0.0)),
        ("ä" * 70_000 + "ö" * 70_000, TokenStatistics(70_000, 140_000, 1.0, 1.0, 0.0)),
    ],
)
def test_statistics(content: str, expected: TokenStatistics) -> None:
    assert statistics(content) == pytest.approx(expected, abs=0.001)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=400))
def test_entropy_equals_its_definition(content: str) -> None:
    counts = Counter(content).values()
    naive = -sum(count / len(content) * math.log2(count / len(content)) for count in counts) if content else 0.0
    assert statistics(content).entropy == pytest.approx(naive, abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab\u0430\u4e00🙂", min_size=200, max_size=260), st.floats(0.5, 2.3))
def test_the_cheap_test_for_low_entropy_misses_nothing(content: str, limit: float) -> None:
    assert ("LOW_ENTROPY" in categories(content, low_entropy=limit)) == (statistics(content).entropy < limit)


@settings(max_examples=150, deadline=None)
@given(
    st.text(min_size=1, max_size=48).filter(lambda unit: not any(0xD800 <= ord(c) < 0xE000 for c in unit)),
    st.text(alphabet="xyz .", max_size=400),
    st.text(alphabet="xyz .", max_size=400),
)
def test_any_loop_of_a_short_unit_is_found(unit: str, before: str, after: str) -> None:
    content = before + unit * (-(-260 // len(unit)) + 4) + after
    spans = [f.span for f in find(content) if f.category == "LOOP" and f.span]
    middle = len(before) + 200
    assert any(start <= middle < end for start, end in spans)


def test_keeps_the_promises_of_a_detector() -> None:
    check_detector(TokenStatsDetector(max_tokens=300), texts=["ö " * 300, BLOB, PROSE + BLOB, "01 " * 500])
