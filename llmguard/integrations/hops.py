"""Headers between two hosts: what holds for one hop alone is not handed on, and what the other side wants is said."""

from __future__ import annotations

import re

from llmguard.integrations.headers import STEERING, Headers, named

_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
# Who asked is ours to say: what a client claims about it is dropped.
_CLAIMS = frozenset(
    {b"host", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip", b"expect"}
)
_ASKED = _HOP | _CLAIMS | STEERING
# Where else the upstream can be reached is none of the client's business: there is no guard.
_ANSWERED = _HOP | {b"alt-svc", b"date", b"server"}
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


def well_formed(headers: Headers) -> bool:
    """Whether every header is one header, and stays one."""
    return all([_NAME.fullmatch(key) is not None and _VALUE.fullmatch(value) is not None for key, value in headers])


def asked(headers: Headers, host: bytes, client: str, scheme: str) -> list[tuple[bytes, bytes]]:
    """The headers of a request on its way to the upstream.

    Args:
        headers: as they came, names in small letters.
        host: of the upstream.
        client: its address; "" where it is not known.
        scheme: by which it came to us.
    """
    kept = _kept(headers, _ASKED)
    kept.insert(0, (b"host", host))
    if client:
        kept.append((b"x-forwarded-for", client.encode("latin-1", "replace")))
    kept.append((b"x-forwarded-proto", scheme.encode()))
    if own := named(headers, b"host"):
        kept.append((b"x-forwarded-host", own))
    return kept


def answered(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of an answer on its way to the client."""
    return _kept(headers, _ANSWERED)


def _kept(headers: Headers, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    listed = [value for key, value in headers if key == b"connection"]
    if listed:
        names = b",".join(listed).lower().split(b",")
        # A length or an encoding that went missing would change what the body says.
        dropped |= {name.strip() for name in names} - {b"content-length", b"content-encoding", b"content-type"}
    return [(key, value) for key, value in headers if key not in dropped]
