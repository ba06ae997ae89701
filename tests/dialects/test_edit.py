"""Strings written back into JSON, and every other byte as it came."""

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.dialects import edit, pointer, strict
from llmguard.dialects.wire import Put
from llmguard.errors import DialectError

TEXT = st.text(st.characters() | st.sampled_from('"\\/\n\t\x00\ud800\udfff😀é#~{}[]:,'))
SPACE = st.text(" \t\r\n", max_size=2)
NUMBERS = ["0", "-0", "1E400", "1.50", "123456789012345678901234567890", "2e-3"]


@st.composite
def literals(draw: st.DrawFn) -> str:
    """A JSON string, spelt in one of the ways that say the same."""
    pieces = []
    for char in draw(TEXT):
        spelt = [json.dumps(char)[1:-1]]
        if char.isprintable() and char not in '"\\' and not "\ud800" <= char <= "\udfff":
            spelt.append(char)
        if char < "\U00010000":
            spelt += [f"\\u{ord(char):04x}", f"\\u{ord(char):04X}"]
        if char == "/":
            spelt.append("\\/")
        pieces.append(draw(st.sampled_from(spelt)))
    return f'"{"".join(pieces)}"'


@st.composite
def documents(draw: st.DrawFn, depth: int = 3) -> str:
    """JSON in its letters, with all the freedom that the format leaves."""
    kinds = ["string", "string", "other"] + (["array", "object", "inner"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "string":
        body = draw(literals())
    elif kind == "other":
        body = draw(st.sampled_from([*NUMBERS, "true", "false", "null"]))
    elif kind == "inner":
        body = json.dumps(draw(documents(depth=0)), ensure_ascii=draw(st.booleans()))
        body = re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match.group()):04x}", body)
    elif kind == "array":
        body = "[" + ",".join(draw(st.lists(documents(depth=depth - 1), max_size=3))) + draw(SPACE) + "]"
    else:
        keys = draw(st.lists(literals(), max_size=3, unique_by=json.loads))
        members = [f"{draw(SPACE)}{key}{draw(SPACE)}:{draw(documents(depth=depth - 1))}" for key in keys]
        body = "{" + ",".join(members) + draw(SPACE) + "}"
    return f"{draw(SPACE)}{body}{draw(SPACE)}"


@given(documents(), st.data())
def test_an_edit_replaces_strings_and_leaves_every_other_byte(text: str, data: st.DataObject) -> None:
    wire = text.encode()
    value = strict.parse(wire)
    chosen = _choose(value, data)
    edits = {place: data.draw(TEXT) for place in chosen}
    edited = edit.rewrite(wire, edits)
    assert strict.parse(edited) == _joined(_replaced(value, edits))
    if not any("#" in place for place in edits):
        assert _with_old_literals(edited, wire, len(edits)) or not edits


@given(documents())
def test_without_edits_nothing_changes(text: str) -> None:
    assert edit.rewrite(text.encode(), {}) == text.encode()


@pytest.mark.parametrize(
    ("data", "edits", "expected"),
    [
        (b' "x" ', {"": "y"}, b' "y" '),
        (b'{"a":"x" , "n":1E400,"b":"\\u0041"}', {"/a": "y"}, b'{"a":"y" , "n":1E400,"b":"\\u0041"}'),
        (b'{"\\u0061":"x"}', {"/a": "y"}, b'{"\\u0061":"y"}'),
        (b'[ [] , {} , "x", "z"]', {"/2": "y"}, b'[ [] , {} , "y", "z"]'),
        (b'{"a":{"b":"x"},"b":"x"}', {"/b": "y"}, b'{"a":{"b":"x"},"b":"y"}'),
        (b'{"a/b":"x","a#b":"x"}', {"/a~1b": "1", "/a~2b": "2"}, b'{"a/b":"1","a#b":"2"}'),
        (b'{"":"x"}', {"/": "y"}, b'{"":"y"}'),
        (b'["]}\\\\", "x"]', {"/1": "y"}, b'["]}\\\\", "y"]'),
        (b'["x"]', {"/0": 'a"b\\c\n\ud800é'}, '["a\\"b\\\\c\\n\\ud800é"]'.encode()),
        (
            b'{"args": "{ \\"to\\":\\"bob\\",\\"n\\":1e5 }"}',
            {"/args#/to": 'al"'},
            b'{"args": "{ \\"to\\":\\"al\\\\\\"\\",\\"n\\":1e5 }"}',
        ),
        (b'{"args": "\\"bob\\""}', {"/args#": "al"}, b'{"args": "\\"al\\""}'),
        (b'{"n": 4111111111111111 }', {"/n": "[CARD]"}, b'{"n": "[CARD]" }'),
        (b"[-1.50e3,2]", {"/0": "x"}, b'["x",2]'),
        (b" 411 ", {"": "x"}, b' "x" '),
        (
            b'{"args": "{\\"n\\": 41, \\"a@b\\": 1}"}',
            {"/args#/n": "x", "/args#/a@b~3": "y"},
            b'{"args": "{\\"n\\": \\"x\\", \\"y\\": 1}"}',
        ),
        (b'{ "a@b" : 1}', {"/a@b~3": "y"}, b'{ "y" : 1}'),
        (b'{"a@b": {"c@d": "x"}}', {"/a@b~3": "y", "/a@b/c@d~3": "z", "/a@b/c@d": "w"}, b'{"y": {"z": "w"}}'),
        (b'{"\\u0061": 1}', {"/a~3": "y"}, b'{"y": 1}'),
        (b'{"a~/#": 1}', {"/a~0~1~2~3": "y"}, b'{"y": 1}'),
        (b'{"a": 1, "b": 2, "y": 3, "y_2": 4}', {"/a~3": "y", "/b~3": "y"}, b'{"y_3": 1, "y_4": 2, "y": 3, "y_2": 4}'),
        (b'{"a": 1, "b": 2}', {"/a~3": "b", "/b~3": "a"}, b'{"b": 1, "a": 2}'),
        (b'{"": 1}', {"/~3": "y"}, b'{"y": 1}'),
    ],
)
def test_edits(data: bytes, edits: dict[str, str], expected: bytes) -> None:
    assert edit.rewrite(data, edits) == expected


@pytest.mark.parametrize(
    ("data", "edits"),
    [
        (b'{"a": true}', {"/a": "y"}),
        (b'{"a": {}}', {"/a": "y"}),
        (b'{"a": "x"}', {"/b": "y"}),
        (b'{"a": "x"}', {"/a/b": "y"}),
        (b'{"a": ["x"]}', {"/a/1": "y"}),
        (b'{"a": ["x"]}', {"/a/00": "y"}),
        (b'{"a": "x", "a": "x"}', {"/a": "y"}),
        (b'{"a": {"b": "x"}, "a": {"b": "x"}}', {"/a/b": "y"}),
        (b'{"a": "x"}', {"/a": "y", "/a#": "z"}),
        (b'{"a": "x"}', {"/a": "y", "": "z"}),
        (b'{"a": "no json"}', {"/a#/b": "y"}),
        (b'{"a": 1}', {"/a#/b": "y"}),
        (b'{"a" "x"}', {"/a": "y"}),
        (b'{"b": "x" "a": "x"}', {"/a": "y"}),
        (b'{"b": [1, "a": "x"}', {"/a": "y"}),
        (b'{"b": \x00, "a": "x"}', {"/a": "y"}),
        (b'{"a": "x', {"/a": "y"}),
        (b'{"\\\x00": 1, "a": "x"}', {"/a": "y"}),
        (b'{"\xff": 1, "a": "x"}', {"/a": "y"}),
        (b'{"a": "\\x"}', {"/a#/b": "y"}),
        (b'{"a": "\xff"}', {"/a#/b": "y"}),
        (b'{"a": null}', {"/a": "y"}),
        (b'{"b": 1}', {"/a~3": "y"}),
        (b'["x"]', {"/0~3": "y"}),
        (b'{"a": 1, "a": 1}', {"/a~3": "y"}),
        (b'{"a": 1}', {"~3": "y"}),
        (b'{"a": 1}', {"/a~3/b": "y"}),
        (b"", {"/a": "y"}),
        (b"", {"": "y"}),
        (b"{", {"/a": "y"}),
    ],
)
def test_what_cannot_be_edited_is_an_error_that_holds_no_content(data: bytes, edits: dict[str, str]) -> None:
    with pytest.raises(DialectError) as caught:
        edit.rewrite(data, edits)
    assert "x" not in str(caught.value)
    assert caught.value.__context__ is None


PUT = b'{"a": {"x": [1, "]"]}, "b": [1.50, null], "c": "d"}'


@pytest.mark.parametrize(
    ("puts", "expected"),
    [
        ([], PUT),
        ([Put("/a")], b'{"a": null, "b": [1.50, null], "c": "d"}'),
        ([Put("/a/x", "[]"), Put("/b/0", "7")], b'{"a": {"x": []}, "b": [7, null], "c": "d"}'),
        ([Put("/b/1", "0"), Put("/c", '""')], b'{"a": {"x": [1, "]"]}, "b": [1.50, 0], "c": ""}'),
        ([Put("", "{}")], b"{}"),
    ],
)
def test_values_are_put_where_others_stand(puts: list[Put], expected: bytes) -> None:
    assert edit.rewrite(PUT, {}, puts) == expected


@pytest.mark.parametrize("puts", [[Put("/x")], [Put("/a/y")], [Put("/a"), Put("/a/x")], [Put("/b/2")], [Put("/c")]])
def test_a_value_cannot_be_put_where_nothing_is_or_something_else_is_written(puts: list[Put]) -> None:
    with pytest.raises(DialectError):
        edit.rewrite(PUT, {"/c": "e"}, puts)


def test_many_keys_that_get_one_name_are_told_apart_in_one_walk() -> None:
    keys = [f"k{index}@example.com" for index in range(20_000)]
    data = json.dumps(dict.fromkeys(keys, 1)).encode()
    renamed = strict.parse(edit.rewrite(data, {f"/{key}~3": "[EMAIL]" for key in keys}))
    assert len(renamed) == len(keys)
    assert {"[EMAIL]", "[EMAIL]_2", "[EMAIL]_20000"} <= renamed.keys()


@given(documents(), st.data())
def test_keys_and_numbers_are_edited_as_a_naive_twin_does(text: str, data: st.DataObject) -> None:
    value = strict.parse(text.encode())
    places = [place for place, _ in pointer.texts(value) if data.draw(st.booleans())]
    edits = {place: f"new {index}" for index, place in enumerate(places)}
    assert strict.parse(edit.rewrite(text.encode(), edits)) == _renamed(value, edits)


@given(st.binary(max_size=30) | st.text(alphabet='{}[]",:\\ax1 ', max_size=30).map(str.encode))
def test_what_is_no_json_is_edited_or_our_error(data: bytes) -> None:
    with contextlib.suppress(DialectError):
        edit.rewrite(data, {"/a": "y"})


def test_deep_nesting_and_many_edits_need_no_stack() -> None:
    deep = b"[" * 100_000 + b'"x"' + b"]" * 100_000
    assert edit.rewrite(b"[" + deep + b', "x"]', {"/1": "y"}) == b"[" + deep + b', "y"]'
    assert edit.rewrite(deep, {"/0" * 100_000: "y"}) == deep.replace(b"x", b"y")
    many = {f"/{index}": f"v{index}" for index in range(1000)}
    assert json.loads(edit.rewrite(json.dumps(["x"] * 1000).encode(), many)) == list(many.values())


@given(TEXT)
def test_a_quoted_text_is_read_as_itself(text: str) -> None:
    assert json.loads(edit.quote(text)) == _joined(text)


def _choose(value: Any, data: st.DataObject) -> list[str]:
    """Some places of strings, in some strings those of the JSON in them."""
    places: list[str] = []
    for place, text in pointer.strings(value):
        inner = pointer.embedded(text, place)
        places += [where for where, _ in inner] if data.draw(st.booleans()) else [place]
    return [place for place in places if data.draw(st.booleans())]


def _replaced(value: Any, edits: dict[str, str], place: str = "") -> Any:
    """The naive twin: parsed JSON with other strings."""
    if isinstance(value, dict):
        return {key: _replaced(member, edits, pointer.child(place, key)) for key, member in value.items()}
    if isinstance(value, list):
        return [_replaced(member, edits, pointer.child(place, index)) for index, member in enumerate(value)]
    if not isinstance(value, str):
        return value
    inner = {path.partition("#")[2]: text for path, text in edits.items() if path.startswith(f"{place}#")}
    if not inner:
        return edits.get(place, value)
    return edit.rewrite(value.encode("utf-8", "surrogatepass"), inner).decode("utf-8", "surrogatepass")


def _renamed(value: Any, edits: dict[str, str], place: str = "") -> Any:
    """The naive twin for keys and numbers."""
    if isinstance(value, list):
        return [_renamed(member, edits, pointer.child(place, index)) for index, member in enumerate(value)]
    if not isinstance(value, dict):
        return edits.get(place, value)
    below = {key: pointer.child(place, key) for key in value}
    return {edits.get(f"{below[key]}~3", key): _renamed(member, edits, below[key]) for key, member in value.items()}


def _joined(value: Any) -> Any:
    """With surrogates that came to stand side by side joined, as any reader of JSON does."""
    return json.loads(json.dumps(value))


def _with_old_literals(edited: bytes, wire: bytes, edits: int) -> bool:
    """Whether the two differ in as many strings as there are edits, at most, and in nothing between strings."""
    string = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)
    old, new = string.split(wire), string.split(edited)
    changed = [index for index, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
    return all(index % 2 for index in changed) and len(changed) <= edits


@given(documents(), st.data())
def test_one_text_is_swapped_as_it_is_rewritten(document: str, data: st.DataObject) -> None:
    raw = document.encode("utf-8", "surrogatepass")
    value = strict.parse(raw, surrogates=True)
    places = [place for place, _ in pointer.strings(value)]
    if places:
        place, new = data.draw(st.sampled_from(places)), data.draw(TEXT)
        assert edit.swap(raw, place, new) == edit.rewrite(raw, {place: new})


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b'{"a": {"content": "x"}, "b": {"c\\u006fntent": "y"}}', "/b/content"),
        (b'{"b": {"c\\u006fntent": "y"}, "a": {"content": "x"}}', "/b/content"),
        (b'{"a": "content", "content": "y"}', "/content"),
        (b'{"content": {"content": "y"}}', "/content/content"),
        (b'{"a": "\\"content", "content" : "y\\" \\\\"}', "/content"),
        (b'{"content": "{\\"to\\": 1, \\"at\\": \\"x\\"}", "at": "y"}', "/content#/at"),
        (b'["x", "y"]', "/1"),
    ],
)
def test_no_other_text_is_swapped_than_the_one_that_is_meant(raw: bytes, place: str) -> None:
    assert edit.swap(raw, place, 'new "one"') == edit.rewrite(raw, {place: 'new "one"'})


def test_one_text_alone_is_swapped_byte_for_byte() -> None:
    raw = b'{ "choices":[{"delta" : {"content"\t:\n "x"} }] }'
    assert edit.swap(raw, "/choices/0/delta/content", "y") == raw.replace(b'"x"', b'"y"')


def test_an_index_is_never_taken_for_a_key_that_looks_like_it() -> None:
    data = b'{"data":["secret"],"map":{"0":"x"}}'
    assert edit.swap(data, "/data/0", "[X]") == b'{"data":["[X]"],"map":{"0":"x"}}'
