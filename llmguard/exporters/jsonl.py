"""Records as lines of JSON in a file that only grows, cut off at a size."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from llmguard.errors import ConfigurationError
from llmguard.exporters.record import Record, as_dict, from_dict

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Ids of conversations are nobody else's business.
_MODE = 0o600
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_HEAD = b'{"at":'
_BLOCK = 1 << 16
_SLICE = 16
_STAMP = "%Y%m%dT%H%M%S%fZ"
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class JsonlExporter:
    """Appends records to a file, one JSON object a line, as `as_dict` has them.

    Lines are whole: what a killed process left of its last one is cut off by the next that writes, and skipped by
    `read`. Past ``max_bytes`` the file is renamed to ``name.20261121T221519000000Z.jsonl`` and a new one begun.
    Several processes may write to one file (except on Windows): each write holds a lock of the file's.

    Args:
        path: of the file; its directory must exist.
        max_bytes: how large a file may become; a batch is never split.
        keep: how many of the renamed files are kept; None for all.
        fsync: whether a batch is on the disk when `export` returns. Without it a crash of the machine, not of the
            process, may lose the last seconds.

    Raises:
        ConfigurationError: an argument is none of those, or the file can't be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 128 << 20,
        keep: int | None = 10,
        fsync: bool = False,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ConfigurationError(f"path must name a file, not {path!r}")
        for option, value, least in (("max_bytes", max_bytes, 1), ("keep", 0 if keep is None else keep, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(f"{option} must be a whole number, at least {least}, not {value!r}")
        self.path = Path(os.fspath(path)).absolute()
        self._max_bytes = max_bytes
        self._keep = keep
        self._fsync = fsync
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._handle: int | None = None
        self._closed = False
        try:
            with self._locked() as handle:
                _mend(handle, self.path)
        except OSError as error:
            raise ConfigurationError(f"can't be written: {error.strerror}", source=str(self.path)) from error

    def export(self, batch: Sequence[Record]) -> None:
        """Append all of these records, or raise and append none.

        Raises:
            OSError: the file can't be written.
            ConfigurationError: it ends in something that is no record, or the exporter is shut down.
        """
        if self._closed:
            raise ConfigurationError("the exporter is shut down", source=str(self.path))
        data = b"".join(_lines(batch))
        with self._locked() as handle:
            size = _mend(handle, self.path)
            if size and size + len(data) > self._max_bytes:
                self._rotate()
            else:
                self._write(handle, data, size)
                return
        with self._locked() as handle:
            self._write(handle, data, _mend(handle, self.path))

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Have all that was exported on the disk."""
        del timeout_s
        if not self._closed:
            with self._locked() as handle:
                os.fsync(handle)
        return True

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Flush and close the file."""
        if not self._closed:
            self.force_flush(timeout_s)
            self._closed = True
            with self._lock:
                self._close()
        return True

    @contextmanager
    def _locked(self) -> Generator[int, None, None]:
        """The file that has the path's name, with its lock."""
        if os.getpid() != self._pid:
            # The lock of a file goes with the handle, which a forked child shares with its parent.
            self._pid, self._lock = os.getpid(), threading.Lock()
            self._close()
        with self._lock:
            handle = self._open()
            try:
                yield handle
            finally:
                if fcntl is not None:
                    fcntl.flock(handle, fcntl.LOCK_UN)

    def _open(self) -> int:
        while True:
            if self._handle is None:
                self._handle = os.open(self.path, _FLAGS, _MODE)
            if fcntl is not None:
                fcntl.flock(self._handle, fcntl.LOCK_EX)
            if _same(self._handle, self.path):
                return self._handle
            self._close()  # somebody else has renamed it

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)  # and with it goes its lock
            self._handle = None

    def _write(self, handle: int, data: bytes, size: int) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(handle, rest) :]
            if self._fsync:
                os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, size)
            raise

    def _rotate(self) -> None:
        now = datetime.now(UTC)
        while (aside := self.path.with_name(f"{self.path.stem}.{now:{_STAMP}}{self.path.suffix}")).exists():
            now += timedelta(microseconds=1)
        if fcntl is None:
            self._close()  # Windows renames no file that is open
        self.path.rename(aside)
        if self._keep is not None:
            old = rotated(self.path)
            for path in old[: len(old) - self._keep]:
                path.unlink(missing_ok=True)


def rotated(path: str | os.PathLike[str]) -> list[Path]:
    """The files that were renamed when they were full, the oldest first."""
    path = Path(path)
    name = re.compile(re.escape(path.stem) + r"\.\d{8}T\d{12}Z" + re.escape(path.suffix))
    return sorted(file for file in path.absolute().parent.iterdir() if name.fullmatch(file.name))


def read(path: str | os.PathLike[str]) -> Iterator[Record]:
    """All records, the oldest first: of the files that were renamed, then of the file itself.

    A last line without its end is skipped.

    Args:
        path: that `JsonlExporter` was given.

    Raises:
        ConfigurationError: the file is not there, or a line is no record; names the line.
    """
    path = Path(path)
    try:
        last = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"can't be read: {error.strerror}", source=str(path)) from error
    with last:
        # Opened first: should it be renamed now, none of its records is missed or read twice.
        for old in rotated(path):
            if not _same(last.fileno(), old):
                try:
                    file = old.open("rb")
                except FileNotFoundError:  # a writer, who keeps only so many, was faster
                    continue
                with file:
                    yield from _records(file, old)
        yield from _records(last, path)


def _lines(batch: Sequence[Record]) -> Iterator[bytes]:
    for number, record in enumerate(batch):
        if number % _SLICE == 0:
            time.sleep(0)  # lets callers run: a batch takes longer than they should wait
        yield _encode(as_dict(record)).encode() + b"\n"


def _records(lines: Iterator[bytes], path: Path) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n"):
            try:
                yield from_dict(json.loads(line))
            except (ValueError, RecursionError) as error:
                why = "is no JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
                raise ConfigurationError(f"this line is no record: {why}", source=str(path), line=number) from None


def _same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _mend(handle: int, path: Path) -> int:
    """Cut off a line without its end; the size of the file then."""
    size = whole = os.fstat(handle).st_size
    head = b""  # of the line without its end, which may be of any length
    while whole:
        end = whole
        whole = end - 1 if end == size else max(end - _BLOCK, 0)  # most of the time the last byte says it all
        os.lseek(handle, whole, os.SEEK_SET)
        block = os.read(handle, end - whole)
        place = block.rfind(b"\n") + 1
        head = (block[place:] + head)[: len(_HEAD)]
        if place:
            whole += place
            break
    if whole == size:
        return size
    if not _HEAD.startswith(head):
        raise ConfigurationError("ends in something that is no record: give another path", source=str(path))
    os.ftruncate(handle, whole)
    return whole
