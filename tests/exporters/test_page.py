"""The examples of the page about exporters run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "exporters.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")  # there is no collector to be told at the end
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert capsys.readouterr().out == "block 3 keywords\n"


def test_the_queries_run(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    from records import made

    from llmguard.exporters.parquet import ParquetExporter

    exporter = ParquetExporter(tmp_path)
    exporter.export([made(1), made(2)])
    exporter.shutdown()
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    queries = [query for query in block.replace("'records/", f"'{tmp_path}/").split(";") if query.strip()]
    with duckdb.connect() as connection:
        answers = [connection.execute(query).fetchall() for query in queries]
    assert answers == [[("1", "redact", 2, 2.0)], []]
