"""What is settled stays, whatever follows; and what stands before the context changes nothing."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import phonenumbermatcher

from llmguard.detectors.pii import PiiDetector
from llmguard.types import Finding, Incremental, Scope, Text

SAMPLE = Path(__file__).parents[1] / "data" / "pii_sample.jsonl"
SETS: dict[str, dict[str, Any]] = {
    "default": {},
    "unsettled": {"settle": False},
    "phones": {"entities": ["PHONE_NUMBER"]},
    "german": {"languages": ["en", "de"], "countries": ["de", "uk", "us"]},
    "all": {"languages": ["en", "es", "it", "ko", "pl", "sv", "th", "tr"], "countries": "all"},
    "own": {
        "deny_list": {"PROJECT": ["Blue Moon", "Q-7", "naïve", "中文"]},
        "allow_list": ["john@ex.co.uk", "212-555-0123"],
        "thresholds": {"URL": 0.6, "US_SSN": 0.4},
        "recognizers": [
            {
                "name": "own",
                "supported_entity": "CODE",
                "context": ["code", "the"],
                "patterns": [
                    {"name": "line", "regex": r"^[A-Z]{2}:\d+$", "score": 0.2},
                    {"name": "space", "regex": r"(?<=\s)k\d+|\s{2}\w", "score": 0.3},
                    {"name": "ahead", "regex": r"\bz+(?=\w*9)(?!.?x)", "score": 0.2},
                    {"name": "phone", "regex": r"\d{3}-\d{3}-\d{4}", "score": 0.4},
                ],
            },
            {
                "name": "second",
                "supported_entity": "CODE",
                "patterns": [{"name": "line", "regex": r"^[A-Z]{2}:\d+$|\d{3}-\d{4}|\bzz", "score": 0.2}],
            },
        ],
    },
}
PIECES = [
    *("192.168.1.1", "4111111111111111", "4111 1111 1111 1112", "john@ex.co.uk", "bob@foo.zzz", "212-555-0123"),
    *("+49 30 1234567", "+44 (0)20 7946 0958", "0800 1111", "(212) 555-0123 ext. 12", "tel:+1-201-555-0123;ext=5"),
    *("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "2001:db8::1"),
    *("::1", "::", "::ffff:1.2.3.4", "fe80::1%eth0/64", "12/11/2020", "2020-01-02 08:00", "2012-01-02T08:00:00Z"),
    *("00:1A:2B:3C:4D:5E", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "900-70-1234", "AB123456C", "BB1234563"),
    *(
        "123e4567-e89b-12d3-a456-426614174000",
        "https://a.b.com/x?y=1",
        '"http://www.foo.org/q"',
        "www.foo.co",
        "john.sm",
    ),
    *(
        "\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668",
        "\u017fs",
        "\u212a",
        "\u0130i\u0131",
        "\u4e2d\u6587",
        "é",
        "e\u0301",
    ),
    *(
        "SSN",
        "ssn ",
        "card",
        " credit card ",
        "the",
        "the is of ",
        "john.smith",
        "http://",
        " ext ",
        "claim ",
        "claim no: ",
        "rx: ",
    ),
    *(
        "rx number 123456",
        "prior auth id 1234567",
        "B-AB 1234",
        "HRB 12345",
        "01234",
        "99999",
        "ABCDE1234F",
        "abcdefghij",
    ),
    *(
        "MH12AB1234",
        "Blue Moon",
        "Q-7",
        "naïve",
        "AB:12",
        "zz9x",
        "k7",
        "85073003328",
        "19121212-1212",
        "\n",
        "\r\n",
        "0000",
    ),
    *(
        "\uff08212\uff09555-0123",
        "\uff0b49 30 1234567",
        "\uff11\uff12",
        "7\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587",
        "phone ",
        "call me at ",
    ),
    *(
        "1 234 567 8901 / x 23",
        "#",
        "12 34 56 78 90 " * 4,
        "A1B2C3",
        "JAN-2020",
        "1-JAN-20",
        "a" * 30,
        "zip 10115 Berlin ",
    ),
    *(
        "She walked home, and it rained. ",
        "In 2024 they paid 12 dollars (or 13) for it. ",
        "e.g. ",
        "etc.",
        "well-known ",
    ),
]
pieces = st.lists(
    st.one_of(
        st.sampled_from(PIECES),
        st.sampled_from([*list(" -./()[]+:,;x#\n\t@%$_\"'"), "  ", "::", "€", "\xa0", "—", "\u0301", "\u200b", "😀"]),
        st.sampled_from(PIECES).flatmap(lambda piece: st.integers(0, len(piece)).map(lambda cut: piece[:cut])),
        st.text(alphabet="0123456789", min_size=1, max_size=20),
        st.text(max_size=3),
    ),
    max_size=14,
).map("".join)


@cache
def detector(name: str = "default") -> PiiDetector:
    return PiiDetector(**SETS[name])


Found = set[tuple[int, int, str, float, tuple[str, ...]]]


def found(name: str, text: str) -> Found:
    def row(finding: Finding) -> tuple[int, int, str, float, tuple[str, ...]]:
        assert finding.span
        return (*finding.span, finding.category, finding.score, finding.reasons)

    return {row(finding) for finding in detector(name).detect([Text(text)])[0]}


def before(rows: Found, place: int) -> Found:
    return {row for row in rows if row[0] < place}


def after(rows: Found, place: int, shift: int = 0) -> Found:
    return {(row[0] + shift, row[1] + shift, *row[2:]) for row in rows if row[0] + shift >= place}


def check(name: str, text: str, cuts: list[int], others: list[str]) -> None:
    for cut in cuts:
        head = text[:cut]
        place = detector(name).settled(head)
        assert 0 <= place <= cut
        sure = before(found(name, head), place)
        start = random.Random(cut).randint(0, cut)
        context = detector(name).context(head, start)
        assert 0 <= context <= start
        for rest in (text[cut:], *others):
            whole = found(name, head + rest)
            assert before(whole, place) == sure, (head, rest, place)
            window = found(name, head[context:] + rest)
            assert after(whole, start) == after(window, start, context), (head, rest, start, context)


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=15, deadline=None)
@given(text=pieces, others=st.lists(pieces, max_size=2))
@example(text="4111 1111 1111 1111", others=["1", " 1"])
@example(text="call 2012-01-02 08:00", others=[":00"])
@example(text="see :: and ip", others=["ip"])
def test_hostile_text(name: str, text: str, others: list[str]) -> None:
    cuts = list(range(len(text) + 1))
    check(name, text, cuts if len(cuts) < 20 else random.Random(text).sample(cuts, 20), others)


@pytest.mark.parametrize("name", ["default", "all"])
def test_the_sample(name: str) -> None:
    chance = random.Random(name)
    rows = [json.loads(row)["text"] for row in SAMPLE.read_text(encoding="utf-8").splitlines()]
    for text in chance.sample(rows, 100):
        check(name, text, chance.sample(range(len(text) + 1), min(4, len(text))), [chance.choice(PIECES)])


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet="0123 -./()+x#\uff08\uff0b\u2013\u0661", min_size=1, max_size=30), st.integers(0, 4), st.data())
def test_no_candidate_of_phonenumbers_is_missed(text: str, extension: int, data: st.DataObject) -> None:
    candidate = phonenumbermatcher._PATTERN
    text += ["", ";ext=5", ", ext. 12", " \u0434\u043e\u0431 7", " extensio\u0301n:9"][extension]
    phones = detector("phones")
    for match in candidate.finditer(text):
        cut = data.draw(st.integers(match.start() + 1, match.end()))
        assert phones.settled(text[:cut]) <= match.start()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("default", "", 0),
        ("default", "and they told the patient", 18),  # patient.com
        ("default", "and they told the patient, ", 27),
        ("default", "call 212-555-0123", 4),
        ("default", "call 212-555-0123 o", 4),  # three characters may matter
        ("default", "call 212-555-0123 on", 18),
        ("default", "call 212-555-0123 exten", 4),
        ("default", "call 2012-01-02 08:0", 4),  # a time or a number
        ("default", "look fe80::1.", 4),  # no address if a digit follows
        ("default", "see :: and ", 3),  # the next word may be "ip"
        ("default", "see :: and bread", 3),
        ("default", "see :: and bread ", 17),
        ("default", "\u4e2d\u6587 3 " + "\u4e2d" * 40, 5),  # an e-mail address may begin there, but no phone number
        ("all", "abcdefghij or so ", 0),  # some of India's if four digits follow anywhere
        ("all", "abcdefghij or 1234 is, ", 22),
        ("own", "he said Blue", 8),
        ("own", "he said Blue Bird, ", 18),
    ],
)
def test_what_is_settled(name: str, text: str, expected: int) -> None:
    assert detector(name).settled(text) == expected


WORDS = "one two three four five six seven eight nine ten "


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("nothing", WORDS + "4111 ", 24),  # six words: five count, and the one that a find starts in
        ("nothing", WORDS[:19] + "of the to " + WORDS[19:], 29),
        ("nothing", "one two three", 0),
        ("nothing", "go to 212 555 0123 212 555 1 2 3 4 5 6 7 now ", 6),
        ("^five .*y", WORDS, 0),
        ("^five .*y", "zero\n" + WORDS, 5),
        (r"\Afive .*y", WORDS, 0),
        (r"(?<=four )five .*y", WORDS, 14),
        (r"(a)?(?(1)b|c)", WORDS, 0),  # RE2 does not know it
    ],
)
def test_the_context(pattern: str, text: str, expected: int) -> None:
    own = {"name": "own", "supported_entity": "CODE", "patterns": [{"name": "own", "regex": pattern, "score": 0.3}]}
    assert PiiDetector(recognizers=[own], countries=[]).context(text, len(text)) == expected


def test_nothing_is_said_of_a_pattern_that_is_not_known() -> None:
    own = {
        "name": "own",
        "supported_entity": "CODE",
        "patterns": [{"name": "own", "regex": "(a)?(?(1)b|c)", "score": 0.3}],
    }
    assert PiiDetector(recognizers=[own]).settled(WORDS) == 0


def test_which_of_two_equal_finds_stays_does_not_depend_on_the_rest() -> None:
    def made(name: str, entity: str, *patterns: str) -> dict[str, Any]:
        listed = [{"name": pattern, "regex": pattern, "score": 0.3} for pattern in patterns]
        return {"name": name, "supported_entity": entity, "patterns": listed}

    entries = [made("first", "OTHER", "qq"), made("second", "CODE", "ww", "zz1"), made("third", "CODE", "qq", "zz[1]")]
    both = PiiDetector(recognizers=entries, entities=["CODE", "OTHER"])
    alone, more = (both.detect([Text(text)])[0] for text in ("zz1", "zz1 qq"))
    assert alone[0] == more[0]


def test_it_is_incremental_unless_it_has_a_model() -> None:
    assert isinstance(detector(), Incremental)
    assert detector().scope is Scope.SPAN
    with_model = PiiDetector(names="guard-mini")
    assert with_model.scope is Scope.DOCUMENT
    assert with_model.settled(WORDS) == with_model.context(WORDS, len(WORDS)) == 0
