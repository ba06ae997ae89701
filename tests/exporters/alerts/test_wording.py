"""That an alert's words are clean, in order, short enough, and honest about what is left out."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notices import HOSTILE, NOW, TRACE, group, hostile_groups, hostile_notices, large, notice

from llmguard.exporters.alerts.notice import SEVERITIES, Group, Notice, fingerprint
from llmguard.exporters.alerts.wording import (
    clean,
    facts,
    heading,
    rows,
    runbook,
    severity,
    shorten,
    title,
    units,
    when,
)


def test_what_is_told_of_an_alert() -> None:
    one = notice(ended=NOW)
    assert heading(notice()) == "[FIRING] more than 5 % of inputs are blocked"
    assert heading(one) == "[RESOLVED] more than 5 % of inputs are blocked"
    assert facts(one) == [
        ("severity", "critical"),
        ("started", "2023-11-14T22:12:20.000Z"),
        ("ended", "2023-11-14T22:13:20.000Z"),
        ("policy", "house 7"),
        ("window", "300 s"),
        ("value", "0.08"),
        ("model", "m-1"),
        ("count", "12"),
        ("trace_id", TRACE),
    ]
    assert runbook(one) == "https://runbooks.example.com/blocks?a=1&b=2"
    assert title(group(one, notice())) == "[FIRING] Blocks and 1 more (critical)"


def test_an_alert_of_which_nothing_is_known() -> None:
    bare = Notice({}, {}, 0.0)
    assert heading(bare) == "[FIRING] alert"
    assert facts(bare) == [("severity", "warning"), ("started", "1970-01-01T00:00:00.000Z")]
    assert runbook(bare) == ""


def test_the_worst_that_fires_is_how_bad_a_group_is() -> None:
    def one(level: str, ended: float = 0.0) -> Notice:
        return notice(ended=ended, labels={"severity": level})

    assert severity(group(one("info"), one("error"), one("critical", NOW))) == "error"
    assert severity(group(one("info", NOW), one("critical", NOW))) == "critical"
    assert severity(group(one("catastrophic"))) == "warning"


def test_broken_unicode_tells_one_alert_from_another() -> None:
    assert len({fingerprint({"model": value}) for value in ("?", "\ud800", "\ud801", "\ufffd")}) == 4


@given(st.sampled_from(HOSTILE) | st.text(st.characters()))
def test_a_clean_text_is_one_line_that_utf_8_takes(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    cleaned.encode("utf-8")
    assert cleaned.splitlines() in ([], [cleaned])
    assert not {unicodedata.category(char) for char in cleaned} & {"Cc", "Cs", "Zl", "Zp"}
    assert clean(cleaned) == cleaned


@given(st.text(max_size=300), st.integers(1, 120))
def test_a_short_text_fits_and_says_how_much_is_left_out(text: str, most: int) -> None:
    short = shorten(text, most)
    assert units(short) <= most
    if units(text) <= most:
        assert short == text
    elif note := re.search(r"… \((\d+) characters left out\)$", short):
        kept = short[: note.start()]
        assert text.startswith(kept)
        assert len(kept) + int(note[1]) == len(text)
    else:
        assert short.endswith("…")
        assert text.startswith(short[:-1])


def test_utf_16_is_what_is_counted() -> None:
    assert units("a\u00e9\u20ac\U0001f600") == 5
    assert units(shorten("\U0001f600" * 100, 10)) <= 10


def test_more_than_can_be_shown_is_counted() -> None:
    many = notice(**{f"k{number:03}": "v" for number in range(100)})
    shown = facts(many, 10)
    assert len(shown) == 10
    assert shown[-1] == ("left out", f"{len(facts(many, 1000)) - 9} more")
    assert rows(many)["annotations"]["left_out"] == f"{len(many.annotations) - 32} more"
    assert len(rows(many)["annotations"]) == 33


@pytest.mark.parametrize(
    "link",
    [
        *("javascript:alert(1)", "https://a.b/<x>", 'https://a.b/"', "https://a.b/ c", "https://a.b/|x", "HTTP", ""),
        *("https://a.b/\n", "https://é.b", "https://a.b/" + "x" * 1000, "ftp://a.b", "https://a.b/`\\"),
    ],
)
def test_a_link_that_needs_escaping_is_none(link: str) -> None:
    assert runbook(notice(runbook_url=link)) == ""


@given(st.floats())
def test_any_moment_can_be_written(seconds: float) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when(seconds))


@given(hostile_notices(), hostile_groups())
def test_any_alert_can_be_told(one: Notice, several: Group) -> None:
    for text in (heading(one), title(several), *(part for pair in facts(one) for part in pair)):
        assert clean(text) == text
    assert severity(several) in SEVERITIES


def test_a_title_counts_what_it_does_not_name() -> None:
    assert title(large(50)).startswith("[FIRING] Blocks and 49 more")
