"""That conditions, silences and inhibitions mean what Alertmanager's mean."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard import ConfigurationError
from llmguard.exporters.alerts.inhibition import Inhibition, Inhibitions
from llmguard.exporters.alerts.matching import Matcher, all_match, matchers
from llmguard.exporters.alerts.silences import Silence, silenced

LABELS = st.dictionaries(st.sampled_from(["a", "b", "severity"]), st.sampled_from(["", "x", "xy", "a.b", "1\n2"]))
VALUES = st.sampled_from(["", "x", "xy", "a.b", "x|xy", ".*", ".+", "[ab].?b", "x{2}", "1\n2"])
MATCHERS = st.builds(Matcher, st.sampled_from(["a", "b", "severity"]), st.sampled_from(["=", "!=", "=~", "!~"]), VALUES)


@given(MATCHERS, LABELS)
def test_a_label_that_is_not_there_is_an_empty_one_and_expressions_fit_the_whole_value(
    matcher: Matcher, labels: dict[str, str]
) -> None:
    value = labels.get(matcher.label, "")
    expected = {
        "=": value == matcher.value,
        "!=": value != matcher.value,
        "=~": re.fullmatch(matcher.value, value) is not None,
        "!~": re.fullmatch(matcher.value, value) is None,
    }
    assert matcher.matches(labels) is expected[matcher.operator]


@given(st.builds(Matcher, st.just("a"), st.sampled_from(["=", "!="]), st.text(st.characters(codec="utf-8"))))
def test_what_is_written_is_read_again(matcher: Matcher) -> None:
    assert matchers([str(matcher)]) == (matcher,)


def test_both_ways_to_write_them() -> None:
    assert matchers({"a": "x", "b": "=~y"}) == (Matcher("a", "=", "x"), Matcher("b", "=", "=~y"))
    assert matchers(["a = x", 'b=~"x|y"', "c!=", "d!~x.*"]) == (
        Matcher("a", "=", "x"),
        Matcher("b", "=~", "x|y"),
        Matcher("c", "!=", ""),
        Matcher("d", "!~", "x.*"),
    )


@pytest.mark.parametrize("said", ["a=x", ["a"], ["a b=x"], ["=x"], [7], 7, {"a b": "x"}, {"a": 7}, ["a=~("], None])
def test_what_is_no_condition_is_refused(said: object) -> None:
    with pytest.raises(ConfigurationError):
        matchers(said)  # type: ignore[arg-type]


@pytest.mark.parametrize("said", ["a=x,b=y", '{a="x"}', 'a="x",b="y"', 'a="x', 'a=x"', 'a="x"y"', 'a="x\\"', "a=~x{2}"])
def test_what_may_be_read_in_two_ways_is_refused(said: str) -> None:
    with pytest.raises(ConfigurationError):
        matchers([said])


def test_white_space_around_and_within_does_no_harm_however_long() -> None:
    much = " \n" * 500_000
    assert matchers([f"{much}a{much}={much}x{much}y{much}"]) == (Matcher("a", "=", f"x{much}y"),)


def test_what_is_in_quotes_may_hold_anything() -> None:
    assert matchers([r'a="x,\"{y}\"\\"', 'b=~"x{2}"']) == (Matcher("a", "=", 'x,"{y}"\\'), Matcher("b", "=~", "x{2}"))


def test_an_expression_is_bounded_and_cannot_be_made_to_backtrack() -> None:
    hostile = Matcher("a", "=~", "(x+x+)+y")
    assert not hostile.matches({"a": "x" * 1_000_000})
    with pytest.raises(ConfigurationError, match="longer than 1000"):
        Matcher("a", "=~", "x" * 1001)
    with pytest.raises(ConfigurationError, match="broken"):
        Matcher("a", "=~", "((x{1000}){1000}){1000}")


def test_broken_unicode_in_a_label_is_compared_all_the_same() -> None:
    assert Matcher("a", "!~", "x").matches({"a": "\ud800"})


@given(st.lists(MATCHERS, min_size=1, max_size=3), LABELS, st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_a_silence_holds_from_its_start_to_right_before_its_end_for_what_it_matches_alone(
    conditions: list[Matcher], labels: dict[str, str], start: float, length: float, now: float
) -> None:
    if all_match(conditions, {}) or start + length <= start:
        with pytest.raises(ConfigurationError):
            Silence(tuple(conditions), start, start + length)
        return
    silence = Silence(tuple(conditions), start, start + length)
    expected = start <= now < start + length and all(one.matches(labels) for one in conditions)
    assert silence.holds(labels, now) is expected
    assert silenced([silence, silence], labels, now) is expected
    assert not silenced([], labels, now)


@pytest.mark.parametrize("end", [1.0, 0.0, float("nan"), float("inf")])
def test_a_silence_without_an_end_after_its_start_is_refused(end: float) -> None:
    with pytest.raises(ConfigurationError, match="end"):
        Silence(matchers({"a": "x"}), 1.0, end)


def _naive(rules: list[Inhibition], firing: list[dict[str, str]], labels: dict[str, str]) -> bool:
    """As Alertmanager's documentation says it, one pair at a time."""
    for rule in rules:
        if not all_match(rule.target, labels):
            continue
        both = all_match(rule.source, labels)
        for source in firing:
            if not all_match(rule.source, source) or (both and all_match(rule.target, source)):
                continue
            if all(source.get(name, "") == labels.get(name, "") for name in rule.equal):
                return True
    return False


RULES = st.builds(
    Inhibition,
    st.lists(MATCHERS, min_size=1, max_size=2).map(tuple),
    st.lists(MATCHERS, min_size=1, max_size=2).map(tuple),
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=2).map(tuple),
)


@given(st.lists(RULES, max_size=3), st.lists(LABELS, max_size=5), LABELS)
def test_inhibition_is_what_looking_at_each_pair_gives(
    rules: list[Inhibition], firing: list[dict[str, str]], labels: dict[str, str]
) -> None:
    firing = [*firing, labels]
    assert Inhibitions(rules, firing).hold(labels) is _naive(rules, firing, labels)


def test_an_alert_that_is_source_and_target_does_not_inhibit_itself() -> None:
    rule = Inhibition(matchers({"a": "x"}), matchers(["b=~.*"]))
    assert not Inhibitions([rule], [{"a": "x"}]).hold({"a": "x"})
    assert Inhibitions([rule], [{"a": "x"}]).hold({"a": "y"})


def test_an_inhibition_without_conditions_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="conditions"):
        Inhibition((), matchers({"a": "x"}))
    with pytest.raises(ConfigurationError, match="conditions"):
        Inhibition(matchers({"a": "x"}), ())
