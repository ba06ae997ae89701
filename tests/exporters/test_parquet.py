"""That rows come back as they were, that files are whole as soon as they are there, and that DuckDB reads them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fakes import Words
from records import called, made

from llmguard import ConfigurationError, Guard
from llmguard.exporters.parquet import ParquetExporter, schema
from llmguard.exporters.processor import Processor
from llmguard.exporters.record import Record, as_dict, from_dict

pa = pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")


def records_of(directory: Path) -> list[Record]:
    read = []
    for file in sorted(directory.glob("*.parquet")):
        table = pq.ParquetFile(file).read()
        for at, row in zip(table["at"].cast(pa.int64()).to_pylist(), table.to_pylist(), strict=True):
            read.append(
                from_dict({**row, "at": 1000 * at, "cohort": dict(row["cohort"]), "numbers": dict(row["numbers"])})
            )
    return read


def test_what_was_exported_is_read(tmp_path: Path) -> None:
    records = [made(1), called(2), made(3, findings=(), runs=(), cohort={}), made(4, model="\U0001f600")]
    exporter = ParquetExporter(tmp_path / "a" / "b")
    exporter.export(records[:3])
    exporter.export(records[3:])
    assert list((tmp_path / "a" / "b").iterdir()) == []
    assert exporter.shutdown()
    (file,) = (tmp_path / "a" / "b").iterdir()
    assert [pq.ParquetFile(file).metadata.row_group(group).num_rows for group in range(2)] == [3, 1]
    assert records_of(tmp_path / "a" / "b") == records
    assert schema().names == list(as_dict(made()))


def test_a_file_is_ended_when_it_is_full_or_old(tmp_path: Path) -> None:
    full = ParquetExporter(tmp_path, max_rows=2)
    for number in range(5):
        full.export([made(number)])
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert full.force_flush()
    assert full.force_flush()
    assert len(list(tmp_path.glob("*.parquet"))) == 3
    old = ParquetExporter(tmp_path, max_age_s=1e-9)
    old.export([made(5)])
    old.export([made(6)])
    assert records_of(tmp_path) == [made(number) for number in range(6)]


def test_a_file_that_can_not_be_written_now_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = ParquetExporter(tmp_path)
    exporter.export([made(1)])

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        exporter.force_flush()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert exporter.shutdown()
    assert records_of(tmp_path) == [made(1)]


def test_nothing_after_the_end(tmp_path: Path) -> None:
    exporter = ParquetExporter(tmp_path)
    exporter.export([])
    assert exporter.shutdown()
    assert exporter.shutdown()
    with pytest.raises(ConfigurationError, match="shut down"):
        exporter.export([made()])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_writes_files_of_its_own(tmp_path: Path) -> None:
    exporter = ParquetExporter(tmp_path)
    exporter.export([made(1)])
    if (child := os.fork()) == 0:
        code = 1
        try:
            code = 0 if exporter.shutdown() and not list(tmp_path.iterdir()) else 1
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert exporter.shutdown()
    assert records_of(tmp_path) == [made(1)]


def test_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    exporter = ParquetExporter(tmp_path, max_rows=2)
    for number in range(5):
        exporter.export([made(number, action="block" if number % 2 else "allow", cohort={"plan": "free"})])
    exporter.export([called(9)])
    assert exporter.shutdown()
    with duckdb.connect() as connection:
        records = connection.read_parquet(f"{tmp_path}/*.parquet")
        records.create_view("records")
        ask = lambda query: connection.execute(query).fetchall()  # noqa: E731 - as short as it should be
        assert ask("select action, count(*) from records where kind = 'check' group by action order by action") == [
            ("allow", 3),
            ("block", 2),
        ]
        unnested = "select found.category, count(*) from (select unnest(findings) as found from records) group by 1"
        assert ask(unnested) == [("BAD", 5)]
        assert ask("select distinct policy.version from records where cohort['plan'] = 'free'") == [("1",)]
        assert ask("select numbers['input_tokens'] from records where kind = 'call'") == [(12.0,)]
        assert ask('select epoch_ns("at") from records order by "at" limit 1') == [(made(0).at,)]


@pytest.mark.parametrize(
    "options", [{"directory": ""}, {"directory": 1}, {"max_rows": 0}, {"max_rows": True}, {"max_age_s": 0}]
)
def test_options_that_are_none(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        ParquetExporter(**{"directory": tmp_path, **options})


def test_a_directory_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="can't be written"):
        ParquetExporter(tmp_path / "file")


def test_no_text_reaches_a_file(tmp_path: Path) -> None:
    processor = Processor(ParquetExporter(tmp_path))
    policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": "redact"}]}
    with Guard(policy, detectors=[Words("words", "canary-4711")], monitors=[processor]) as guard:
        guard.check("my canary-4711")
    assert processor.shutdown()
    (one,) = records_of(tmp_path)
    assert one.action == "redact"
    assert "canary-4711" not in repr(one)
