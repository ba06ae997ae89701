"""That lines are whole whatever happens, that files are cut off at their size, and that all comes back."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from fakes import Broken, Words
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import called, made

from llmguard import ConfigurationError, Guard
from llmguard.exporters.jsonl import JsonlExporter, read, rotated
from llmguard.exporters.processor import Processor

SECRET = "canary-4711"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.jsonl"


def test_what_was_exported_is_read(path: Path) -> None:
    records = [made(1), called(2), made(3, model="\u2028ü")]
    exporter = JsonlExporter(path, fsync=True)
    exporter.export(records[:1])
    exporter.export(records[1:])
    assert list(read(path)) == records
    assert exporter.force_flush()
    assert exporter.shutdown()
    assert exporter.shutdown()
    assert len(path.read_bytes().splitlines()) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_exporter_appends(path: Path) -> None:
    for number in range(2):
        exporter = JsonlExporter(path)
        exporter.export([made(number)])
        exporter.shutdown()
    assert list(read(path)) == [made(0), made(1)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 3000))
def test_cut_off_at_any_byte(path: Path, place: int) -> None:
    path.unlink(missing_ok=True)
    records = [made(number) for number in range(3)]
    exporter = JsonlExporter(path)
    exporter.export(records)
    whole = path.read_bytes()
    place = min(place, len(whole))
    os.truncate(path, place)
    left = records[: whole[:place].count(b"\n")]
    assert list(read(path)) == left
    exporter.export([made(9)])  # the one that is open mends it, as a new one would
    assert list(read(path)) == [*left, made(9)]
    exporter.shutdown()


def test_a_long_torn_line_is_cut_off(path: Path) -> None:
    exporter = JsonlExporter(path)
    exporter.export([made(1)])
    with path.open("ab") as file:
        file.write(b'{"at":' + b"1" * 300_000)
    JsonlExporter(path).export([made(2)])
    assert list(read(path)) == [made(1), made(2)]


@pytest.mark.parametrize("length", [65_528, 65_529, 65_530, 65_536, 65_537, 65_538])
def test_a_torn_line_about_as_long_as_what_is_read_at_a_time(path: Path, length: int) -> None:
    exporter = JsonlExporter(path)
    exporter.export([made(1)])
    with path.open("ab") as file:
        file.write(b'{"at":'.ljust(length, b"1"))
    exporter.export([made(2)])
    assert list(read(path)) == [made(1), made(2)]
    exporter.shutdown()


def test_a_large_file_without_lines_is_not_held_in_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(32 << 20)
    tracemalloc.start()
    with pytest.raises(ConfigurationError, match="no record"):
        JsonlExporter(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert path.stat().st_size == 32 << 20


@pytest.mark.parametrize("content", [b"important", b'{"a": 1}\n{"b"', b"x" * 70_000])
def test_a_file_of_somebody_else_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="no record"):
        JsonlExporter(path)
    assert path.read_bytes() == content


def test_a_damaged_line_is_named(path: Path) -> None:
    exporter = JsonlExporter(path)
    exporter.export([made(1), made(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (b"{\n", b'{"at": 1}\n', b"[" * 100_000 + b"\n", b"\xff\n", b"null\n"):
        path.write_bytes(lines[0] + damaged)
        with pytest.raises(ConfigurationError, match=r"decisions\.jsonl:2: this line is no record"):
            list(read(path))


def test_full_files_are_renamed_and_the_oldest_go(path: Path) -> None:
    exporter = JsonlExporter(path, max_bytes=1500, keep=2)
    for number in range(10):
        exporter.export([made(number)])
    files = rotated(path)
    assert len(files) == 2
    assert all(file.stat().st_size <= 1500 for file in [*files, path])
    kept = [int(record.conversation[1:]) for record in read(path)]
    assert kept == list(range(kept[0], 10))
    assert kept[0] > 0


def test_all_files_are_kept_where_that_is_asked_for(path: Path) -> None:
    exporter = JsonlExporter(path, max_bytes=1, keep=None)
    for number in range(5):
        exporter.export([made(number)])
    assert len(rotated(path)) == 4
    assert list(read(path)) == [made(number) for number in range(5)]


def test_a_file_that_goes_while_others_are_read_is_passed_over(path: Path) -> None:
    exporter = JsonlExporter(path, max_bytes=1, keep=None)
    for number in range(4):
        exporter.export([made(number)])
    records = read(path)
    assert next(records) == made(0)
    rotated(path)[1].unlink()
    assert list(records) == [made(2), made(3)]
    exporter.shutdown()


def test_files_of_others_are_not_taken_for_ours(path: Path) -> None:
    for name in ("decisions.backup.jsonl", "decisions.20261121T221519000000Z.json", "x.20261121T221519000000Z.jsonl"):
        path.with_name(name).write_text("mine")
    exporter = JsonlExporter(path, max_bytes=1, keep=0)
    for number in range(3):
        exporter.export([made(number)])
    assert rotated(path) == []
    assert len(list(path.parent.iterdir())) == 4


def test_two_exporters_and_threads_share_a_file(path: Path) -> None:
    exporters = [JsonlExporter(path, max_bytes=4000, keep=None) for _ in range(2)]

    def work(start: int) -> None:
        for number in range(start, start + 20):
            exporters[start % 2].export([made(number)])

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1001, 2000, 3001)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"c{start + number}" for start in (0, 1001, 2000, 3001) for number in range(20)}
    found = [record.conversation for record in read(path)]
    assert len(found) == len(wanted)
    assert set(found) == wanted


def test_several_processes_write_and_one_is_killed(path: Path) -> None:
    script = """
import sys
from records import made
from llmguard.exporters.jsonl import JsonlExporter
exporter = JsonlExporter(sys.argv[1], max_bytes=60_000, keep=None)
start = int(sys.argv[2])
print("ready", flush=True)
for number in range(start, start + int(sys.argv[3])):
    exporter.export([made(number), made(number)])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1] / "support")])}

    def begun(start: int, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, str(path), str(start), str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    endless, finite = begun(1_000_000, 10**9), begun(0, 100)
    assert endless.stdout is not None
    assert endless.stdout.readline() == "ready\n"
    assert finite.wait(120) == 0
    endless.send_signal(signal.SIGKILL)
    endless.wait(60)
    endless.stdout.close()
    assert finite.stdout is not None
    finite.stdout.close()
    JsonlExporter(path).export([made(7_000_000)])
    found = [int(record.conversation[1:]) for record in read(path)]
    assert [number for number in found if number < 1_000_000] == [n for n in range(100) for _ in range(2)]
    assert found[-1] == 7_000_000


def test_a_disk_that_is_full_leaves_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = JsonlExporter(path)
    exporter.export([made(1)])
    real, calls = os.write, iter([10])

    def write(handle: int, data: Any) -> int:
        for some in calls:
            return real(handle, data[:some])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        exporter.export([made(2)])
    monkeypatch.undo()
    exporter.export([made(3)])
    assert list(read(path)) == [made(1), made(3)]


def test_a_file_that_was_taken_away_is_made_again(path: Path) -> None:
    exporter = JsonlExporter(path)
    exporter.export([made(1)])
    path.unlink()
    exporter.export([made(2)])
    assert list(read(path)) == [made(2)]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"path": ""}, "path"),
        ({"path": 1}, "path"),
        ({"path": "no/such/directory/x.jsonl"}, "can't be written"),
        ({"path": "."}, "can't be written"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"keep": -1}, "keep"),
        ({"keep": True}, "keep"),
    ],
)
def test_options_that_are_none(path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        JsonlExporter(**{"path": path, **options})


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        list(read(path))


def test_nothing_after_the_end(path: Path) -> None:
    exporter = JsonlExporter(path)
    exporter.shutdown()
    assert exporter.force_flush()
    with pytest.raises(ConfigurationError, match="shut down"):
        exporter.export([made()])


def test_no_text_reaches_the_file(path: Path) -> None:
    def fails(texts: Any) -> Any:
        raise KeyError(texts[0].content)

    processor = Processor(JsonlExporter(path))
    for detector, action in (
        (Words("words", SECRET), "redact"),
        (Words("words", SECRET), "block"),
        (Broken(fails, name="words"), "block"),
    ):
        policy = {"name": "p", "version": "1", "rules": [{"detector": "words", "action": action}]}
        with Guard(policy, detectors=[detector], monitors=[processor]) as guard:
            guard.check(f"my {SECRET}")
    assert processor.shutdown()
    said = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["action"] for one in said] == ["redact", "block", "block"]
    assert "KeyError" in said[2]["runs"][0]["error"]
    assert SECRET not in "".join(file.read_text() for file in path.parent.iterdir())
