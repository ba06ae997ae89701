"""What leaves an audit log: the records of a conversation, and files that were kept long enough.

Both are said in the log before they are done, and done again after a crash in between. Only files that are full are
changed; the chain holds the hash of each body, so it stays whole without the body.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from pathlib import Path

from llmguard.errors import ConfigurationError
from llmguard.exporters import audit_files as files
from llmguard.exporters import audit_lines as lines
from llmguard.exporters.audit_chain import Chain, Keys
from llmguard.exporters.audit_read import Keyring, bodies
from llmguard.exporters.record import identifier

_ASIDE = ".erasing-"


def erase(
    directory: str | os.PathLike[str],
    conversation: str,
    *,
    signing_key: bytes | str | None = None,
    encryption_key: bytes | str | None = None,
) -> int:
    """Take all records of a conversation out of a log; the log says which sequences, and that it was done.

    Others may go on writing. What is read of the conversation after this is what was written after it.

    Args:
        directory: of the log.
        conversation: its id.
        signing_key: as `AuditLog` has it.
        encryption_key: as `AuditLog` has it.

    Returns:
        How many records there were.

    Raises:
        ConfigurationError: there is no log, the id is empty, or a key is missing.
        OSError: the files can't be written.
    """
    if not isinstance(conversation, str) or not conversation:
        raise ConfigurationError("audit: a conversation's id must be a text that is not empty")
    directory = Path(directory)
    if not directory.is_dir() or not files.numbers(directory):
        raise ConfigurationError("audit: there is no log", source=str(directory))
    ring = Keyring(encryption_key)
    chain = Chain(directory, Keys.of(signing_key, encryption_key))
    wanted = identifier(conversation)
    with files.held(directory, files.FILES):
        _finish(directory)
        try:
            with chain.locked():
                chain.rotate()
                full = files.numbers(directory)[:-1]
            token = secrets.token_hex(8)
            gone: list[int] = []
            for number in full:
                gone += _aside(files.path(directory, number), wanted, ring, token)
            if gone:
                files.sync_directory(directory)  # no crash may leave the word without what it speaks of
                said = {"at": time.time_ns(), "token": token, "sequences": _ranges(gone)}
                with chain.locked():
                    chain.add([(lines.ERASURE, lines.canonical(said))])
                    chain.checkpoint()
            _finish(directory)
        finally:
            chain.end()
    return len(gone)


def _aside(file: Path, conversation: str, ring: Keyring, token: str) -> list[int]:
    """Write a file without the bodies of a conversation beside it; the sequences of these."""
    gone = [line.n for line, said in bodies(file, ring, about=conversation) if said.get("conversation") == conversation]
    if gone:
        erased = set(gone)
        aside = file.with_name(file.name + _ASIDE + token)
        with file.open("rb") as old, os.fdopen(files.opened(aside), "wb") as new:
            for raw in old:
                line = lines.parse(raw)
                new.write(line.erased() if line is not None and line.n in erased else raw)
            new.flush()
            os.fsync(new.fileno())
    return gone


def _ranges(sequences: list[int]) -> list[list[int]]:
    made: list[list[int]] = []
    for n in sequences:
        if made and made[-1][1] == n - 1:
            made[-1][1] = n
        else:
            made.append([n, n])
    return made


def finish(directory: Path) -> None:
    """Finish an erasure that a crash has broken off, if nobody is about to."""
    if any(_asides(directory)):
        try:
            with files.held(directory, files.FILES, wait=False):
                _finish(directory)
        except BlockingIOError:
            return


def _asides(directory: Path) -> list[Path]:
    return [directory / name for name in os.listdir(directory) if _ASIDE in name]  # noqa: PTH208 - names alone


def _finish(directory: Path) -> None:
    """Put files in place that the log speaks of; others are of an erasure that was never said, and go."""
    if not (asides := _asides(directory)):
        return
    said: list[bytes] = []
    for number in files.numbers(directory):
        with files.path(directory, number).open("rb") as file:
            said += [raw for raw in file if b'"kind":"erasure"' in raw and lines.parse(raw) is not None]
    for aside in asides:
        name, _, token = aside.name.partition(_ASIDE)
        if any(b'"token":"%b"' % os.fsencode(token) in raw for raw in said) and aside.with_name(name).exists():
            aside.replace(aside.with_name(name))
        else:
            aside.unlink()
    files.sync_directory(directory)


def retire(chain: Chain, before: int) -> None:
    """Drop the files that were full before a moment, in nanoseconds since 1970; the chain is held.

    Raises:
        OSError: the files can't be removed.
    """
    there = files.numbers(chain.directory)
    full: list[int] = []
    last, hashed = 0, ""
    for number, after in itertools.pairwise(there):
        handle = os.open(files.path(chain.directory, after), os.O_RDONLY)
        try:
            line = lines.parse(files.first(handle))
        finally:
            os.close(handle)
        begun = lines.header(line)
        if line is None or begun is None or begun.at > before:
            break
        full.append(number)
        last, hashed = line.n - 1, line.prev
    if not full:
        return
    try:
        with files.held(chain.directory, files.FILES, wait=False):
            said = {"at": time.time_ns(), "through": full[-1], "last": last, "hash": hashed}
            chain.add([(lines.RETENTION, lines.canonical(said))])
            chain.checkpoint()
            for number in full:
                files.path(chain.directory, number).unlink()
            files.sync_directory(chain.directory)
    except BlockingIOError:
        return  # somebody reads them, or erases: next time
