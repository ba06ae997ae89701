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
# A length or an encoding that went missing would change what the body says.
_OF_THE_BODY = frozenset({b"content-length", b"content-encoding", b"content-type"})
# What a name is made of, and what a value is not; all of a head is looked through at once.
_NAMES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CONTROLS = bytes([*range(9), *range(10, 32), 127])
# Codings that a connection has taken off again; another one would still be on the body, and nobody would be told.
_TAKEN_OFF = re.compile(rb"(?:chunked|identity)?", re.IGNORECASE)


def well_formed(headers: Headers) -> bool:
    """Whether every header is one header, and stays one, whatever server sends it on."""
    names = [key for key, _ in headers]
    values = b"".join([value for _, value in headers])
    named_well = all(names) and not b"".join(names).translate(None, _NAMES)
    return named_well and len(values.translate(None, _CONTROLS)) == len(values)


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


def answered(headers: Headers, status: int) -> list[tuple[bytes, bytes]]:
    """The headers of an answer on its way to the client."""
    # That of a body that is not there, and that servers would wait for.
    return _kept(headers, _ANSWERED | {b"content-length"} if status in (204, 304) else _ANSWERED)


def bare(headers: Headers) -> bool:
    """Whether the body behind them has no coding on it that holds for one hop alone, but for what is taken off."""
    return all([_TAKEN_OFF.fullmatch(value) is not None for key, value in headers if key == b"transfer-encoding"])


def _kept(headers: Headers, dropped: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    listed = [value for key, value in headers if key == b"connection"]
    if listed:
        names = {name.strip() for name in b",".join(listed).lower().split(b",")}
        if more := names - dropped - _OF_THE_BODY:
            dropped |= more
    return [(key, value) for key, value in headers if key not in dropped]
