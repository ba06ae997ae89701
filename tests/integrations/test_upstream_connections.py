"""Where an upstream is, how long it takes, and what becomes of its connections; over real sockets."""

from __future__ import annotations

import collections
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_calls import call
from certificates import certificate
from wires import OK, SECONDS, Wire, connected, get, parts, proxy, read_head, rejected, said, sent

from llmguard.integrations.served import UpstreamError
from llmguard.integrations.upstream import Limits, Upstream

PATH = b"/v1/chat/completions"
ASKED = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'
CHAT = get(PATH, b"content-type: application/json", method=b"POST", body=ASKED)


def code(answer: bytes) -> tuple[int, str]:
    """Status and code of an error in a format's words."""
    status, _, body = parts(answer)
    return status, json.loads(body)["error"]["code"]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Wire, str]]:
    with Wire(OK) as wire, proxy(wire.url + "/deep") as url:
        yield wire, url


@pytest.fixture
def way(shared: tuple[Wire, str]) -> tuple[Wire, str]:
    """A server, and the URL of a proxy before a prefix of its paths."""
    shared[0].answers = [OK]
    shared[0].heard.clear()
    return shared


class Ends:
    """Says something, and ends the connection."""

    def __init__(self, said: bytes, how: Callable[[socket.socket], None]) -> None:
        self._said = said
        self._how = how

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self._said)
        self._how(connection)


def shut(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", [shut, rejected])
@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
@pytest.mark.parametrize(
    ("method", "body", "times"),
    [(b"POST", ASKED, 1), (b"PATCH", ASKED, 1), (b"POST", b"", 1), (b"GET", b"", 2), (b"PUT", ASKED, 2)],
)
def test_what_may_have_been_done_is_not_asked_twice(
    way: tuple[Wire, str], method: bytes, body: bytes, times: int, begun: bytes, how: Callable[[socket.socket], None]
) -> None:
    """Only where twice is as good as once a request is sent again, over a kept connection as over a new one."""
    wire, url = way
    for kept in (False, True):
        if kept:
            wire.answers = [OK]
            assert parts(sent(url, get()))[0] == 200
        wire.heard.clear()
        wire.answers = [Ends(begun, how), OK]
        status = parts(sent(url, get(method=method, body=body)))[0]
        assert len(wire.heard) == times
        assert status == (502 if times == 1 else 200)


def test_an_upstream_that_is_started_anew_is_asked_anew() -> None:
    with Wire(OK) as wire, proxy(wire.url) as url:
        statuses = []
        for number in range(30):
            answer = sent(url, get(method=b"POST", body=b"%d" % number))
            statuses.append(parts(answer)[0])
            if number % 3 == 0:
                wire.hang_up()
        bodies = collections.Counter(heard.rpartition(b"\r\n\r\n")[2] for heard in wire.heard)
    assert set(statuses) <= {200, 502}
    # A call may meet the end of its connection; the ones that follow don't.
    assert statuses[2::3] == [200] * 10
    assert set(bodies.values()) == {1}


def test_a_large_body_to_an_upstream_that_does_not_read_it_ends_its_own_call_and_no_other() -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno"

    class Refuses(Wire):
        def _answering(self, connection: socket.socket) -> None:
            self.heard.append(read_head(connection))
            connection.sendall(refused)

    with Refuses(b"") as wire, proxy(wire.url) as url:
        got = sent(url, get(method=b"POST", body=b"x" * 5_000_000))
        # Its answer; or a reset came before it, from the upstream or from our server.
        assert not got or parts(got)[0] in (413, 502)
        assert len(wire.heard) == 1
        assert parts(sent(url, get()))[::2] == (413, b"no")


class Trickles:
    """Says something byte by byte until nobody listens, or for so many times."""

    def __init__(self, begun: bytes, again: bytes, pause: float, times: int | None = None) -> None:
        self._begun, self._again, self._pause, self._times = begun, again, pause, times
        self._never = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self._begun)
        with contextlib.suppress(OSError):
            count = 0
            while self._times is None or count < self._times:
                self._never.wait(self._pause)
                connection.sendall(self._again)
                count += 1


SLOW_HEAD = Trickles(b"HTTP/1.1 200 OK\r\nx: ", b"y", 0.02)
SLOW_BODY = Trickles(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", b" ", 0.02)


@pytest.mark.parametrize("slow", [SLOW_HEAD, SLOW_BODY])
def test_what_trickles_is_stopped_by_the_time_for_all_of_a_call(slow: Trickles) -> None:
    with Wire(slow) as wire, proxy(wire.url, Limits(total=0.3, read=SECONDS)) as url:
        assert code(sent(url, CHAT)) == (504, "llmguard_timeout")
        assert wire.gone.wait(SECONDS)
        status, headers, _ = parts(sent(url, get()))
        # What nobody reads has begun to go out by then: it ends without its end.
        assert (status, b"x-broken-off" in headers) in ((504, False), (200, True))


def test_what_trickles_may_take_longer_than_the_time_between_two_pieces() -> None:
    slow = Trickles(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n", b"x", 0.25, 8)
    with Wire(slow) as wire, proxy(wire.url, Limits(read=1.5)) as url:
        assert parts(sent(url, get()))[::2] == (200, b"x" * 8)


def test_silence_within_an_answer_is_stopped_by_the_time_between_two_pieces() -> None:
    begun = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"
    with Wire(begun) as wire, proxy(wire.url, Limits(read=0.2)) as url:
        assert parts(sent(url, get()))[::2] == (200, b"ok")
        assert wire.gone.wait(SECONDS)
        wire.answers = [begun.replace(b"length: 9", b"type: application/json\r\ncontent-length: 9")]
        assert code(sent(url, CHAT)) == (504, "llmguard_timeout")


def test_calls_beyond_the_bound_wait_and_are_told_so() -> None:
    let, begun = threading.Event(), threading.Event()

    def waits(connection: socket.socket) -> None:
        begun.set()
        assert let.wait(SECONDS)
        connection.sendall(OK)

    with Wire(waits, OK) as wire, proxy(wire.url, Limits(connections=1, pool=0.1)) as url:
        with connected(url) as first:
            first.sendall(get())
            assert begun.wait(SECONDS)
            assert code(sent(url, CHAT)) == (503, "llmguard_busy")
            let.set()
            assert parts(said(first))[::2] == (200, b"ok")
        assert parts(sent(url, get()))[::2] == (200, b"ok")
        assert len(wire.heard) == 2
        assert wire.connections == 1


def test_calls_that_end_badly_leave_their_places_to_others() -> None:
    def dies(connection: socket.socket) -> None:
        rejected(connection)

    ways: list[Any] = [b"", b"no http\r\n\r\n", dies, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"]
    with Wire(OK, close=True) as wire, proxy(wire.url, Limits(connections=2, pool=5, read=5)) as url:
        for way in ways * 2:
            wire.answers = [way]
            assert parts(sent(url, CHAT))[0] == 502
        wire.answers = [OK]
        assert parts(sent(url, get()))[::2] == (200, b"ok")


def ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6(), reason="no IPv6 on this machine")
def test_an_upstream_may_be_an_address_of_ipv6() -> None:
    with Wire(OK, host="::1") as wire, proxy(wire.url + "/deep/") as url:
        assert Upstream(wire.url).address == "::1"
        assert parts(sent(url, get(b"/other?x")))[::2] == (200, b"ok")
    assert wire.heard[0].startswith(b"GET /deep/other?x HTTP/1.1\r\n")
    assert b"\r\nhost: [::1]:%d\r\n" % wire.port in wire.heard[0]


@pytest.mark.parametrize(
    ("place", "given"),
    [
        (b"/deep/x?y", b"/x?y"),
        (b"/deep", b"/"),
        (b"/deep?y", b"/?y"),
        (b"{url}/deep/x", b"/x"),
        (b"{url}/deep", b"/"),
        (b"/deeper/x", None),
        (b"/x", None),
        (b"/deep//evil", None),
        (b"/deep/\\evil", None),
        (b"{url}0/deep/x", None),
        (b"{url}@evil/deep/x", None),
        (b"//evil/deep/x", None),
        (b"?y", None),
        (b"x", None),
        (b"", None),
    ],
)
def test_a_redirect_below_the_upstreams_prefix_stays_with_us(
    way: tuple[Wire, str], place: bytes, given: bytes | None
) -> None:
    wire, url = way
    where = place.replace(b"{url}", wire.url.encode())
    wire.answers = [b"HTTP/1.1 307 X\r\nlocation: " + where + b"\r\ncontent-length: 0\r\n\r\n", OK]
    status, headers, _ = parts(sent(url, get()))
    assert (status, headers.get(b"location")) == (502 if given is None else 307, given)
    assert len(wire.heard) == 1


@pytest.mark.parametrize(
    ("whose", "days", "trusted"),
    [("127.0.0.1", 1, True), ("127.0.0.1", 1, False), ("elsewhere.test", 1, True), ("127.0.0.1", -1, True)],
)
def test_a_certificate_is_checked(
    whose: str, days: int, trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = certificate(tmp_path, whose, days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(own.path))
    with Wire(OK, tls=own.context) as wire, proxy(wire.url) as url:
        if (whose, days, trusted) == ("127.0.0.1", 1, True):
            assert parts(sent(url, get()))[::2] == (200, b"ok")
        else:
            assert code(sent(url, CHAT)) == (502, "llmguard_unreachable")
            assert not wire.heard


def test_plain_http_is_no_https(tmp_path: Path) -> None:

    class Plain(Wire):
        def _answering(self, connection: socket.socket) -> None:
            assert ASKED not in connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    with Plain(b"") as wire, proxy(wire.url.replace("http:", "https:")) as url:
        assert code(sent(url, CHAT)) == (502, "llmguard_unreachable")
    own = certificate(tmp_path, "127.0.0.1")
    with Wire(OK, tls=own.context) as wire, proxy(wire.url.replace("https:", "http:")) as url:
        assert code(sent(url, CHAT)) == (502, "llmguard_broken")
        assert not wire.heard


def test_the_environments_proxies_and_passwords_are_not_heeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with Wire(OK) as other, Wire(OK) as wire:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, other.url)
            monkeypatch.setenv(name.upper(), other.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        passwords = tmp_path / "netrc"
        passwords.write_text("machine 127.0.0.1 login ada password s3cr\n")
        monkeypatch.setenv("NETRC", str(passwords))
        with proxy(wire.url) as url:
            assert parts(sent(url, get()))[::2] == (200, b"ok")
        assert not other.heard
    assert b"authorization" not in wire.heard[0].lower()


def test_cookies_go_through_and_are_nowhere_kept() -> None:
    sets = OK.replace(b"content-type", b"set-cookie: a=b\r\nset-cookie: c=d; Path=/; HttpOnly\r\ncontent-type")
    with Wire(sets, OK) as wire, proxy(wire.url) as url:
        first = sent(url, get(b"/other", b"cookie: own=1; own=2"))
        assert first.count(b"set-cookie: ") == 2
        sent(url, get())
        sent(url, get(b"/other", b"cookie: b", b"cookie: c"))
    own, none, two = wire.heard
    assert b"\r\ncookie: own=1; own=2\r\n" in own
    assert b"cookie" not in none
    assert b"\r\ncookie: b\r\ncookie: c\r\n" in two


async def test_headers_that_no_upstream_would_take_are_an_error_of_the_request() -> None:
    with Wire(OK) as wire:
        upstream = Upstream(wire.url)
        with pytest.raises(UpstreamError) as error:
            await call(upstream, "GET", "/other", headers=[(b"x", b"a\x0bb")])
        assert (error.value.status, error.value.code) == (400, "headers")
        await upstream.close()
    assert not wire.heard
