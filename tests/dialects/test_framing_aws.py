"""Amazon's event stream, as botocore reads it."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.dialects.framing_aws import AwsDecoder, AwsEncoder
from llmguard.dialects.framing_raw import Raw
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError

VALUES = [
    *((0, b""), (1, b""), (2, b"\xff"), (3, b"ab"), (4, b"abcd"), (5, b"abcdefgh"), (6, b"\0\3xyz")),
    *((7, b"\0\2hi"), (8, b"\0\0\1\x8b\0\0\0\0"), (9, bytes(range(16)))),
]


def header(name: str, value: str) -> bytes:
    return typed(name, 7, struct.pack(">H", len(value.encode())) + value.encode())


def typed(name: str, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + bytes([kind]) + value


def message(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def event(name: str, payload: bytes) -> bytes:
    return message(header(":message-type", "event") + header(":event-type", name), payload)


def read(*pieces: bytes) -> list[Raw]:
    decoder = AwsDecoder()
    return [raw for piece in pieces for raw in decoder.feed(piece)] + decoder.close()


def theirs(data: bytes) -> list[Any]:
    stream = pytest.importorskip("botocore.eventstream", reason="botocore is not installed")
    buffer = stream.EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


def test_an_example_by_its_bytes() -> None:
    headers = b"\x0d:message-type\x07\0\x05event\x0b:event-type\x07\0\x01x"
    data = b"\0\0\0\x3e\0\0\0\x26" + struct.pack(">I", zlib.crc32(b"\0\0\0\x3e\0\0\0\x26")) + headers + b'{"a": 1}'
    assert len(data) + 4 == 0x3E
    data += struct.pack(">I", zlib.crc32(data))
    (raw,) = read(data)
    assert (raw.raw, raw.frame, raw.payload, raw.at) == (data, Frame({"a": 1}, "x"), b'{"a": 1}', 50)


def test_names_of_events_and_exceptions() -> None:
    wrong = message(
        header(":exception-type", "throttlingException") + header(":message-type", "exception"), b'{"m": 1}'
    )
    raws = read(event("messageStart", b'{"role": "assistant"}') + event("metadata", b"") + wrong)
    assert [raw.frame for raw in raws] == [
        Frame({"role": "assistant"}, "messageStart"),
        Frame({}, "metadata"),
        Frame({"m": 1}, "throttlingException"),
    ]


def test_an_error_says_its_text_in_a_header() -> None:
    more = typed("n", 4, b"\0\0\0\1")
    said = header(":message-type", "error") + header(":error-code", "InternalError") + header(":error-message", "é")
    (raw,) = read(message(said + more, b""))
    assert raw.frame == Frame({"message": "é"}, "InternalError")
    new = AwsEncoder().rewritten(raw, b'{"message": "[gone]"}')
    expected = said.replace(header(":error-message", "é"), header(":error-message", "[gone]")) + more
    assert new == message(expected, b"")
    assert AwsEncoder().rewritten(raw, raw.payload) == raw.raw
    for data in (b"[]", b'{"message": 1}', b"{"):
        with pytest.raises(DialectError):
            AwsEncoder().rewritten(raw, data)


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(VALUES), max_size=4), st.sampled_from([b"", b"{}", b'{"a": "\xc3\xa9"}'])),
        max_size=3,
    )
)
def test_botocore_reads_the_same(messages: list[tuple[list[tuple[int, bytes]], bytes]]) -> None:
    data = b"".join(
        message(
            b"".join(typed(f"h{at}", *value) for at, value in enumerate(values))
            + header(":event-type", "é" * len(values)),
            payload,
        )
        for values, payload in messages
    )
    raws = read(data)
    assert not any(raw.error for raw in raws)
    assert [(raw.payload, raw.frame.name) for raw in raws if raw.frame] == [
        (one.payload, one.headers[":event-type"]) for one in theirs(data)
    ]


@given(st.sampled_from(VALUES), st.sampled_from([b"", b'{"b": 2}', b"x" * 300]))
def test_botocore_reads_what_is_rewritten(value: tuple[int, bytes], payload: bytes) -> None:
    (raw,) = read(message(typed("x", *value) + header(":event-type", "a"), b'{"a": 1}'))
    data = AwsEncoder().rewritten(raw, payload)
    assert data == message(typed("x", *value) + header(":event-type", "a"), payload)
    ((before,), (after,)) = theirs(raw.raw), theirs(data)
    assert (after.headers, after.payload) == (before.headers, payload)


def test_botocore_reads_what_is_ours() -> None:
    encoder = AwsEncoder()
    data = encoder.encode(Frame({"a": "é"}, "messageStop")) + encoder.encode(Frame({}, "validationException"))
    first, second = theirs(data)
    assert first.payload == b'{"a":"\\u00e9"}'
    assert first.headers == {
        ":event-type": "messageStop",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    assert second.headers[":exception-type"] == "validationException"
    assert second.headers[":message-type"] == "exception"


@pytest.mark.parametrize("place", range(len(event("a", b"{}"))))
def test_every_byte_is_under_a_checksum(place: int) -> None:
    good = event("a", b"{}")
    bad = bytearray(good)
    bad[place] ^= 4
    decoder = AwsDecoder()
    raws = [*decoder.feed(good + bytes(bad)), *decoder.feed(good), *decoder.close()]
    assert [raw.frame for raw in raws] == [Frame({}, "a"), None, None]
    assert [raw.raw for raw in raws] == [good, bytes(bad), good]
    assert all(raw.incomplete and "checksum of a message" in str(raw.error) for raw in raws[1:])


@pytest.mark.parametrize(
    ("headers", "message_"),
    [
        (b"\x01a", "cut off"),
        (b"\x05a", "cut off"),
        (b"\x01a\x0a", "unknown type"),
        (b"\x01a\x07\0", "cut off"),
        (b"\x01a\x07\0\5hi", "cut off"),
        (b"\x01a\x04abc", "cut off"),
        (b"\x01\xff\0", "no UTF-8"),
        (b"\x01a\x07\0\1\xff", "no UTF-8"),
        (b"\x01a\0\x01a\0", "stands there twice"),
        (header(":message-type", "other"), "unknown type"),
    ],
)
def test_headers_that_are_none(headers: bytes, message_: str) -> None:
    raws = read(message(headers, b"{}"), event("a", b"{}"))
    assert [raw.frame for raw in raws] == [None, Frame({}, "a")]
    assert message_ in str(raws[0].error)


@pytest.mark.parametrize("payload", [b"plain", b'{"a": 1, "a": 2}', b"{", b"\xff", b"{} "])
def test_payloads_that_are_no_json(payload: bytes) -> None:
    (raw,) = read(event("a", payload))
    assert (raw.frame is None) == (payload != b"{} ")
    assert (raw.error is None) == (payload == b"{} ")
    (raw,) = read(message(header(":message-type", "error"), b"{}"))
    assert str(raw.error) == "an error with a payload"


@pytest.mark.parametrize(("length", "headers"), [(15, 0), (0, 0), (20, 5), (2**31, 0), (2**20, 2**18)])
def test_lengths_that_can_not_be(length: int, headers: int) -> None:
    prelude = struct.pack(">II", length, headers)
    data = prelude + struct.pack(">I", zlib.crc32(prelude))
    (raw,) = read(data)
    assert (raw.raw, raw.frame, raw.incomplete) == (data, None, True)
    assert raw.error is not None


def test_what_can_not_be_written_is_an_error() -> None:
    (raw,) = read(event("a", b"{"))
    with pytest.raises(DialectError, match="can't be rewritten"):
        AwsEncoder().rewritten(raw, b"{}")
    with pytest.raises(DialectError, match="32,767"):
        AwsEncoder().encode(Frame({}, "x" * 40_000))
