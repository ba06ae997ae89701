"""Places in JSON, and in JSON in strings of JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.dialects import pointer
from llmguard.errors import DialectError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("", {"a/b": [1, {"#": "x"}], "": "empty", "m~n": "tilde", "args": '{"to": ["bob"]}'}),
        ("/a~1b/0", 1),
        ("/a~1b/1/~2", "x"),
        ("/", "empty"),
        ("/m~0n", "tilde"),
        ("/args#/to/0", "bob"),
        ("/args#", {"to": ["bob"]}),
    ],
)
def test_what_stands_at_a_place(place: str, expected: object) -> None:
    value = {"a/b": [1, {"#": "x"}], "": "empty", "m~n": "tilde", "args": '{"to": ["bob"]}'}
    assert pointer.get(value, place) == expected


@pytest.mark.parametrize(
    "place", ["a", "/b", "/a/2", "/a/-1", "/a/01", "/a/-", "/a/²", "/a/9999999999", "/a/0/x", "/a#/x", "/s#/x", "/s#x"]
)
def test_no_place_is_an_error(place: str) -> None:
    with pytest.raises(DialectError):
        pointer.get({"a": [1, 2], "s": "no json"}, place)


def test_an_error_does_not_say_what_is_in_the_body() -> None:
    with pytest.raises(DialectError) as caught:
        pointer.get({"s": "the secret"}, "/s#/x")
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


@given(JSON)
def test_every_string_is_found_where_it_is_said_to_be(value: Any) -> None:
    found = list(pointer.strings(value))
    assert len({place for place, _ in found}) == len(found)
    assert all(pointer.get(value, place) == text for place, text in found)
    assert sorted(text for _, text in found) == sorted(_naive(value))


@given(JSON)
def test_likewise_of_json_in_a_string(value: Any) -> None:
    body = {"a#b": {"arguments": json.dumps(value)}}
    place = pointer.child(pointer.child("", "a#b"), "arguments")
    for where, text in pointer.embedded(json.dumps(value), place):
        assert pointer.said(body, where) == text
    found = pointer.leaves(json.dumps(value))
    assert len(dict(found)) == len(found)
    strings = [text for where, text in found if isinstance(pointer.get(value, where), str) and not where.endswith("~3")]
    assert sorted(strings) == sorted(_naive(value))


@given(JSON)
def test_texts_are_the_strings_and_more_in_the_order_of_the_body(value: Any) -> None:
    found = list(pointer.texts(value, "/p"))
    strings = list(pointer.strings(value, "/p"))
    assert [item for item in found if item in strings] == strings
    assert all(pointer.said({"p": value}, place) == text for place, text in found)


@pytest.mark.parametrize(
    "key",
    [
        *("bob@example.com", "4111111111111111", "123456", "ignore what was said", "a/b", "straße"),
        *("AKIAIOSFODNN7EXAMPLE", "x" * 25, "ticket12345", "~", "#", "-"),
    ],
)
def test_a_key_that_may_say_something_is_a_text_at_a_place_of_its_own(key: str) -> None:
    value = {key: {"to": 1}}
    ((place, text),) = pointer.texts(value, "/p")
    assert (place, text) == (pointer.child("/p", key) + pointer.KEY, key)
    assert pointer.get({"p": value}, place) == key


@pytest.mark.parametrize("key", ["", "to", "address_line_2", "x-request-id", "$ref", "12345", "camelCase", "x" * 24])
def test_a_name_of_a_parameter_is_no_text(key: str) -> None:
    assert list(pointer.texts({key: 1})) == []


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        ("4111111111111111", "4111111111111111"),
        ("-123456", "-123456"),
        ("4111111111111111.0", "4111111111111111"),
        ("4.111111111111111e15", "4111111111111111"),
        ("41111111111111110E-1", "4111111111111111"),
        ("12345.5", "12345.5"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("0.0000001234567", "0.0000001234567"),
        ("12345", None),
        ("12.50", None),
        ("1e400", None),
        ("true", None),
        ("null", None),
    ],
)
def test_a_number_of_six_digits_is_a_text(literal: str, text: str | None) -> None:
    assert pointer.leaves(f'{{"n": {literal}}}') == ([("/n", text)] if text else [])
    assert pointer.digits(json.loads(literal)) == text


@pytest.mark.parametrize("place", ["/a~3", "/b/0~3", "~3", "/b~3/0", "/n", "/x"])
def test_no_text_is_an_error(place: str) -> None:
    with pytest.raises(DialectError):
        pointer.said({"b": ["x"], "n": 1}, place)


def test_what_is_shown_of_a_place_holds_no_content() -> None:
    assert pointer.shown("/messages/0/arguments#/bob@example.com/to~3") == "/messages/0/arguments#/*/*"
    with pytest.raises(DialectError) as caught:
        pointer.get({}, "/a secret/x")
    assert "secret" not in str(caught.value)


@given(st.lists(st.text(), max_size=4))
def test_tokens_undo_child(keys: list[str]) -> None:
    place = ""
    for key in keys:
        place = pointer.child(place, key)
    assert pointer.tokens(place) == keys
    assert "#" not in place


def test_strings_come_in_the_order_of_the_body_under_its_path_and_can_be_left_out() -> None:
    value = {"b": ["x", {"type": "y"}], "a": "z"}
    assert list(pointer.strings(value, "/p")) == [("/p/b/0", "x"), ("/p/b/1/type", "y"), ("/p/a", "z")]
    kept = pointer.strings(value, "/p", skip=lambda place: place.endswith("/type"))
    assert [place for place, _ in kept] == ["/p/b/0", "/p/a"]


@pytest.mark.parametrize("text", ['{"a": "x"', "hello", "", '{"a": 1, "a": "x"}', '{"a": NaN}'])
def test_a_string_that_is_no_json_is_one_text(text: str) -> None:
    assert pointer.embedded(text, "/arguments") == [("/arguments", text)]
    with pytest.raises(DialectError):
        pointer.leaves(text)


def test_a_string_of_json_that_is_a_string() -> None:
    assert pointer.embedded('"hello"', "/arguments") == [("/arguments#", "hello")]


def test_a_lone_surrogate_in_json_in_a_string() -> None:
    body = json.loads(r'{"arguments": "{\"to\": \"a\ud800\"}"}')
    assert pointer.embedded(body["arguments"], "/arguments") == [("/arguments#/to", "a\ud800")]


def _naive(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for member in members for text in _naive(member)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *[("", True), ("one", True), ("http://one/two?x=1", True), (7, True), (None, True), ("x" * 256, True)],
        *[("one two", False), ("one\n", False), ("caf\u00e9", False), ("x" * 257, False)],
        *[({"a": ["one", {"b": "two"}]}, True), ({"a": ["one", {"b": "two three"}]}, False), ({"a b": 1}, True)],
    ],
)
def test_words_are_told_from_prose(value: object, words: bool) -> None:
    assert pointer.is_words(value) is words


def test_a_value_however_deep_is_looked_through_for_prose() -> None:
    value: object = "one two"
    for _ in range(100_000):
        value = [value]
    assert pointer.is_words(value) is False
