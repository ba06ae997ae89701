"""JSON values, one a line."""

from __future__ import annotations

import pytest

from llmguard.dialects.framing_ndjson import NdjsonDecoder, NdjsonEncoder
from llmguard.dialects.framing_raw import Raw
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError


def read(*pieces: bytes) -> list[Raw]:
    decoder = NdjsonDecoder()
    return [raw for piece in pieces for raw in decoder.feed(piece)] + decoder.close()


def test_lines() -> None:
    raws = read(b'{"a": 1}\r\n\n \t\r\n [2] \n{"c":', b"3}")
    assert [(raw.raw, raw.frame, raw.payload) for raw in raws] == [
        (b'{"a": 1}\r\n', Frame({"a": 1}), b'{"a": 1}'),
        (b"\n", None, b""),
        (b" \t\r\n", None, b""),
        (b" [2] \n", Frame([2]), b"[2]"),
        (b'{"c":3}', Frame({"c": 3}), b'{"c":3}'),
    ]
    assert not any(raw.error or raw.incomplete for raw in raws)


@pytest.mark.parametrize(
    ("data", "message", "incomplete"),
    [
        (b"plain\n", "no JSON at byte 0", False),
        (b"[DONE]\n", "no JSON at byte 1", False),
        (b'{"a": 1} {"b": 2}\n', "no JSON at byte 9", False),
        (b'{"a": 1, "a": 2}\n', "a key stands twice", False),
        (b'{"a":\r{"b": 2}\r}\n', "carriage return", False),
        (b"\xef\xbb\xbf{}\n", "no JSON at byte 0", False),
        (b'{"a": "\xff"}\n', "no UTF-8 at byte 7", False),
        (b'{"a": 1', "no JSON at byte 7", True),
    ],
)
def test_what_readers_read_in_different_ways_is_an_error(data: bytes, message: str, incomplete: bool) -> None:
    (raw,) = read(data)
    assert (raw.raw, raw.frame, raw.incomplete) == (data, None, incomplete)
    assert message in str(raw.error)


@pytest.mark.parametrize(
    ("line", "expected"),
    [(b"{}\n", b"[1]\n"), (b" {}\t\r\n", b" [1]\t\r\n"), (b"{}", b"[1]")],
)
def test_rewritten(line: bytes, expected: bytes) -> None:
    (raw,) = read(line)
    assert NdjsonEncoder().rewritten(raw, b"[1]") == expected


def test_a_line_of_our_own_behind_one_without_an_end() -> None:
    encoder = NdjsonEncoder()
    out = b"".join([*map(encoder.kept, read(b'{"a": 1}\n{"b": 2}')), encoder.encode(Frame({"done": True}, "x"))])
    assert out + encoder.end() == b'{"a": 1}\n{"b": 2}\n{"done":true}\n'


def test_what_can_not_be_written_is_an_error() -> None:
    raw, blank = read(b"{}\n\n")
    for data in (b"{\n}", b"{\r}"):
        with pytest.raises(DialectError, match="line break"):
            NdjsonEncoder().rewritten(raw, data)
    with pytest.raises(DialectError, match="can't be rewritten"):
        NdjsonEncoder().rewritten(blank, b"{}")
