import contextlib
import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.integrations.encodings import BodyTooLargeError, UnknownEncodingError, decoded

LIMIT = 1000


@given(st.binary(max_size=LIMIT))
def test_what_was_compressed_comes_back(body: bytes) -> None:
    assert decoded(body, "", LIMIT) == body
    assert decoded(zlib.compress(body), "deflate", 2000) == body
    for name in ("gzip", "x-gzip"):
        assert decoded(gzip.compress(body), name, 2000) == body


@pytest.mark.parametrize(("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_bomb_is_stopped_before_it_goes_off(name: str, pack) -> None:
    bomb = pack(bytes(50_000_000))
    assert len(bomb) < 60_000
    with pytest.raises(BodyTooLargeError, match="more than 100000 bytes"):
        decoded(bomb, name, 100_000)


def test_a_body_at_the_limit_is_none_too_large() -> None:
    assert decoded(b"x" * LIMIT, "", LIMIT) == b"x" * LIMIT
    assert decoded(gzip.compress(b"x" * LIMIT), "gzip", LIMIT) == b"x" * LIMIT
    for body, name in ((b"x" * (LIMIT + 1), ""), (gzip.compress(b"x" * (LIMIT + 1)), "gzip")):
        with pytest.raises(BodyTooLargeError):
            decoded(body, name, LIMIT)


@given(st.binary(min_size=1, max_size=50), st.sampled_from(["gzip", "deflate"]))
def test_whatever_claims_to_be_compressed_is_read_or_refused(body: bytes, name: str) -> None:
    with contextlib.suppress(UnknownEncodingError, BodyTooLargeError):
        decoded(body, name, LIMIT)


@pytest.mark.parametrize("name", ["br", "zstd", "gzip,gzip", "gzip, deflate", "compress", "none", "chunked"])
def test_other_encodings_are_refused(name: str) -> None:
    with pytest.raises(UnknownEncodingError, match="gzip, deflate or none"):
        decoded(b"{}", name, LIMIT)


@pytest.mark.parametrize(
    "spoil",
    [lambda body: body[:-3], lambda body: body + b"x", lambda body: body * 2, lambda body: body + bytes(8)],
    ids=["cut off", "a byte more", "twice", "zeros after it"],
)
def test_a_body_cut_off_or_followed_by_more_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(UnknownEncodingError, match="cut off, or something follows"):
        decoded(spoil(gzip.compress(b"{}")), "gzip", LIMIT)


def test_an_empty_body_is_empty_whatever_it_claims() -> None:
    assert decoded(b"", "gzip", LIMIT) == b""
