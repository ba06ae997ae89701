"""One POST to a receiver of alerts: TLS verified, to a checked address, within one deadline, never redirected.

The standard library's client suffices: it takes a socket that is connected already, which is what makes the
connection go to the very address that was checked. It reads no proxy from the environment.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from urllib.parse import unquote, urlsplit

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.reach import Address, Reach, Unreachable
from llmguard.exporters.alerts.sink import DELIVERED, GONE, REFUSED, RETRY, Verdict
from llmguard.exporters.alerts.timed import Deadline, Timed, connected
from llmguard.exporters.alerts.tls import secured, tls_context
from llmguard.exporters.untraced import untraced

TIMEOUT_S = 15.0
_BODY_LIMIT = 4096
_LONGEST_PAUSE_S = 86_400.0
# About this one message; what is about the receiver (401, 404, a redirect) may be put right while it waits.
_WRONG_MESSAGE = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431})


@dataclass(frozen=True)
class Target:
    """A URL in its parts. It may be a secret, so its repr shows none of it."""

    secure: bool
    host: str
    port: int
    path: str
    authorization: str

    def __repr__(self) -> str:
        return "Target(…)"


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: of HTTP, or 0 where there was no answer.
        reason: why there was none, in fixed words.
        retry_after: that header as it was sent.
        body: its first 4096 bytes at most.
    """

    status: int
    reason: str = ""
    retry_after: str = ""
    body: bytes = field(default=b"", repr=False)

    def verdict(self, now: float) -> Verdict:
        """What became of the message.

        Args:
            now: seconds since 1970, for a ``Retry-After`` that is a date.
        """
        if 200 <= self.status < 300:
            return Verdict(DELIVERED)
        reason = f"status {self.status}" if self.status else self.reason
        if self.status == 410:
            return Verdict(GONE, reason)
        if self.status in _WRONG_MESSAGE:
            return Verdict(REFUSED, reason)
        return Verdict(RETRY, reason, pause(self.retry_after, now))


class Sender:
    """Posts to one URL, with a connection for each message.

    Args:
        url: http or https; ``user:password@`` in it becomes basic authorization.
        reach: which addresses are allowed.
        what: how errors call the URL, which they never show.
        timeout_s: for all of one message: lookup, connection, TLS, request and answer.
        insecure: http to public addresses, too.
        ca_file: certificates of authorities in PEM to trust instead of the system's.
        proxy: an http URL of a proxy, through which https goes; the proxy then looks names up itself.

    Raises:
        ConfigurationError: the URL, the proxy or the file of certificates is none.
    """

    def __init__(
        self,
        url: str,
        reach: Reach,
        what: str = "url",
        *,
        timeout_s: float = TIMEOUT_S,
        insecure: bool = False,
        ca_file: str = "",
        proxy: str = "",
    ) -> None:
        self._target = target(url, what)
        self._reach = reach
        self._timeout_s = timeout_s
        self._insecure = insecure
        self._context = tls_context(ca_file) if self._target.secure else None
        self._proxy = target(proxy, "proxy") if proxy else None
        if self._proxy is not None and (self._proxy.secure or not self._target.secure):
            raise ConfigurationError(f"{what}: a proxy is an http:// URL, and only https:// goes through it")

    def post(self, body: bytes, headers: Mapping[str, str], tail: str = "", timeout_s: float | None = None) -> Reply:
        """Post JSON once. Raises nothing that comes of the network or the receiver.

        Args:
            body: JSON.
            headers: besides those of every request.
            tail: what comes after the URL's path, which then has no query.
            timeout_s: less than the sender's own, where several share it.

        Raises:
            ConfigurationError: a header's value is no printable ASCII; the message shows none of it.
        """
        deadline = Deadline(self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s))
        sent = {"Content-Type": "application/json", "User-Agent": "llmguard", "Connection": "close"}
        if self._target.authorization:
            sent["Authorization"] = self._target.authorization
        for key, value in headers.items():
            if not value.isascii() or not value.isprintable():
                raise ConfigurationError(f"the header {key} must be printable ASCII")
        with untraced():
            try:
                with contextlib.closing(self._connected(deadline)) as sock:
                    return self._posted(Timed(sock, deadline), body, {**sent, **headers}, tail)
            except (OSError, http.client.HTTPException, Unreachable) as error:
                return Reply(0, why(error))

    def _posted(self, sock: Timed, body: bytes, headers: Mapping[str, str], tail: str) -> Reply:
        to = self._target
        host = f"[{to.host}]" if ":" in to.host else to.host
        host = host if to.port == (443 if to.secure else 80) else f"{host}:{to.port}"
        path = to.path.rstrip("/") + tail if tail else to.path
        # Written here and not by HTTPConnection, which tracers wrap: they would keep the URL, which may be a secret.
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{key}: {value}" for key, value in headers.items())]
        sock.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("ascii") + body)
        answer = http.client.HTTPResponse(sock, method="POST")  # type: ignore[arg-type]
        answer.begin()
        got = b""
        # The status has already said what became of the message: a body that breaks off changes nothing.
        with contextlib.suppress(OSError, http.client.HTTPException):
            while len(got) < _BODY_LIMIT and (more := answer.read1(_BODY_LIMIT - len(got))):
                got += more
        return Reply(answer.status, retry_after=answer.getheader("Retry-After") or "", body=got)

    def _connected(self, deadline: Deadline) -> socket.socket:
        to = self._target
        if self._proxy is not None:
            sock = self._tunnelled(self._proxy, deadline)
        else:
            sock = connected(self._checked(deadline), deadline)
        if self._context is None:
            return sock
        return secured(sock, self._context, to.host, deadline)

    def _checked(self, deadline: Deadline) -> list[Address]:
        to = self._target
        addresses = self._reach.addresses(to.host, to.port, deadline)
        if not to.secure and not self._insecure:
            addresses = [address for address in addresses if address.named]
        if to.port not in (80, 443) and to.port < 1024:
            addresses = [address for address in addresses if address.named]
        if not addresses:
            raise Unreachable("http refused" if not to.secure else "port refused")
        return addresses

    def _tunnelled(self, proxy: Target, deadline: Deadline) -> socket.socket:
        """A connection through a proxy. A name is the proxy's to look up; an address is checked here."""
        to = self._target
        if _is_address(to.host):
            self._checked(deadline)
        addresses = self._reach.addresses(proxy.host, proxy.port, deadline)
        if proxy.authorization and not self._insecure:
            addresses = [address for address in addresses if address.named]
            if not addresses:
                raise Unreachable("http refused")
        sock = connected(addresses, deadline)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            timed = Timed(sock, deadline)
            host = f"[{to.host}]:{to.port}" if ":" in to.host else f"{to.host}:{to.port}"
            known = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
            timed.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{known}\r\n".encode("ascii"))
            answer = http.client.HTTPResponse(timed, method="CONNECT")  # type: ignore[arg-type]
            answer.begin()
            if answer.status != 200:
                raise Unreachable("proxy refused")
            undo.pop_all()
        return sock


def _is_address(host: str) -> bool:
    """Whether it is one in any spelling that a resolver takes, such as ``0x7f.1``."""
    with contextlib.suppress(OSError):
        return bool(socket.inet_aton(host.rstrip(".")))
    return ":" in host


def as_json(payload: object) -> bytes:
    """JSON in UTF-8, the same bytes for the same payload. Escapes would make six bytes of what is two.

    Args:
        payload: whose texts are valid Unicode.
    """
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def target(url: str, what: str) -> Target:
    """A URL in its parts.

    Args:
        url: http or https.
        what: how errors call it.

    Raises:
        ConfigurationError: it is none; the message shows no part of it.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError(f"{what} must be printable ASCII without spaces (a host's name as xn--…)")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise ConfigurationError(f"{what} is no URL: its host or its port is not valid") from None
    if scheme not in ("http", "https"):
        raise ConfigurationError(f"{what} must begin with https:// (or http:// for addresses in allow)")
    if not host or "%" in host or port == 0:
        raise ConfigurationError(f"{what} is no URL: its host or its port is not valid")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme == "https", host, port or (443 if scheme == "https" else 80), path, authorization)


def pause(value: str, now: float) -> float | None:
    """The seconds that a ``Retry-After`` asks for, a day at most, or None where it says nothing (RFC 9110, 10.2.3).

    Args:
        value: seconds, or a date.
        now: seconds since 1970.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_PAUSE_S)
    try:
        then = email.utils.parsedate_to_datetime(value)
        # The old format of C's asctime names no zone and means GMT (RFC 9110, 5.6.7).
        seconds = (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE_S)


def why(error: Exception) -> str:
    """What went wrong, in fixed words: messages of the system may hold the host's name."""
    if isinstance(error, Unreachable):
        return error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate not valid"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    if isinstance(error, TimeoutError):
        return "timeout"
    return type(error).__name__
