"""An audit log that can be verified: records in files that only grow, each holding on to the one before."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from llmguard.errors import ConfigurationError
from llmguard.exporters import audit_erasure as erasure
from llmguard.exporters.audit_chain import Chain, Keys
from llmguard.exporters.audit_lines import RECORD, canonical
from llmguard.exporters.record import Record, as_dict

ALWAYS, GROUP, INTERVAL = "always", "group", "interval"
# What a line has beside its body.
_FRAME = 230
_DAY_S = 86_400.0
# Thirty years: nanoseconds and timers can still hold it.
_LONGEST = 1e9


class AuditLog:
    """Keeps records so that a changed, missing, moved, doubled or cut-off one is found: see `audit_verify.verify`.

    Each line holds the hash of the one before; checkpoints, signed if there is a key, say how far the log went. After
    a crash the next that writes cuts off the line that was under way, and says so in the log. Any number of threads
    and processes may write to one directory: each batch holds a lock (not on Windows, where one process may).

    Args:
        directory: of the log, and of nothing else; made if need be.
        signing_key: that signs checkpoints, 32 bytes (Ed25519) or these in base64; ``LLMGUARD_AUDIT_SIGNING_KEY``
            unless given. Without one anybody who may write to the files can write the whole log anew.
        encryption_key: that records are encrypted by (AES-256-GCM), 32 bytes or these in base64;
            ``LLMGUARD_AUDIT_ENCRYPTION_KEY`` unless given. Another key than before begins a new file.
        fsync: when records are on the disk: ``always`` after each single one, ``group`` when `export` returns,
            ``interval`` within ``interval_s``. A killed process loses nothing that `export` has taken; this is for
            a machine that loses power.
        interval_s: seconds for ``interval``.
        max_bytes: how large a file becomes before the next begins; a batch is never split.
        max_age_s: how old a file becomes, in seconds.
        keep_days: how long a file that is full is kept, in days; None for ever. The log says what was dropped.
        checkpoint_records: after how many records of this process a checkpoint is written.
        checkpoint_s: after how many seconds one is written, if there is anything new.

    Raises:
        ConfigurationError: an argument is none of those, a key is missing that the log was begun with, or the
            directory can't be written.
        MissingExtraError: there is a key, and cryptography is not installed.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        signing_key: bytes | str | None = None,
        encryption_key: bytes | str | None = None,
        fsync: str = GROUP,
        interval_s: float = 1.0,
        max_bytes: int = 64 << 20,
        max_age_s: float = _DAY_S,
        keep_days: float | None = None,
        checkpoint_records: int = 10_000,
        checkpoint_s: float = 60.0,
    ) -> None:
        if not isinstance(directory, str | os.PathLike) or not os.fspath(directory):
            raise ConfigurationError(f"directory must name a directory, not {directory!r}")
        if fsync not in (ALWAYS, GROUP, INTERVAL):
            raise ConfigurationError(f"fsync must be {ALWAYS}, {GROUP} or {INTERVAL}, not {fsync!r}")
        for option, value in (("max_bytes", max_bytes), ("checkpoint_records", checkpoint_records)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{option} must be a whole number, at least 1, not {value!r}")
        for option, seconds in (
            ("interval_s", interval_s),
            ("max_age_s", max_age_s),
            ("keep_days", _DAY_S if keep_days is None else keep_days),
            ("checkpoint_s", checkpoint_s),
        ):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _LONGEST:
                raise ConfigurationError(
                    f"{option} must be a number greater than 0, at most {_LONGEST:g}, not {seconds!r}"
                )
        self.directory = Path(os.fspath(directory)).absolute()
        self._fsync = fsync
        self._interval_s = interval_s
        self._max_bytes = max_bytes
        self._max_age_ns = int(max_age_s * 1e9)
        self._keep_s = None if keep_days is None else keep_days * _DAY_S
        self._checkpoint_records = checkpoint_records
        self._checkpoint_s = checkpoint_s
        self._new = 0
        self._pointed = self._flushed = time.monotonic()
        self._timer: threading.Timer | None = None
        self._late_error: Exception | None = None
        self._pid = os.getpid()
        self._closed = False
        try:
            self._chain = Chain(self.directory, Keys.of(signing_key, encryption_key))
            erasure.finish(self.directory)
            with self._chain.locked():
                self._chain.checkpoint()
        except OSError as error:
            raise ConfigurationError(f"can't be written: {error.strerror}", source=str(self.directory)) from error

    def export(self, batch: Sequence[Record]) -> None:
        """Append all of these records, or raise and append none.

        Raises:
            OSError: the files can't be written.
            ConfigurationError: the log is shut down.
        """
        if self._closed:
            raise ConfigurationError("the audit log is shut down", source=str(self.directory))
        entries = [(RECORD, canonical(as_dict(record))) for record in batch]
        chain = self._chain
        with chain.locked():
            if (late := self._late_error) is not None:
                self._late_error = None
                raise late
            self._keep_promises()
            if not self._new:
                self._pointed = time.monotonic()
            self._make_room(sum([len(body) for _, body in entries]) + _FRAME * len(entries))
            chain.add(entries, sync=self._fsync == GROUP, each=self._fsync == ALWAYS)
            self._new += len(entries)
            self._have_timer()

    def _make_room(self, size: int) -> None:
        chain = self._chain
        if chain.size + size > self._max_bytes or time.time_ns() - chain.at > self._max_age_ns:
            chain.rotate()
            if self._keep_s is not None:
                erasure.retire(chain, time.time_ns() - int(self._keep_s * 1e9))

    def _keep_promises(self) -> None:
        """Write a checkpoint, or at least sync, when it is time."""
        now = time.monotonic()
        if self._new >= self._checkpoint_records or (self._new and now - self._pointed >= self._checkpoint_s):
            self._point()
        elif not self._chain.synced and now - self._flushed >= self._interval_s:
            self._chain.sync()
            self._flushed = now

    def _have_timer(self) -> None:
        """Keep the promises also when nothing more comes."""
        if os.getpid() != self._pid:
            self._pid, self._timer = os.getpid(), None  # a forked child has none of its parent's threads
        if self._timer is None:
            left = max(self._pointed + self._checkpoint_s - time.monotonic(), 0.0)
            # By interval even if all is on the disk now: what comes next waits for this timer.
            wait = min(left, self._interval_s) if self._fsync == INTERVAL else left
            timer = threading.Timer(min(wait, threading.TIMEOUT_MAX), self._late)
            timer.daemon = True
            try:
                timer.start()
            except RuntimeError:  # the interpreter ends: who exports now flushes, too
                return
            self._timer = timer

    def _late(self) -> None:
        try:
            with self._chain.locked():
                self._timer = None
                if not self._closed:
                    self._keep_promises()
                    self._chain.sync()
                    if self._new:
                        self._have_timer()
        except (OSError, ConfigurationError) as error:
            self._late_error = error  # for the next that exports or flushes: nobody listens here

    def _point(self) -> None:
        self._chain.checkpoint()
        self._new = 0
        self._pointed = self._flushed = time.monotonic()

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """Have all that was exported on the disk, with a checkpoint."""
        del timeout_s
        if not self._closed:
            with self._chain.locked():
                self._point()
            self._late_error = None
        return True

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Flush and close the files."""
        if not self._closed:
            self.force_flush(timeout_s)
            with self._chain.locked():
                self._closed = True
                if self._timer is not None:
                    self._timer.cancel()
            self._chain.end()
        return True
