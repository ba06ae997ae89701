"""Server-sent events, as the standard, the official clients and less careful ones read them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.dialects.framing_raw import Raw
from llmguard.dialects.framing_sse import SseDecoder, SseEncoder
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError

END = st.sampled_from(["\n", "\r\n", "\r"])
LINE = st.one_of(
    st.sampled_from(
        [":", ": ping", "id: 7", "id:\x00", "retry: 10", "retry: x", "id", "event", "event: message", "event:a:b"]
    ),
    st.sampled_from(
        ["data", "data:", "data: ", 'data: {"a":', 'data:"b"}', "data: {}", "data: [DONE]", "data:é", "data:  x"]
    ),
)
STREAM = st.lists(st.tuples(LINE | st.just(""), END)).map(lambda lines: "".join(line + end for line, end in lines))


def read(*pieces: bytes) -> list[Raw]:
    decoder = SseDecoder()
    return [raw for piece in pieces for raw in decoder.feed(piece)] + decoder.close()


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (b"data: 1\n\n", [Frame(1)]),
        (b"data:1\n\n", [Frame(1)]),
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Frame("YHOO\n+2\n10")]),
        (b"data:  x\n\ndata:\tx\n\n", [Frame(" x"), Frame("\tx")]),
        (b'event: add\r\ndata: {"a": 1}\r\n\r\n', [Frame({"a": 1}, "add")]),
        (b"event: add\rdata: {}\r\revent\rdata: 1\r\r", [Frame({}, "add"), Frame(1)]),
        (b"event: a\nevent: b\ndata: 1\n\ndata: 2\n\n", [Frame(1, "b"), Frame(2)]),
        (b"\xef\xbb\xbfdata: {}\n\n", [Frame({})]),
        (b": one\n\n:\ndata: 1\n: two\ndata: 2\n\n", [Frame("1\n2")]),
        (b"id: 1\nretry: 10\n\nevent: x\n\nid: a\x00b\ndata: 3\n\n", [Frame(3)]),
        (b"data\ndata\n\n", [Frame("\n")]),
        (b"data\n\ndata:\n\nid: 5\ndata: \n\n", []),
        (b'data: {"a":\ndata: 1}\n\n', [Frame({"a": 1})]),
        (b"data: [DONE]\n\ndata:[DONE] \n\n", [Frame("[DONE]"), Frame("[DONE]")]),
        (b'data: "[DONE]"\n\ndata: "x"\n\n', [Frame('"x"')]),
        (b"data: 1\n", []),
        (b"data: 1\n\ndata: 2\n", [Frame(1)]),
        (b"", []),
    ],
)
def test_the_standard(data: bytes, frames: list[Frame]) -> None:
    raws = read(data)
    assert [raw.frame for raw in raws if raw.frame] == frames
    assert b"".join(raw.raw for raw in raws) == data


def test_an_event_that_nothing_ended_is_handed_out_as_incomplete() -> None:
    raws = read(b'data: 1\n\nevent: x\ndata: {"a": 1}\n')
    assert [(raw.raw, raw.frame, raw.incomplete) for raw in raws] == [
        (b"data: 1\n\n", Frame(1), False),
        (b'event: x\ndata: {"a": 1}\n', None, True),
    ]


def test_keep_alives_go_out_before_an_event_follows() -> None:
    decoder = SseDecoder()
    assert [raw.raw for raw in decoder.feed(b"\xef\xbb\xbf: ping\ndata: 1\n")] == [b"\xef\xbb\xbf", b": ping\n"]
    assert [raw.raw for raw in decoder.feed(b"\n\n")] == [b"data: 1\n\n", b"\n"]


def test_an_event_goes_out_with_the_carriage_return_that_ends_it() -> None:
    decoder = SseDecoder()
    assert [raw.frame for raw in decoder.feed(b"data: 1\r\n\r")] == [Frame(1)]
    assert [(raw.raw, raw.frame) for raw in decoder.feed(b"\ndata: 2\r\n\r\n")] == [
        (b"\n", None),
        (b"data: 2\r\n\r\n", Frame(2)),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"choices": []}\n\n', "no field"),
        (b'Data: {"a": 1}\n\n', "no field"),
        (b' data: {"a": 1}\n\n', "no field"),
        (b'\xef\xbb\xbf\xef\xbb\xbfdata: {"a": 1}\n\n', "no field"),
        (b'error: {"a": 1}\n\n', "no field"),
        (b"foo\n\n", "no field"),
        (b'data: {"a": 1, "a": 2}\n\n', "a key stands twice"),
        (b'data: {"a": 1\n\n', "no JSON"),
        (b'data: {"a": 1} x\n\n', "no JSON"),
        (b"data: [DONE\n\n", "no JSON"),
        (b"data: [DONE] {}\n\n", "no JSON"),
        (b'data: data:{"a": 1}\n\n', "no JSON"),
        (b'data: \xef\xbb\xbf{"a": 1}\n\n', "no JSON"),
        (b'data: "{}"\n\n', "bracket"),
        (b'data: x\ndata: {"a": 1}\n\n', "JSON of its own"),
        (b'data: {"x": [\ndata: {"a": 1}\ndata: ]}\n\n', "JSON of its own"),
        (b'data: {"a": "\xff"}\n\n', "no UTF-8 at byte 7"),
        (b"data: \xff\n\n", "no UTF-8 at byte 0"),
        (b"event: \xff\ndata: 1\n\n", "the name of an event is no UTF-8"),
        (b': a\xe2\x80\xa8data: {"a": 1}\n\n', "read as two"),
        (b'id: a\x0bdata: {"a": 1}\ndata: 1\n\n', "read as two"),
        (b"event: a\xc2\x85data: 1\ndata: 1\n\n", "read as two"),
    ],
)
def test_what_another_reader_could_read_in_another_way_is_an_error(data: bytes, message: str) -> None:
    raws = read(data, b"data: 7\n\n")
    (wrong,) = [raw for raw in raws if raw.error]
    assert message in str(wrong.error)
    assert wrong.frame is None
    assert not wrong.incomplete
    assert [raw.frame for raw in raws if raw.frame] == [Frame(7)]


@pytest.mark.parametrize("name", ["openai", "anthropic"])
@settings(max_examples=150)
@given(STREAM)
def test_the_official_clients_read_the_same(name: str, text: str) -> None:
    streaming = pytest.importorskip(f"{name}._streaming", reason=f"{name} is not installed")
    said = [(sse.data, sse.event or "") for sse in streaming.SSEDecoder().iter_bytes(iter([text.encode()]))]
    raws = read(text.encode())
    ours = [(raw.payload.decode(), raw.frame.name if raw.frame else None) for raw in raws if raw.payload]
    theirs = [(data, event) for data, event in said if data]
    assert [data for data, _ in ours] == [data for data, _ in theirs]
    for (_, event), (_, theirs_event) in zip(ours, theirs, strict=True):
        assert event in (None, theirs_event)


@pytest.mark.parametrize(
    ("raw", "data", "expected"),
    [
        (b"data: {}\n\n", b'{"a": 1}', b'data: {"a": 1}\n\n'),
        (b"data:{}\r\n\r\n", b'{"a": 1}', b'data:{"a": 1}\r\n\r\n'),
        (b"id: {}\nevent: {}\ndata: {}\nretry: 3\n\n", b"[]", b"id: {}\nevent: {}\ndata: []\nretry: 3\n\n"),
        (b"event: x\rdata: {\rid: 1\rdata: }\r\r", b"[1]", b"event: x\rid: 1\rdata: [1]\r\r"),
        (b"data: {}\r\n\r\n", b"{\n1\r\n}", b"data: {\r\ndata: 1\r\ndata: }\r\n\r\n"),
        (b"data:{}\n\n", b" {}", b"data:  {}\n\n"),
        (b"data\rdata\n\n", b"a", b"data: a\n\n"),
        (b"data: {}\n: c\n\n", b"", b"data: \n: c\n\n"),
    ],
)
def test_rewritten(raw: bytes, data: bytes, expected: bytes) -> None:
    (piece,) = read(raw)
    assert SseEncoder().rewritten(piece, data) == expected


@given(STREAM, st.text(st.sampled_from('ab\n\r {}"'), max_size=12))
def test_a_rewritten_event_is_read_as_the_new_payload_under_the_old_name(text: str, new: str) -> None:
    payload = new.replace("\r\n", "\n").replace("\r", "\n").encode()
    for raw in [raw for raw in read(text.encode()) if raw.frame]:
        out = [one for one in read(SseEncoder().rewritten(raw, new.encode())) if one.payload or one.error]
        assert [one.payload for one in out] == ([payload] if payload else [])
        assert [one.frame.name for one in out if one.frame] in ([], [raw.frame.name if raw.frame else ""])
        assert SseEncoder().rewritten(raw, raw.payload) == raw.raw or b"data\r" in raw.raw or raw.at < 0


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Frame({"a": "é\u2028\ud800"}), b'data: {"a":"\\u00e9\\u2028\\ud800"}\n\n'),
        (Frame({}, "message_stop"), b"event: message_stop\ndata: {}\n\n"),
        (Frame("[DONE]"), b"data: [DONE]\n\n"),
        (Frame("a\r\nb"), b"data: a\ndata: b\n\n"),
    ],
)
def test_events_of_our_own(frame: Frame, expected: bytes) -> None:
    assert SseEncoder().encode(frame) == expected


def test_what_can_not_be_written_is_an_error() -> None:
    with pytest.raises(DialectError, match="line break"):
        SseEncoder().encode(Frame({}, "a\ndata: x"))
    with pytest.raises(DialectError, match="can't be rewritten"):
        SseEncoder().rewritten(read(b": ping\n")[0], b"{}")


def _samples() -> list[Any]:
    from dialect_samples import FOLDER

    found = [json.loads(path.read_bytes()) for path in sorted(FOLDER.glob("*.json"))]
    return [stream for sample in found for stream in sample.get("streams", [])]


def test_samples_of_all_dialects_survive() -> None:
    streams = _samples()
    assert len(streams) > 10
    for stream in streams:
        frames = [Frame(frame["data"], frame.get("name", "")) for frame in stream["frames"]]
        data = b"".join(SseEncoder().encode(frame) for frame in frames)
        assert [raw.frame for raw in read(data) if raw.frame] == [frame for frame in frames if frame.data != ""]


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
@pytest.mark.parametrize("whole", [b":\r\n", b"data: 1\r\n\r\n", b"\r\n", b":a\r\n:b\r\n"])
def test_a_line_end_of_two_bytes_weighs_the_same_in_one_piece_and_in_two(whole: bytes, limit: int) -> None:
    uncut, cut = SseDecoder(limit), SseDecoder(limit)
    one = [*uncut.feed(whole), *uncut.close()]
    many = [raw for at in range(len(whole)) for raw in cut.feed(whole[at : at + 1])] + cut.close()
    assert any(raw.error is not None for raw in one) == any(raw.error is not None for raw in many)
    assert b"".join(raw.raw for raw in many) == whole
