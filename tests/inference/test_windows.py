import itertools
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.inference.windows import Tokens, case_types, code_points, cut, spaced_tokens, spans


def flags(values: list[bool]) -> np.ndarray:
    return np.array(values, np.bool_)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int, np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 300))
    spaced = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    words = [space or draw(st.booleans()) for space in spaced]
    return count, draw(st.integers(1, 40)), draw(st.integers(0, 40)), flags(spaced), flags(words)


@given(cuts())
def test_ranges_cover_all_tokens_and_fit(case: tuple[int, int, int, np.ndarray, np.ndarray]) -> None:
    count, capacity, overlap, spaced, words = case
    ranges = cut(count, capacity, overlap, spaced, words)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == count
    for (first, last), (following, _) in itertools.pairwise(ranges):
        assert first < following <= last
        assert following - first >= max(1, capacity // 4)
    assert all(0 < last - first <= capacity for first, last in ranges) or count == 0


@given(cuts())
def test_only_a_word_longer_than_half_a_window_is_cut(case: tuple[int, int, int, np.ndarray, np.ndarray]) -> None:
    count, capacity, overlap, spaced, words = case
    starts = [0, *[at for at in np.flatnonzero(spaced).tolist() if at], count]
    for edge in {edge for pair in cut(count, capacity, overlap, spaced, words) for edge in pair}:
        word = next(((low, high) for low, high in itertools.pairwise(starts) if low < edge < high), None)
        assert word is None or word[1] - word[0] > capacity // 2


def test_the_next_window_begins_at_a_word_about_an_overlap_earlier() -> None:
    spaced = flags([at % 5 == 0 for at in range(100)])
    assert cut(100, 40, 10, spaced, spaced) == [(0, 40), (30, 70), (60, 100)]
    assert cut(100, 38, 8, spaced, spaced) == [(0, 35), (25, 60), (50, 85), (75, 100)]
    assert cut(100, 40, 0, spaced, spaced) == [(0, 40), (40, 80), (80, 100)]


def test_scripts_without_spaces_are_cut_between_words_and_else_anywhere() -> None:
    nowhere, thirds = flags([False] * 50), flags([at % 3 == 0 for at in range(50)])
    assert cut(50, 20, 4, nowhere, thirds) == [(0, 18), (12, 30), (24, 42), (36, 50)]
    assert cut(50, 20, 4, nowhere, nowhere) == [(0, 20), (16, 36), (32, 50)]


def test_spans_cover_what_has_no_token() -> None:
    offsets = np.array([[2, 4], [5, 7], [9, 12]], np.int32)
    none = np.empty(0, np.int32)
    tokens = Tokens(20, none, offsets, none, flags([False] * 3), flags([False] * 3))
    assert spans(tokens, [(0, 1), (1, 2), (2, 3)]) == [(0, 5), (5, 9), (9, 20)]
    assert spans(tokens, [(0, 3)]) == [(0, 20)]


def naive_case(text: str, start: int, end: int) -> int:
    """The definition, letter by letter."""

    def kind(letter: str) -> str:
        return "U" if letter.isupper() or letter.istitle() else "l" if letter.islower() else ""

    letters = [(at, kind(text[at])) for at in range(start, end) if kind(text[at])]
    upper = [at for at, what in letters if what == "U"]
    if not upper:
        return 0
    if len(upper) == len(letters) >= 2:
        return 2
    first = upper[0] == 0 or not kind(text[upper[0] - 1])
    return 1 if len(upper) == 1 and first else 3


@given(st.text(st.sampled_from("aAbB1. -ßẞΣσǅ世🄰\u0301"), max_size=40), st.data())
def test_case_types_are_those_of_the_definition(text: str, data: st.DataObject) -> None:
    edges = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pairs = list(itertools.pairwise(edges))
    offsets = np.array(pairs, np.int32).reshape(-1, 2)
    assert case_types(code_points(text), offsets).tolist() == [naive_case(text, *pair) for pair in pairs]


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("dog", 0), ("Dog", 1), ("DOG", 2), ("doG", 3), ("McDonald", 3), ("iPhone", 3), ("I", 1), ("3D", 1), ("42", 0),
        ("", 0), ("東京", 0), ("Ελλάς", 1), ("ΑΘΗΝΑ", 2), ("ǅ", 1), ("Éa", 1), ("E\u0301a", 1), ("🄰🄱", 2), ("US1", 2),
    ],
)  # fmt: skip
def test_case_types_by_example(text: str, case: int) -> None:
    assert case_types(code_points(text), np.array([[0, len(text)]], np.int32)).tolist() == [case]


def test_a_piece_of_a_word_knows_that_it_begins_none() -> None:
    points = code_points("MacDonald O'Brien")
    offsets = np.array([[0, 3], [3, 9], [10, 11], [12, 17]], np.int32)
    assert case_types(points, offsets).tolist() == [1, 3, 1, 1]


@given(st.text(st.sampled_from("ab \n\t\u00a0\u3000世"), max_size=40))
def test_spaced_tokens_are_those_after_white_space(text: str) -> None:
    words = []
    at = 0
    for part in text.replace("\n", " ").split(" "):
        if part.strip():
            words.append((at, at + len(part)))
        at += len(part) + 1
    offsets = np.array(words, np.int32).reshape(-1, 2)
    expected = [
        any(letter.isspace() for letter in text[previous : start + 1])
        for (start, _), previous in zip(words, [0, *[end for _, end in words]], strict=False)
    ]
    assert spaced_tokens(code_points(text), offsets).tolist() == expected


def test_the_table_of_letters_ends_after_the_last_cased_one() -> None:
    last = max(point for point in range(0x30000) if chr(point).isupper() or chr(point).islower())
    assert last < 0x1F190, unicodedata.unidata_version
