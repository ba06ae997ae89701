"""The translation never misses: where a pattern matches, RE2 finds the place in the proxy."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.pii_classes import Untranslatable
from llmguard.detectors.pii_patterns import PatternScan
from llmguard.detectors.pii_proxy import FOLDED, proxy
from llmguard.detectors.pii_translate import translate

FLAGS = int(regex.DOTALL | regex.MULTILINE | regex.IGNORECASE)
PATTERNS = [
    r"\b\d{3}-\d{2}\b",
    r"(?<![\w:])::(?:\d+)?(?![\w:]|\.\d)",
    r"(?<!\d)\d{3}([- ])\d{2}\1\d(?!\d)",
    r"\b(?!000)\d{3}[A-Z\u00c4]\b",
    r"(?=\w*\d)\b[a-z\d]{3,5}",
    r"\b((?=.*?[a-z])(?=.*?[0-9]{2})[\w@-]{4})\b",
    r"[a-z.\-]{1,60}[.](?:com|co)(?:/[^\s]*)?",
    r"(ab|[13])[a-h0-9]{25,30}",
    r"(?<=\bid(?:\s*:\s*|\s+))\d+",
    r"^a.c$",
    r"[^\W\d_]{2}\s\S",
    r"s{2}k|i\d",
]
texts = st.text(
    alphabet=list("ab1034:- .@/cos\nkKiIAZ_\u0130\u0131\u017f\u212a\u0663\u00a0\u4e2d\u00e4\u20ac"), max_size=60
)


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=120, deadline=None)
@given(text=texts)
def test_the_scan_matches_as_finditer_does(pattern: str, text: str) -> None:
    data, rare = proxy(text)
    scan = PatternScan(pattern, FLAGS, rare=rare)
    wanted = [match.span() for match in regex.compile(pattern, FLAGS).finditer(text)]
    assert [match.span() for match in scan.matches(text, data)] == wanted
    if wanted:
        import re2

        assert all(re2.search(part.encode(), data) for part in scan.prefilter)


@given(st.text(max_size=80))
def test_a_proxy_keeps_places_and_word_boundaries(text: str) -> None:
    data, _ = proxy(text)
    assert len(data) == len(text)
    assert data.isascii()
    shown = data.decode()
    for kind in (r"\b", r"\w", r"\d", r"\s"):
        assert [m.start() for m in regex.finditer(kind, text)] == [m.start() for m in regex.finditer(kind, shown)]


def test_no_other_code_point_folds_to_an_ascii_letter() -> None:
    everything = "".join(chr(code) for code in range(128, 0x110000) if not 0xD800 <= code < 0xE000)
    for pattern in ("[a-z]", *"abcdefghijklmnopqrstuvwxyz"):
        assert set(regex.findall(pattern, everything, regex.IGNORECASE)) <= set(FOLDED)


@pytest.mark.parametrize("pattern", [r"a*", r"\p{L}+", r"(?x)a b", r"(a)?(?(1)b|c)d", r"a++b++(?a)\w"])
def test_what_is_not_known_is_not_translated(pattern: str) -> None:
    try:
        translation = translate(pattern, FLAGS, rare=True)
    except Untranslatable:
        return
    assert pattern.startswith("a++")
    assert translation.finder
