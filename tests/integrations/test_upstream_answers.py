"""What an upstream says, byte by byte, and what the proxy's client gets of it; by both of uvicorn's parsers."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pytest
from wires import OK, Wire, connected, get, parts, proxy, read_head, sent

from llmguard.integrations.link_aiohttp import HEADERS

PATH = b"/v1/chat/completions"
ASKED = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
SAID = b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
STREAM = (
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\ndata: [DONE]\n\n'
)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def way(request: pytest.FixtureRequest) -> Iterator[tuple[Wire, str]]:
    """A server that ends each connection with its answer, and the URL of a proxy before it."""
    if request.param == "httptools":
        pytest.importorskip("httptools")
    with Wire(OK, close=True) as wire, proxy(wire.url, http=request.param) as url:
        yield wire, url


def head(first: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + first, *headers]) + b"\r\n\r\n" + body


def chunked(body: bytes, *headers: bytes) -> bytes:
    return head(b"200 OK", b"transfer-encoding: chunked", *headers, body=body)


def chat(asked: bytes) -> bytes:
    return get(PATH, b"content-type: application/json", method=b"POST", body=asked)


def through(way: tuple[Wire, str], answer: bytes, request: bytes = b"") -> tuple[int, dict[bytes, bytes], bytes]:
    wire, url = way
    wire.answers = [answer]
    return parts(sent(url, request or get()))


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 5\r\n\r\n" * 50 + OK, 200, b"ok"),
        (head(b"200 OK", body=b"to the end"), 200, b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
        (head(b"299 Own", b"content-length: 2", body=b"ok"), 299, b"ok"),
        (head(b"404 No", b"connection: close", b"content-length: 2", body=b"no"), 404, b"no"),
        (chunked(b'2;a=b;c="d"\r\nok\r\n1\r\n!\r\n0;e\r\nx-t: u\r\n\r\n'), 200, b"ok!"),
        (chunked(b"2\r\nok\r\n0\r\n" + b"".join([b"t-%d: u\r\n" % i for i in range(500)]) + b"\r\n"), 200, b"ok"),
        (head(b"200 OK", b"transfer-encoding: Chunked", body=b"2\r\nok\r\n0\r\n\r\n"), 200, b"ok"),
    ],
)
def test_an_answer_comes_whole(way: tuple[Wire, str], answer: bytes, status: int, body: bytes) -> None:
    got = through(way, answer)
    assert (got[0], got[2]) == (status, body)
    assert not {b"x-t", b"t-1", b"link", b"x-broken-off"} & got[1].keys()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n" + OK,
        b"HTTP/1.1 102 Processing\r\n\r\n",
        head(b"099 X", b"content-length: 2", body=b"ok"),
        head(b"600 X", b"content-length: 2", body=b"ok"),
        head(b"999 X", b"content-length: 2", body=b"ok"),
        head(b"200 OK", b"content-length: 3", b"transfer-encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        head(b"200 OK", b"transfer-encoding: chunked", b"content-length: 3", body=b"2\r\nok\r\n0\r\n\r\n"),
        head(b"200 OK", b"transfer-encoding: gzip, chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        head(b"200 OK", b"transfer-encoding: gzip", b"transfer-encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        head(b"200 OK", b"transfer-encoding: chunked, x", body=b"2\r\nok\r\n0\r\n\r\n"),
        head(b"200 OK", b"transfer-encoding: xchunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        head(b"200 OK", b"content-length: 2", b"content-length: 3", body=b"ok"),
        head(b"200 OK", b"content-length: 2, 2", body=b"ok"),
        head(b"200 OK", b"content-length: -2", body=b"ok"),
        head(b"200 OK", b"content-length: 2a", body=b"ok"),
        chunked(b"FFFFFFFFFFFFFFFFFF\r\nok"),
        chunked(b"-2\r\nok\r\n0\r\n\r\n"),
        head(b"200 OK", b"x : a", b"content-length: 2", body=b"ok"),
        head(b"200 OK", b": a", b"content-length: 2", body=b"ok"),
        head(b"200 OK", b"x: a\rb", b"content-length: 2", body=b"ok"),
        head(b"200 OK", b"x: a\x00b", b"content-length: 2", body=b"ok"),
        head(b"200 OK", *[b"x-%d: y" % i for i in range(HEADERS)], b"content-length: 2", body=b"ok"),
    ],
)
def test_what_is_no_answer_of_http_is_an_error_in_words(way: tuple[Wire, str], answer: bytes) -> None:
    status, _, body = through(way, answer)
    assert (status, b"llmguard_broken" in body) == (502, True)


@pytest.mark.parametrize("control", [b"\x01", b"\x0b", b"\x0c", b"\x1b", b"\x7f"])
def test_a_header_that_our_server_would_not_send_on_is_an_error_in_words(way: tuple[Wire, str], control: bytes) -> None:
    status, _, body = through(way, head(b"200 OK", b"x: a" + control + b"b", b"content-length: 2", body=b"ok"))
    assert (status, b"llmguard_headers" in body) == (502, True)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([b"x-f: a", b"  b"], b"a  b"),
        ([b"x-f: a", b"\tb"], b"a\tb"),
        ([b"x-f:", b" b"], b"b"),
        ([b"x-f: a\tb \t"], b"a\tb"),
        ([b"x-f:"], b""),
        ([b"x-f: caf\xe9"], b"caf\xe9"),
        ([b"x-f: caf\xc3\xa9"], b"caf\xc3\xa9"),
    ],
)
def test_a_header_comes_through_on_one_line(way: tuple[Wire, str], lines: list[bytes], value: bytes) -> None:
    status, headers, body = through(way, head(b"200 OK", *lines, b"content-length: 2", body=b"ok"))
    assert (status, headers[b"x-f"], body) == (200, value, b"ok")


def test_many_headers_come_through(way: tuple[Wire, str]) -> None:
    many = [b"x-%d: %s" % (i, b"y" * 100) for i in range(900)]
    status, headers, body = through(way, head(b"200 OK", *many, b"content-length: 2", body=b"ok"))
    assert (status, body) == (200, b"ok")
    assert len([name for name in headers if name.startswith(b"x-") and name[2:].isdigit()]) == len(many)


@pytest.mark.parametrize("target", [b"/other", b"/v1/models"])
@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"GET", head(b"204 X", b"content-length: 5")),
        (b"GET", head(b"204 X", b"content-length: 0")),
        (b"GET", head(b"204 X", b"transfer-encoding: chunked")),
        (b"GET", head(b"304 X", b"content-length: 5", b"etag: e")),
        (b"GET", head(b"304 X", b"transfer-encoding: chunked")),
        (b"HEAD", head(b"200 X", b"content-length: 5")),
        (b"HEAD", head(b"200 X", b"transfer-encoding: chunked")),
        (b"HEAD", head(b"204 X", b"content-length: 5")),
        (b"HEAD", head(b"404 X", b"content-length: 0")),
    ],
)
def test_an_answer_without_a_body_leaves_the_connection_to_the_next(
    way: tuple[Wire, str], target: bytes, method: bytes, answer: bytes
) -> None:
    wire, url = way
    wire.answers = [answer]
    asking = method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    with connected(url) as connection:
        for _ in range(2):
            connection.sendall(asking)
            got = read_head(connection)
            assert got.startswith(b"HTTP/1.1 " + answer.split(b" ")[1])
            assert got.endswith(b"\r\n\r\n")


def test_a_length_that_is_not_reached_breaks_the_connection_off(way: tuple[Wire, str]) -> None:
    status, headers, body = through(way, head(b"200 OK", b"content-length: 9", body=b"ok"))
    assert (status, headers[b"content-length"], body) == (200, b"9", b"ok")
    status, headers, body = through(way, chunked(b"2\r\nok\r\n"))
    assert (status, body, b"x-broken-off" in headers) == (200, b"ok", True)


@pytest.mark.parametrize("beyond", [b"x", OK, b"\r\n\r\n"])
@pytest.mark.parametrize("answer", [OK, head(b"204 X"), chunked(b"2\r\nok\r\n0\r\n\r\n")])
def test_what_stands_behind_an_answer_reaches_nobody(answer: bytes, beyond: bytes) -> None:
    """Where it came at once with the answer, aiohttp drops both, and the client is told that the upstream broke off."""
    with Wire(answer + beyond, OK.replace(b"ok", b"no")) as wire, proxy(wire.url) as url:
        status, _, body = parts(sent(url, get()))
        assert status in (int(answer.split(b" ")[1]), 502)
        assert b"no" not in body
        assert parts(sent(url, get()))[2] == b"no"


ENCODED = {
    "gzip": gzip.compress(SAID, mtime=0),
    "deflate": zlib.compress(SAID),
    "br": b"\x0b\x02\x80ok\x03",
    "zstd": b"(\xb5/\xfd \x02\x11\x00\x00ok",
}


@pytest.mark.parametrize("coding", sorted(ENCODED))
@pytest.mark.parametrize("streamed", [False, True])
def test_a_compressed_answer_goes_on_as_it_came_where_nobody_reads_it(
    way: tuple[Wire, str], coding: str, streamed: bool
) -> None:
    said = ENCODED[coding]
    how = b"content-encoding: " + coding.encode()
    if streamed:
        pieces = b"".join([b"1\r\n%c\r\n" % byte for byte in said])
        answer = chunked(pieces + b"0\r\n\r\n", how)
    else:
        answer = head(b"200 OK", how, b"content-length: %d" % len(said), body=said)
    status, headers, body = through(way, answer)
    assert (status, headers[b"content-encoding"], body) == (200, coding.encode(), said)


@pytest.mark.parametrize("coding", sorted(ENCODED))
def test_a_compressed_answer_is_read_or_refused_where_it_is_guarded(way: tuple[Wire, str], coding: str) -> None:
    said = ENCODED[coding]
    lines = [b"content-type: application/json", b"content-encoding: " + coding.encode()]
    answer = head(b"200 OK", *lines, b"content-length: %d" % len(said), body=said)
    status, headers, body = through(
        way, answer, get(PATH, b"content-type: application/json", method=b"POST", body=ASKED)
    )
    assert b"content-encoding" not in headers
    if coding in ("gzip", "deflate"):
        assert (status, body) == (200, SAID)
    else:
        assert (status, b"llmguard_" in body) == (502, True)


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_compressed_stream_is_read_or_refused_where_it_is_guarded(way: tuple[Wire, str], coding: str) -> None:
    said = gzip.compress(STREAM, mtime=0) if coding == "gzip" else ENCODED["br"]
    pieces = b"".join([b"1\r\n%c\r\n" % byte for byte in said]) + b"0\r\n\r\n"
    answer = chunked(pieces, b"content-type: text/event-stream", b"content-encoding: " + coding.encode())
    asked = ASKED.replace(b'"m",', b'"m", "stream": true,')
    status, headers, body = through(
        way, answer, get(PATH, b"content-type: application/json", method=b"POST", body=asked)
    )
    assert b"content-encoding" not in headers
    if coding == "gzip":
        assert (status, body) == (200, STREAM)
    else:
        assert (status, b"llmguard_" in body) == (502, True)
