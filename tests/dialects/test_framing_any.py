"""What holds for every framing: nothing is lost, cuts don't matter, and what is written is read again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.dialects import framing
from llmguard.dialects.framing import Raw
from llmguard.dialects.wire import Frame, Framing
from llmguard.errors import ConfigurationError

each = pytest.mark.parametrize("kind", list(Framing))

TEXT = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(['"}', "\\", "{[", "\r\n", "\u2028", "[DONE]"])
VALUE = st.recursive(TEXT | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3))
DATA = st.dictionaries(TEXT, VALUE, max_size=3)
PIECES: dict[Framing, list[bytes]] = {
    Framing.SSE: [
        b"data",
        b":",
        b" ",
        b"\r",
        b"\n",
        b"event: a",
        b"{}",
        b"[DONE]",
        b"\xef\xbb\xbf",
        b"\n\n",
        b"id:1",
        b"x",
    ],
    Framing.NDJSON: [b"{}", b"\n", b"\r", b" ", b"[1]", b"x", b'"', b"\xff"],
    Framing.AWS: [
        framing.encoder(Framing.AWS).encode(Frame({"a": 1}, "b")),
        b"\0\0\0\x10",
        b"\0",
        b":event-type",
        b"x",
    ],
    Framing.ARRAY: [b"[", b"{", b"}", b",", b"]", b'"', b"\\", b" \n", b'{"a": "}"}', b"x"],
}


def read(kind: Framing, pieces: list[bytes], limit: int = framing.LIMIT) -> list[Raw]:
    decoder = framing.decoder(kind, limit)
    return [raw for piece in pieces for raw in decoder.feed(piece)] + decoder.close()


def joined(raws: list[Raw]) -> bytes:
    return b"".join(raw.raw for raw in raws)


def seen(raws: list[Raw]) -> list[Any]:
    """All that a caller acts on, but for empty lines and the like, and where lost bytes are cut."""
    said = [(raw.frame, raw.payload, str(raw.error), raw.incomplete) for raw in raws]
    kept = [one for one, raw in zip(said, raws, strict=True) if raw.frame or raw.error or raw.incomplete]
    return [one for at, one in enumerate(kept) if not (at and one[3] and one == kept[at - 1])]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def stream(kind: Framing, values: list[Any]) -> bytes:
    encoder = framing.encoder(kind)
    return b"".join(encoder.encode(Frame(value, "a" * (at % 2))) for at, value in enumerate(values)) + encoder.end()


@each
@settings(max_examples=60)
@given(st.lists(DATA, max_size=3), st.lists(st.integers(0, 10**6), max_size=6))
def test_what_is_written_is_read_however_it_is_cut(kind: Framing, values: list[Any], places: list[int]) -> None:
    data = stream(kind, values)
    for pieces in (cut(data, places), [data[at : at + 1] for at in range(len(data))]):
        raws = read(kind, pieces)
        assert joined(raws) == data
        assert [raw.frame.data for raw in raws if raw.frame] == values
        assert not any(raw.error or raw.incomplete for raw in raws)


@each
@settings(max_examples=100)
@given(st.data())
def test_cuts_change_nothing_whatever_comes(kind: Framing, data: st.DataObject) -> None:
    whole = b"".join(data.draw(st.lists(st.sampled_from(PIECES[kind]) | st.binary(max_size=3), max_size=14)))
    limit = data.draw(st.sampled_from([1, 9, 60, framing.LIMIT]))
    pieces = cut(whole, data.draw(st.lists(st.integers(0, 10**6), max_size=8)))
    uncut = read(kind, [whole], limit)
    assert joined(uncut) == whole
    for other in (pieces, [whole[at : at + 1] for at in range(len(whole))]):
        raws = read(kind, other, limit)
        assert joined(raws) == whole
        assert seen(raws) == seen(uncut)


@each
@settings(max_examples=60)
@given(st.lists(DATA, min_size=1, max_size=3), st.data())
def test_a_rewritten_event_says_the_new_and_is_else_as_it_was(
    kind: Framing, values: list[Any], data: st.DataObject
) -> None:
    raws = read(kind, [stream(kind, values)])
    encoder, same = framing.encoder(kind), framing.encoder(kind)
    new = data.draw(DATA)
    which = data.draw(st.sampled_from([raw for raw in raws if raw.frame]))
    out = b"".join(
        encoder.rewritten(raw, json.dumps(new, ensure_ascii=True).encode()) if raw is which else encoder.kept(raw)
        for raw in raws
    )
    expected = [(new if raw is which else raw.frame.data, raw.frame.name) for raw in raws if raw.frame]
    assert [(raw.frame.data, raw.frame.name) for raw in read(kind, [out + encoder.end()]) if raw.frame] == expected
    again = b"".join(same.rewritten(raw, raw.payload) if raw.frame else same.kept(raw) for raw in raws) + same.end()
    assert again == joined(raws)


@each
@settings(max_examples=60)
@given(st.lists(st.tuples(DATA, st.sampled_from(["keep", "drop", "before"])), max_size=4))
def test_events_are_left_out_and_put_in(kind: Framing, plan: list[tuple[Any, str]]) -> None:
    encoder = framing.encoder(kind)
    waiting = [what for _, what in plan]
    out = b""
    expected: list[Any] = []
    for raw in read(kind, [stream(kind, [value for value, _ in plan])]):
        what = waiting.pop(0) if raw.frame else "keep"
        if what == "before":
            out += encoder.encode(Frame({"ours": 1}, "x"))
            expected.append({"ours": 1})
        out += b"" if what == "drop" else encoder.kept(raw)
        expected += [raw.frame.data] if raw.frame and what != "drop" else []
    out += encoder.encode(Frame({"last": True}, "x")) + encoder.end()
    raws = read(kind, [out])
    assert [raw.frame.data for raw in raws if raw.frame] == [*expected, {"last": True}]
    assert not any(raw.error or raw.incomplete for raw in raws)


@each
def test_a_stream_that_breaks_off_says_so_and_nothing_is_lost(kind: Framing) -> None:
    data = stream(kind, [{"a": "one"}, {"b": "two"}])
    for length in range(len(data)):
        raws = read(kind, [data[:length]])
        assert joined(raws) == data[:length]
        assert all(raw.frame is None for raw in raws if raw.incomplete)
        whole = sum(raw.frame is not None for raw in raws)
        assert whole < 2 or kind in (Framing.NDJSON, Framing.ARRAY)
        if kind == Framing.ARRAY or (length and not raws[-1].frame):
            assert raws[-1].incomplete == (kind == Framing.ARRAY or raws[-1].raw.strip() != b"")


@each
def test_an_event_beyond_the_limit_is_an_error_and_holds_no_memory(kind: Framing) -> None:
    small, large = {"a": 1}, {"a": "x" * 300}
    data = stream(kind, [small, large, small])
    for size in (1, 7, len(data)):
        decoder = framing.decoder(kind, 200)
        raws: list[Raw] = []
        for at in range(0, len(data), size):
            raws += decoder.feed(data[at : at + size])
            assert len(decoder._held) <= 200  # type: ignore[attr-defined]
        assert [raw.frame.data for raw in raws if raw.frame] == [small]
        assert joined(raws) == data
        assert str(raws[-1].error) == "an event of the stream is longer than 200 bytes"
        assert raws[-1].incomplete
        assert decoder.feed(b"") == []


@each
def test_a_large_event_byte_by_byte(kind: Framing) -> None:
    """Minutes, if anything were looked at again with every byte."""
    data = stream(kind, [{"a": '"\\{' * 10_000}, {"b": 2}])
    raws = read(kind, [data[at : at + 1] for at in range(len(data))])
    assert joined(raws) == data
    assert sum(raw.frame is not None for raw in raws) == 2


@each
def test_no_content_in_errors_and_representations(kind: Framing) -> None:
    secret = '{"secret": "4111", "secret": 2}'
    encoded = framing.encoder(kind).encode(Frame(secret, ""))
    raws = read(kind, [b"[" + secret.encode() + b"]" if kind == Framing.ARRAY else encoded])
    (wrong,) = [raw for raw in raws if raw.error]
    assert wrong.error is not None
    assert wrong.error.__traceback__ is None
    assert wrong.error.__context__ is None
    assert "4111" not in repr(raws) + str(wrong.error)
    assert "a key stands twice" in str(wrong.error)


@pytest.mark.parametrize(
    ("content_type", "expected", "kind"),
    [
        ("text/event-stream", None, Framing.SSE),
        ("Text/Event-Stream; charset=utf-8", Framing.NDJSON, Framing.SSE),
        ("application/x-ndjson", Framing.SSE, Framing.NDJSON),
        ("application/vnd.amazon.eventstream", None, Framing.AWS),
        ("application/json", None, None),
        ("application/json; charset=UTF-8", Framing.SSE, None),
        ("application/problem+json", Framing.NDJSON, None),
        ("application/json", Framing.ARRAY, Framing.ARRAY),
        ("text/event-stream", Framing.ARRAY, Framing.SSE),
        ("", Framing.SSE, Framing.SSE),
        ("text/plain", Framing.NDJSON, Framing.NDJSON),
        ("text/html", None, None),
    ],
)
def test_which_framing_a_response_has(content_type: str, expected: Framing | None, kind: Framing | None) -> None:
    assert framing.choose(content_type, expected) == kind


@each
def test_a_limit_below_one_is_an_error(kind: Framing) -> None:
    with pytest.raises(ConfigurationError, match="limited to 0 bytes"):
        framing.decoder(kind, 0)
