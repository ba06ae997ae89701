"""What clients do, byte by byte, and what an upstream hears of it; by both of uvicorn's parsers."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from asgi_calls import call, scope_of
from wires import OK, SECONDS, Wire, connected, get, parts, proxy, read_head, said, sent

from llmguard.integrations.served import UpstreamError
from llmguard.integrations.upstream import Limits, Upstream

PATH = b"/v1/chat/completions"
POST = b"POST /other HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module", params=["h11", "httptools"])
def parser(request: pytest.FixtureRequest) -> str:
    if request.param == "httptools":
        pytest.importorskip("httptools")
    return str(request.param)


@pytest.fixture(scope="module")
def shared(parser: str) -> Iterator[tuple[Wire, str]]:
    with Wire(OK) as wire, proxy(wire.url, http=parser) as url:
        yield wire, url


@pytest.fixture
def way(shared: tuple[Wire, str]) -> tuple[Wire, str]:
    """A server, and the URL of a proxy before it."""
    shared[0].answers = [OK]
    shared[0].heard.clear()
    return shared


@pytest.fixture
def fresh(parser: str) -> Iterator[tuple[Wire, str]]:
    """The same, which nobody has used before."""
    with Wire(OK) as wire, proxy(wire.url, http=parser) as url:
        yield wire, url


def test_a_body_that_is_waited_for_is_asked_for(way: tuple[Wire, str]) -> None:
    wire, url = way
    body = bytes(range(256)) * 1200
    with connected(url) as connection:
        length = b"content-length: %d\r\n" % len(body)
        connection.sendall(POST + b"connection: close\r\nexpect: 100-continue\r\n" + length + b"\r\n")
        assert read_head(connection) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert parts(said(connection))[::2] == (200, b"ok")
    (heard,) = wire.heard
    assert heard.endswith(b"\r\n\r\n" + body)
    assert b"expect" not in heard.partition(b"\r\n\r\n")[0]


def test_a_body_that_is_too_large_is_not_asked_for(way: tuple[Wire, str]) -> None:
    wire, url = way
    with connected(url) as connection:
        head = b"POST " + PATH + b" HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9999999999\r\n\r\n"
        connection.sendall(head)
        assert parts(said(connection))[0] == 413
    assert not wire.heard


def test_requests_that_come_at_once_are_answered_in_turn(way: tuple[Wire, str]) -> None:
    wire, url = way
    wire.answers = [OK.replace(b"ok", b"a%d" % number) for number in range(3)]
    one, two = [POST + b"content-length: 1\r\n\r\n" + body for body in (b"1", b"2")]
    got = sent(url, one + two + get(method=b"POST", body=b"3"))
    assert [heard[-1:] for heard in wire.heard] == [b"1", b"2", b"3"]
    places = [got.find(b"\r\n\r\na%d" % number) for number in range(3)]
    assert places == sorted(places)
    assert places[0] > 0


@pytest.mark.parametrize("target", [b"http://elsewhere/other?x", b"http://elsewhere", b"elsewhere:80", b"*"])
def test_a_target_that_names_a_server_leads_to_no_other_one(parser: str, target: bytes) -> None:
    with Wire(OK) as wire:
        for prefix in ("", "/deep"):
            with proxy(wire.url + prefix, http=parser) as url:
                for method in (b"GET", b"OPTIONS"):
                    assert parts(sent(url, get(target, method=method)))[0] in (200, 400)
    for heard in wire.heard:
        line, *lines = heard.split(b"\r\n")
        assert line.split(b" ")[1] in (b"/other?x", b"/deep/other?x", b"/", b"/deep/")
        assert b"host: " + wire.url.removeprefix("http://").encode() in lines


async def test_no_target_joins_the_upstreams_prefix_without_a_slash() -> None:
    with Wire(OK) as wire:
        upstream = Upstream(wire.url + "/deep")
        for target in ("http://elsewhere/x", "*", "er", ""):
            with pytest.raises(UpstreamError) as error:
                await call(upstream, "GET", target)
            assert (error.value.status, error.value.code) == (400, "request")
        assert (await call(upstream, "GET", "/er?x")).body == b"ok"
        await upstream.close()
    (heard,) = wire.heard
    assert heard.startswith(b"GET /deep/er?x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("target", "heard"),
    [
        (b"/other?x=%zz&&y", b"/other?x=%zz&&y"),
        (b"/o%20ther/a?b?c", b"/o%20ther/a?b?c"),
        (b"/%C3%A9(x)~", b"/%C3%A9(x)~"),
        # ASGI has no place for a question mark that nothing follows: servers leave it out.
        (b"/other?", b"/other"),
    ],
)
def test_a_target_is_handed_on_as_it_came(way: tuple[Wire, str], target: bytes, heard: bytes) -> None:
    wire, url = way
    assert parts(sent(url, get(target)))[0] == 200
    assert wire.heard[0].startswith(b"GET " + heard + b" HTTP/1.1\r\n")


def test_a_header_goes_on_byte_for_byte_or_not_at_all(way: tuple[Wire, str]) -> None:
    wire, url = way
    assert parts(sent(url, get(b"/other", b"X-T:  caf\xc3\xa9")))[0] == 200
    assert b"\r\nx-t: caf\xc3\xa9\r\n" in wire.heard[0]
    # aiohttp writes each character of a header in UTF-8, and leaves half of a pair out: no byte of its own gets there.
    status, _, body = parts(sent(url, get(b"/other", b"x-t: caf\xe9")))
    assert (status, b"llmguard_request" in body) == (400, True)
    assert len(wire.heard) == 1


@pytest.mark.parametrize("control", [b"\x01", b"\x0c", b"\x7f"])
def test_a_header_with_a_control_character_goes_no_further(way: tuple[Wire, str], control: bytes) -> None:
    wire, url = way
    assert parts(sent(url, get(b"/other", b"x-t: a" + control)))[0] == 400
    assert not wire.heard


@pytest.mark.parametrize("coding", [b"content-length: 100", b"transfer-encoding: chunked"])
def test_a_client_that_leaves_in_its_body_leaves_half_a_request(fresh: tuple[Wire, str], coding: bytes) -> None:
    wire, url = fresh
    with connected(url) as connection:
        connection.sendall(POST + coding + b"\r\n\r\n5\r\nhello\r\n")
    assert wire.gone.wait(SECONDS)
    # Nothing came, or not its end.
    assert all(b"hello" not in heard or not heard.endswith(b"0\r\n\r\n") for heard in wire.heard)
    assert parts(sent(url, get()))[::2] == (200, b"ok")


def test_a_client_that_leaves_in_its_head_has_asked_nothing(way: tuple[Wire, str]) -> None:
    wire, url = way
    with connected(url) as connection:
        connection.sendall(POST + b"content-le")
    assert parts(sent(url, get()))[::2] == (200, b"ok")
    assert len(wire.heard) == 1


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"HTTP/1.1 200 OK\r\n\r\nhalf"])
@pytest.mark.parametrize("half", [False, True])
def test_a_client_that_leaves_before_its_answer_ends_closes_the_call(
    fresh: tuple[Wire, str], begun: bytes, half: bool
) -> None:
    """One that closes its own half has left, too: so uvicorn takes it."""
    wire, url = fresh
    asked = threading.Event()

    def waits(connection: socket.socket) -> None:
        connection.sendall(begun)
        asked.set()
        assert connection.recv(1) == b""

    wire.answers = [waits]
    with connected(url) as connection:
        connection.sendall(get())
        assert asked.wait(SECONDS)
        if half:
            connection.shutdown(socket.SHUT_WR)
            assert b"ok" not in said(connection)
    assert wire.gone.wait(SECONDS)


def test_a_client_that_leaves_behind_its_answer_costs_the_upstream_no_connection(fresh: tuple[Wire, str]) -> None:
    wire, url = fresh
    for _ in range(3):
        assert parts(sent(url, get()))[::2] == (200, b"ok")
    assert wire.connections == 1


async def test_a_client_that_leaves_while_its_call_ends_for_taking_too_long_is_no_error() -> None:
    """The deadline has been reached, and what it stops takes a while: nothing can be asked of it any more."""
    stopping, told = asyncio.Event(), asyncio.Event()

    class Slow(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            try:
                await asyncio.Event().wait()
            finally:
                stopping.set()
                await told.wait()
                await asyncio.sleep(0)
            raise AssertionError

    given = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if given:
            return given.pop()
        await stopping.wait()
        told.set()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError

    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    upstream = Upstream("http://a", Limits(total=0.3), transport=Slow())
    await upstream(scope_of("GET", "/other"), receive, send)
    await asyncio.sleep(0)
    gc.collect()
    assert told.is_set()
    assert not failed


def test_a_body_in_small_pieces_is_one_request(way: tuple[Wire, str]) -> None:
    wire, url = way
    body = json.dumps({"x": "y" * 300}).encode()
    with connected(url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body:
            connection.sendall(bytes([byte]))
        assert parts(said(connection))[::2] == (200, b"ok")
    assert wire.heard[0].endswith(b"\r\n\r\n" + body)
