"""One JSON array that grows."""

from __future__ import annotations

import json

import pytest

from llmguard.dialects.framing_array import ArrayDecoder, ArrayEncoder
from llmguard.dialects.framing_raw import Raw
from llmguard.dialects.wire import Frame
from llmguard.errors import DialectError

STREAM = b' [{"a": "}\\"]"}\n,\r\n{"b": [{}, {"c": "\\\\"}]} , {}\n]\n '


def read(*pieces: bytes) -> list[Raw]:
    decoder = ArrayDecoder()
    return [raw for piece in pieces for raw in decoder.feed(piece)] + decoder.close()


def test_members() -> None:
    raws = read(STREAM)
    assert [(raw.raw, raw.frame) for raw in raws] == [
        (b" [", None),
        (b'{"a": "}\\"]"}', Frame({"a": '}"]'})),
        (b'\n,\r\n{"b": [{}, {"c": "\\\\"}]}', Frame({"b": [{}, {"c": "\\"}]})),
        (b" , {}", Frame({})),
        (b"\n]", None),
        (b"\n ", None),
    ]
    assert [raw.payload for raw in raws if raw.frame] == [b'{"a": "}\\"]"}', b'{"b": [{}, {"c": "\\\\"}]}', b"{}"]
    assert [raw.frame for raw in read(b"[", b"]")] == [None, None]


def test_a_member_goes_out_with_its_last_brace() -> None:
    decoder = ArrayDecoder()
    assert [raw.raw for raw in decoder.feed(b'[{"a": 1}')] == [b"[", b'{"a": 1}']
    assert [raw.raw for raw in decoder.feed(b",\n")] == []
    assert [raw.raw for raw in decoder.feed(b"{}")] == [b",\n{}"]


@pytest.mark.parametrize(
    "data",
    [b"{}", b'[1, {"a": 1}]', b"[[{}]]", b"[{},]", b"[{} {}]", b"[,{}]", b"[{}] []", b'["a"]', b"x", b"\xef\xbb\xbf[]"],
)
def test_what_is_no_array_of_objects_loses_the_framing(data: bytes) -> None:
    decoder = ArrayDecoder()
    raws = [*decoder.feed(data), *decoder.feed(b"[{}]"), *decoder.close()]
    assert b"".join(raw.raw for raw in raws) == data + b"[{}]"
    assert [str(raw.error) for raw in raws[-2:]] == ["the stream is no array of objects"] * 2
    assert all(raw.incomplete and raw.frame is None for raw in raws[-2:])


@pytest.mark.parametrize("member", [b'{"a": 1, "a": 2}', b"{a}", b'{"a": ]}', b'{"a": NaN}'])
def test_a_member_that_readers_read_in_different_ways_is_an_error(member: bytes) -> None:
    raws = read(b"[" + member + b", {}]")
    assert [raw.frame for raw in raws] == [None, None, Frame({}), None]
    assert raws[1].error is not None
    assert not raws[1].incomplete


@pytest.mark.parametrize("data", [b"", b" ", b"[", b"[{}", b"[{},", b'[{"a": "', b'[{"a": "\\'])
def test_what_is_cut_off_says_so(data: bytes) -> None:
    last = read(data)[-1]
    assert last.incomplete
    assert last.error is None
    assert last.frame is None


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("kkk", STREAM),
        ("rkk", b' [{"n":1}\n,\r\n{"b": [{}, {"c": "\\\\"}]} , {}\n]\n '),
        ("dkk", b' [\n\r\n{"b": [{}, {"c": "\\\\"}]} , {}\n]\n '),
        ("krd", b' [{"a": "}\\"]"}\n,\r\n{"n":1}\n]\n '),
        ("ddd", b" [\n]\n "),
        ("edd", b' [{"o":1},{"a": "}\\"]"}\n]\n '),
        ("dde", b' [{"o":1} , {}\n]\n '),
    ],
)
def test_it_stays_an_array(plan: str, expected: bytes) -> None:
    encoder = ArrayEncoder()
    steps = iter(plan)
    out = b""
    for raw in read(STREAM):
        step = next(steps) if raw.frame else "k"
        if step == "e":
            out += encoder.encode(Frame({"o": 1}))
        out += {"r": lambda raw: encoder.rewritten(raw, b'{"n":1}'), "d": lambda _: b""}.get(step, encoder.kept)(raw)
    out += encoder.end()
    assert out == expected
    json.loads(out)


def test_what_is_ours_goes_in_before_the_closing_bracket() -> None:
    encoder = ArrayEncoder()
    out = b"".join(map(encoder.kept, read(b"[{}\n]\n")))
    assert out + encoder.encode(Frame({"o": 1})) + encoder.end() == b'[{},\r\n{"o":1}\n]\n'


def test_a_stream_that_broke_off_is_ended_and_an_array_of_our_own_is_one() -> None:
    cut, ours, empty = ArrayEncoder(), ArrayEncoder(), ArrayEncoder()
    out = b"".join([cut.kept(raw) for raw in read(b'[{"a": 1},{"b') if not raw.incomplete])
    assert out + cut.encode(Frame({"o": 1})) + cut.end() == b'[{"a": 1},\r\n{"o":1}]'
    as_it_came = ArrayEncoder()
    assert b"".join(map(as_it_came.kept, read(b'[{"a": 1},{"b'))) == b'[{"a": 1},{"b'
    assert ours.encode(Frame({"o": 1})) + ours.encode(Frame({})) + ours.end() == b'[{"o":1},\r\n{}]'
    assert empty.end() == b"[]"


def test_what_can_not_be_written_is_an_error() -> None:
    with pytest.raises(DialectError, match="can't be rewritten"):
        ArrayEncoder().rewritten(read(b"[]")[0], b"{}")
