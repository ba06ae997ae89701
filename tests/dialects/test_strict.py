"""JSON that every reader reads alike."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.dialects import strict
from llmguard.errors import DialectError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.booleans(), st.sampled_from([None, 0, 3]))
def test_what_json_writes_is_read(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert strict.parse(text.encode("utf-8")) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u01ead. \n', max_size=40).map(str.encode))
def test_what_is_read_is_read_alike_by_json_and_the_rest_is_our_error(data: bytes) -> None:
    try:
        value = strict.parse(data)
    except DialectError:
        return
    assert value == json.loads(data.decode("utf-8"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no JSON at byte 0"),
        (b"{", "no JSON at byte 1"),
        (b"\xef\xbb\xbf{}", "no JSON at byte 0"),
        ('["é", x]'.encode(), "no JSON at byte 7"),
        (b"{} {}", "no JSON at byte 3"),
        (b"{}\x00", "no JSON at byte 2"),
        (b"[NaN]", "no JSON at byte 1"),
        (b'["NaN", -Infinity]', "no JSON at byte 8"),
        (b'{"a": Infinity}', "no JSON at byte 6"),
        (b"[01]", "no JSON at byte 2"),
        ("[１]".encode(), "no JSON at byte 1"),  # full-width digit
        (b"['a']", "no JSON at byte 1"),
        (b'["a",]', "no JSON at byte 5"),
        (b"[1] // x", "no JSON at byte 4"),
        (b'["a\nb"]', "no JSON at byte 3"),
        (b'["\xff"]', "no UTF-8 at byte 2"),
        (b'["\xed\xa0\x80"]', "no UTF-8 at byte 2"),  # a surrogate as three bytes
        (b'["\xc0\xaf"]', "no UTF-8 at byte 2"),  # an overlong slash
        ('{"a": 1}'.encode("utf-16"), "no UTF-8 at byte 0"),
        (b'{"a": 1, "a": 2}', "a key stands twice in one object at byte 9"),
        (b'{"a": 1, "\\u0061": 2}', "a key stands twice in one object at byte 9"),
        (b'[{"x": {"b": 1, "c": [], "b": 2}}]', "a key stands twice in one object at byte 25"),
        ('{"é": "a:b", "k": {"é": 1}, "é": 2}'.encode(), "a key stands twice in one object at byte 30"),
        (b"[" * 201 + b"]" * 201, "nested beyond 200 levels at byte 200"),
        (b'{"a":' * 100_000, "nested beyond 200 levels at byte 1000"),
        (b"[" + b"1" * 5000 + b"]", "an integer has more digits than Python reads"),
    ],
)
def test_what_is_refused_and_where(data: bytes, message: str) -> None:
    with pytest.raises(DialectError) as caught:
        strict.parse(data)
    assert str(caught.value) == message
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 200 + b"]" * 200,
        b"[" + b"[]," * 1000 + b"[]]",
        json.dumps(["[" * 1000, '"{' * 1000]).encode(),
        b'[{"a": 1}, {"a": 1}]',
        b'{"a": "a", "b": {"a": "b"}}',
    ],
    ids=["deep", "wide", "brackets in strings", "a key in two objects", "a key as a value"],
)
def test_what_looks_like_it_is_not_refused(data: bytes) -> None:
    assert strict.parse(data) == json.loads(data)


def test_big_integers_are_exact_and_lone_surrogates_stay() -> None:
    assert strict.parse(b"[123456789012345678901234567890]") == [123456789012345678901234567890]
    assert strict.parse(rb'["\ud800", "\ud83d\ude00"]') == ["\ud800", "\U0001f600"]


@given(st.lists(st.sampled_from(["a", "b", "\\u0061"]), max_size=4), st.integers(0, 150))
def test_duplicate_keys_at_any_depth(keys: list[str], depth: int) -> None:
    members = ", ".join(f'"{key}": 1' for key in keys)
    data = ('{"x": [' * (depth // 2) + "{" + members + "}" + "]}" * (depth // 2)).encode()
    if len({key.replace("\\u0061", "a") for key in keys}) == len(keys):
        strict.parse(data)
        return
    with pytest.raises(DialectError, match="stands twice"):
        strict.parse(data)
