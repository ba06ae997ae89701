import pickle
from typing import Any

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from llmguard import ConfigurationError
from llmguard.detectors.patterns import PatternSet, searcher

WORDS = ["a", "bc", "c", r"\d+", "x$", "^y"]


def test_every_pattern_that_matches_is_told_in_order() -> None:
    found = PatternSet(WORDS)
    assert found.match("") == []
    assert found.match("zzz") == []
    assert found.match("abc") == [0, 1, 2]
    assert found.match("y 12 x") == [3, 4, 5]
    assert found.match("bc\ny") == [1, 2]
    assert found.match("ябc") == [2]
    assert found.match(b"abc") == [0, 1, 2]


@given(st.text(alphabet="abcxy1\n é"))
def test_it_agrees_with_one_search_a_pattern(text: str) -> None:
    assert PatternSet(WORDS).match(text) == [index for index, word in enumerate(WORDS) if re2.search(word, text)]


def test_case_can_be_left_out_of_account() -> None:
    assert PatternSet(["abc"], case_sensitive=False).match("ABC") == [0]
    assert PatternSet(["abc"]).match("ABC") == []


def test_a_scan_that_runs_out_of_memory_reports_every_pattern() -> None:
    found = PatternSet(WORDS)
    found._match = lambda text: []  # what RE2 answers then; no pattern of a usable set could be made to do it here
    assert found.match("zzz") == list(range(len(WORDS)))


def test_a_pattern_that_re2_does_not_take_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"RE2 does not accept the pattern '\(\?<=a\)b'"):
        PatternSet(["ok", "(?<=a)b"])


def test_it_does_not_pickle() -> None:
    with pytest.raises(TypeError, match="rebuild it"):
        pickle.dumps(PatternSet(["a"]))


class Wrapped:
    """A compiled pattern that shows nothing of its insides."""

    def __init__(self, inner: Any) -> None:
        self.search = inner.search


@pytest.mark.parametrize("hidden", [False, True])
def test_a_search_gives_the_first_span_also_without_the_bindings_insides(
    hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re2

    if hidden:
        compiled = re2.compile
        monkeypatch.setattr(re2, "compile", lambda pattern, options: Wrapped(compiled(pattern, options)))
    search = searcher(r"a+b", re2.Options())
    assert search(b"xaab ab", 0) == (1, 4)
    assert search(b"xaab ab", 2) == (2, 4)
    assert search(b"xaab ab", 4) == (5, 7)
    assert search(b"xaab ab", 6) is None
    assert search(b"", 0) is None
