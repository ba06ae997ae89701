"""Headers of HTTP around a body that was read, and maybe changed: what still fits it, and what would say otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Headers = Sequence[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
# What a changed body no longer fits.
OF_THE_BODY = frozenset(
    {
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"content-md5",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"etag",
        b"inference-header-content-length",
    }
)
#: What makes some servers take a request for another one than method, path and body say.
STEERING = frozenset(
    {
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-original-uri",
        b"x-override-url",
    }
)
# An answer that comes compressed, or in parts, could not be looked at while it comes.
_OF_THE_ANSWER = frozenset({b"accept-encoding", b"range", b"if-range", b"te", b"expect"})
_NOT_SENT = OF_THE_BODY | STEERING | _OF_THE_ANSWER
_NOT_GIVEN = OF_THE_BODY | {b"content-type", b"trailer"}
_READ_AS = re.compile(rb'\s*(?:application/(?:[\w.-]+\+)?json)\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?', re.IGNORECASE)
_JSON = [JSON[1]]
_CHARSET = re.compile(r";[^;]*charset[^;]*", re.IGNORECASE)
_UTF8 = re.compile(r';\s*charset\s*=\s*"?(?:utf-?8|us-ascii)"?\s*', re.IGNORECASE)


def named(headers: Headers, name: bytes) -> bytes:
    """The first value of that name, or ``b""``."""
    for key, value in headers:
        if key == name:
            return value
    return b""


def has_body(headers: Headers) -> bool:
    """Whether a body follows them."""
    return bool(named(headers, b"transfer-encoding")) or named(headers, b"content-length") not in (b"", b"0")


def encoding(headers: Headers) -> str:
    """How a body is compressed; "" where it is not."""
    values = [value.decode("latin-1") for key, value in headers if key == b"content-encoding"]
    if not values:
        return ""
    spelt = ",".join(values).strip().lower()
    return "" if spelt == "identity" else spelt


def without(headers: Headers, names: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """All but those."""
    return [(key, value) for key, value in headers if key not in names]


def json_length(headers: Headers) -> int | None:
    """Bytes of the JSON before tensors; None where none follow it, -1 where that is not said in digits."""
    told = named(headers, b"inference-header-content-length")
    if not told:
        return None
    return int(told) if told.isdigit() and len(told) < 16 else -1


def of_request(headers: Headers, body: bytes, length: int | None = None) -> list[tuple[bytes, bytes]]:
    """The headers for a request whose body was read as JSON in UTF-8, so that nobody reads it as anything else.

    Args:
        headers: as they came.
        body: all of it.
        length: bytes of its JSON, where tensors follow it.
    """
    kept = without(headers, _NOT_SENT)
    types = [value for key, value in kept if key == b"content-type"]
    if length is not None:
        kept = [*without(kept, {b"content-type"}), (b"content-type", b"application/octet-stream"), _behind(length)]
    elif body and types != _JSON and (len(types) != 1 or _READ_AS.fullmatch(types[0]) is None):
        kept = [*without(kept, {b"content-type"}), JSON]
    kept.append((b"accept-encoding", b"identity"))
    if body:
        kept.append((b"content-length", str(len(body)).encode()))
    return kept


def _behind(length: int) -> tuple[bytes, bytes]:
    return b"inference-header-content-length", b"%d" % length


def of_answer(
    headers: Headers, status: int, body: bytes | None, length: int | None = None
) -> list[tuple[bytes, bytes]]:
    """The headers for an answer that was read as UTF-8.

    Args:
        headers: as they came.
        status: of HTTP.
        body: all of it; None for a stream.
        length: see `of_request`.
    """
    kept = without(headers, _NOT_GIVEN)
    media = named(headers, b"content-type").decode("latin-1")
    if media:
        charset = _CHARSET.search(media) if ";" in media else None
        if charset is not None and _UTF8.fullmatch(charset[0]) is None:
            media = f"{_CHARSET.sub('', media)}; charset=utf-8"
        kept.insert(0, (b"content-type", media.encode("latin-1")))
    if length is not None:
        kept.append(_behind(length))
    if body is not None and status not in (204, 304):
        kept.append((b"content-length", str(len(body)).encode()))
    return kept
