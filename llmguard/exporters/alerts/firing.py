"""What fires, in each process and after a restart, and what was told of it: small files beside the outbox."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.notice import Notice
from llmguard.exporters.alerts.routing import Firing, Told

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LEFT_S = 3600.0
_TOLD, _LOCK, _OURS, _END = "told.json", "told.lock", "fires-", ".json"
_MODE = 0o600
_OTHERS = 0o077
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# Of seconds: more are no time, and no float can be trusted to add them up.
_MOST_S = 1e12


class Held(NamedTuple):
    """What fires in one process, and for how many seconds that stands if the process falls silent."""

    firing: Firing
    hold_s: float


class Board:
    """A directory in which each process says what fires in it, and one of them, which leads, reads them all.

    A process that is killed leaves its file. What it says stands for a while, so that the one that comes in its place
    has time to see for itself. Whoever leads begins with a grace time in which all files count, however old they are:
    what fired right before everything ended is told after all.

    Args:
        directory: on a disk of this machine; made for its owner alone.

    Raises:
        ConfigurationError: it can't be made or written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.stat().st_mode & _OTHERS:  # somebody made it before; whoever can write into it can tell lies
                directory.chmod(0o700)
            self._lock: int | None = self._opened()
        except OSError as error:
            raise ConfigurationError(f"can't be written: {error.strerror}", source=str(directory)) from None
        self._leads = False
        self._own = self._named()
        self._said: Sequence[Held] = ()
        self._grace = 0.0

    def leads(self, now: float, grace_s: float) -> bool:
        """Whether this process leads, or does from now on since nobody else does.

        Args:
            now: seconds since 1970.
            grace_s: in which all files count, once it begins to lead.
        """
        if not self._leads:
            if self._lock is None:
                self._lock = self._opened()
            self._leads = _taken(self._lock)
            self._grace = now + grace_s
        return self._leads

    def say(self, held: Iterable[Held], now: float) -> None:
        """Say what fires here, and that this process is alive.

        Raises:
            OSError: the disk is full, ...
        """
        before, self._said = self._said, tuple(held)
        if not self._said:
            self._own.unlink(missing_ok=True)
        elif self._said == before:
            with suppress(FileNotFoundError):
                os.utime(self._own, (now, now))
                return
        if self._said:
            self._write(self._own, [_as_dict(one) for one in self._said])
            os.utime(self._own, (now, now))

    def all(self, now: float, broken: Callable[[Exception], object]) -> list[Firing]:
        """What fires in any process, each alert once, for all sinks that are to be told by one of them.

        Args:
            now: seconds since 1970.
            broken: told the error of a file that can't be read, which is tried again the next time, or is damaged,
                which is given another name.
        """
        # Also what could not be written.
        found = {held.firing.notice.fingerprint: held.firing for held in self._said}
        for file in sorted(self.directory.glob(f"{_OURS}*{_END}")):
            if file == self._own:
                continue
            try:
                seen = file.stat().st_mtime
                held = [_held(one) for one in _read(file)]
            except FileNotFoundError:
                continue
            except OSError as error:
                broken(error)
                continue
            except ValueError as error:
                broken(error)
                with suppress(FileNotFoundError):
                    file.replace(file.with_name(f"{_OURS}damaged"))
                continue
            late = now < self._grace
            stands = [one.firing for one in held if late or abs(now - seen) < one.hold_s]
            if not stands:
                file.unlink(missing_ok=True)
            for one in stands:
                mark = one.notice.fingerprint
                found[mark] = _merged(found[mark], one) if mark in found else one
        self._tidy(now)
        return list(found.values())

    def told(self) -> list[Told]:
        """What `tell` wrote last; nothing at first.

        Raises:
            OSError: it can't be read.
            ValueError: it is damaged; it is given another name.
        """
        file = self.directory / _TOLD
        try:
            return [Told(str(one["sink"]), _notice(one["notice"]), _number(one["at"])) for one in _read(file)]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError, AttributeError):
            file.replace(file.with_suffix(".damaged"))
            raise ValueError("what was told can't be read") from None

    def tell(self, told: Iterable[Told]) -> None:
        """Write what was told, for whoever leads next.

        Raises:
            OSError: the disk is full, ...
        """
        said = [{"sink": one.sink, "notice": _of_notice(one.notice), "at": one.at} for one in told]
        self._write(self.directory / _TOLD, said)

    def close(self) -> None:
        """Lead no more. What was said stays, for whoever comes next."""
        if self._lock is not None:
            os.close(self._lock)  # a forked child has its own; the lock goes with the last of them
            self._lock = None
        self._leads = False

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    def forked(self) -> None:
        """In a forked child: begin anew, under a name of its own."""
        self.close()
        self._own = self._named()
        self._said = ()

    def _named(self) -> Path:
        return self.directory / f"{_OURS}{secrets.token_hex(8)}{_END}"

    def _opened(self) -> int:
        return os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | _NO_LINK, _MODE)

    def _tidy(self, now: float) -> None:
        """Delete what processes have left that were killed while they wrote."""
        for part in self.directory.glob("*.part"):
            with suppress(FileNotFoundError):
                if abs(now - part.stat().st_mtime) > _LEFT_S:
                    part.unlink()

    def _write(self, file: Path, said: object) -> None:
        aside = file.with_suffix(".part")
        try:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NO_LINK, _MODE)
            with open(handle, "w", encoding="utf-8") as part:  # noqa: PTH123 - a handle
                json.dump(said, part, separators=(",", ":"), allow_nan=False)
                part.flush()
                os.fsync(part.fileno())
            aside.replace(file)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def _taken(handle: int) -> bool:
    if fcntl is None:  # one process alone is to use it, says the documentation
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _merged(one: Firing, other: Firing) -> Firing:
    first = min(one, other, key=lambda firing: firing.notice.started)
    return Firing(first.notice, tuple(dict.fromkeys([*one.sinks, *other.sinks])))


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        said = json.loads(file.read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise ValueError("it holds no list")
    return said


def _as_dict(held: Held) -> dict[str, Any]:
    return {"notice": _of_notice(held.firing.notice), "sinks": list(held.firing.sinks), "hold_s": held.hold_s}


def _held(said: Mapping[str, Any]) -> Held:
    try:
        sinks = tuple([str(sink) for sink in said["sinks"]])
        return Held(Firing(_notice(said["notice"]), sinks), _number(said["hold_s"]))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it holds no alerts: {type(error).__name__}") from None


def _of_notice(notice: Notice) -> dict[str, Any]:
    return {
        "labels": dict(notice.labels),
        "annotations": dict(notice.annotations),
        "started": notice.started,
        "ended": notice.ended,
    }


def _notice(said: Mapping[str, Any]) -> Notice:
    return Notice(
        {str(name): str(value) for name, value in said["labels"].items()},
        {str(name): str(value) for name, value in said["annotations"].items()},
        _number(said["started"]),
        _number(said["ended"]),
    )


def _number(said: object) -> float:
    if not isinstance(said, int | float) or isinstance(said, bool) or not 0 <= said <= _MOST_S:
        raise ValueError("a time is no number")
    return float(said)
