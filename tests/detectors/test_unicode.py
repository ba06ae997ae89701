import pickle
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmguard.detectors import unicode_live, unicode_near
from llmguard.detectors.unicode import UnicodeDetector
from llmguard.detectors.unicode_near import NEAR
from llmguard.testing import check_detector
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
        ("hi\U000e0069 é", [("TAG_CHARACTER", 1.0, (2, 3))]),
        ("if (a\u202e) {", [("BIDI_CONTROL", 0.95, (5, 6))]),
        ("\u202bx", [("BIDI_CONTROL", 0.9, (0, 1))]),
        ("\u2068name\u2069", [("BIDI_CONTROL", 0.5, (0, 1)), ("BIDI_CONTROL", 0.5, (5, 6))]),
        ("12\u200e/3", [("BIDI_CONTROL", 0.3, (2, 3))]),
        ("שלום \u2067עולם", [("BIDI_CONTROL", 0.9, (5, 6))]),
        ("pаypal", [("MIXED_SCRIPT", 0.9, (0, 6))]),
        ("аpple pie", [("MIXED_SCRIPT", 0.8, (0, 5))]),
        ("аéxα", [("MIXED_SCRIPT", 0.9, (0, 4))]),
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


def test_it_keeps_the_promises_of_a_detector() -> None:
    check_detector(
        DETECTOR,
        texts=[
            "p\u0430yp\u0430l, Windows\u0430, \u202egnp.exe\u202c i\u200bg\u200bn",
            "שלום \u2067עולם\u2069 12\u200e/3\n\u2067abc, \u202a(\u2068x\u2069)\u202c",
            "Z\u0300\u0301\u0302\u0303algo 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👨‍👩‍👧 ❤️ \ufeff\U000e0041\u00ad",
        ],
    )


@pytest.mark.parametrize(("gap", "near"), [(NEAR - 1, True), (NEAR, False)])
def test_only_letters_nearby_explain_a_mark_or_a_word(gap: int, near: bool) -> None:
    filler = " " * gap

    for text in ("א" + filler + "\u200e", "\u200e" + filler + "א"):
        assert (find(text) == []) is near
    for text in ("ж" + filler + "Windowsа", "Windowsа" + filler + "ж"):
        assert (find(text) == []) is near


# Alphabets in which much can go wrong within a few characters.
_ANY = (
    "ab Z5.\n\u2029éаеpжбא漢αβㄅ\u3164\x00\x1f\x85\x9f\u0301\u034f\u05b0\u200b\u200c\u200d\u00ad\ufeff\ufe0f\u200e"
    "\u202a\u202b\u202c\u202e\u2066\u2067\u2069\U0001f3f4\U000e0067\U000e007f😀❤\U0001f3fd\U000e0101\U000e0fff\U000e0080ไء"
)
_ALPHABETS = (
    _ANY,
    "abа жe\n",
    "ab\u202a\u2066\u202c\u2069\n א\u202e",
    "a\u0301\u034f\u200b\ufeff ",
    "\U0001f3f4\U000e0067\U000e0062\U000e007fa \u200d😀",
    "aаж. 漢αé",
    "a \u200e\u202aאё\u200b\n",
)
_texts = st.sampled_from(_ALPHABETS).flatmap(lambda alphabet: st.text(st.sampled_from(alphabet), max_size=12))


@pytest.fixture(params=[2, NEAR], ids=["near is two", "near is far"], scope="module")
def neighbourhood(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (unicode_near, unicode_live):
            patch.setattr(module, "NEAR", request.param)
        patch.setattr(unicode_live, "_LOOK_BACK", 3)
        yield


@pytest.mark.usefixtures("neighbourhood")
@example("\U0001f3f4\U000e0067\U000e0062", "\U000e0065\U000e007f a")
@example("\u0301\u0301\u0301", "\u0301")
@example("a \ufeffb", "")
@example("\u2067a\u202c b", "\u2069\nא")
@example("жа Windowsа ", "a")
@example("сбе", "pбанк")
@example("\u200e  \u200e ", "א")
@example("漢aaaaа", "bа ")
@given(_texts, _texts)
def test_what_is_settled_stays_whatever_follows(head: str, rest: str) -> None:
    for cut in range(len(head) + 1):
        text = head[:cut]
        settled = DETECTOR.settled(text)
        assert 0 <= settled <= len(text)
        for longer in (text, head, head + rest, text + rest):
            assert _from(longer, 0, settled) == _from(text, 0, settled)


@pytest.mark.usefixtures("neighbourhood")
@example("\u2067a \u2066b", "\u2069 \u2069א")
@example("א ab \u200e", "ж")
@example("a \ufeffb", "")
@example("ж aа ", "")
@given(_texts, _texts)
def test_a_window_shows_what_the_whole_text_shows(text: str, rest: str) -> None:
    for start in range(len(text) + 1):
        low = DETECTOR.context(text, start)
        assert 0 <= low <= start
        settled = low + DETECTOR.settled(text[low:])
        for more in ("", rest, rest[:1]):
            whole = _from(text + more, start)
            assert _from(text[low:] + more, start - low, by=low) == whole
            assert [one for one in whole if one[0] < settled] == _from(text, start, settled)


def _from(
    text: str, start: int, end: int | None = None, by: int = 0
) -> list[tuple[int, int, str, float, tuple[str, ...]]]:
    """The findings that begin in a part of the text, moved."""
    return [
        (span[0] + by, span[1] + by, found.category, found.score, found.reasons)
        for found in DETECTOR.detect([Text(text)])[0]
        if (span := found.span) and start <= span[0] < (len(text) if end is None else end)
    ]


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("", ""),
        ("Plain words, and a few mo", "mo"),
        ("Plain words. ", ""),
        ("Слова просты, а предл", "предл"),
        ("כאשר מודל כותב פרו", ""),
        ("模型在写散文的时候，它的词", ""),
        ("a family 👨\u200d", "\u200d"),
        ("שלום\u200e abc ", ""),
        ("12\u200e/3 ", "\u200e/3 "),
        ("Windowsа is ", "Windowsа is "),
        ("Это Windowsа, ", ""),
        ("שלום \u2067עולם, ", "\u2067עולם, "),
        ("שלום \u2067עולם,\n", ""),
        ("x\u202e y\n", ""),
        ("12\u200e/3 " + "-" * 2 * NEAR, ""),
    ],
)
def test_prose_is_held_back_by_a_word_and_what_is_open_by_what_may_explain_it(text: str, held: str) -> None:
    assert text[DETECTOR.settled(text) :] == held


def test_a_window_is_short() -> None:
    prose = "Quand un modèle écrit, ses mots sont courts. "
    russian = "Слова этого текста просты. "

    for text, most in (
        (prose * 100, 1),
        (russian * 100, 12),
        ("שלום " + prose * 100, 1),
        (russian + "words " * 30, 200),
    ):
        place = DETECTOR.settled(text)
        assert place - DETECTOR.context(text, place) <= most
