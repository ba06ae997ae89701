import re

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.pii import PiiDetector
from llmguard.detectors.pii_classes import Untranslatable
from llmguard.detectors.pii_live import UnderWay, before, beginnings
from llmguard.detectors.pii_proxy import proxy

FLAGS = int(regex.DOTALL | regex.MULTILINE | regex.IGNORECASE)
PATTERNS = sorted(
    {
        (pattern.regex, int(recognizer.global_regex_flags))
        for recognizer in PiiDetector().recognizers
        for pattern in getattr(recognizer, "patterns", ())
    }
)
#: Look-arounds and back-references: what is under way by the automaton may then not be by the pattern.
EXTRA = re.compile(r"\(\?[=!<]|\\1")


def start(pattern: str, text: str, flags: int = FLAGS) -> int:
    return UnderWay([beginnings(pattern, flags, rare=True)]).start(proxy(text)[0])


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("abc", "xxab", 2),
        ("abc", "xxabc", 2),
        ("abc", "xxabcx", 6),
        ("abc", "xxac", 4),
        (r"\babc\b", "xabc", 4),
        (r"\babc\b", "x abc", 2),
        (r"\d{3}-\d{2}", "12-345-6", 3),
        (r"(?:ab|a)c+d", "aabcc", 1),
        (r"a(?=b)", "a", 0),
        (r"a(?!bc)", "xab", 1),
        (r"a(?!bc)", "xabd", 4),
        (r"(?=ab)\w", "xa", 1),
        (r"(ab)\1c", "abab", 0),
        (r"(ab)\1c", "aba", 0),
        (r"a{2,50}b", "xaaaa", 1),
        (r"(?:ab){1,2}c", "ababab", 2),
    ],
)
def test_the_earliest_match_that_may_be_under_way(pattern: str, text: str, expected: int) -> None:
    assert start(pattern, text) == expected


def test_a_dollar_sign_without_multiline_may_stand_before_a_last_line_feed() -> None:
    assert start("ab$", "ab\n") == 3
    assert start("ab$", "ab\n", int(regex.DOTALL)) == 0


@pytest.mark.parametrize(
    ("pattern", "flags", "expected"),
    [
        (r"\bab$", FLAGS, ((), False, False)),
        (r"(?:^|x)ab", FLAGS, ((), True, False)),
        ("^ab", 0, ((), False, True)),
        (r"(x\Aab|c)", FLAGS, ((), False, True)),
        (r"a(?:b(?<=b)|c(?<!\b))", 0, (("[\\x62-\\x62]",), False, False)),
    ],
)
def test_what_is_read_before(pattern: str, flags: int, expected: tuple[tuple[str, ...], bool, bool]) -> None:
    assert before(pattern, flags, rare=False) == expected


@pytest.mark.parametrize("pattern", [r"(?<=a)", "a*", r"(a)?(?(1)b|c)"])
def test_what_is_not_known_is_not_translated(pattern: str) -> None:
    with pytest.raises(Untranslatable):
        start(pattern, "a")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_match_of_presidios_patterns_was_ever_taken_for_over(data: st.DataObject) -> None:
    pattern, flags = data.draw(st.sampled_from(PATTERNS))
    live = UnderWay([beginnings(pattern, flags, rare=True)])
    plain = re.compile(pattern.replace("(?i)", ""), re.IGNORECASE | re.MULTILINE | re.DOTALL)
    text = data.draw(st.text(alphabet="ab 1-.\n", max_size=5)) + data.draw(st.from_regex(plain))
    for match in regex.finditer(pattern, text, flags):
        for cut in range(match.start() + 1, match.end() + 1):
            assert live.start(proxy(text[:cut])[0]) <= match.start()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([p for p in PATTERNS if not EXTRA.search(p[0])]), st.data())
def test_what_is_held_back_could_become_a_match(pattern: tuple[str, int], data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="abcxyzAB019 .-:/@+", max_size=40))
    at = UnderWay([beginnings(*pattern, rare=False)]).start(proxy(text)[0])
    if at < len(text):
        # The same question, asked of the regex module's own partial matching.
        found = regex.compile(*pattern).match(text, at, partial=True)
        assert found is not None
        assert found.end() == len(text)
