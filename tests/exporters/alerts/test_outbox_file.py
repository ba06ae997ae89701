"""That the file is ours, private, and never silently lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from alert_sinks import Bench, group

from llmguard import ConfigurationError
from llmguard.exporters.alerts import outbox_file
from llmguard.exporters.alerts.outbox import Outbox
from llmguard.exporters.alerts.outbox_path import outbox_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

unix = pytest.mark.skipif(sys.platform == "win32", reason="modes and forks of POSIX")


@unix
def test_nobody_else_reads_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        outbox = Outbox(tmp_path / "new" / "deep" / "a.sqlite")
        outbox.put([("ops", group())])
    finally:
        os.umask(before)
    files = list(outbox.path.parent.iterdir())
    assert {path.name for path in files} >= {"a.sqlite", "a.sqlite-wal"}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert stat.S_IMODE(outbox.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"dear diary, it is a long day " * 200, b"x"])
def test_somebody_elses_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"a\.sqlite: is no outbox of alerts: give another path"):
        Outbox(path)
    assert path.read_bytes() == content


def test_somebody_elses_database_too(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE messages(seq)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is a database of something else"):
        Outbox(path)
    assert path.read_bytes() == content


def test_the_file_of_a_newer_llmguard(tmp_path: Path) -> None:
    Outbox(tmp_path / "a.sqlite").close()
    with sqlite3.connect(tmp_path / "a.sqlite") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigurationError, match=r"by a newer llmguard \(schema 99, this one knows 1\): upgrade"):
        Outbox(tmp_path / "a.sqlite")


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can't be written"):
        Outbox(tmp_path / "file" / "a.sqlite")


def test_an_empty_file_becomes_an_outbox(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").touch()
    outbox = Outbox(tmp_path / "a.sqlite")
    outbox.put([("ops", group())])
    assert len(outbox.messages()) == 1


def damage(path: Path, first: int, last: int, size: int = 4096) -> None:
    """Overwrite these pages, from 1 on."""
    with path.open("r+b") as file:
        for page in range(first, last + 1):
            file.seek((page - 1) * size)
            file.write(b"\xa5" * size)


def full(path: Path) -> list[str]:
    outbox = Outbox(path)
    ids = outbox.put([("ops", group(f"g-{n}", much="x" * 500)) for n in range(200)])
    outbox.close()
    return ids


def test_a_file_damaged_in_the_middle_is_set_aside_and_the_rest_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    ids = full(path)
    pages = [path.read_bytes()[start : start + 4096] for start in range(0, path.stat().st_size, 4096)]
    (middle, *_) = [n for n, page in enumerate(pages, 1) if page[0] == 13 and b'"model":"g-100"' in page]  # a leaf
    bench = Bench(tmp_path)
    bench.outbox.close()
    bench.outbox = Outbox(path)
    bench.courier = bench.another()
    bench.outbox.close()
    damage(path, middle, middle)
    failures: list[str] = []
    bench.outbox.on_failure(lambda _, error: failures.append(type(error).__name__))
    bench.run(bench.clock() + 60)
    (aside,) = bench.outbox.file.aside
    assert failures == ["DamagedError"]
    assert aside.name.startswith("a.sqlite.damaged-")
    assert aside.stat().st_size > 100_000
    told = [message for message, _ in bench.sink.taken]
    assert set(told) <= set(ids)
    assert len(set(told)) > 150
    bench.put(group("after"))
    bench.deliver()
    assert bench.sink.told[-1] == ("after", False)


def test_a_file_damaged_at_its_tables_is_found_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    full(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xa5" * 3900)
    outbox = Outbox(path)
    failures: list[str] = []
    outbox.on_failure(lambda _, error: failures.append(type(error).__name__))
    assert outbox.messages() == []
    assert len(outbox.file.aside) == 1
    assert outbox.put([("ops", group())])
    assert (failures, outbox.counts.failures) == (["DamagedError"], 1)
    assert len(outbox.messages()) == 1


def test_two_that_find_the_damage_set_the_file_aside_once(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    full(path)
    one, other = Outbox(path), Outbox(path)
    assert one.file.set_aside() == 200
    assert other.file.set_aside() == 0
    assert len(list(tmp_path.glob("*.damaged-*Z"))) == 1
    other.put([("ops", group("later"))])
    assert len(one.messages()) == 201


def test_a_disk_that_breaks_again_and_again_is_not_filled(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.sqlite", fsync=False)
    for n in range(6):
        outbox.put([("ops", group(f"g-{n}"))])
        assert outbox.file.set_aside() == n + 1
    assert len(list(tmp_path.glob("*.damaged-*Z"))) == 3
    assert len(list(tmp_path.iterdir())) < 15


@unix
def test_a_file_that_was_removed_is_made_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.sqlite")
    outbox.put([("ops", group("a"))])
    for path in tmp_path.iterdir():
        path.unlink()
    outbox.put([("ops", group("b"))])
    assert [one.key for one in Outbox(tmp_path / "a.sqlite").messages()] == ["b"]


def test_a_body_that_was_damaged_is_dead_and_holds_nothing_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put(group("a"), group("a", over=True))
    with bench.outbox.file.writing(durable=False) as connection:
        connection.execute("UPDATE messages SET body = '{' WHERE seq = 1")
    bench.put(group("a", started=7.0))
    bench.deliver()
    assert bench.sink.told == [("a", True), ("a", False)]
    (dead,) = bench.outbox.messages()
    assert (dead.dead, dead.reason, dead.as_dict()["group"]) == (True, "unreadable", None)


@pytest.mark.parametrize(
    ("column", "value"),
    [("body", "CAST(x'7bff' AS TEXT)"), ("id", "CAST(x'6dff' AS TEXT)"), ("reason", "CAST(x'ff' AS TEXT)")],
)
def test_a_flipped_bit_in_one_message_holds_up_no_other(tmp_path: Path, column: str, value: str) -> None:
    bench = Bench(tmp_path)
    bench.put(group("a"), group("b"))
    with bench.outbox.file.writing(durable=False) as connection:
        connection.execute(f"UPDATE messages SET {column} = {value} WHERE seq = 1")  # noqa: S608
    bench.put(group("a"), group("a", over=True), group("c"))
    bench.deliver()
    assert sorted(bench.sink.told)[-3:] == [("a", True), ("b", False), ("c", False)]
    assert all(one.dead for one in bench.outbox.messages())
    assert bench.outbox.counts.failures == 0


@pytest.mark.parametrize("value", ["'soon'", "x'00'"])
def test_a_message_that_can_not_be_is_left_in_the_damaged_file(tmp_path: Path, value: str) -> None:
    bench = Bench(tmp_path)
    bench.put(group("a"), group("b"))
    with bench.outbox.file.writing(durable=False) as connection:
        connection.execute(f"UPDATE messages SET due = {value} WHERE grp = 'a'")  # noqa: S608
    bench.put(group("a", over=True))
    bench.run(bench.clock() + 60)
    assert sorted(bench.sink.told) == [("a", True), ("b", False)]
    assert len(bench.outbox.file.aside) == 1


@pytest.mark.parametrize("name", [b"messages", b"in_turn"])
@pytest.mark.parametrize("other", [b"x", b"\xff"])
def test_tables_by_another_name_are_damage(tmp_path: Path, name: bytes, other: bytes) -> None:
    path = tmp_path / "a.sqlite"
    full(path)
    content = path.read_bytes()
    first = content[:4096].replace(name, other + name[1:])
    path.write_bytes(first + content[4096:])
    outbox = Outbox(path)
    outbox.put([("ops", group())])
    bench = Bench(tmp_path)
    bench.outbox.close()
    bench.outbox = outbox
    bench.courier = bench.another()
    bench.run(bench.clock() + 60)
    assert ("g", False) in bench.sink.told
    assert outbox.messages() == []
    assert len(outbox.file.aside) == 1


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] * (seed > 5)) for seed in range(100)])
def test_whatever_byte_is_wrong_alerts_go_out(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    bench = Bench(tmp_path)
    bench.put(*(group(f"g-{n % 9}", over=n % 2 == 1, started=float(n // 2)) for n in range(40)))
    bench.outbox.close()
    content = bytearray(bench.outbox.path.read_bytes())
    for _ in range(chance.choice((1, 3, 30))):
        content[chance.randrange(100, len(content))] = chance.randrange(256)  # the header says whose it is
    bench.outbox.path.write_bytes(content)
    bench = Bench(tmp_path)
    bench.put(group("g-1"), group("new"))
    bench.run(bench.clock() + 2 * 86_400, most=3000)
    assert ("new", False) in bench.sink.told
    assert bench.outbox.messages(dead=False, sink="ops") == []  # but the name of a sink may be what is wrong


@unix
def test_a_fork_takes_no_lock_along(tmp_path: Path) -> None:
    with outbox_file._alone(tmp_path / "a.sqlite"):
        (handle,) = [number for number in range(1024) if _is(number, tmp_path / "a.sqlite.lock")]
        kept = os.dup(handle)  # as a child has it
    try:
        again = os.open(tmp_path / "a.sqlite.lock", os.O_RDWR)
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(again)
    finally:
        os.close(kept)


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _put(path: Path, number: int) -> None:
    outbox = Outbox(path)
    for n in range(25):
        outbox.put([("ops", group(f"{number}-{n}"))])


def test_processes_that_begin_a_file_together(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put, args=(tmp_path / "a.sqlite", number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(Outbox(tmp_path / "a.sqlite").messages()) == 75


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert outbox_path("here/x.sqlite", "shop") == Path("here/x.sqlite")
    assert outbox_path(None, "shop") == tmp_path / "llmguard" / "shop.alerts.sqlite"
    odd = {outbox_path(None, name) for name in ("../../etc/x", "..%2f..", "", "shop ", "\udc80", "x" * 300)}
    assert len(odd) == 6
    assert {path.parent for path in odd} == {tmp_path / "llmguard"}
    assert all(len(path.name) < 100 for path in odd)
    with pytest.raises(ConfigurationError, match="home directory"):
        outbox_path("~nobody-of-that-name/x", "shop")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert outbox_path(None, "shop") == tmp_path / ".local" / "state" / "llmguard" / "shop.alerts.sqlite"
