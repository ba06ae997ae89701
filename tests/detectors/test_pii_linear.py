"""No text can make the detector slow: four times as long takes about four times as long, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from time import process_time
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberMatcher
from presidio_analyzer.predefined_recognizers import EmailRecognizer

from llmguard.detectors.pii import PiiDetector
from llmguard.detectors.pii_ahead import Running, lifted, unambiguous
from llmguard.detectors.pii_email import Addresses, ending
from llmguard.detectors.pii_patterns import PatternScan
from llmguard.detectors.pii_phone import PhoneScan
from llmguard.detectors.pii_proxy import proxy
from llmguard.detectors.pii_recognizers import LANGUAGES
from llmguard.detectors.pii_results import Hit
from llmguard.detectors.pii_rules import CHECKED, GIVES_WAY, UNSURE, settle
from llmguard.types import Text

FLAGS = int(regex.DOTALL | regex.MULTILINE | regex.IGNORECASE)
MEMBER = r"\b(?=[A-Z0-9-]{6,20}\b)(?=[A-Z0-9-]*[A-Z])(?=[A-Z0-9-]*\d)[A-Z]{1,5}-?[A-Z0-9]{5,14}\b"
CLAIM = r"(?<=\b(?:claim|medical\s+claim)(?:\s*(?:#|no\.?|id)\s*:?\s*|\s*:\s*|\s+))(?:CLM-?)?\d{6,15}\b"

SHORT = 1000
WORTH = 0.003
"""Seconds of a text four times as long below which nothing is looked at: what is quadratic takes longer."""
LIMIT = 8
"""Times as long as the short one: in linear time it is 4, in quadratic time 16 less what is linear beside it."""
UNITS = (
    *("a", "1", "-", " ", ".", "@", ":", "/", "(", "+", "_", "é", "\u0661"),
    *("a-", "1-", "1 ", "a.", "1.", "a@", "a:", "a1b2c3d4-", "abcdefgh-", "abcdefghij ", "123456 "),
)
AROUND = (
    ("", ""),
    ("", " 123456"),
    ("", " 12-3456789"),
    ("a@b.com!", "@.x@b.com"),
    ("http://a", ".com'"),
    ("::%", "#"),
    ("HRA", "-12345678 "),
)
WHOLE = (
    *("a1b2c3d4-", "abcdefgh-", "abcdefghij ", "a@b.com ", "1.2.3.4 ", "1.2.3.4/", "a.com/", "010101A123B", "id "),
    *("4111111111111111 ", "::1 ", "a-", "@", " "),
)


def ratio(run: Callable[[str], Any], head: str, unit: str, tail: str) -> float:
    """How much longer a text four times as long takes."""
    return growth(run, *(head + unit * (count // len(unit)) + tail for count in (SHORT, 4 * SHORT)))


def growth(run: Callable[[Any], Any], short: Any, long: Any) -> float:
    """How much longer the long one takes: the least of five tries; 0 for one that takes no time."""

    def spent(what: Any) -> float:
        start = process_time()
        run(what)
        return process_time() - start

    took = spent(long)
    if took < WORTH:
        return 0.0
    found = took / min(spent(short) for _ in range(2))
    for _ in range(4):
        if found <= LIMIT:
            break
        found = min(found, spent(long) / min(spent(short) for _ in range(2)))
    return found


@cache
def everything() -> PiiDetector:
    return PiiDetector(countries="all")


def scans() -> Iterable[tuple[str, PatternScan]]:
    """All patterns of all recognizers, each once."""
    seen = set()
    for recognizer in PiiDetector(languages=sorted(LANGUAGES), countries="all").recognizers:
        for pattern in getattr(recognizer, "patterns", ()):
            key = pattern.regex, int(recognizer.global_regex_flags)
            if key not in seen:
                seen.add(key)
                yield recognizer.name, PatternScan(*key, rare=True, ending=ending(recognizer))


def test_every_pattern_of_every_country_takes_linear_time() -> None:
    slow = []
    count = 0
    for name, scan in scans():
        count += 1

        def run(text: str, scan: PatternScan = scan) -> None:
            for _ in scan.matches(text, proxy(text)[0]):
                pass

        found = {(head, unit, tail): ratio(run, head, unit, tail) for unit in UNITS for head, tail in AROUND}
        slow += [(name, *text, times) for text, times in found.items() if times > LIMIT]
    assert count > 150
    assert not slow


@pytest.mark.parametrize("unit", WHOLE)
def test_the_detector_takes_linear_time(unit: str) -> None:
    def run(text: str) -> None:
        everything().detect([Text(text)])

    assert ratio(run, "", unit, "") <= LIMIT
    assert ratio(run, "", unit, "@b.com") <= LIMIT
    assert ratio(everything().settled, "", unit, "") <= LIMIT


@pytest.mark.parametrize(
    "unit", ["212-555-0123 ", "1 ", "1-", "1/", "(1 ", "+1", "1" * 9 + " ", "1" + " " * 90, "(", "1 #"]
)
def test_phonenumbers_is_asked_about_a_text_a_fixed_number_of_times(unit: str) -> None:
    asked = 0

    def ask(piece: str, region: str) -> list[tuple[int, int]]:
        nonlocal asked
        asked += len(piece)
        return [(match.start, match.end) for match in PhoneNumberMatcher(piece, region, leniency=1)]

    scan = PhoneScan(("US", "DE"), ask)
    counts = []
    for size in (600, 2400):
        asked = 0
        text = unit * (size // len(unit))
        assert len(list(scan.spans(text, text.encode()))) <= len(text)
        counts.append(asked)
    assert counts[1] <= 5 * counts[0] + 2400


def test_a_run_is_settled_up_to_where_its_next_digit_decides() -> None:
    detector = PiiDetector(countries=["us"], entities=["US_HEALTH_INSURANCE_MEMBER_ID"])
    text = "member a1b2c3d4-" + "abcdefg1-" * 50
    assert detector.settled(text) >= len(text) - 40
    assert detector.settled("member " + "abcdefg-" * 50) <= len("member ")


@pytest.mark.parametrize("text", ["a1b2c3d4-" * 200, "abcdefgh-" * 200, "abcdefgh " * 200, "ab-" * 200 + "\u0661"])
def test_a_run_is_read_once_however_many_places_ask_about_it(text: str) -> None:
    (search,) = [regex.compile(stop, FLAGS).search for stop in lifted(MEMBER, FLAGS, 3).running[1:]]
    read = 0

    def counted(where: str, start: int) -> Any:
        nonlocal read
        match = search(where, start)
        read += (match.start() if match else len(where)) - start + 1
        return match

    ahead = Running(counted, text)
    held = [ahead.holds(start) for start in range(len(text))]
    assert read <= len(text) + 1
    asked = regex.compile(r"(?=[A-Z0-9-]*\d)", FLAGS).match
    assert held == [asked(text, start) is not None for start in range(len(text))]


run_texts = st.text(alphabet=list("aB1-9_ .\n\u0661\u017f\u212aé"), max_size=60)


@settings(max_examples=300)
@given(run_texts | st.text(alphabet=list("abc123-"), max_size=60))
def test_a_pattern_without_its_look_aheads_matches_as_before(text: str) -> None:
    data, rare = proxy(text)
    for pattern in (MEMBER, r"(?=[a-z]*\d)\b[a-z\d]{2,4}", r"\b((?=.*?[a-z])(?=.*?[0-9]{2})[\w-]{4})\b"):
        scan = PatternScan(pattern, FLAGS, rare=rare)
        wanted = [match.span() for match in regex.compile(pattern, FLAGS).finditer(text)]
        assert [match.span() for match in scan.matches(text, data)] == wanted


@pytest.mark.parametrize(
    ("pattern", "asserts"),
    [
        (r"(?=[a-z]*\d)a|b", 0),  # the second branch has none
        (r"(?=[a-z]*\d)(?!x)a", 2),  # one of another kind
        (r"(?=[a-z]+\d)a", 1),
        (r"a(?=[a-z]*\d)", 0),
    ],
)
def test_what_is_no_run_at_the_head_stays(pattern: str, asserts: int) -> None:
    left = lifted(pattern, FLAGS, asserts)
    assert (left.pattern, left.floating, left.running) == (pattern, (), ())


def test_a_rest_that_ends_with_the_line_is_no_rest_of_the_text() -> None:
    assert not lifted(r"(?=.*?\d)a", int(regex.IGNORECASE), 1).floating


@pytest.mark.parametrize("pattern", [r"[\s*:?\s*]a", r"\\s*:?\s*a", r"\s*:?\s*?a", r"\[\s*:?a"])
def test_what_only_looks_like_a_colon_between_spaces_stays(pattern: str) -> None:
    assert unambiguous(pattern) == pattern


@given(st.lists(st.sampled_from(["claim", "medical ", " ", "\t", ":", "#", "id", "123456", "CLM-", "x"])).map("".join))
def test_white_space_around_a_colon_is_read_as_before(text: str) -> None:
    assert unambiguous(CLAIM) != CLAIM
    old, new = (regex.compile(pattern, FLAGS).finditer(text) for pattern in (CLAIM, unambiguous(CLAIM)))
    assert [match.span() for match in old] == [match.span() for match in new]


@settings(max_examples=400)
@given(st.text(alphabet=list("ab1@@..-_/, é\n\u0661"), max_size=50), st.integers(0, 5), st.integers(0, 5))
def test_addresses_are_those_of_presidios_pattern(text: str, first: int, cut: int) -> None:
    pattern = EmailRecognizer.PATTERNS[0].regex
    ours = Addresses(pattern, FLAGS)
    assert ours.matches != Addresses(pattern + "x", FLAGS).matches
    start, end = min(first, len(text)), max(0, len(text) - cut)
    whole = regex.compile(pattern, FLAGS)
    wanted = [match.span() for match in whole.finditer(text, start, end)]
    assert [match.span() for match in ours.matches(text, start, end)] == wanted


def test_presidios_pattern_of_addresses_is_the_known_one() -> None:
    pattern = EmailRecognizer.PATTERNS[0].regex
    assert Addresses(pattern, FLAGS).matches.__name__ == "_from_signs"


def test_finds_inside_a_long_one_give_way_in_linear_time() -> None:
    def within(count: int) -> list[Hit]:
        inside = [Hit("IP_ADDRESS", 8 * place, 8 * place + 7, 0.6) for place in range(count)]
        return [Hit("EMAIL_ADDRESS", 0, 8 * count, 1.0), *inside]

    assert growth(lambda found: settle(found, ""), within(1000), within(4000)) <= LIMIT


hits = st.builds(
    lambda category, start, width, score: Hit(category, start, start + width, score),
    st.sampled_from(sorted({*GIVES_WAY, *CHECKED, *frozenset().union(*GIVES_WAY.values())})),
    st.integers(0, 20),
    st.integers(1, 12),
    st.sampled_from([0.3, UNSURE, 1.0]),
)


def wins(outer: Hit, inner: Hit) -> bool:
    if not (outer.start <= inner.start and inner.end <= outer.end):
        return False
    if inner.category in GIVES_WAY.get(outer.category, frozenset()):
        return True
    return outer.category in CHECKED and outer.score >= 1 and inner.category != outer.category and inner.score < UNSURE


@settings(max_examples=300)
@given(st.lists(hits, max_size=12))
def test_what_gives_way_is_what_lies_in_a_winner(found: list[Hit]) -> None:
    text = " " * 40
    assert settle(found, text) == [hit for hit in found if not any(wins(other, hit) for other in found)]
