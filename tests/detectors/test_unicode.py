import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.unicode import UnicodeDetector
from llmguard.types import Text

DETECTOR = UnicodeDetector()


def find(text: str) -> list[tuple[str, float, tuple[int, int] | None]]:
    return [(found.category, found.score, found.span) for found in DETECTOR.detect([Text(text)])[0]]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("ig\u200bnore", [("ZERO_WIDTH_SPLIT", 0.9, (2, 3))]),
        ("a \u200b b", [("INVISIBLE_CHARACTER", 0.5, (2, 3))]),
        ("o\u00adk", [("ZERO_WIDTH_SPLIT", 0.3, (1, 2))]),
        ("x" + "\u200b\u200c" * 5, [("INVISIBLE_CHARACTER", 0.95, (1, 11))]),
        ("ok \ufeffthere", [("INVISIBLE_CHARACTER", 0.5, (3, 4))]),
        ("a\U000e0101\U000e0102b", [("INVISIBLE_CHARACTER", 0.95, (1, 3))]),
        ("a\ufe0f", [("INVISIBLE_CHARACTER", 0.4, (1, 2))]),
        ("hi\U000e0069\U000e0067", [("TAG_CHARACTER", 1.0, (2, 4))]),
        ("if (a\u202e) {", [("BIDI_CONTROL", 0.95, (5, 6))]),
        ("\u202bx", [("BIDI_CONTROL", 0.9, (0, 1))]),
        ("\u2068name\u2069", [("BIDI_CONTROL", 0.5, (0, 1)), ("BIDI_CONTROL", 0.5, (5, 6))]),
        ("12\u200e/3", [("BIDI_CONTROL", 0.3, (2, 3))]),
        ("שלום \u2067עולם", [("BIDI_CONTROL", 0.9, (5, 6))]),
        ("pаypal", [("MIXED_SCRIPT", 0.9, (0, 6))]),
        ("аpple pie", [("MIXED_SCRIPT", 0.8, (0, 5))]),
        ("сбеpбанк", [("MIXED_SCRIPT", 0.5, (0, 8))]),
        ("a\x00b", [("CONTROL_CHARACTER", 0.8, (1, 2))]),
        ("\x1b[31mred", [("CONTROL_CHARACTER", 0.5, (0, 1))]),
        ("é\x85\x9b", [("CONTROL_CHARACTER", 0.5, (2, 3))]),
        ("Z\u0300\u0301\u0302\u0303algo", [("STACKED_MARKS", 0.8, (1, 5))]),
    ],
)
def test_deceiving_characters_are_found(text: str, findings: list[tuple[str, float, tuple[int, int]]]) -> None:
    assert find(text) == findings


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Plain text\twith\r\nlines\f.",
        "👨‍👩‍👧‍👦 ❤️ 🏳️‍🌈 🧑🏽‍💻 1️⃣ #️⃣ ™️ ℹ️ 🇬🇧",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
        "می‌خواهم بروم",
        "क्‍ष श्र‌ी",
        "\ufeffA file that starts with a byte order mark – é",
        "שלום\u200e abc \u2067עולם\u2069",
        "Я использую Windows, iPhone и SMSки",
        "Windowsа у меня нет",
        "TNFα, IFNγ, 5µm, kΩ, ΔT and αβ-test",
        "日本語のAPIとPDF、東京\u200b都 葛󠄀城",
        "ภาษา\u200bไทย",
        "naïve café – “quotes” … Tiếng Việt e\u0301",
        "Μια ελληνική πρόταση για email",
    ],
)
def test_what_scripts_and_emoji_need_is_left_alone(text: str) -> None:
    assert find(text) == []


@given(
    st.text(
        st.characters(codec="utf-8") | st.sampled_from("a\u200b\u200d\u202e\ufe0fа\U000e0061\x00"),
        max_size=40,
    )
)
def test_findings_lie_inside_the_text_in_order(text: str) -> None:
    found = DETECTOR.detect([Text(text)])[0]
    spans = [finding.span for finding in found if finding.span]

    assert spans == sorted(spans)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert {finding.category for finding in found} <= DETECTOR.categories


def test_many_findings_and_neighbours() -> None:
    many = "a\u200bb " * 20_000
    found = DETECTOR.detect([Text("ok"), Text(many)])

    assert found[0] == []
    assert len(found[1]) == 20_000
    assert found[1][-1].span == (len(many) - 3, len(many) - 2)


def test_it_pickles() -> None:
    twin = pickle.loads(pickle.dumps(DETECTOR))

    assert twin.detect([Text("pаypal")]) == DETECTOR.detect([Text("pаypal")])
