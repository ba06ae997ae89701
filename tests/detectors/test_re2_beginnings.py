"""Beginnings of RE2 patterns: what is under way at the end of a text is all that can still become a match."""

from __future__ import annotations

import itertools

import pytest
import re2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmguard.detectors.re2_beginnings import UnderWay, Unreadable, beginnings


@pytest.mark.parametrize(
    ("pattern", "text", "start"),
    [
        ("abc", "xxab", 2),
        ("abc", "xxabc", 2),
        ("abc", "xxabcd", 6),
        ("(?i)abc", "xxAB", 2),
        ("a(?i:b)c", "xaB", 1),
        ("a(?i:b)c", "xAb", 3),
        (r"\bab", "xab", 3),
        (r"\bab", "x ab", 2),
        ("a{2,4}b", "xaaaaa", 2),
        ("a{3,}b", "xaaaaa", 1),
        ("(?:ab|cd)+e", "zabc", 1),
        ("a.c", "a\n", 2),
        ("(?s)a.c", "a\n", 0),
        (r"a[^\w+]b", "a\u00e9", 0),
        (r"a[\x{e9}]b", "xa\u00e9", 1),
        (r"a\x{1F600}b", "xa\U0001f600", 1),
        (r"a\pLb", "xa\u00e9", 1),
        (r"a\PLb", "xa\u00e9", 4),
        (r"a[^\p{Greek}]b", "xa\u03b1", 4),
        (r"a[[:digit:]x]b", "xa7", 1),
        (r"a[^^[:digit:]]b", "xa7", 3),
        (r"a[]x]b", "xa]", 1),
        (r"a[^]x]b", "xa]", 3),
        ("(?m)^key: .*$", "no\nkey: x", 3),
        (r"ab\z", "xab", 1),
        ("ab$", "xabc", 4),
        ("-+(?s:.*?)(?:=|\\z)", "x-ab", 1),
        ("-+(?s:.*?)(?:=|\\z)", "x-ab=c-", 6),
        ("-+(?s:.*?)(?:=+|\\z)", "x-ab==", 1),
        ("-+(?s:.*?)(?:=x|\\z)", "x-a=x-b=x.", 10),
    ],
)
def test_the_earliest_beginning_is_found(pattern: str, text: str, start: int) -> None:
    assert UnderWay([pattern]).start(text.encode()) == start


@pytest.mark.parametrize("pattern", [r"\b", "", r"a(?i)b", "a{,3}b", r"\Qa\E", "\U0010f000", r"\x{10F001}", "a**"])
def test_what_cannot_be_read_says_so(pattern: str) -> None:
    with pytest.raises(Unreadable):
        beginnings(pattern)


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\w", r"\W", "c", r"\bb", r"\B"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?", "+?"])).map(
            lambda both: f"(?:{both[0]}){both[1]}"
        ),
    ),
    max_leaves=6,
)
ENDS = ["".join(end) for size in range(4) for end in itertools.product("abc ", repeat=size)]


@settings(max_examples=200, deadline=None)
@given(PATTERNS, st.text(alphabet="abc ", max_size=6))
def test_nothing_that_may_still_match_is_missed(pattern: str, text: str) -> None:
    try:
        start = UnderWay([pattern]).start(text.encode())
    except Unreadable:
        return
    for end in ENDS:
        for match in re2.finditer(pattern, text + end):
            assert match.end() < len(text) or match.start() >= start


@settings(max_examples=200, deadline=None)
@given(PATTERNS, st.text(alphabet="abc ", max_size=6))
def test_what_matches_before_the_earliest_beginning_is_final(pattern: str, text: str) -> None:
    assume(re2.search(pattern, "") is None)
    try:
        start = UnderWay([pattern]).start(text.encode())
    except Unreadable:
        return
    now = [match.span() for match in re2.finditer(pattern, text) if match.start() < start]
    for end in ENDS:
        later = [match.span() for match in re2.finditer(pattern, text + end)]
        assert [span for span in later if span[0] < start] == now
