"""Own detectors as functions: what is accepted, what is refused, and that the function stays a function."""

from __future__ import annotations

import doctest
import pickle
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors import function as module
from llmguard.detectors.function import FunctionDetector, ReachingDetector, detector
from llmguard.detectors.growth import check_growth
from llmguard.errors import ConfigurationError, DetectorError
from llmguard.testing import check_detector
from llmguard.types import Detector, Finding, Incremental, Scope, Text


@detector("competitor", categories=["MENTION"], version="2", scope="sentence", inline=True)
def competitor(text: str) -> Iterator[Finding]:
    """Mentions of Acme."""
    for match in re.finditer("acme", text, re.IGNORECASE):
        yield Finding("MENTION", 0.9, match.span())


@detector("lengths", categories=["LONG"], batch=True)
def lengths(texts: Sequence[str]) -> list[list[Finding]]:
    return [[Finding("LONG")] if len(text) > 5 else [] for text in texts]


def plain(text: str) -> list[Finding]:
    return [Finding("ANY")] if text else []


def test_a_function_becomes_a_detector_and_stays_callable() -> None:
    assert isinstance(competitor, Detector)
    assert (competitor.name, competitor.version, competitor.scope) == ("competitor", "2", Scope.SENTENCE)
    assert competitor.categories == {"MENTION"}
    assert competitor.inline is True
    assert competitor.__doc__ == "Mentions of Acme."
    assert [finding.span for finding in competitor("ACME or acme")] == [(0, 4), (8, 12)]
    found = competitor.detect([Text("no"), Text("Acme")])
    assert found == [[], [Finding("MENTION", 0.9, (0, 4))]]


def test_it_runs_on_an_executor_unless_it_says_otherwise() -> None:
    assert lengths.inline is False


def test_a_batch_function_gets_all_texts_at_once() -> None:
    assert lengths.detect([Text("short"), Text("longer")]) == [[], [Finding("LONG")]]


@pytest.mark.parametrize(
    "one", [competitor, lengths, FunctionDetector(plain, name="plain", categories=["ANY"], version="3")]
)
def test_keeps_the_promises_of_a_detector(one: FunctionDetector) -> None:
    check_detector(one, texts=["Acme acme"])


def test_a_decorated_function_pickles_as_itself() -> None:
    assert pickle.loads(pickle.dumps(competitor)) is competitor
    wrapped = FunctionDetector(plain, name="plain", categories=["ANY"], version="3")
    copy = pickle.loads(pickle.dumps(wrapped))
    assert (copy.name, copy.version, copy.detect([Text("x")])) == ("plain", "3", [[Finding("ANY")]])


def test_its_repr_names_it() -> None:
    assert repr(competitor) == "<detector 'competitor' version '2'>"


async def coroutine(text: str) -> list[Finding]:
    return []


async def async_generator(text: str) -> AsyncIterator[Finding]:
    yield Finding("ANY")


class AsyncCallable:
    async def __call__(self, text: str) -> list[Finding]:
        return []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (coroutine, "the function is async"),
        (async_generator, "the function is async"),
        (AsyncCallable(), "the function is async"),
        (lambda: (), "must take exactly one argument"),
        (lambda text, more: [], "must take exactly one argument"),
        (lambda *, text: [], "must take exactly one argument"),
        ("text", "a function is needed, not str"),
    ],
)
def test_functions_that_can_be_no_detector_are_refused(function: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'own'.*{message}"):
        detector("own", categories=["ANY"])(function)


@pytest.mark.parametrize("function", [lambda text, more=1: [], lambda *texts: [], str.split])
def test_functions_that_can_take_one_text_are_accepted(function: Any) -> None:
    assert detector("own", categories=["ANY"])(function).detect([Text("")]) == [[]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "My Detector"}, "'My Detector' is no name for a detector"),
        ({"name": ""}, "'' is no name"),
        ({"name": plain}, 'write @detector("name"'),
        ({"categories": "ANY"}, "categories must be a list of strings, not str"),
        ({"categories": []}, "at least one category"),
        ({"categories": ["a b"]}, "'a b' is no category"),
        ({"categories": [1]}, "1 is no category"),
        ({"scope": "spam"}, "unknown scope 'spam' (did you mean 'span'?)"),
        ({"version": 1}, "version must be a non-empty string, not 1"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    options = {"name": "own", "categories": ["ANY"], **arguments}
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        detector(options.pop("name"), **options)(plain)


@pytest.mark.parametrize(
    ("answer", "kind"), [(None, "NoneType"), (Finding("ANY"), "Finding"), ("ANY", "str"), (3, "int")]
)
def test_an_answer_that_is_no_list_is_a_clear_error(answer: Any, kind: str) -> None:
    own = detector("own", categories=["ANY"])(lambda text: answer)
    with pytest.raises(DetectorError, match=f"detector 'own': the function answered with {kind}; return or yield"):
        own.detect([Text("x")])


def test_a_hidden_coroutine_is_a_clear_error_and_leaves_no_warning() -> None:
    own = detector("own", categories=["ANY"])(lambda text: coroutine(text))
    with pytest.raises(DetectorError, match="answered with coroutine"):
        own.detect([Text("x")])


def test_the_example_in_its_docs_runs() -> None:
    assert doctest.testmod(module, globs=vars(module).copy()).failed == 0


@detector("year", categories=["YEAR"], reach=6, inline=True)
def year(text: str) -> Iterator[Finding]:
    for match in re.finditer(r"(?<![0-9])(?:19|20)[0-9]{2}(?![0-9])", text):
        yield Finding("YEAR", 0.5, match.span())


def code(text: str) -> list[Finding]:
    return [Finding("CODE", 1.0, match.span()) for match in re.finditer("[a-z]{3}[0-9]{3}", text)]


def test_a_function_that_says_how_far_it_looks_is_incremental() -> None:
    assert isinstance(year, Incremental)
    assert isinstance(year, ReachingDetector)
    assert (year.reach, year.scope) == (6, Scope.SPAN)
    assert (year.settled("since 1999"), year.settled("1999")) == (4, 0)
    assert (year.context("since 1999 or so", 11), year.context("1999", 2)) == (5, 0)


@pytest.mark.parametrize("one", [competitor, lengths, detector("any", categories=["ANY"])(plain)])
def test_a_function_that_does_not_say_so_is_not(one: FunctionDetector) -> None:
    assert not isinstance(one, Incremental)


def test_the_reach_is_kept_by_a_copy() -> None:
    assert pickle.loads(pickle.dumps(year)) is year
    copy = pickle.loads(pickle.dumps(ReachingDetector(code, name="code", categories=["CODE"], reach=7)))
    assert isinstance(copy, ReachingDetector)
    assert (copy.name, copy.reach, copy.settled("x" * 10)) == ("code", 7, 3)


@settings(max_examples=150, deadline=None)
@given(
    st.text(alphabet="ab12", max_size=24),
    st.lists(st.text(alphabet="ab12", max_size=8), max_size=3),
    st.booleans(),
)
def test_what_lies_farther_back_than_the_reach_is_settled(text: str, endings: list[str], years: bool) -> None:
    if years:
        check_growth(year, text.replace("a", "19").replace("b", " "), endings, cuts=24)
    else:
        check_growth(ReachingDetector(code, name="code", categories=["CODE"], reach=6), text, endings, cuts=24)


def test_a_reach_that_is_too_short_is_caught() -> None:
    liar = ReachingDetector(code, name="code", categories=["CODE"], reach=4)
    with pytest.raises(AssertionError, match=r"detector 'code': sample 'texts\[0\]': cut at \d+, continuation \d+: "):
        check_detector(liar, texts=["so abc123 and def456"])


@pytest.mark.parametrize("reach", [0, -1, 2.0, "8", True])
def test_a_reach_is_a_whole_number(reach: Any) -> None:
    with pytest.raises(ConfigurationError, match="'own': reach must be a whole number of at least 1, not "):
        detector("own", categories=["ANY"], reach=reach)
    with pytest.raises(ConfigurationError, match="'own': reach must be a whole number of at least 1, not "):
        ReachingDetector(plain, name="own", categories=["ANY"], reach=reach)


@pytest.mark.parametrize("scope", ["sentence", Scope.DOCUMENT])
def test_a_reach_goes_with_the_scope_span_alone(scope: Scope | str) -> None:
    with pytest.raises(ConfigurationError, match=r"'own': reach goes with the scope span, not '(sentence|document)'"):
        detector("own", categories=["ANY"], reach=8, scope=scope)
