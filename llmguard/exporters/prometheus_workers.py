"""The figures of several worker processes, told by whichever is asked: they share a directory."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from llmguard.errors import ConfigurationError
from llmguard.exporters.prometheus_families import Families, as_json, from_json, lasting, total

_ENDED = "ended.json"


class Workers:
    """What this process tells the others, and what they have told.

    A process that lives holds the lock of its file. What those have counted that have ended is added up in one file,
    so that no counter goes back and the directory does not grow.

    Args:
        directory: made if it is not there; it must be empty when the service starts, and on a local disk.

    Raises:
        ConfigurationError: it can't be written, or the system has no file locks.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        try:
            import fcntl  # noqa: F401 - Windows has none
        except ImportError:
            raise ConfigurationError("several worker processes need file locks, which this system has not") from None
        self._directory = Path(directory).absolute()
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._begin()
        except OSError as error:
            raise ConfigurationError(f"can't be written: {error.strerror}", source=str(self._directory)) from error

    def _begin(self) -> None:
        pid = os.getpid()
        name = f"{pid}.{secrets.token_hex(4)}"
        # Nobody else may take this one for ended before it has its lock.
        with self._alone():
            held = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            _lock(held)
        # Last: a child that could not begin tries again, and never tells under its parent's name.
        self._pid, self._name, self._held = pid, name, held

    def told(self, own: Families) -> Families:
        """The figures of all, after these have been told to the others.

        Args:
            own: the figures of this process.

        Raises:
            OSError: the directory can't be read or written.
        """
        if os.getpid() != self._pid:
            parents = self._held
            self._begin()
            os.close(parents)  # who still holds its lock
        with self._alone():
            # Written before anything is answered: no other process tells less of us from then on.
            self._write(f"{self._name}.json", own)
            others = [self._read(_ENDED)]
            for lock in sorted(self._directory.glob("*.lock")):
                name = lock.stem
                if name == self._name or name == "all":
                    continue
                figures = self._read(f"{name}.json")
                if _ended(lock):
                    others[0] = total([others[0], lasting(figures)])
                    self._write(_ENDED, others[0])
                    (self._directory / f"{name}.json").unlink(missing_ok=True)
                    lock.unlink(missing_ok=True)
                else:
                    others.append(figures)
        return total([own, *others])

    @contextmanager
    def _alone(self) -> Generator[None, None, None]:
        handle = os.open(self._directory / "all.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(handle)
            yield
        finally:
            os.close(handle)

    def _read(self, name: str) -> Families:
        try:
            return from_json(json.loads((self._directory / name).read_bytes()))
        except (FileNotFoundError, ValueError):
            return {}

    def _write(self, name: str, figures: Families) -> None:
        aside = self._directory / f"{name}.part"
        try:
            aside.write_text(json.dumps(as_json(figures)), encoding="utf-8")
            aside.replace(self._directory / name)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


def _ended(lock: Path) -> bool:
    """Whether nobody holds it."""
    handle = os.open(lock, os.O_RDWR)
    try:
        return _lock(handle, wait=False)
    finally:
        os.close(handle)


def _lock(handle: int, *, wait: bool = True) -> bool:
    """Take a file's lock, which goes with the handle; whether it was free."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
