"""Headers between two hosts, against twins that look at one header at a time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.integrations import hops

NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
NAMES = st.sampled_from([b"a", b"x-b", b"content-length", b"te", b"upgrade", b"", b"a b", b"a:", b"\xe9", b"x\n"])
VALUES = st.sampled_from([b"", b"a", b"\t", b"caf\xe9", b"\x00", b"\x0b", b"\r\n", b"\x7f", b"~", b" "])
HEADERS = st.lists(st.tuples(NAMES | st.binary(max_size=3), VALUES | st.binary(max_size=3)), max_size=5)


@given(HEADERS)
def test_headers_are_well_formed_if_each_is(headers: list[tuple[bytes, bytes]]) -> None:
    each = [NAME.fullmatch(key) is not None and VALUE.fullmatch(value) is not None for key, value in headers]
    assert hops.well_formed(headers) is all(each)


def test_each_byte_is_looked_at() -> None:
    for byte in range(256):
        one = bytes([byte])
        assert hops.well_formed([(b"a" + one, b"")]) is (NAME.fullmatch(one) is not None)
        assert hops.well_formed([(b"a", b"b" + one + b"c")]) is (VALUE.fullmatch(one) is not None)


LISTED = st.lists(
    st.sampled_from([b"close", b"Keep-Alive", b"x-a, X-B", b" x-c ,", b"content-length, x-a", b"content-type", b",,"]),
    max_size=3,
)


@given(LISTED, st.booleans())
def test_what_a_connection_names_stays_there_but_for_what_the_body_is_read_by(listed: list[bytes], asks: bool) -> None:
    own = [b"x-a", b"x-b", b"x-c", b"content-length", b"content-type", b"content-encoding", b"keep-alive", b"close"]
    headers = [(name, b"1") for name in own] + [(b"connection", value) for value in listed]
    kept = hops.asked(headers, b"h", "", "http") if asks else hops.answered(headers, 200)
    named = {part.strip().lower() for value in listed for part in value.split(b",")}
    stays = {b"content-length", b"content-type", b"content-encoding"}
    for name in own:
        gone = name == b"keep-alive" or (name in named and name not in stays)
        assert ((name, b"1") in kept) is not gone
    assert not [key for key, _ in kept if key == b"connection"]


CODINGS = [b"chunked", b"Chunked", b"identity", b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"x"]


@pytest.mark.parametrize("coding", CODINGS)
def test_a_coding_that_nobody_took_off_is_noticed(coding: bytes) -> None:
    bare = coding.lower() in (b"chunked", b"identity", b"")
    assert hops.bare([(b"a", b"gzip"), (b"transfer-encoding", coding)]) is bare
    assert hops.bare([(b"transfer-encoding", b"chunked"), (b"transfer-encoding", coding)]) is bare


def test_the_length_of_a_body_that_is_not_there_stays_there() -> None:
    headers = [(b"content-length", b"5"), (b"etag", b"e")]
    assert [len(hops.answered(headers, status)) for status in (200, 204, 206, 304, 404)] == [2, 1, 2, 1, 2]
