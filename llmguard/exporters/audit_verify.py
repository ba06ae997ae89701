"""Whether an audit log is as it was written, and where it is not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from llmguard.errors import ConfigurationError
from llmguard.exporters import audit_files as files
from llmguard.exporters import audit_keys as keys
from llmguard.exporters import audit_lines as lines
from llmguard.exporters.audit_order import Order

_MOST = 1000


class Problem(NamedTuple):
    """Something that is not as it was written.

    Attributes:
        file: where; its name.
        sequence: of the line, the first of several, or None when it is about all of the file.
        what: ``changed``, ``missing``, ``moved``, ``doubled``, ``truncated``, ``torn``, ``erased`` or ``checkpoint``.
        said: in words.
    """

    file: str
    sequence: int | None
    what: str
    said: str

    def __str__(self) -> str:
        where = self.file if self.sequence is None else f"{self.file}: sequence {self.sequence}"
        return f"{where}: {self.what}: {self.said}"


@dataclass(slots=True)
class Verified:
    """What was found.

    Attributes:
        log: id of the log.
        files: how many.
        entries: how many lines, of all kinds.
        records: how many records, erased ones included.
        erased: how many of them are.
        checkpoints: how many.
        signed: how many of these by a key that was given.
        head: the last line's sequence and hash; noted elsewhere, it shows later that nothing was cut off.
        problems: in the order of the files; at most 1,000.
    """

    log: str = ""
    files: int = 0
    entries: int = 0
    records: int = 0
    erased: int = 0
    checkpoints: int = 0
    signed: int = 0
    head: tuple[int, str] = (0, lines.START)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def verify(
    directory: str | os.PathLike[str],
    *,
    public_keys: Sequence[bytes | str] = (),
    head: tuple[int, str] | None = None,
) -> Verified:
    """Read all of a log, and name each line that was changed, removed, moved, doubled or cut off.

    It needs no key: with a public key the checkpoints must be signed by it, too. What was written after the last
    checkpoint can be cut off unnoticed, unless ``head`` says that it was there.

    Args:
        directory: of the log; others may go on writing to it.
        public_keys: that checkpoints may be signed by, 32 bytes or these in base64; those of
            ``LLMGUARD_AUDIT_PUBLIC_KEY`` unless given.
        head: `Verified.head` of an earlier time.

    Raises:
        ConfigurationError: there is no log, or a key is none.
        OSError: a file can't be read.
    """
    directory = Path(directory)
    if not directory.is_dir() or not files.numbers(directory):
        raise ConfigurationError("audit: there is no log", source=str(directory))
    publics = [key for given in public_keys for key in keys.key_bytes("public_key", given, keys.PUBLIC_KEY)]
    publics = publics or list(keys.key_bytes("public_key", None, keys.PUBLIC_KEY))
    with files.held(directory, files.FILES, shared=True):
        with files.held(directory, files.APPENDS, shared=True):
            there = files.numbers(directory)
            size = files.path(directory, there[-1]).stat().st_size
            points = directory / files.CHECKPOINTS
            pointed = points.read_bytes() if points.is_file() else b""
        return _Check(directory, there, size, pointed, publics, head).run()


class _Check:
    def __init__(
        self,
        directory: Path,
        there: list[int],
        size: int,
        pointed: bytes,
        publics: list[bytes],
        head: tuple[int, str] | None,
    ) -> None:
        self.directory, self.there, self.size = directory, there, size
        self.found = Verified(files=len(there))
        self.hashes: dict[int, list[tuple[str, str]]] = {}
        if head is not None:
            self.hashes.setdefault(head[0], []).append((head[1], "the head that was given"))
        self.last_named = (head[0], "the head that was given") if head is not None else (0, "")
        self.order = Order(self._tell)
        self.erased: dict[int, str] = {}
        self.claimed: list[tuple[int, int, int]] = []
        self.begins: list[tuple[int, str]] = [(0, files.path(directory, there[0]).name)]
        self.retired: list[tuple[int, int, str]] = []
        self._read_checkpoints(pointed, publics)

    def run(self) -> Verified:
        for place, number in enumerate(self.there):
            name = files.path(self.directory, number).name
            if place and number != self.there[place - 1] + 1:
                for lost in range(self.there[place - 1] + 1, min(number, self.there[place - 1] + 1 + _MOST)):
                    self._tell(files.path(self.directory, lost).name, None, "missing", "the file is not there")
            self._file(number, name, last=place == len(self.there) - 1)
        self.order.end()
        self._check_start()
        self._check_erasures()
        n, who = self.last_named
        if n > self.order.n:
            name = files.path(self.directory, self.there[-1]).name
            first = self.order.n + 1
            self._tell(name, first, "truncated", f"{who} says that the log went on to sequence {n}")
        self.found.head = (self.order.n, self.order.hash or lines.START)
        return self.found

    def _tell(self, name: str, n: int | None, what: str, said: str) -> None:
        problem = Problem(name, n, what, said)
        if len(self.found.problems) < _MOST and problem not in self.found.problems:
            self.found.problems.append(problem)

    def _file(self, number: int, name: str, *, last: bool) -> None:
        left = self.size if last else -1
        path = files.path(self.directory, number)
        if not path.is_file():  # to open a pipe would wait for ever
            self._tell(name, None, "changed", "it is no file")
            return
        with path.open("rb") as file:
            for place, raw in enumerate(file):
                if last:
                    raw = raw[:left]  # others may be writing what comes after
                    left -= len(raw)
                    if not raw:
                        return
                if not raw.endswith(b"\n"):
                    what = "torn" if last else "truncated"
                    self._tell(name, self.order.n + 1, what, "the line has no end; the next that writes cuts it off")
                    return
                line = lines.parse(raw)
                if line is None:
                    self._tell(name, self.order.n + 1, "changed", "the line is none of an audit log")
                    self.order.unknown(name)
                    continue
                if place == 0:
                    self._first_line(number, name, line)
                self._line(name, line)

    def _first_line(self, number: int, name: str, line: lines.Line) -> None:
        self.begins.append((line.n, name))
        head = lines.header(line)
        if head is None or head.file != number:
            self._tell(name, line.n, "moved", "the file begins with a line that is not its own")
            return
        self.found.log = self.found.log or head.log
        if head.log != self.found.log:
            self._tell(name, line.n, "moved", "the file is of another log")

    def _line(self, name: str, line: lines.Line) -> None:
        self.found.entries += 1
        self.found.records += line.kind == lines.RECORD
        if not line.intact():
            self._tell(name, line.n, "changed", "the body is not the one whose hash is in the chain")
        if not self.order.take(name, line):
            return
        for hashed, who in self.hashes.pop(line.n, ()):
            if hashed != line.hash:
                self._tell(name, line.n, "changed", f"{who} has another hash of it")
        if line.body is None:
            if line.kind == lines.RECORD:
                self.found.erased += 1
                self.erased[line.n] = name
            else:
                self._tell(name, line.n, "changed", "the body was taken out of a line that is no record")
        elif line.kind in (lines.RETENTION, lines.ERASURE):
            self._taken_out(name, line)

    def _taken_out(self, name: str, line: lines.Line) -> None:
        if line.n > self.last_named[0]:
            # Both are checkpointed before anything goes: a later word may be anybody's who may write to the files.
            self._tell(name, line.n, "checkpoint", "no checkpoint holds what it says was taken out")
        try:
            if line.kind == lines.RETENTION:
                said = line.value()
                self.retired.append((int(said["through"]), int(said["last"]), str(said["hash"])))
            else:
                self.claimed += [(int(first), int(last), line.n) for first, last in line.value()["sequences"]]
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            self._tell(name, line.n, "changed", "it does not say what was taken out")

    def _check_start(self) -> None:
        number, name = self.there[0], files.path(self.directory, self.there[0]).name
        first, prev = self.order.first
        if number == 1 and (first, prev) == (1, lines.START):
            return
        for through, last, hashed in self.retired:
            # A file that the log calls dropped and that is there: a crash broke the dropping off.
            if through >= number or (through, last, hashed) == (number - 1, first - 1, prev):
                return
        self._tell(name, first, "missing", "what came before it, and the log does not say that it was dropped")

    def _check_erasures(self) -> None:
        first = self.order.first[0]
        for begin, end, by in sorted(self.claimed):
            end = min(end, by - 1, self.order.n)
            for n in range(max(begin, first), end + 1):
                if self.erased.pop(n, None) is None and not self.order.lost(n):
                    name = next(name for begun, name in reversed(self.begins) if begun <= n)
                    self._tell(name, n, "erased", f"so says sequence {by}, and it is still there: open the log once")
            first = max(first, end + 1)  # several may say the same
        for n, name in self.erased.items():
            self._tell(name, n, "changed", "the body was taken out, and the log does not say so")

    def _read_checkpoints(self, pointed: bytes, publics: list[bytes]) -> None:
        by_id = {keys.key_id(key): key for key in publics}
        number, prev = 0, lines.START
        *whole, torn = pointed.split(b"\n")
        if torn:
            self._tell(files.CHECKPOINTS, len(whole) + 1, "torn", "the line has no end; the next one cuts it off")
        if not whole and publics:
            self._tell(files.CHECKPOINTS, None, "checkpoint", "there is none, and so nothing is signed")
        for place, raw in enumerate(whole, 1):
            point = lines.parse_checkpoint(raw + b"\n")
            if point is None:
                self._tell(files.CHECKPOINTS, place, "checkpoint", "the line is none of a checkpoint")
                number, prev = number + 1, ""
                continue
            self.found.checkpoints += 1
            if point.number != number + 1 or (prev and point.prev != prev):
                self._tell(files.CHECKPOINTS, place, "checkpoint", "it does not follow the one before")
            number, prev = point.number, point.own
            if self._signed(place, point, by_id):
                who = f"checkpoint {point.number}"
                self.hashes.setdefault(point.n, []).append((point.hash, who))
                self.last_named = max(self.last_named, (point.n, who))

    def _signed(self, place: int, point: lines.Checkpoint, by_id: dict[str, bytes]) -> bool:
        if not by_id:
            return True
        key = by_id.get(point.key)
        if key is not None and keys.signed(key, bytes.fromhex(point.signature), point.head):
            self.found.signed += 1
            return True
        why = "it is not signed" if not point.key else "another key" if key is None else "the signature is false"
        self._tell(files.CHECKPOINTS, place, "checkpoint", why)
        return False
