"""Alerts by e-mail: one SMTP submission a group, TLS verified, in plain text and HTML.

References:
    RFC 5321 (SMTP), RFC 3207 (STARTTLS), RFC 8314 (port 465), RFC 3834 (``Auto-Submitted``).
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import html
import re
import smtplib
import socket
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.http import TIMEOUT_S, why
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.reach import Reach, Unreachable
from llmguard.exporters.alerts.settings import Settings
from llmguard.exporters.alerts.sink import DELIVERED, REFUSED, RETRY, Verdict
from llmguard.exporters.alerts.timed import Deadline, Timed, connected
from llmguard.exporters.alerts.tls import secured, tls_context
from llmguard.exporters.alerts.webhook import header_id
from llmguard.exporters.alerts.wording import facts, heading, left_out, runbook, shorten, title
from llmguard.exporters.untraced import untraced

KEYS = frozenset(
    {"allow", "ca_file", "from", "host", "insecure", "password", "port", "timeout_s", "tls", "to", "username"}
)
_PORTS = {"starttls": 587, "tls": 465, "none": 25}
_SUBMISSION = (25, 465, 587, 2525)
_SUBJECT = 200
# Each byte becomes three at most: three megabytes in all, where servers take ten or more.
_ROOM = 1024 * 1024
# Short lines of ASCII, which any server takes.
_ENCODING = "quoted-printable"
_DOMAIN = "llmguard.invalid"
# One mailbox without a display name, a quoted part or a letter outside ASCII.
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class EmailSink:
    """Hands a group to a mail server as one message.

    Args:
        name: of the sink.
        host: of the server.
        sender: who it is from.
        to: whom it is for.
        reach: which addresses are allowed.
        tls: ``starttls``, ``tls`` from the first byte on, or ``none``.
        port: of the server; 0 is the usual one for ``tls``.
        username: for the server, or ``""``.
        password: likewise.
        timeout_s: for all of one message.
        insecure: no TLS, and the password in the clear, to addresses that `reach` does not name, too.
        ca_file: certificates of authorities in PEM to trust instead of the system's.

    Raises:
        ConfigurationError: an address is none, or a password would go out in the clear.
    """

    most = 50
    pause_s = 0.0

    def __init__(
        self,
        name: str,
        host: str,
        sender: str,
        to: Sequence[str],
        reach: Reach,
        *,
        tls: str = "starttls",
        port: int = 0,
        username: str = "",
        password: str = "",
        timeout_s: float = TIMEOUT_S,
        insecure: bool = False,
        ca_file: str = "",
    ) -> None:
        for key, mailbox in (("from", sender), *(("to", each) for each in to)):
            if not _MAILBOX.fullmatch(mailbox):
                raise ConfigurationError(f"sink {name!r}: {key!r} must be a mailbox such as ops@example.com")
        if not 1 <= len(to) <= 50:
            raise ConfigurationError(f"sink {name!r}: 'to' must name 1 to 50 mailboxes")
        if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", host):
            raise ConfigurationError(f"sink {name!r}: 'host' must be a host's name or its address")
        if not f"{username}{password}".isascii() or not f"{username}{password}".isprintable():
            raise ConfigurationError(f"sink {name!r}: 'username' and 'password' must be printable ASCII")
        if username and tls == "none" and not insecure:
            raise ConfigurationError(f"sink {name!r}: 'tls' is none, so the password would go out in the clear")
        self.name = name
        self._host, self._port = host, port or _PORTS[tls]
        self._sender, self._to = sender, list(to)
        self._reach, self._tls, self._insecure = reach, tls, insecure
        self._login = (username, password) if username else None
        self._timeout_s = timeout_s
        self._context = None if tls == "none" else tls_context(ca_file)

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Hand a group over once; see `llmguard.exporters.alerts.sink.Sink`."""
        content = letter(message, group, now, self._sender, self._to).as_bytes(policy=SMTP)
        with untraced():
            try:
                return self._handed_over(content, Deadline(self._timeout_s))
            except smtplib.SMTPRecipientsRefused as error:
                return _answered(min(code for code, _ in error.recipients.values()))
            except smtplib.SMTPAuthenticationError as error:
                # About the account, not about this message: it may be put right while the message waits.
                return Verdict(RETRY, f"status {error.smtp_code}")
            except smtplib.SMTPResponseException as error:
                return _answered(error.smtp_code)
            except smtplib.SMTPServerDisconnected as error:
                # Says so of everything that ends a connection, the deadline, too.
                return Verdict(RETRY, why(error.__context__ if isinstance(error.__context__, OSError) else error))
            except (OSError, ValueError, Unreachable) as error:
                # smtplib raises ValueError for answers that are not what they say, such as base64.
                return Verdict(RETRY, why(error))

    def close(self) -> None:
        """Nothing is open between messages."""

    def _handed_over(self, content: bytes, deadline: Deadline) -> Verdict:
        addresses = self._reach.addresses(self._host, self._port, deadline)
        if (self._context is None and not self._insecure) or self._port not in _SUBMISSION:
            addresses = [address for address in addresses if address.named]
        if not addresses:
            raise Unreachable("port refused" if self._port not in _SUBMISSION else "no TLS")
        with contextlib.ExitStack() as opened:
            sock = connected(addresses, deadline)
            opened.callback(lambda: sock.close())
            # A name is given, or smtplib looks its own up, which may take longer than all of the message.
            smtp = smtplib.SMTP(local_hostname=re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "localhost")
            if self._tls == "tls" and self._context is not None:
                sock = secured(sock, self._context, self._host, deadline)
            _carry(smtp, sock, deadline)
            code, _ = smtp.getreply()
            if code != 220:
                raise Unreachable(f"status {code}")
            if self._tls == "starttls" and self._context is not None:
                _expect(smtp, "STARTTLS")
                code, _ = smtp.docmd("STARTTLS")
                if code != 220:
                    raise Unreachable(f"status {code}")
                sock = secured(sock, self._context, self._host, deadline)
                # What was said before TLS, or was slipped in with it, is forgotten.
                _carry(smtp, sock, deadline)
            if self._login is not None:
                _expect(smtp, "AUTH")
                smtp.login(*self._login)
            refused = smtp.sendmail(self._sender, self._to, content)
            with contextlib.suppress(OSError, smtplib.SMTPException):
                smtp.quit()
        return Verdict(DELIVERED, f"{len(refused)} of {len(self._to)} recipients refused" if refused else "")


def made(settings: Settings) -> EmailSink:
    """The sink that these settings describe."""
    username = settings.text("username", "")
    password = settings.secret("password", None if username else "")
    if password and not username:
        raise ConfigurationError(f"{settings.what('password')} is of no use without 'username'")
    return EmailSink(
        settings.sink,
        settings.text("host"),
        settings.text("from"),
        settings.texts("to"),
        settings.reach(),
        tls=settings.choice("tls", _PORTS, "starttls"),
        port=int(settings.number("port", 0, 0, 65535)),
        username=username,
        password=password,
        timeout_s=settings.timeout_s(),
        insecure=settings.flag("insecure"),
        ca_file=settings.ca_file(),
    )


def letter(message: str, group: Group, now: float, sender: str, to: Sequence[str]) -> EmailMessage:
    """The message.

    Args:
        message: its id, the same on each try, so that a mailbox shows it once.
        group: what to tell.
        now: seconds since 1970.
        sender: who it is from.
        to: whom it is for.
    """
    mail = EmailMessage()
    mail["Subject"] = shorten(title(group), _SUBJECT)
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = email.utils.formatdate(now)
    mail["Message-ID"] = f"<{header_id(message)}@{_DOMAIN}>"
    # What is told of one group later is shown below what was told first.
    thread = hashlib.sha256(group.key.encode("utf-8", "replace")).hexdigest()[:32]
    mail["References"] = f"<group-{thread}@{_DOMAIN}>"
    mail["Auto-Submitted"] = "auto-generated"
    plain, page = _told(group)
    mail.set_content(plain, cte=_ENCODING)
    mail.add_alternative(page, subtype="html", cte=_ENCODING)
    return mail


def _told(group: Group) -> tuple[str, str]:
    """In text and in HTML, as much as there is room for."""
    plain, page, room = [], [], _ROOM
    for notice in group.notices[: EmailSink.most]:
        text, rows = _plain(notice), _marked_up(notice)
        room -= len(text.encode()) + len(rows.encode())
        if room < 0:
            break
        plain.append(text)
        page.append(rows)
    if len(plain) < len(group.notices):
        rest = left_out(len(group.notices) - len(plain))
        plain.append(rest)
        page.append(f"<p>{html.escape(rest)}</p>")
    return "\n\n".join(plain) + "\n", f"<!DOCTYPE html><html><body>{''.join(page)}</body></html>\n"


def _plain(notice: Notice) -> str:
    link = [f"Runbook: {runbook(notice)}"] if runbook(notice) else []
    return "\n".join([heading(notice), *link, *(f"  {key}: {value}" for key, value in facts(notice))])


def _marked_up(notice: Notice) -> str:
    rows = "".join(f"<tr><td>{html.escape(key)}</td><td>{html.escape(value)}</td></tr>" for key, value in facts(notice))
    link = f'<p><a href="{html.escape(runbook(notice))}">Runbook</a></p>' if runbook(notice) else ""
    return f"<h3>{html.escape(heading(notice))}</h3>{link}<table>{rows}</table>"


def _carry(smtp: smtplib.SMTP, sock: socket.socket, deadline: Deadline) -> None:
    """Have the client speak over this socket as if it were new."""
    smtp.sock = Timed(sock, deadline)  # type: ignore[assignment]
    smtp.file = None
    smtp.ehlo_resp = smtp.helo_resp = None
    smtp.esmtp_features = {}
    smtp.does_esmtp = False


def _expect(smtp: smtplib.SMTP, feature: str) -> None:
    smtp.ehlo_or_helo_if_needed()
    if not smtp.has_extn(feature):
        raise Unreachable(f"no {feature}")


def _answered(code: int) -> Verdict:
    """What a code of SMTP means: 5yz is final, 4yz is not (RFC 5321, 4.2.1); 421 and the like are the server's."""
    return Verdict(REFUSED if 500 <= code < 600 and code not in (530, 535) else RETRY, f"status {code}")
