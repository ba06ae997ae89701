"""Alerts by e-mail, handed to a real SMTP server in the test, with TLS and without."""

from __future__ import annotations

import email
import email.policy
import socket
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from hypothesis import given, settings
from hypothesis import strategies as st
from mail_server import MailServer
from notices import NOW, TRACE, group, hostile_groups, large, notice
from receivers import Receiver

from llmguard import ConfigurationError
from llmguard.exporters.alerts.email import EmailSink, letter
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.reach import Reach
from llmguard.exporters.alerts.sink import DELIVERED, REFUSED, RETRY, Sink, Verdict

HOME = Reach(["127.0.0.0/8"])
SECRET = "canary-4711"
TO = ["ops@example.com", "night@example.com"]


def sink(port: int, **settings: Any) -> EmailSink:
    told: dict[str, Any] = {"tls": "none", "reach": HOME, "timeout_s": 10.0, "to": TO, **settings, "port": port}
    return EmailSink("mail", "127.0.0.1", "guard@example.com", told.pop("to"), told.pop("reach"), **told)


def parsed(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_group_is_one_message_in_text_and_html() -> None:
    with MailServer() as server:
        one = sink(server.port)
        assert isinstance(one, Sink)
        assert one.send("msg_1", group(), NOW) == Verdict(DELIVERED)
    (mail,) = server.mails
    assert (mail.sender, mail.recipients) == ("guard@example.com", TO)
    told = parsed(mail.content)
    assert told["Subject"] == "[FIRING] Blocks (critical)"
    assert (told["From"], told["To"]) == ("guard@example.com", "ops@example.com, night@example.com")
    assert told["Message-ID"] == "<msg_1@llmguard.invalid>"
    assert told["Auto-Submitted"] == "auto-generated"
    text, page = (part.get_content() for part in told.iter_parts())
    assert f"trace_id: {TRACE}" in text
    assert "Runbook: https://runbooks.example.com/blocks?a=1&b=2" in text
    assert f"<td>{TRACE}</td>" in page
    assert 'href="https://runbooks.example.com/blocks?a=1&amp;b=2"' in page
    assert mail.content.isascii()
    assert max(map(len, mail.content.split(b"\r\n"))) < 998


def test_with_tls_and_a_password(tmp_path: Path) -> None:
    own = certificate(tmp_path, "127.0.0.1")
    for tls in ("starttls", "tls"):
        with MailServer(tls, own.context, login=("me", SECRET)) as server:
            one = sink(server.port, tls=tls, ca_file=str(own.path), username="me", password=SECRET)
            assert one.send("m", group(), NOW) == Verdict(DELIVERED)
        assert server.mails[0].secure
        assert SECRET.encode() not in server.clear


def test_a_certificate_that_is_not_valid(tmp_path: Path) -> None:
    own, other = certificate(tmp_path, "127.0.0.1"), certificate(tmp_path, "elsewhere.example")
    for tls in ("starttls", "tls"):
        for context, trusted in ((own.context, ""), (other.context, str(other.path))):
            with MailServer(tls, context) as server:
                verdict = sink(server.port, tls=tls, ca_file=trusted).send("m", group(), NOW)
            assert verdict == Verdict(RETRY, "certificate not valid")
            assert server.mails == []


def test_a_server_that_offers_no_tls_gets_nothing() -> None:
    with MailServer() as server:
        one = sink(server.port, tls="starttls", username="me", password=SECRET)
        assert one.send("m", group(), NOW) == Verdict(RETRY, "no STARTTLS")
    assert server.mails == []
    assert SECRET.encode() not in server.clear


def test_what_comes_before_tls_is_forgotten(tmp_path: Path) -> None:
    # An answer slipped in behind the one to STARTTLS must not be read as one that came through TLS.
    own = certificate(tmp_path, "127.0.0.1")
    with MailServer("starttls", own.context, after_starttls=b"250-injected\r\n250 AUTH PLAIN\r\n") as server:
        verdict = sink(server.port, tls="starttls", ca_file=str(own.path)).send("m", group(), NOW)
    assert verdict.outcome in (DELIVERED, RETRY)
    assert all(mail.secure for mail in server.mails)


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"connect": "554 no"}, Verdict(RETRY, "status 554")),
        ({"connect": "421 busy"}, Verdict(RETRY, "status 421")),
        ({"MAIL": "451 later"}, Verdict(RETRY, "status 451")),
        ({"MAIL": "550 not you"}, Verdict(REFUSED, "status 550")),
        ({"MAIL": "530 login first"}, Verdict(RETRY, "status 530")),
        ({"RCPT": "550 nobody"}, Verdict(REFUSED, "status 550")),
        ({"RCPT": "450 full"}, Verdict(RETRY, "status 450")),
        ({"RCPT night": "550 nobody"}, Verdict(DELIVERED, "1 of 2 recipients refused")),
        ({"DATA": "554 spam"}, Verdict(REFUSED, "status 554")),
        ({".": "452 disk"}, Verdict(RETRY, "status 452")),
        ({"connect": "junk"}, Verdict(RETRY, "status -1")),
    ],
)
def test_what_a_server_answers(answers: dict[str, str], verdict: Verdict) -> None:
    with MailServer(answers=answers) as server:
        assert sink(server.port).send("m", group(), NOW) == verdict


def test_a_password_that_is_wrong_may_be_put_right(tmp_path: Path) -> None:
    own = certificate(tmp_path, "127.0.0.1")
    with MailServer("tls", own.context, login=("me", "other")) as server:
        one = sink(server.port, tls="tls", ca_file=str(own.path), username="me", password=SECRET)
        assert one.send("m", group(), NOW) == Verdict(RETRY, "status 535")


def test_a_server_that_hangs_or_trickles_ends_at_the_deadline() -> None:
    for answers in ({"connect": "hang"}, {"MAIL": "hang"}, {"connect": "trickle"}, {"EHLO": "trickle"}):
        with MailServer(answers=answers) as server:
            verdict = sink(server.port, timeout_s=0.3).send("m", group(), NOW)
        assert verdict == Verdict(RETRY, "timeout")


@settings(max_examples=40)
@given(
    st.lists(
        st.sampled_from([b"220 ok\r\n", b"250-AUTH PLAIN\r\n", b"250 x\r\n", b"334 !\r\n"]) | st.binary(max_size=40)
    )
)
def test_any_bytes_make_a_verdict(answers: list[bytes]) -> None:
    with Receiver(b"".join(answers), reads=False) as server:
        assert isinstance(sink(server.port).send("m", group(), NOW), Verdict)


def test_an_answer_without_an_end_is_not_kept() -> None:
    def flood(receiver: Receiver, connection: Any) -> None:
        while not receiver.stopping.is_set():
            connection.sendall(b"220-x\r\n" * 1000)

    with Receiver(flood, reads=False) as server:
        verdict = sink(server.port).send("m", group(), NOW)
    assert verdict == Verdict(RETRY, "Flooded")


def test_a_server_that_hangs_up() -> None:
    with Receiver(b"", reads=False) as server:
        verdict = sink(server.port).send("m", group(), NOW)
    assert verdict.outcome == RETRY
    assert verdict.reason in ("SMTPServerDisconnected", "ConnectionResetError")


def test_where_it_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer() as server:
        assert sink(server.port, reach=Reach()).send("m", group(), NOW) == Verdict(RETRY, "address refused")
    assert server.clear == b""
    called = []

    def connect(_: socket.socket, at: Any) -> None:
        called.append(at)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.1.1.1", 25))]
    )
    assert sink(25).send("m", group(), NOW).reason == "no TLS"
    assert sink(6379, tls="tls").send("m", group(), NOW).reason == "port refused"
    assert called == []
    assert sink(25, insecure=True).send("m", group(), NOW).reason == "ConnectionRefusedError"


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert sink(port).send("m", group(), NOW) == Verdict(RETRY, "ConnectionRefusedError")


@settings(max_examples=40)
@given(hostile_groups())
def test_no_label_becomes_a_header(hostile: Group) -> None:
    mail = letter("a\r\nBcc: x@y.z", hostile, NOW, "guard@example.com", TO)
    told = parsed(mail.as_bytes(policy=email.policy.SMTP))
    assert sorted(told.keys()) == sorted(
        ["Subject", "From", "To", "Date", "Message-ID", "References", "Auto-Submitted", "MIME-Version", "Content-Type"]
    )
    text, page = (part.get_content() for part in told.iter_parts())
    assert text
    assert "<script" not in page
    assert not told.defects


def test_a_line_with_a_full_stop_does_not_end_the_message() -> None:
    with MailServer() as server:
        one = sink(server.port)
        assert one.send("m", group(notice(summary=".", odd="\r\n.\r\nMAIL FROM:<x@y.z>")), NOW).outcome == DELIVERED
    assert len(server.mails) == 1


def test_more_than_a_message_holds_is_counted() -> None:
    many = group(*(notice(labels={"tenant": str(number)}) for number in range(60)))
    for several, rest in ((many, 10), (large(60), None)):
        content = letter("m", several, NOW, "guard@example.com", TO).as_bytes(policy=email.policy.SMTP)
        assert len(content) < 3.5 * 1024 * 1024
        for part in parsed(content).iter_parts():
            text = part.get_content()
            shown = text.count("tenant")
            assert f"{60 - shown} more alerts are left out of this message." in text
            assert rest is None or shown == 60 - rest


def test_one_thread_a_group() -> None:
    first, second = (letter(message, group(), NOW, "a@b.c", TO) for message in ("m1", "m2"))
    assert first["References"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"to": ["a@b.c\r\nBcc: x@y.z"]}, {"to": ["Ops <a@b.c>"]}, {"to": []}, {"to": ["a@b.c"] * 51}, {"to": [""]}),
        *({"to": ["é@b.c"]}, {"to": ["a@b.c,x@y.z"]}, {"username": "me", "password": SECRET}),
        {"username": "mé", "password": SECRET, "tls": "tls"},
    ],
)
def test_settings_that_are_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^sink 'mail': ") as caught:
        sink(25, **wrong)
    assert SECRET not in str(caught.value)
