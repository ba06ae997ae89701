"""The sender against real servers: what each answer means, what bounds a bad one, and that nothing is given away."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import ssl
import time
import traceback
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from notices import NOW
from opentelemetry import context
from receivers import Answer, Receiver, flood, hang, status, trickle

from llmguard import ConfigurationError
from llmguard.exporters.alerts.http import Reply, Sender, pause, target
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, GONE, REFUSED, RETRY, Verdict
from llmguard.exporters.alerts.tls import tls_context

HOME = Reach(["127.0.0.0/8", "::1"])
SECRET = "canary-4711"


def sender(url: str, **settings: Any) -> Sender:
    return Sender(url, settings.pop("reach", HOME), **{"timeout_s": 10.0, **settings})


def posted(*answers: bytes | Answer, **how: Any) -> tuple[Reply, Receiver]:
    with Receiver(*answers, **{key: how.pop(key) for key in ("tls", "reads") if key in how}) as receiver:
        return sender(receiver.url + "/hook", **how).post(b"{}", {"X-A": "1"}), receiver


def test_a_post() -> None:
    reply, receiver = posted(status(202, b"done"))
    assert reply == Reply(202, body=b"done")
    assert reply.verdict(NOW) == Verdict(DELIVERED)
    (seen,) = receiver.seen
    assert (seen.line, seen.body) == ("POST /hook HTTP/1.1", b"{}")
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-a"] == "1"
    assert seen.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert "authorization" not in seen.headers


MEANING = {
    DELIVERED: (200, 201, 202, 204),
    RETRY: (301, 302, 303, 307, 308, 401, 403, 404, 408, 409, 425, 429, 500, 502, 503, 504, 520),
    REFUSED: (400, 405, 406, 411, 413, 414, 415, 422, 431),
    GONE: (410,),
}


@pytest.mark.parametrize("outcome", MEANING)
def test_what_a_status_means(outcome: str) -> None:
    with Receiver(*map(status, MEANING[outcome])) as receiver:
        verdicts = [sender(receiver.url).post(b"{}", {}).verdict(NOW) for _ in MEANING[outcome]]
    told = ["" if outcome == DELIVERED else f"status {code}" for code in MEANING[outcome]]
    assert verdicts == [Verdict(outcome, reason) for reason in told]


def test_a_redirect_is_not_followed() -> None:
    with Receiver() as other:
        reply, _ = posted(status(307, Location=other.url))
    assert reply.verdict(NOW) == Verdict(RETRY, "status 307")
    assert other.seen == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("120", 120.0), (" 7 ", 7.0), ("0", 0.0), ("9" * 5000, 86400.0), ("-1", None), ("1.5", None), ("nan", None)),
        *((formatdate(NOW + 30, usegmt=True), 30.0), (formatdate(NOW - 30, usegmt=True), 0.0)),
        *(("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0), ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0)),
        *(("", None), ("soon", None), ("١٢", None), ("Mon, 99 Foo 2023 99:99:99 GMT", None), ("1, 2", None)),
    ],
)
def test_how_long_a_receiver_asks_to_be_left_alone(value: str, seconds: float | None) -> None:
    assert pause(value, NOW) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone is the system's")
def test_a_date_without_a_zone_is_greenwich_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as here:
        here.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        found = [pause(value, NOW) for value in ("Tue Nov 14 22:13:50 2023", "Tue, 14 Nov 2023 22:13:50 -0000")]
    time.tzset()
    assert found == [30.0, 30.0]


@given(st.text())
def test_any_retry_after_is_read(value: str) -> None:
    seconds = pause(value, NOW)
    assert seconds is None or 0.0 <= seconds <= 86400.0


def test_a_pause_comes_with_the_verdict() -> None:
    for code in (429, 503):
        reply, _ = posted(status(code, Retry_After="17"))
        assert reply.verdict(NOW) == Verdict(RETRY, f"status {code}", 17.0)


@pytest.mark.parametrize(
    "answer",
    [
        hang,
        trickle(b""),
        trickle(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        trickle(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_an_answer_that_does_not_come_ends_at_the_deadline(answer: Answer) -> None:
    reply, _ = posted(answer, timeout_s=0.3)
    assert reply.verdict(NOW) == Verdict(RETRY, "timeout")


def test_a_body_that_trickles_ends_at_the_deadline_and_changes_nothing() -> None:
    for code, outcome in ((200, DELIVERED), (500, RETRY)):
        reply, _ = posted(trickle(f"HTTP/1.1 {code} X\r\nContent-Length: 99999999\r\n\r\n".encode()), timeout_s=1.5)
        assert reply.verdict(NOW).outcome == outcome
        assert len(reply.body) <= 4096


@pytest.mark.parametrize(
    "head", [b"Content-Length: 99999999999\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"]
)
def test_of_a_huge_body_only_the_start_is_read(head: bytes) -> None:
    reply, _ = posted(flood(b"HTTP/1.1 200 OK\r\n" + head))
    assert reply == Reply(200, body=b"x" * 4096)


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"\r\n", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100),
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        flood(b"HTTP/1.1 200 OK\r\nA: "),
    ],
)
def test_what_is_no_http_is_tried_again(answer: bytes | Answer) -> None:
    verdict = posted(answer)[0].verdict(NOW)
    assert verdict.outcome == RETRY
    assert verdict.reason.isidentifier()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=200), start=st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n"]))
def test_any_bytes_make_a_verdict(junk: bytes, start: bytes) -> None:
    assert isinstance(posted(start + junk)[0].verdict(NOW), Verdict)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    verdict = sender(f"http://127.0.0.1:{port}/{SECRET}").post(b"{}", {}).verdict(NOW)
    assert verdict == Verdict(RETRY, "ConnectionRefusedError")


def test_a_large_body_to_a_receiver_that_does_not_read_ends_at_the_deadline() -> None:
    with Receiver(hang, reads=False) as receiver:
        reply = sender(receiver.url, timeout_s=0.3).post(b"x" * 50_000_000, {})
    assert reply.verdict(NOW).reason == "timeout"


class TestTls:
    def test_a_certificate_that_is_trusted(self, tmp_path: Path) -> None:
        own = certificate(tmp_path, "127.0.0.1")
        reply, receiver = posted(status(200), tls=own.context, ca_file=str(own.path))
        assert reply.status == 200
        assert len(receiver.seen) == 1

    @pytest.mark.parametrize(
        ("name", "days", "trusted"),
        [("127.0.0.1", 1, False), ("elsewhere.example", 1, True), ("127.0.0.2", 1, True), ("127.0.0.1", -1, True)],
    )
    def test_one_that_is_unknown_or_another_s_or_over(
        self, name: str, days: int, trusted: bool, tmp_path: Path
    ) -> None:
        own = certificate(tmp_path, name, days)
        reply, receiver = posted(status(200), tls=own.context, ca_file=str(own.path) if trusted else "")
        assert reply.verdict(NOW) == Verdict(RETRY, "certificate not valid")
        assert receiver.seen == []

    def test_old_protocols_are_not_spoken(self) -> None:
        assert tls_context().minimum_version == ssl.TLSVersion.TLSv1_2
        assert tls_context().check_hostname

    def test_a_server_without_tls(self) -> None:
        with Receiver(b"hello, I speak no TLS\r\n", reads=False) as receiver:
            reply = sender(f"https://127.0.0.1:{receiver.port}").post(b"{}", {})
        assert reply.verdict(NOW).outcome == RETRY

    def test_a_handshake_that_hangs_ends_at_the_deadline(self) -> None:
        with Receiver(hang, reads=False) as receiver:
            reply = sender(f"https://127.0.0.1:{receiver.port}", timeout_s=0.3).post(b"{}", {})
        assert reply.verdict(NOW).reason == "timeout"

    def test_a_file_that_holds_none(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        for write in (lambda: None, lambda: path.write_text("nothing")):
            write()
            with pytest.raises(ConfigurationError, match=r"ca\.pem"):
                sender("https://127.0.0.1", ca_file=str(path))


class TestWhere:
    def test_private_addresses_are_refused_unless_allowed(self) -> None:
        with Receiver() as receiver:
            reply = sender(receiver.url, reach=Reach()).post(b"{}", {})
            assert reply.verdict(NOW) == Verdict(RETRY, "address refused")
            assert sender(receiver.url).post(b"{}", {}).status == 200
        assert len(receiver.seen) == 1

    def test_the_address_that_was_checked_is_the_one_that_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A name that is public the first time and private from then on: DNS rebinding.
        asked, called = [], []
        real = socket.getaddrinfo

        def getaddrinfo(host: str, port: Any, *rest: Any, **more: Any) -> Any:
            if host != "rebound.example":
                return real(host, port, *rest, **more)
            asked.append(host)
            at = "1.1.1.1" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (at, port))]

        def connect(_: socket.socket, at: Any) -> None:
            called.append(at)
            raise ConnectionRefusedError

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(socket.socket, "connect", connect)
        sender("https://rebound.example", reach=Reach()).post(b"{}", {})
        assert (asked, called) == (["rebound.example"], [("1.1.1.1", 443)])

    def test_without_tls_only_what_is_allowed_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        called = []

        def connect(_: socket.socket, at: Any) -> None:
            called.append(at)
            raise ConnectionRefusedError

        monkeypatch.setattr(socket.socket, "connect", connect)
        assert sender("http://1.1.1.1").post(b"{}", {}).reason == "http refused"
        assert sender("https://1.1.1.1:22").post(b"{}", {}).reason == "port refused"
        assert called == []
        for told in (
            sender("http://1.1.1.1", insecure=True),
            sender("http://1.1.1.1", reach=Reach(["1.1.1.1"])),
            sender("https://1.1.1.1:22", reach=Reach(["1.1.1.1"])),
        ):
            assert told.post(b"{}", {}).reason == "ConnectionRefusedError"
        assert called == [("1.1.1.1", 80), ("1.1.1.1", 80), ("1.1.1.1", 22)]

    def test_the_next_address_is_tried_when_one_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Receiver() as receiver:

            def getaddrinfo(_: str, port: Any, *__: Any, **___: Any) -> Any:
                # The first is of a family that this machine has no sockets for, as IPv6 may be.
                found = [(12345, ("::1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
                found += [(socket.AF_INET, ("127.0.0.1", port))]
                return [(family, socket.SOCK_STREAM, 6, "", at) for family, at in found]

            monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
            reply = sender(f"http://two.example:{receiver.port}").post(b"{}", {})
        assert reply.status == 200
        assert receiver.seen[0].headers["host"] == f"two.example:{receiver.port}"

    def test_no_proxy_of_the_environment_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Receiver() as proxy, Receiver() as receiver:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            assert sender(receiver.url).post(b"{}", {}).status == 200
        assert proxy.seen == []


class TestProxy:
    def test_https_goes_through_it_where_it_is_told(self, tmp_path: Path) -> None:
        own = certificate(tmp_path, "hooks.example")

        def tunnel(_: Receiver, connection: Any) -> None:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with own.context.wrap_socket(connection, server_side=True) as inner:
                inner.recv(65536)
                inner.sendall(status(204))

        with Receiver(tunnel) as proxy:
            url = proxy.url.replace("://", f"://me:{SECRET}@")
            for host in ("hooks.example", "hooks.example."):
                reply = sender(f"https://{host}/x", proxy=url, ca_file=str(own.path)).post(b"{}", {})
                assert reply.status == 204
                assert proxy.seen[-1].line == f"CONNECT {host}:443 HTTP/1.1"
                assert proxy.seen[-1].headers["proxy-authorization"].startswith("Basic ")

    def test_one_that_refuses(self) -> None:
        with Receiver(status(407)) as proxy:
            reply = sender("https://hooks.example/x", proxy=proxy.url).post(b"{}", {})
        assert reply.verdict(NOW) == Verdict(RETRY, "proxy refused")

    def test_it_is_checked_and_so_is_an_address_behind_it(self) -> None:
        with Receiver(status(200)) as proxy:
            for url, reach in (
                ("https://hooks.example", Reach()),
                ("https://10.0.0.1", HOME),
                ("https://0xa.1", HOME),
                ("https://10.0.0.1.", HOME),
                ("https://[::]", HOME),
            ):
                reason = sender(url, reach=reach, proxy=proxy.url).post(b"{}", {}).reason
                assert reason == ("name not found" if url.endswith(".") else "address refused")
        assert proxy.seen == []

    def test_a_password_goes_in_the_clear_only_to_one_that_is_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        called = []

        def connect(_: socket.socket, at: Any) -> None:
            called.append(at)
            raise ConnectionRefusedError

        monkeypatch.setattr(socket.socket, "connect", connect)
        known, unknown = f"http://me:{SECRET}@1.1.1.1:3128", "http://1.1.1.1:3128"
        assert sender("https://hooks.example", proxy=known).post(b"{}", {}).reason == "http refused"
        assert called == []
        for told in (
            sender("https://hooks.example", proxy=unknown),
            sender("https://hooks.example", proxy=known, insecure=True),
            sender("https://hooks.example", proxy=known, reach=Reach(["1.1.1.1"])),
        ):
            assert told.post(b"{}", {}).reason == "ConnectionRefusedError"
        assert called == [("1.1.1.1", 3128)] * 3

    @pytest.mark.parametrize(("url", "proxy"), [("http://127.0.0.1", "http://p"), ("https://a.b", "https://p")])
    def test_what_does_not_go_through_one(self, url: str, proxy: str) -> None:
        with pytest.raises(ConfigurationError, match="proxy"):
            sender(url, proxy=proxy)


class TestUrl:
    @pytest.mark.parametrize(
        "url",
        [
            *("", "canary-4711", "ftp://canary-4711", "file:///etc/passwd", "https://", "https:///canary-4711"),
            *("https://canary-4711:99999", "https://canary-4711:x", "https://canary-4711:0", "http://[canary-4711"),
            *("https://a.b/canary-4711\r\nX: y", "https://a.b\\@canary-4711", "https://canary-4711 .b", "https://é.b"),
            *("https://canary-4711%00.b", "https://canary-4711%25.b", "https://" + "a" * 70 + ".canary-4711"),
            *("https://１27.0.0.1", "https://canary-4711\t.b", "gopher://canary-4711", "//canary-4711"),
        ],
    )
    def test_one_that_is_none_is_refused_and_not_shown(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^sink 'ops': 'url' ") as caught:
            target(url, "sink 'ops': 'url'")
        assert SECRET not in str(caught.value)
        assert SECRET not in "".join(traceback.TracebackException.from_exception(caught.value).format_exception_only())
        assert caught.value.__context__ is None or caught.value.__suppress_context__

    def test_a_password_in_it_is_sent_as_such(self) -> None:
        with Receiver() as receiver:
            sender(receiver.url.replace("://", "://me:p%40ss@") + "/a?b=c#d").post(b"{}", {})
        assert receiver.seen[0].line == "POST /a?b=c HTTP/1.1"
        assert receiver.seen[0].headers["authorization"] == "Basic bWU6cEBzcw=="
        assert "@" not in receiver.seen[0].headers["host"]

    @given(st.text())
    def test_any_text_is_a_target_or_a_clear_error(self, url: str) -> None:
        with contextlib.suppress(ConfigurationError):
            target(url, "url")


def test_nothing_is_told_of_an_address_or_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        for url in (f"https://me:{SECRET}@{SECRET}.invalid/{SECRET}", f"http://127.0.0.1:1/{SECRET}?{SECRET}"):
            one = sender(url)
            reply = one.post(b"{}", {"X-Key": SECRET})
            told = [repr(one), str(one), repr(reply), repr(reply.verdict(NOW)), repr(target(url, "url"))]
            assert SECRET not in "".join(told)
    assert SECRET not in out.getvalue() + caplog.text


def test_no_instrumentation_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    suppressed = []

    def connect(_: socket.socket, __: Any) -> None:
        suppressed.append(context.get_value("suppress_instrumentation"))
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    sender("http://127.0.0.1").post(b"{}", {})
    assert suppressed == [True]
    assert not context.get_value("suppress_instrumentation")
