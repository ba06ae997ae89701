"""The keywords detector: phrases, folding with exact offsets, boundaries, allow lists, files."""

from __future__ import annotations

import pickle
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.growth import check_growth
from llmguard.detectors.keywords import KeywordsDetector
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.testing import check_detector
from llmguard.types import Text


def hits(text: str, **options: object) -> list[tuple[int, int, str]]:
    (findings,) = KeywordsDetector(**options).detect([Text(text)])  # type: ignore[arg-type]
    assert all(finding.score == 1.0 for finding in findings)
    return [(*finding.span, finding.category) for finding in findings if finding.span]


def words(text: str, **options: object) -> list[str]:
    return [text[start:end] for start, end, _ in hits(text, **options)]


@pytest.mark.parametrize(
    ("text", "deny", "expected"),
    [
        ("Project Nightjar is late", ["nightjar"], [(8, 16)]),
        ("NIGHTJAR nightjar Nightjar", ["Nightjar"], [(0, 8), (9, 17), (18, 26)]),
        ("", ["nightjar"], []),
        ("nightjars, xnightjar, nightjar_2", ["nightjar"], []),
        ("(nightjar)-'nightjar'", ["nightjar"], [(1, 9), (12, 20)]),
        ("blue\tmoon blue\nmoon blue\u00a0moon", ["blue moon"], [(0, 9), (10, 19), (20, 29)]),
        ("use C++, or @bob", ["c++", "@bob"], [(4, 7), (12, 16)]),
        ("new york city", ["new york", "new york cit", "york city"], [(0, 8)]),
        ("a b c", ["a b", "b c", "a"], [(0, 3)]),
        ("a b c d", ["a b", "c", "d", "c d"], [(0, 3), (4, 7)]),
    ],
)
def test_phrases_are_found_with_their_spans(text: str, deny: list[str], expected: list[tuple[int, int]]) -> None:
    assert [hit[:2] for hit in hits(text, deny=deny)] == expected


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("die STRASSE dort", "Straße", "STRASSE"),
        ("die Straße dort", "STRASSE", "Straße"),
        ("die STRAẞE dort", "strasse", "STRAẞE"),
        ("in İSTANBUL heute", "İstanbul", "İSTANBUL"),
        ("eine ﬁrma hier", "FIRMA", "ﬁrma"),
        ("x ｶﾞﾝﾀﾞﾑ y", "ガンダム", "ｶﾞﾝﾀﾞﾑ"),
        ("x ガンダム y", "ｶﾞﾝﾀﾞﾑ", "ガンダム"),
        ("x ｎｉｇｈｔ y", "night", "ｎｉｇｈｔ"),
        ("a CAFE\u0301 b", "café", "CAFE\u0301"),
        ("a vi\u00ea\u0323t b", "vi\u1ec7t", "vi\u00ea\u0323t"),
        ("x ΟΔΟΣ y", "οδος", "ΟΔΟΣ"),
        ("n\u200bi\u00adght 🌙", "night", "n\u200bi\u00adght"),
        ("🌙🌙 nıght Ǆ night", "night", "night"),
        ("x ㅠㅠ y", "ㅠㅠ", "ㅠㅠ"),
        ("x \u1112\u1161\u11ab\u1100\u116e\u11a8 y", "한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
    ],
)
def test_case_and_width_are_folded_and_spans_are_those_of_the_original(text: str, phrase: str, found: str) -> None:
    assert words(text, deny=[phrase]) == [found]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [("café", "cafe"), ("cafe\u0301", "cafe"), ("ALİ", "ali"), ("한국", "하"), ("Maß", "mas"), ("NIGHT", "nıght")],
)
@pytest.mark.parametrize("word_boundaries", [True, False])
def test_a_letter_with_its_accents_is_not_the_letter(text: str, phrase: str, word_boundaries: bool) -> None:
    expected = ["Maß"] if phrase == "mas" and not word_boundaries else []
    assert words(text, deny=[phrase], word_boundaries=word_boundaries) == expected


def test_scripts_without_spaces_have_a_boundary_everywhere() -> None:
    assert words("私は東京に住む", deny=["東京"]) == ["東京"]
    assert words("ฉันรักไทยมาก", deny=["ไทย"]) == ["ไทย"]
    assert words("アメリカ", deny=["メリ"]) == []


def test_without_word_boundaries_parts_of_words_count() -> None:
    assert words("nightjars", deny=["jar"], word_boundaries=False) == ["jar"]


def test_case_sensitive_folds_width_alone() -> None:
    assert words("IT it ＩＴ", deny=["IT"], case_sensitive=True) == ["IT", "ＩＴ"]


def test_categories_come_from_the_mapping_and_a_phrase_may_have_two() -> None:
    deny = {"RIVAL": ["Acme", "Globex"], "INTERNAL": ["nightjar", "globex"]}
    assert hits("acme nightjar globex", deny=deny) == [
        (0, 4, "RIVAL"),
        (5, 13, "INTERNAL"),
        (14, 20, "INTERNAL"),
        (14, 20, "RIVAL"),
    ]
    assert KeywordsDetector(deny=deny).categories == {"RIVAL", "INTERNAL"}
    assert hits("acme", deny=["acme"], category="RIVAL") == [(0, 4, "RIVAL")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("apple pie and apple", ["apple"]),
        ("APPLE PIE", []),
        ("apple pies", ["apple"]),
        ("pine apple pie apple", ["apple"]),
    ],
)
def test_a_deny_hit_inside_an_allow_hit_is_dropped(text: str, expected: list[str]) -> None:
    assert words(text, deny=["apple"], allow=["apple pie"]) == expected


def test_a_longer_deny_hit_outlives_an_allow_hit_inside_it() -> None:
    assert words("sour apple pie day", deny=["sour apple pie", "apple"], allow=["apple pie"]) == ["sour apple pie"]


def test_no_phrases_find_nothing() -> None:
    detector = KeywordsDetector()
    assert detector.detect([Text("anything"), Text("")]) == [[], []]
    assert detector.categories == {"KEYWORD"}


def test_files_hold_a_phrase_a_line(tmp_path: Path) -> None:
    deny = tmp_path / "deny.txt"
    deny.write_text("\ufeff# our rivals\n\nAcme  \r\n\\#boycott\n  Straße\n", encoding="utf-8")
    allow = tmp_path / "allow.txt"
    allow.write_text("acme road\n", encoding="utf-8")
    text = "acme, ACME Road, #boycott, strasse, our rivals"
    assert words(text, deny_files=str(deny), allow_files=[str(allow)]) == ["acme", "#boycott", "strasse"]
    assert hits("acme", deny_files={"RIVAL": str(deny)}) == [(0, 4, "RIVAL")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deny": 7}, "deny must be a list of strings, not int"),
        ({"deny": ["a", 7]}, "item 2 of deny must be a string, not int"),
        ({"deny": ["a", " "]}, "phrase 2 of deny is empty"),
        ({"deny": ["\u200b"]}, "phrase 1 of deny is empty"),
        ({"deny": ["a\0b"]}, "a phrase of deny holds a NUL"),
        ({"deny": ["x" * 5_000]}, "phrase 1 of deny has 5000 bytes"),
        ({"deny": {"two words": ["a"]}}, "'two words' is no category"),
        ({"allow": {"A": ["a"]}}, "allow must be a list"),
        ({"word_boundaries": "yes"}, "word_boundaries must be true or false"),
        ({"deny_files": "missing-file.txt"}, "deny_files: 'missing-file.txt': No such file"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        KeywordsDetector(**options)  # type: ignore[arg-type]


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin1\.txt' is not UTF-8 at byte 3"):
        KeywordsDetector(deny_files=str(path))


def test_too_many_phrases_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmguard.detectors.keywords.MAX_PHRASES", 2)
    with pytest.raises(ConfigurationError, match="deny holds 3 phrases; at most 2 fit"):
        KeywordsDetector(deny=["a", "b", "c"])


def test_hits_across_the_blocks_of_a_long_text_are_found_once() -> None:
    text = "x" * 65_530 + " night jar " + "y" * 70_000 + " night jar"
    assert words(text, deny=["night jar", "jar"]) == ["night jar", "night jar"]
    umlauts = "ü" * 40_000 + " night jar " + "ß" * 40_000
    assert words(umlauts, deny=["night jar"]) == ["night jar"]


def test_a_hundred_thousand_findings() -> None:
    assert len(hits("ab " * 100_000, deny=["ab"])) == 100_000
    assert len(hits("äb " * 100_000, deny=["äb"])) == 100_000


def test_nested_phrases_over_one_run_leave_the_longest() -> None:
    assert hits("a" * 1_000, deny=["a" * n for n in range(1, 51)], word_boundaries=False) == [
        (start, start + 50, "KEYWORD") for start in range(0, 1_000, 50)
    ]


def naive(text: str, phrases: list[str]) -> list[tuple[int, int]]:
    """Leftmost-longest on ASCII by trying everything."""
    found = []
    past = 0
    for start in range(len(text)):
        ends = [start + len(p) for p in phrases if text[start:].lower().startswith(p.lower())]
        free = not re.match(r"\w", text[start]) or not re.match(r"\w", text[start - 1 : start])
        ends = [e for e in ends if not (re.match(r"\w", text[e - 1]) and re.match(r"\w", text[e : e + 1]))]
        if ends and free and start >= past:
            past = max(ends)
            found.append((start, past))
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.text(alphabet="abAB -", max_size=30),
    st.lists(st.text(alphabet="ab-", min_size=1, max_size=4), min_size=1, max_size=6),
)
def test_equals_trying_everything(text: str, phrases: list[str]) -> None:
    assert [hit[:2] for hit in hits(text, deny=phrases)] == naive(text, phrases)


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=30),
    st.text(
        alphabet=st.characters(
            exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp", "M"],
            exclude_characters="ı",  # whose capital is I, which is not its equal
        ),
        min_size=1,
        max_size=6,
    ),
    st.text(max_size=30),
)
def test_a_phrase_that_stands_in_the_text_is_found_however_it_is_written(before: str, phrase: str, after: str) -> None:
    for written in (phrase, phrase.upper(), unicodedata.normalize("NFD", phrase)):
        text = f"{before} {written} {after}".encode("utf-8", "replace").decode()
        start = len(f"{before} ".encode("utf-8", "replace").decode())
        try:
            found = hits(text, deny=[phrase.casefold()])
        except ConfigurationError:
            continue
        assert any(s <= start + len(written) and e >= start for s, e, _ in found)


def test_keeps_the_promises_of_a_detector() -> None:
    check_detector(
        KeywordsDetector(deny={"A": ["ada", "ß"], "B": ["ignores all", "11"]}, allow=["ß"]), texts=["ADA, ß, Ada"]
    )
    check_detector(KeywordsDetector())


def test_a_missing_package_is_one_clear_error_and_needed_for_phrases_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ahocorasick_rs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'llmguard\[keywords\]'"):
        KeywordsDetector(deny=["a"])
    assert KeywordsDetector().detect([Text("a")]) == [[]]


def test_a_pickled_copy_finds_the_same() -> None:
    original = KeywordsDetector(deny=["Straße"], allow=["straße 7"], case_sensitive=True)
    detector = pickle.loads(pickle.dumps(original))
    assert [f.span for f in detector.detect([Text("Straße STRASSE")])[0]] == [(0, 6)]


# Letters, a space, accents that change places, what folds to two, what joins and what is passed over.
GROWING = "ab \u0301\u0316é_ｱﾞ\u200bﬀ漢1가ก็"
PIECES = st.text(alphabet=st.sampled_from(GROWING), max_size=24)
PHRASES = st.lists(
    st.one_of(
        st.text(alphabet=st.sampled_from("ab "), min_size=1, max_size=12),
        st.text(alphabet=st.sampled_from(GROWING), min_size=1, max_size=6),
    ).filter(lambda phrase: phrase.strip("\u200b ") != ""),
    min_size=1,
    max_size=4,
)


@settings(max_examples=120, deadline=None)
@given(PHRASES, st.one_of(st.just([]), PHRASES), PIECES, st.lists(PIECES, max_size=4), st.booleans(), st.booleans())
def test_what_is_settled_stays_whatever_follows(
    deny: list[str], allow: list[str], text: str, endings: list[str], word_boundaries: bool, narrow: bool
) -> None:
    if narrow:
        text = "".join(char if char in "ab " else "a" for char in text)
    check_growth(
        KeywordsDetector(deny=deny, allow=allow, word_boundaries=word_boundaries), text, endings, cuts=len(text) + 1
    )


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("", 0),
        ("We met at noon and said so", 26),
        ("the new y", 4),
        ("the new york", 4),
        ("the new york ", 13),
        ("the renew", 9),
        ("the n\u0301ew", 8),
        ("the ma\u0301", 5),  # an accent to come may stand before this one
        ("blue nightjar roa", 5),
        ("nightjar roads", 14),
        ("ＮＥＷ Ｙ", 0),
        ("new\tyo", 0),
    ],
)
def test_a_text_is_settled_up_to_where_a_phrase_may_have_begun(text: str, settled: int) -> None:
    detector = KeywordsDetector(deny=["New York", "nightjar"], allow=["nightjar road"])
    assert detector.settled(text) == settled


def test_without_word_boundaries_a_phrase_may_begin_anywhere() -> None:
    assert KeywordsDetector(deny=["new york"], word_boundaries=False).settled("the renew") == 6


def test_long_phrases_are_seen_from_their_first_letter_to_their_last() -> None:
    phrase = "the quick brown fox jumps over the lazy dog"
    detector = KeywordsDetector(deny=[phrase, "the quick brown hen", "dog"])
    text = f"Say: {phrase}"
    assert [detector.settled(text[:end]) for end in range(6, len(text) + 1)] == [5] * len(phrase)
    assert detector.settled("Say: the quick brown fish") == 25


def test_only_a_letter_before_the_place_is_looked_at_again() -> None:
    detector = KeywordsDetector(deny=["new york"], allow=["new york city"])
    text = "a long text before it. " * 20 + "in new york x"
    assert detector.context(text, len(text)) == len(text) - 1
    assert detector.context(text, text.index("york")) == text.index("new") - 1
    assert detector.context("\u0301\u0301a", 2) == 0


def test_a_detector_that_looks_for_nothing_holds_nothing_back() -> None:
    detector = KeywordsDetector(allow=["acme"])
    assert (detector.settled("acm"), detector.context("acm", 2)) == (3, 2)


def test_a_detector_that_was_asked_still_pickles() -> None:
    detector = KeywordsDetector(deny=["new york"])
    detector.settled("a new")
    assert pickle.loads(pickle.dumps(detector)).settled("a new") == 2
