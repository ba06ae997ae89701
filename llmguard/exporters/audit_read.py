"""What stands in an audit log, in the clear for who has the key."""

from __future__ import annotations

import json
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.exporters import audit_files as files
from llmguard.exporters import audit_keys as keys
from llmguard.exporters import audit_lines as lines
from llmguard.exporters.record import identifier


class Entry(NamedTuple):
    """One line of a log.

    Attributes:
        n: its sequence.
        kind: ``record``, ``file``, ``mended``, ``erasure`` or ``retention``.
        said: what it says; of a record `as_dict`, or None once erased.
    """

    n: int
    kind: str
    said: dict[str, Any] | None


class Keyring:
    """Keys by the name that files know them by.

    Args:
        given: one key, 32 bytes or these in base64; those of ``LLMGUARD_AUDIT_ENCRYPTION_KEY`` unless given.

    Raises:
        ConfigurationError: one is not 32 bytes, or no base64.
    """

    def __init__(self, given: bytes | str | None = None) -> None:
        self._keys = {keys.cipher_id(key): key for key in keys.key_bytes("encryption_key", given, keys.ENCRYPTION_KEY)}

    def cipher(self, file: Path, first: bytes) -> keys.FileCipher | None:
        """What decrypts the records of a file, or None when they are in the clear.

        Raises:
            ConfigurationError: its key is not here, or its first line is none.
        """
        head = lines.header(lines.parse(first))
        if head is None:
            raise ConfigurationError("audit: the first line is no file's: verify the log", source=str(file), line=1)
        if not head.key:
            return None
        if head.key not in self._keys:
            raise ConfigurationError(
                f"audit: encrypted by the key {head.key}: give it, or set {keys.ENCRYPTION_KEY}", source=str(file)
            )
        return keys.FileCipher(self._keys[head.key], head.salt, head.log, head.file)


def bodies(file: Path, ring: Keyring, *, about: str = "") -> Iterator[tuple[lines.Line, dict[str, Any]]]:
    """The records of a file that are not erased.

    Args:
        file: of the log.
        ring: keys.
        about: only those that may have this text among their values.

    Raises:
        ConfigurationError: a line is none, or can't be decrypted.
    """
    wanted = lines.canonical(about).encode() if about else b""
    for line, body in _lines(file, ring):
        if line.kind == lines.RECORD and body is not None and wanted in body:
            yield line, _value(file, line, body)


def read(directory: str | os.PathLike[str], *, encryption_key: bytes | str | None = None) -> Iterator[Entry]:
    """All that a log says, the oldest first. It does not verify: `audit_verify.verify` does.

    Args:
        directory: of the log.
        encryption_key: as `AuditLog` has it; one that only reads may be among several in the environment.

    Raises:
        ConfigurationError: there is no log, a key is missing, or a line is none; names the line.
    """
    directory, ring = Path(directory), Keyring(encryption_key)
    there = files.numbers(directory) if directory.is_dir() else []
    if not there:
        raise ConfigurationError("audit: there is no log", source=str(directory))
    with files.held(directory, files.FILES, shared=True):
        for number in there:
            file = files.path(directory, number)
            for line, body in _lines(file, ring):
                yield Entry(line.n, line.kind, None if body is None else _value(file, line, body))


def _lines(file: Path, ring: Keyring) -> Iterator[tuple[lines.Line, bytes | None]]:
    """The lines of a file, and what each says in the clear; a last one that is not whole is left out."""
    cipher = None
    with file.open("rb") as all_of_it:
        for place, raw in enumerate(all_of_it, 1):
            if not raw.endswith(b"\n"):
                return
            if place == 1:
                cipher = ring.cipher(file, raw)
            line = lines.parse(raw)
            if line is None:
                raise ConfigurationError("audit: this line is none: verify the log", source=str(file), line=place)
            body = line.body
            if cipher is not None and body is not None and line.kind == lines.RECORD:
                body = cipher.unseal(line.n, body.decode("ascii", "replace").strip('"'))
            yield line, body


def _value(file: Path, line: lines.Line, body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ConfigurationError(f"audit: sequence {line.n} says nothing: verify the log", source=str(file))
    return said


def last(
    directory: str | os.PathLike[str],
    count: int,
    *,
    conversation: str = "",
    encryption_key: bytes | str | None = None,
) -> list[Entry]:
    """The last entries, or the last records of a conversation, the oldest first.

    Args:
        directory: of the log.
        count: how many at most.
        conversation: its id; all entries without one.
        encryption_key: as `read` has it.

    Raises:
        ConfigurationError: as `read`.
    """
    wanted = identifier(conversation)
    entries = read(directory, encryption_key=encryption_key)
    if wanted:
        entries = (
            entry
            for entry in entries
            if entry.kind == lines.RECORD and entry.said is not None and entry.said.get("conversation") == wanted
        )
    return list(deque(entries, max(count, 0)))


def copy(
    directory: str | os.PathLike[str], out: str | os.PathLike[str], *, encryption_key: bytes | str | None = None
) -> int:
    """Write all records in the clear to a file, a line of JSON each, as `jsonl.read` reads them, and their sequence.

    Returns:
        How many there were.

    Raises:
        ConfigurationError: as `read`; or the file can't be written; an old one is as it was.
    """
    out, count = Path(out), 0
    try:
        handle, aside = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.absolute().parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                for entry in read(directory, encryption_key=encryption_key):
                    if entry.kind == lines.RECORD and entry.said is not None:
                        file.write(lines.canonical({"n": entry.n, **entry.said}) + "\n")
                        count += 1
            Path(aside).replace(out)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"can't be written: {error.strerror}", source=str(out)) from error
    return count
