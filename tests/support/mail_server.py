"""A small SMTP server on 127.0.0.1 that keeps what it is handed, and answers as it is told."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple


class Mail(NamedTuple):
    """What was handed over."""

    sender: str
    recipients: list[str]
    content: bytes
    secure: bool


class MailServer:
    """One connection after the other.

    Args:
        tls: ``none``, ``starttls`` or ``tls``.
        context: of the certificate.
        login: the name and the password that it wants.
        answers: other answers to a command (``RCPT``, ``RCPT night``), on ``connect`` or to the end of the message
            (``.``); ``hang`` says nothing and ``trickle`` never ends a line.
        after_starttls: sent in the clear right behind the answer to STARTTLS.
    """

    def __init__(
        self,
        tls: str = "none",
        context: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
        answers: Mapping[str, str] | None = None,
        after_starttls: bytes = b"",
    ) -> None:
        self.mails: list[Mail] = []
        self.clear = b""
        self.tls, self._context, self.login = tls, context, login
        self.answers = answers or {}
        self._after = after_starttls
        self._stopping = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> MailServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        self._thread.join(10.0)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection:
                if self._stopping.is_set():
                    return
                connection.settimeout(10.0)
                with contextlib.suppress(OSError):
                    self._talk(connection)

    def _talk(self, connection: Any) -> None:
        with contextlib.ExitStack() as opened:
            secure = self.tls == "tls"
            if secure:
                connection = opened.enter_context(self._secured(connection))
            lines = opened.enter_context(connection.makefile("rb"))
            talk = _Talk(self, secure)
            self._say(connection, "connect", "220 ready")
            while line := lines.readline():
                if not talk.secure:
                    self.clear += line
                word, _, rest = line.decode().strip().partition(" ")
                word = word.upper()
                if word == "STARTTLS" and self._context is not None:
                    connection.sendall(b"220 go\r\n" + self._after)
                    connection = opened.enter_context(self._secured(connection))
                    lines, talk = opened.enter_context(connection.makefile("rb")), _Talk(self, True)
                    continue
                self._say(connection, *talk.answer(word, rest))
                if word == "DATA" and "DATA" not in self.answers:
                    content = b""
                    while (part := lines.readline()) not in (b".\r\n", b""):
                        content += part.removeprefix(b".") if part.startswith(b"..") else part
                    if "." not in self.answers:
                        self.mails.append(Mail(talk.sender, talk.recipients, content, talk.secure))
                    self._say(connection, ".", "250 kept")

    def _secured(self, connection: Any) -> ssl.SSLSocket:
        assert self._context is not None
        return self._context.wrap_socket(connection, server_side=True)

    def _say(self, connection: Any, moment: str, usual: str) -> None:
        answer = self.answers.get(moment, usual)
        if answer == "hang":
            self._stopping.wait(30.0)
            return
        if answer == "trickle":
            while not self._stopping.wait(0.01):
                connection.sendall(b"2")
            return
        connection.sendall(answer.encode() + b"\r\n")


class _Talk:
    """What is known of one connection, and what is usually said."""

    def __init__(self, server: MailServer, secure: bool) -> None:
        self.sender = ""
        self.recipients: list[str] = []
        self.secure = secure
        self._server = server

    def answer(self, word: str, rest: str) -> tuple[str, str]:
        """The moment, and the usual answer."""
        server = self._server
        if word == "EHLO":
            features = ["test"]
            features += ["STARTTLS"] if server.tls == "starttls" and not self.secure else []
            features += ["AUTH PLAIN"] if server.login and self.secure else []
            return word, "\r\n".join([*(f"250-{name}" for name in features[:-1]), f"250 {features[-1]}"])
        if word == "AUTH":
            given = base64.b64decode(rest.split()[-1]).decode().split("\0")[1:]
            return word, "235 ok" if tuple(given) == server.login else "535 no"
        mailbox = rest.partition("<")[2].partition(">")[0]
        if word == "MAIL":
            self.sender, self.recipients = mailbox, []
        if word == "RCPT":
            self.recipients.append(mailbox)
            named = f"RCPT {mailbox.partition('@')[0]}"
            return named if named in server.answers else word, "250 ok"
        return word, {"DATA": "354 go on", "QUIT": "221 bye"}.get(word, "250 ok")
