"""The files of an audit log: their names, their locks, and where each ends."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_Item = TypeVar("_Item")

CHECKPOINTS = "checkpoints.jsonl"
APPENDS = ".appends.lock"
"""Held by who writes at the end of the log."""

FILES = ".files.lock"
"""Held by who erases or drops files, and shared by who reads them."""

_MODE = 0o600
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_BLOCK = 1 << 15
_number = re.compile(r"audit-([0-9]{8}|[1-9][0-9]{8,17})\.jsonl").fullmatch


def path(directory: Path, number: int) -> Path:
    """A file by its number, from 1."""
    return directory / f"audit-{number:08d}.jsonl"


def numbers(directory: Path) -> list[int]:
    """The numbers of the files that are there, ascending."""
    return sorted(int(found[1]) for name in os.listdir(directory) if (found := _number(name)))  # noqa: PTH208 - speed


def opened(file: Path) -> int:
    """A handle that reads, and writes at the end alone; the file is made if need be, for its owner only."""
    return os.open(file, _FLAGS, _MODE)


@contextmanager
def locked(handle: int, *, shared: bool = False, wait: bool = True) -> Generator[None, None, None]:
    """Hold the lock of an open file; where the system has none (Windows), one process alone may write.

    Raises:
        BlockingIOError: another has it, and ``wait`` is False.
    """
    if fcntl is None:
        yield
        return
    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def held(directory: Path, name: str, *, shared: bool = False, wait: bool = True) -> Generator[None, None, None]:
    """Hold one of the directory's two locks; a reader of files that nobody can write to needs none."""
    try:
        handle = os.open(directory / name, os.O_RDONLY | (0 if shared else os.O_CREAT), _MODE)
    except OSError:
        if not shared:
            raise
        yield
        return
    try:
        with locked(handle, shared=shared, wait=wait):
            yield
    finally:
        os.close(handle)


class End(NamedTuple):
    """Where a file ends.

    Attributes:
        size: in bytes, up to the end of the last whole line.
        torn: bytes after that, which a killed writer left.
        damaged: whether the last whole lines are none that `parse` knows.
    """

    size: int
    torn: int
    damaged: bool


def last(handle: int, parse: Callable[[bytes], _Item | None]) -> tuple[_Item | None, End]:
    """The last line that ``parse`` knows, or None, and where the file ends."""
    size = os.fstat(handle).st_size
    block = _BLOCK
    while True:
        start = max(size - block, 0)
        data = _read(handle, start, size)
        *lines, rest = data.split(b"\n")
        torn = len(rest)
        if start:
            del lines[:1]  # it may begin before the block
        for place in range(len(lines) - 1, -1, -1):
            if (item := parse(lines[place] + b"\n")) is not None:
                return item, End(size - torn, torn, place < len(lines) - 1)
        if not start:
            return None, End(size - torn, torn, bool(lines))
        block *= 2


def first(handle: int) -> bytes:
    """The first line."""
    size, block = os.fstat(handle).st_size, _BLOCK
    while True:
        data = _read(handle, 0, min(block, size))
        if (end := data.find(b"\n")) >= 0 or block >= size:
            return data[: end + 1]
        block *= 2


def write(handle: int, data: bytes) -> None:
    """Write all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def sync_directory(directory: Path) -> None:
    """Put new names on the disk, too; where a directory can't be opened (Windows) the system does it by itself."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(handle: int, start: int, end: int) -> bytes:
    os.lseek(handle, start, os.SEEK_SET)
    data = b""
    while len(data) < end - start and (more := os.read(handle, end - start - len(data))):
        data += more
    return data
