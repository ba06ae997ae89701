"""Folding: equal to the standard's definition by the standard library, with offsets, in linear time."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.folding import MAX_EXPANSION, Folding, folding

IGNORED = "\u00ad\u034f\u061c\u200b\u200d\u2060\ufe0f\ufeff\U000e0041"


def naive(text: str) -> str:
    """Each code point by itself, then canonical ordering by the library."""
    parts = []
    for char in text:
        if char.isspace():
            parts.append(" ")
            continue
        plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", char).casefold())
        plain = "".join(c for c in plain if c not in IGNORED)
        parts.append(plain if len(plain) <= MAX_EXPANSION else char)
    joined = "".join(parts)
    # What is left alone has no canonical decomposition, so this only puts marks in order.
    return unicodedata.normalize("NFD", joined)


TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from("aßİﬁé\u0301\u0323\u0334ｶﾞガ한ｈΣς ﷺ🏴" + IGNORED),
        st.characters(
            exclude_categories=["Cs", "Cn"], exclude_characters="\u115f\u1160\u3164\uffa0\u17b4\u17b5\u206a\u180e"
        ).filter(lambda char: unicodedata.category(char) != "Cf" or char in IGNORED),
    ),
    max_size=30,
).filter(
    lambda text: not any(0xFE00 <= ord(c) < 0xFE0F or 0x180B <= ord(c) <= 0x180F or ord(c) > 0xE0000 for c in text)
)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_equals_the_definition(text: str) -> None:
    assert folding(case_sensitive=False).data(text).decode() == naive(text)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_every_folded_code_point_knows_where_it_came_from(text: str) -> None:
    fold = folding(case_sensitive=False)
    folded = fold.fold(text)
    points = folded.data.decode()
    assert len(folded.kinds) == len(points)
    for index, point in enumerate(points):
        start, end = folded.span(index, index + 1)
        assert end == start + 1
        assert point in fold.data(text[start]).decode()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_takes_a_short_cut_to_the_same(text: str) -> None:
    fold = folding(case_sensitive=False)
    assert fold.data(text) + "e\u0301".encode() == fold.data(text + "é")
    assert fold.fold(text).kinds == fold.fold(text + "é").kinds[: len(text)]


@pytest.mark.parametrize(("text", "expected"), [("Aß", "Aß"), ("ＡＢ", "AB"), ("É", "E\u0301")])
def test_case_sensitive_keeps_case(text: str, expected: str) -> None:
    assert folding(case_sensitive=True).data(text).decode() == expected


def test_marks_are_put_in_order_also_in_a_long_run() -> None:
    marks = "\u0301" * 20_000 + "\u0316" * 20_000
    assert folding(case_sensitive=False).data("a" + marks).decode() == "a" + "\u0316" * 20_000 + "\u0301" * 20_000


def test_tables_grow_as_code_points_turn_up() -> None:
    syllables = "".join(map(chr, range(0xAC00, 0xAC00 + 500)))
    assert Folding(case_sensitive=False).data(syllables).decode() == unicodedata.normalize("NFD", syllables)
