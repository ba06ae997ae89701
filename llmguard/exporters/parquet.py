"""Records as Parquet files in a directory, for DuckDB and its kin."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.exporters.record import Record, as_dict

if TYPE_CHECKING:
    import pyarrow as pa

_COMPRESSION = "zstd"


class ParquetExporter:
    """Writes files that are whole as soon as they are there: a row group a batch, a row a record.

    The columns are those of `as_dict`; ``at`` is a timestamp in UTC, in microseconds, ``cohort`` and ``numbers`` are
    maps. A file is made in memory, and put into the directory when it is full, old, flushed or shut down; each process
    makes its own. What is not in the directory yet is lost with the process: where that matters, use `JsonlExporter`.

    Args:
        directory: made if it is not there; the files are ``records.<time>.<random>.parquet``.
        max_rows: records after which the next batch begins another file.
        max_age_s: seconds after which it does.

    Raises:
        ConfigurationError: an argument is none of those, or the directory can't be written.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_rows: int = 65_536, max_age_s: float = 300.0) -> None:
        if not isinstance(directory, str | os.PathLike) or not os.fspath(directory):
            raise ConfigurationError(f"directory must name one, not {directory!r}")
        if not isinstance(max_rows, int) or isinstance(max_rows, bool) or max_rows < 1:
            raise ConfigurationError(f"max_rows must be a whole number, at least 1, not {max_rows!r}")
        if not isinstance(max_age_s, int | float) or not max_age_s > 0:
            raise ConfigurationError(f"max_age_s must be seconds, more than 0, not {max_age_s!r}")
        try:
            import pyarrow.parquet  # noqa: F401 - fails here, not on the exporting thread
        except ImportError:
            raise MissingExtraError("ParquetExporter", "pyarrow", "parquet") from None
        self.directory = Path(os.fspath(directory)).absolute()
        self._max_rows = max_rows
        self._max_age_s = max_age_s
        self._reset()
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self.directory, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise ConfigurationError(f"can't be written: {error.strerror}", source=str(self.directory)) from error

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closed = False
        self._file: _File | None = None

    def export(self, batch: Sequence[Record]) -> None:
        """Add a row group of these records.

        Raises:
            OSError: the file before them can't be written.
            ConfigurationError: the exporter is shut down.
        """
        if os.getpid() != self._pid:
            self._reset()  # what was there is the parent's
        if not batch:
            return
        with self._lock:
            if self._closed:
                raise ConfigurationError("the exporter is shut down", source=str(self.directory))
            file = self._file
            # Before the batch is taken: should this fail, it comes again, and must not be there twice.
            if file and (file.rows >= self._max_rows or time.monotonic() - file.begun >= self._max_age_s):
                self._put()
            if self._file is None:
                self._file = _File()
            self._file.add(batch)

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        """End the file under way, so that all that was exported is in the directory."""
        del timeout_s
        if os.getpid() != self._pid:
            self._reset()
        with self._lock:
            self._put()
        return True

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        """Flush, and take no more."""
        done = self.force_flush(timeout_s)
        self._closed = True
        return done

    def _put(self) -> None:
        if self._file is None:
            return
        data = self._file.ended()
        name = f"records.{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.{secrets.token_hex(4)}.parquet"
        # DuckDB's *.parquet must not see it before it is whole.
        aside = self.directory / f".{name}.part"
        try:
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self.directory / name)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        self._file = None


class _File:
    """A Parquet file in memory, so that a forked child has no part in the parent's."""

    def __init__(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.rows = 0
        self.begun = time.monotonic()
        self._data: bytes | None = None
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, schema(), compression=_COMPRESSION)

    def add(self, batch: Sequence[Record]) -> None:
        """Add a row group."""
        import pyarrow as pa

        rows = [_row(record) for record in batch]
        self._writer.write_table(pa.Table.from_pylist(rows, schema()), row_group_size=len(rows))
        self.rows += len(rows)

    def ended(self) -> bytes:
        """The whole file; the same when it is asked for again, after it could not be written."""
        if self._data is None:
            self._writer.close()
            self._data = bytes(self._sink.getvalue().to_pybytes())
        return self._data


def schema() -> pa.Schema:
    """The columns, with their types."""
    import pyarrow as pa

    word = pa.string()  # Parquet has a dictionary of each column's words anyway
    found = pa.struct(
        {
            "detector": word,
            "category": word,
            "score": pa.float64(),
            "length": pa.int64(),
            "action": word,
            "reasons": pa.list_(word),
        }
    )
    ran = pa.struct(
        {
            "detector": word,
            "version": word,
            "outcome": word,
            "seconds": pa.float64(),
            "error": word,
            "failure_mode": word,
        }
    )
    return pa.schema(
        {
            "at": pa.timestamp("us", "UTC"),
            "kind": word,
            "stage": word,
            "action": word,
            "enforced": pa.bool_(),
            "policy": pa.struct({"name": word, "version": word, "hash": word}),
            "findings": pa.list_(found),
            "runs": pa.list_(ran),
            "coverage": pa.list_(pa.float64()),
            "seconds": pa.float64(),
            "modified": pa.bool_(),
            "model": word,
            "prompt": pa.struct({"name": word, "version": word, "variant": word}),
            "cohort": pa.map_(pa.string(), pa.string()),
            "tenant": word,
            "conversation": word,
            "trace": word,
            "numbers": pa.map_(pa.string(), pa.float64()),
        }
    )


def _row(record: Record) -> dict[str, Any]:
    return {
        **as_dict(record),
        "at": record.at // 1000,
        "cohort": list(record.cohort.items()),
        "numbers": list(record.numbers.items()),
    }
