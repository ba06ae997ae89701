from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from llmguard import Role, Text
from llmguard.errors import ConfigurationError
from llmguard.shapes import part, read, write

MESSAGES = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "x"}}]},
    {"role": "tool", "content": "42", "tool_call_id": "c1"},
    {"role": "assistant", "content": None, "tool_calls": []},
]


def test_chat_messages_keep_their_roles_and_places() -> None:
    assert [(t.content, t.role, t.path) for t in read(MESSAGES, Role.USER, "/messages")] == [
        ("be kind", Role.SYSTEM, "/messages/0/content"),
        ("look", Role.USER, "/messages/1/content/0/text"),
        ("42", Role.TOOL, "/messages/2/content"),
    ]


def test_writing_copies_and_leaves_the_rest_alone() -> None:
    written = write(MESSAGES, iter(["BE KIND", "LOOK", "43"]))
    assert written == [
        {"role": "system", "content": "BE KIND"},
        {"role": "user", "content": [{"type": "text", "text": "LOOK"}, MESSAGES[1]["content"][1]]},
        {"role": "tool", "content": "43", "tool_call_id": "c1"},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    assert MESSAGES[0]["content"] == "be kind"


@pytest.mark.parametrize("value", [7, b"bytes", object(), ["fine", 3.5], [{"role": "user", "content": 1}]])
def test_other_types_are_refused_by_name(value: object) -> None:
    with pytest.raises(TypeError, match=r"llmguard reads str, Text, chat messages"):
        read(value, Role.USER)


values = st.recursive(
    st.text() | st.text().map(Text) | st.none(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": inner})
    ),
    max_leaves=20,
)


@given(values)
def test_writing_back_what_was_read_changes_nothing(value: object) -> None:
    assert write(value, iter([text.content for text in read(value, Role.USER)])) == value


@dataclass(frozen=True)
class Frozen:
    text: str
    other: int = 1


class Model(BaseModel):
    text: str


Named = namedtuple("Named", "text other")


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        ("text", Frozen("a"), Frozen("b")),
        ("text", Model(text="a"), Model(text="b")),
        ("text", Named("a", 1), Named("b", 1)),
        ("text", {"text": "a", "id": 1}, {"text": "b", "id": 1}),
        ("choices.0.text", {"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]}),
        (lambda r: r["choices"][0].text, {"choices": [Frozen("a")]}, {"choices": [Frozen("b")]}),
        (lambda r: r[-1], ("x", "a"), ("x", "b")),
        ((lambda r: r["t"].lower(), lambda r, text: {**r, "t": text}), {"t": "A"}, {"t": "b"}),
    ],
)
def test_a_part_is_taken_out_and_put_into_a_copy(where: object, value: object, expected: object) -> None:
    at = part(where)  # type: ignore[arg-type]
    assert at.get(value) == "a"
    assert at.put(value, "b") == expected
    assert at.get(value) == "a"


def test_a_plain_object_is_copied_too() -> None:
    value = SimpleNamespace(inner=SimpleNamespace(text="a"))
    changed = part(lambda r: r.inner.text).put(value, "b")
    assert changed.inner.text == "b"
    assert value.inner.text == "a"


@pytest.mark.parametrize(
    "where", [lambda r: r.text.strip(), lambda r: "constant", lambda r: len(r), lambda r: r.a + "x"]
)
def test_a_getter_that_can_not_be_reversed_is_refused(where: object) -> None:
    with pytest.raises(ConfigurationError, match=r"pair \(getter, setter\)"):
        part(where)  # type: ignore[arg-type]
