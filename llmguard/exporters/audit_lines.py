"""Lines of an audit log: what stands in each, and the hash by which the next one holds on to it.

A line is JSON, its keys in a fixed order::

    {"n":7,"kind":"record","prev":"<64>","sum":"<64>","salt":"<32>","body":{...}}

``sum`` is the SHA-256 of the salt and the body as they are written. ``prev`` is the SHA-256 of the line before, from
its brace to the end of its sum. So the chain holds every body, and still does when salt and body are replaced by
``"erased":true``; the salt makes it impossible to find out what the body was by trying.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any, NamedTuple

FORMAT = "llmguard-audit"
VERSION = 1
CIPHER = "AES-256-GCM"
START = "0" * 64
"""What the first line has in place of a hash."""

RECORD, FILE, MENDED, ERASURE, RETENTION = "record", "file", "mended", "erasure", "retention"

canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

_line = re.compile(
    rb'(\{"n":([1-9]\d{0,17}),"kind":"([a-z]{1,16})","prev":"([0-9a-f]{64})","sum":"([0-9a-f]{64})")'
    rb'(?:,"salt":"([0-9a-f]{32})","body":(.+)|,"erased":true)\}\n'
).fullmatch
_checkpoint = re.compile(
    rb'(\{"c":([1-9]\d{0,17}),"n":(\d{1,18}),"hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","at":(\d{1,19}),'
    rb'"log":"([0-9a-f]{32})","key":"([0-9a-f]{16})?"),"sig":"([0-9a-f]{128})?"\}\n'
).fullmatch

_header = re.compile(rf"[0-9a-f]{{32}} (?:{CIPHER} [0-9a-f]{{16}} [0-9a-f]{{32}}|  )").fullmatch


class Line(NamedTuple):
    """A line that was read.

    Attributes:
        n: its sequence, from 1.
        kind: ``record``, ``file``, ``mended``, ``erasure`` or ``retention``.
        prev: hash of the line before.
        sum: of salt and body.
        hash: its own.
        head: what the hash is of.
        salt: or None, once erased.
        body: as it is written, or None, once erased.
    """

    n: int
    kind: str
    prev: str
    sum: str
    hash: str
    head: bytes
    salt: bytes | None
    body: bytes | None

    def intact(self) -> bool:
        """Whether the body is the one that the chain holds; of an erased one nobody knows."""
        return self.body is None or self.salt is None or sha256(self.salt + self.body).hexdigest() == self.sum

    def value(self) -> Any:
        """The body as JSON values.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(self.body or b"null")

    def erased(self) -> bytes:
        """The line without salt and body."""
        return self.head + b',"erased":true}\n'


class Checkpoint(NamedTuple):
    """What a checkpoint says: the log had the line ``n`` with this hash.

    Attributes:
        number: its own, from 1.
        n: the last line's sequence.
        hash: the last line's.
        prev: hash of the checkpoint before.
        at: when, in nanoseconds since 1970.
        log: id of the log.
        key: id of the key that signed it, or "".
        signature: 128 hexadecimal digits, or "".
        head: what is signed.
    """

    number: int
    n: int
    hash: str
    prev: str
    at: int
    log: str
    key: str
    signature: str
    head: bytes

    @property
    def own(self) -> str:
        """Its hash, which the next one holds."""
        return sha256(self.head).hexdigest()


class Header(NamedTuple):
    """What the first line of a file says.

    Attributes:
        log: id of the log.
        file: number of the file.
        at: when it was begun, in nanoseconds since 1970.
        cipher: ``AES-256-GCM`` or "".
        key: id of the key that its records are encrypted by, or "".
        salt: of the file's own key.
    """

    log: str
    file: int
    at: int
    cipher: str
    key: str
    salt: str


def header(line: Line | None) -> Header | None:
    """What the first line of a file says, or None when it is no first line."""
    if line is None or line.kind != FILE:
        return None
    try:
        said = line.value()
        found = Header(*[said[name] for name in Header._fields])
        known = (said["format"], said["version"]) == (FORMAT, VERSION)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    # What stands here is written on, into signed checkpoints and the key of the file.
    texts = f"{found.log} {found.cipher} {found.key} {found.salt}"
    kinds = [int if name in ("file", "at") else str for name in Header._fields]
    return found if known and all(map(isinstance, found, kinds)) and _header(texts) is not None else None


def link(n: int, prev: str, kind: str, salt: str, body: str) -> tuple[str, str]:
    """A new line, and its hash."""
    total = sha256((salt + body).encode()).hexdigest()
    head = f'{{"n":{n},"kind":"{kind}","prev":"{prev}","sum":"{total}"'
    return f'{head},"salt":"{salt}","body":{body}}}\n', sha256(head.encode()).hexdigest()


def parse(line: bytes) -> Line | None:
    """What a line says, or None when it is none."""
    found = _line(line)
    if found is None:
        return None
    head, n, kind, prev, total, salt, body = found.groups()
    return Line(int(n), kind.decode(), prev.decode(), total.decode(), sha256(head).hexdigest(), head, salt, body)


def parse_checkpoint(line: bytes) -> Checkpoint | None:
    """What a line of the checkpoints says, or None when it is none."""
    found = _checkpoint(line)
    if found is None:
        return None
    head, number, n, hashed, prev, at, log, key, signature = found.groups()
    own, by = (key or b"").decode(), (signature or b"").decode()
    return Checkpoint(int(number), int(n), hashed.decode(), prev.decode(), int(at), log.decode(), own, by, head)


def checkpoint_head(number: int, n: int, hashed: str, prev: str, at: int, log: str, key: str) -> bytes:
    """What a checkpoint says, without the signature."""
    return (f'{{"c":{number},"n":{n},"hash":"{hashed}","prev":"{prev}","at":{at},"log":"{log}","key":"{key}"').encode()
