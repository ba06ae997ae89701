"""Events that are like one before: read as they would be if each of them were parsed."""

from __future__ import annotations

import dataclasses
import json

import pytest
from dialect_samples import wire
from exchanges import DIALECTS, STREAMING, streams
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.dialects import edit, strict
from llmguard.dialects.framing_sse import SseDecoder, piece
from llmguard.dialects.template import Template, template
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError

CHAT = DIALECTS["openai.chat"]
EVENT = (
    b'data: {"id": "c",  "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": null}], "n": 1.50}\n\n'
)


def made(data: bytes = EVENT) -> Template | None:
    raw = piece(data)
    assert raw.frame is not None
    return template(raw, CHAT.event(raw.frame))


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize("text", [" ", "}", '"', "{}", "[DONE]", "a\n\nb", "é\U0001f989", "4111111111111111"])
def test_what_a_dialect_reads_does_not_depend_on_what_a_plain_piece_says(name: str, text: str) -> None:
    dialect = STREAMING[name]
    for frame in [frame for whole in streams(dialect) for frame in whole]:
        event = dialect.event(frame)
        for delta in event.deltas:
            if delta.json or len(event.deltas) > 1 or event.repeats or event.parts:
                continue
            other = Frame(strict.parse(edit.rewrite(wire(frame.data), {delta.path: text})), frame.name)
            assert dialect.event(other) == dataclasses.replace(
                event, deltas=(dataclasses.replace(delta, content=text),)
            )


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), st.booleans())
def test_an_event_that_is_like_it_says_what_it_says(text: str, ascii_only: bool) -> None:
    known = made()
    assert known is not None
    data = EVENT.replace(b'"one"', json.dumps(text, ensure_ascii=ascii_only).encode())
    assert known.text(data) == text
    raw = piece(known.saying(text))
    assert raw.frame is not None
    assert [delta.content for delta in CHAT.event(raw.frame).deltas] == [text]
    assert known.payload(data) == piece(data).payload


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=8))
def test_whatever_bytes_stand_there_it_reads_what_the_parser_reads_or_leaves_them_to_it(said: bytes) -> None:
    known = made()
    assert known is not None
    data = EVENT.replace(b"one", said)
    text = known.text(data)
    whole = SseDecoder().feed(data)
    if text is not None:
        (raw,) = whole
        assert raw.frame is not None
        assert [delta.content for delta in CHAT.event(raw.frame).deltas] == [text]


@pytest.mark.parametrize(
    "data",
    [
        EVENT.replace(b'"c"', b'"d"'),
        EVENT.replace(b"null", b'"stop"'),
        EVENT.replace(b'"one"', b"null"),
        EVENT.replace(b"one", b'one", "content": "two'),
        EVENT.replace(b"one", b""),
        EVENT.replace(b"one", b"\\"),
        EVENT.replace(b"one", b"\\x"),
        EVENT.replace(b"one", b"\xff"),
        EVENT.replace(b"one", b"\t"),
        b": ping\n",
        b"data: [DONE]\n\n",
        EVENT[:20],
        b"",
    ],
)
def test_what_is_not_like_it_is_left_to_the_parser(data: bytes) -> None:
    known = made()
    assert known is not None
    assert known.text(data) is None


@pytest.mark.parametrize(
    "change",
    [
        (b'"finish_reason": null', b'"finish_reason": "stop"'),
        (b'"n": 1.50', b'"usage": {"prompt_tokens": 1}'),
        (b'"content": "one"', b'"content": "one", "refusal": "two"'),
        (b'"content": "one"', b'"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]'),
        (b'"delta"', b'"logprobs": {"content": [1]}, "delta"'),
    ],
)
def test_what_says_more_than_a_piece_is_no_template(change: tuple[bytes, bytes]) -> None:
    assert change[0] in EVENT
    assert made(EVENT.replace(*change)) is None


def test_nothing_of_it_is_shown() -> None:
    known = made()
    assert known is not None
    decoder = SseDecoder()
    decoder.like = (known,)
    (raw,) = decoder.feed(EVENT.replace(b"one", b"secret"))
    assert raw.like == (known, "secret")
    assert "secret" not in repr(raw)
    assert '"one"' not in repr(known)


def test_where_a_string_stands() -> None:
    assert edit.place(b'{"a": ["x", "yz"]}', "/a/1") == (12, 16)
    with pytest.raises(DialectError):
        edit.place(b'{"a": ["x", "yz"]}', "/a/2")


def test_an_event_that_is_long_is_none_to_be_remembered() -> None:
    assert made(EVENT.replace(b'"c"', b'"%s"' % (b"c" * 1_000))) is not None
    assert made(EVENT.replace(b'"c"', b'"%s"' % (b"c" * 20_000))) is None
