"""The growing end of an audit log, which all processes that write to it share."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.exporters import audit_files as files
from llmguard.exporters import audit_keys as keys
from llmguard.exporters import audit_lines as lines

_SALT = 16


class Keys(NamedTuple):
    """Keys of 32 bytes, or None."""

    signing: bytes | None = None
    encryption: bytes | None = None

    @classmethod
    def of(cls, signing: bytes | str | None, encryption: bytes | str | None) -> Keys:
        """The keys given, or those of the environment; of several there the first.

        Raises:
            ConfigurationError: one is not 32 bytes, or no base64.
        """
        own = keys.key_bytes("signing_key", signing, keys.SIGNING_KEY)
        cipher = keys.key_bytes("encryption_key", encryption, keys.ENCRYPTION_KEY)
        return cls(own[0] if own else None, cipher[0] if cipher else None)


class Chain:
    """Adds lines at the end of a log. Everything but `locked` is called while it is held.

    Args:
        directory: of the log; made if need be.
        own: keys.

    Raises:
        OSError: the directory can't be made.
        MissingExtraError: a key was given and cryptography is not installed.
    """

    def __init__(self, directory: Path, own: Keys) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(files.opened(directory / files.FILES))
        self._own = own
        self._sign: Callable[[bytes], bytes] | None = None
        self._signer = ""
        if own.signing is not None:
            self._sign = keys.signer(own.signing)
            self._signer = keys.key_id(keys.public_key(own.signing))
        self._key = "" if own.encryption is None else keys.cipher_id(own.encryption)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._guard: int | None = None
        self._handle: int | None = None
        self._points: int | None = None
        self._cipher: keys.FileCipher | None = None
        self._header = lines.Header("", 0, 0, "", "", "")
        self._n, self._hash, self.size = 0, lines.START, 0
        self.synced = True

    @property
    def number(self) -> int:
        """Of the file that is written to."""
        return self._header.file

    @property
    def at(self) -> int:
        """When that file was begun, in nanoseconds since 1970."""
        return self._header.at

    @property
    def head(self) -> tuple[int, str]:
        """The last line's sequence and hash."""
        return self._n, self._hash

    @contextmanager
    def locked(self) -> Generator[None, None, None]:
        """Keep all others from writing, and see what they have written; a torn last line is cut off.

        Raises:
            OSError: the files can't be read or written.
            ConfigurationError: the log is encrypted or signed, and there is no key.
        """
        if os.getpid() != self._pid:
            # A forked child shares its parent's handles, and with them the lock.
            self._reset()
        with self._lock:
            if self._guard is None:
                self._guard = files.opened(self.directory / files.APPENDS)
            with files.locked(self._guard):
                try:
                    if not self._current():
                        self._load()
                except BaseException:
                    self.close()
                    raise
                yield

    def _current(self) -> bool:
        if self._handle is None:
            return False
        is_now = os.fstat(self._handle)
        return (
            is_now.st_size == self.size
            and is_now.st_nlink > 0
            and not files.path(self.directory, self.number + 1).exists()
        )

    def _load(self) -> None:
        self.close()
        there = files.numbers(self.directory)
        if not there:
            self._n, self._hash = 0, lines.START
            self._header = lines.Header(secrets.token_hex(16), 0, 0, "", "", "")
            self._begin(1)
            return
        last, end = self._open(there[-1])
        found = self._header
        for number in reversed(there[:-1]):
            if last is not None and found.log:
                break
            handle = os.open(files.path(self.directory, number), os.O_RDONLY)
            try:
                found = found if found.log else lines.header(lines.parse(files.first(handle))) or found
                last = last or files.last(handle, lines.parse)[0]
            finally:
                os.close(handle)
        self._n, self._hash = (last.n, last.hash) if last is not None else (0, lines.START)
        if not self._header.log or end.damaged or self._header.key != self._key:
            if found.key and not self._key:
                raise ConfigurationError(
                    f"audit: this log is encrypted: give the key, or set {keys.ENCRYPTION_KEY}",
                    source=str(self.directory),
                )
            empty = self.size == 0
            self._header = found._replace(log=found.log or secrets.token_hex(16))
            self._begin(there[-1] if empty else there[-1] + 1)
        if end.torn:
            self.add([(lines.MENDED, lines.canonical({"at": time.time_ns(), "bytes": end.torn}))])

    def _open(self, number: int) -> tuple[lines.Line | None, files.End]:
        """Open a file that is there, and cut off what is torn."""
        self._handle = files.opened(files.path(self.directory, number))
        last, end = files.last(self._handle, lines.parse)
        if end.torn:
            os.ftruncate(self._handle, end.size)
        self.size, self.synced = end.size, False
        self._header = lines.header(lines.parse(files.first(self._handle))) or self._header._replace(
            log="", file=number
        )
        self._new_cipher()
        return last, end

    def _begin(self, number: int) -> None:
        """Begin a file, or go on with one that has not a whole line."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        salt = secrets.token_hex(_SALT) if self._key else ""
        cipher = lines.CIPHER if self._key else ""
        self._header = lines.Header(self._header.log, number, time.time_ns(), cipher, self._key, salt)
        self._handle = files.opened(files.path(self.directory, number))
        self.size = 0
        self._new_cipher()
        said = {"format": lines.FORMAT, "version": lines.VERSION, **self._header._asdict()}
        self.add([(lines.FILE, lines.canonical(said))])
        files.sync_directory(self.directory)

    def _new_cipher(self) -> None:
        self._cipher = None
        if self._own.encryption is not None and self._header.key == self._key:
            self._cipher = keys.FileCipher(self._own.encryption, self._header.salt, self._header.log, self._header.file)

    def add(self, entries: Sequence[tuple[str, str]], *, sync: bool = False, each: bool = False) -> None:
        """Write lines of these kinds and bodies at the end; all of them or, when it raises, none.

        Args:
            entries: kinds and bodies.
            sync: have them on the disk.
            each: have each on the disk before the next is written.

        Raises:
            OSError: they can't be written.
        """
        assert self._handle is not None  # noqa: S101 - locked
        salts = secrets.token_hex(_SALT * len(entries))
        n, hashed = self._n, self._hash
        cipher, link, record = self._cipher, lines.link, lines.RECORD
        made: list[str] = []
        for place, (kind, body) in enumerate(entries):
            n += 1
            written = cipher.seal(n, body) if cipher is not None and kind == record else body
            line, hashed = link(n, hashed, kind, salts[place * 2 * _SALT : (place + 1) * 2 * _SALT], written)
            made.append(line)
        parts = made if each else ["".join(made)]
        size, synced = self.size, False
        try:
            for part in parts:
                data = part.encode()
                files.write(self._handle, data)
                size += len(data)
                if sync or each:
                    os.fsync(self._handle)
                    synced = True
        except BaseException:
            os.ftruncate(self._handle, self.size)
            raise
        self._n, self._hash, self.size, self.synced = n, hashed, size, synced

    def sync(self) -> None:
        """Have all that is written on the disk."""
        if self._handle is not None and not self.synced:
            os.fsync(self._handle)
            self.synced = True

    def rotate(self) -> None:
        """Begin a new file; the one before is on the disk, with a checkpoint."""
        self.checkpoint()
        try:
            self._begin(self.number + 1)
        except BaseException:
            self.close()  # a file without its first line is begun anew by `_load`
            raise

    def checkpoint(self) -> None:
        """Write down, and sign if there is a key, how far the log goes and its last hash; nothing if it says so.

        Raises:
            ConfigurationError: the last checkpoint is signed, and there is no key.
        """
        self.sync()
        if self._points is None:
            self._points = files.opened(self.directory / files.CHECKPOINTS)
        before, end = files.last(self._points, lines.parse_checkpoint)
        if end.torn:
            os.ftruncate(self._points, end.size)
        if before is not None and (before.n, before.hash) == self.head and before.key == self._signer:
            return
        if before is not None and before.key and not self._signer:
            raise ConfigurationError(
                f"audit: this log is signed: give the key, or set {keys.SIGNING_KEY}", source=str(self.directory)
            )
        number, prev = (1, lines.START) if before is None else (before.number + 1, before.own)
        head = lines.checkpoint_head(number, self._n, self._hash, prev, time.time_ns(), self._header.log, self._signer)
        signature = self._sign(head).hex() if self._sign is not None else ""
        try:
            files.write(self._points, head + f',"sig":"{signature}"}}\n'.encode())
        except BaseException:
            os.ftruncate(self._points, end.size)
            raise
        os.fsync(self._points)

    def close(self) -> None:
        """Let go of the files; the next `locked` opens them again."""
        for handle in (self._handle, self._points):
            if handle is not None:
                os.close(handle)
        self._handle = self._points = None

    def end(self) -> None:
        """Let go of the lock's file, too; not while it is held."""
        with self._lock:
            self.close()
            if self._guard is not None:
                os.close(self._guard)
                self._guard = None
