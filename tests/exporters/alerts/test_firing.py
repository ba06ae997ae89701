"""That processes know of each other what fires, that one leads, and that a killed one is remembered for a while."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llmguard import ConfigurationError
from llmguard.exporters.alerts.firing import Board, Held
from llmguard.exporters.alerts.notice import Notice
from llmguard.exporters.alerts.routing import Firing, Told

NOW = 1_700_000_000.0


def held(name: str, started: float = NOW, hold_s: float = 60.0, sinks: tuple[str, ...] = ("ops",)) -> Held:
    return Held(Firing(Notice({"alertname": name, "model": "ä\ud800"}, {"value": "1"}, started), sinks), hold_s)


def names(board: Board, now: float) -> list[str]:
    return sorted(one.notice.labels["alertname"] for one in board.all(now, _none))


def _none(error: Exception) -> None:
    raise error


def test_what_fires_in_any_process_is_known_to_all_and_each_alert_is_there_once(tmp_path: Path) -> None:
    one, other = Board(tmp_path), Board(tmp_path)
    one.say([held("A", NOW), held("B")], NOW)
    other.say([held("A", NOW - 5, sinks=("pager", "ops"))], NOW)
    assert names(one, NOW) == names(other, NOW) == ["A", "B"]
    (merged,) = [firing for firing in one.all(NOW, _none) if firing.notice.labels["alertname"] == "A"]
    assert merged.notice.started == NOW - 5
    assert sorted(merged.sinks) == ["ops", "pager"]
    one.say([], NOW + 1)
    assert names(other, NOW + 1) == ["A"]


def test_what_a_silent_process_said_stands_for_as_long_as_it_said(tmp_path: Path) -> None:
    dead, alive = Board(tmp_path), Board(tmp_path)
    dead.say([held("Short", hold_s=10), held("Long", hold_s=3600)], NOW)
    assert names(alive, NOW + 9) == ["Long", "Short"]
    assert names(alive, NOW + 11) == ["Long"]
    assert names(alive, NOW + 3601) == []
    assert not list(tmp_path.glob("fires-*"))
    dead.say([held("Short", hold_s=10), held("Long", hold_s=3600)], NOW + 3602)  # it was only slow
    assert names(alive, NOW + 3602) == ["Long", "Short"]


def test_one_leads_until_it_goes_and_whoever_follows_hears_all_that_was_said_for_a_while(tmp_path: Path) -> None:
    first, second = Board(tmp_path), Board(tmp_path)
    first.say([held("A", hold_s=1.0)], NOW)
    assert first.leads(NOW, 30.0)
    assert first.leads(NOW, 30.0)
    assert not second.leads(NOW, 30.0)
    first.close()
    late = NOW + 10 * 86400
    assert second.leads(late, 30.0)
    assert names(second, late + 29) == ["A"]
    assert names(second, late + 30) == []
    assert not Board(tmp_path).leads(late, 30.0)


def test_a_process_that_is_killed_leads_no_more(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from llmguard.exporters.alerts.firing import Board\n"
        "board = Board(Path(sys.argv[1])); assert board.leads(0.0, 0.0); print('leads', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "leads\n"
        assert not Board(tmp_path).leads(NOW, 0.0)
        process.kill()
    assert Board(tmp_path).leads(NOW, 0.0)


def test_a_forked_child_neither_leads_nor_speaks_for_its_parent(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.say([held("A")], NOW)
    assert board.leads(NOW, 0.0)
    if (child := os.fork()) == 0:  # nothing but what is looked at, and no exit handlers
        try:
            board.forked()
            board.say([held("B")], NOW)
            os._exit(int(board.leads(NOW, 0.0)))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert names(board, NOW) == ["A", "B"]
    assert not Board(tmp_path).leads(NOW, 0.0)


def test_what_was_told_is_there_after_a_restart(tmp_path: Path) -> None:
    board = Board(tmp_path)
    assert board.told() == []
    told = [Told("ops", Notice({"alertname": "A"}, {"summary": "ü"}, 1.5, 2.5), 2.0)]
    board.tell(told)
    assert Board(tmp_path).told() == told


NEVER = b'[{"sink":"x","sinks":[],"notice":{"labels":{},"annotations":{},"started":%s,"ended":0},"at":1,"hold_s":%s}]'


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[",
        b"{}",
        b"[1]",
        b'[{"sink":"x"}]',
        b'[{"sink":"x","notice":[],"at":1}]',
        NEVER % (b"NaN", b"1"),
        NEVER % (b"Infinity", b"1"),
        NEVER % (b"-1", b"1"),
        NEVER % (b"1" + b"0" * 400, b"1"),
        b"[" * 200_000,
    ],
    ids=lambda said: said[:12].decode(),
)
def test_damaged_files_are_set_aside_and_told(tmp_path: Path, said: bytes) -> None:
    board = Board(tmp_path)
    (tmp_path / "told.json").write_bytes(said)
    with pytest.raises(ValueError, match="told"):
        board.told()
    assert board.told() == []
    (tmp_path / "fires-0.json").write_bytes(said)
    board.say([held("A")], NOW)
    errors: list[Exception] = []
    assert len(board.all(NOW, errors.append)) == 1
    assert [isinstance(error, ValueError) for error in errors] == [True]
    assert sorted(file.name for file in tmp_path.glob("*damaged")) == ["fires-damaged", "told.damaged"]
    assert names(board, NOW) == ["A"]


def test_what_cannot_be_written_counts_all_the_same_and_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _full)
        with pytest.raises(OSError, match="full"):
            board.say([held("A")], NOW)
    assert names(board, NOW) == ["A"]
    assert names(Board(tmp_path), NOW) == []
    board.say([held("A")], NOW)
    assert names(Board(tmp_path), NOW) == ["A"]
    assert not list(tmp_path.glob("*.part"))


def test_what_a_process_left_that_was_killed_while_it_wrote_goes(tmp_path: Path) -> None:
    part = tmp_path / "fires-1.part"
    part.touch()
    os.utime(part, (NOW, NOW))
    assert names(Board(tmp_path), NOW + 60) == []
    assert part.exists()
    assert names(Board(tmp_path), NOW + 4000) == []
    assert not part.exists()


def _full(handle: int) -> None:
    raise OSError(28, "full")


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    board = Board(tmp_path / "firing")
    board.say([held("A")], NOW)
    board.tell([])
    assert stat.S_IMODE((tmp_path / "firing").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "firing").iterdir()} == {0o600}


def test_a_directory_that_others_could_write_into_is_theirs_no_more(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    Board(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    board = Board(tmp_path / "firing")
    (tmp_path / "firing" / "told.part").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        board.tell([])
    assert victim.read_text() == "kept"
    board.tell([])
    assert board.told() == []


def test_what_cannot_be_read_now_is_told_and_keeps_nothing_else_from_being_heard(tmp_path: Path) -> None:
    board, other = Board(tmp_path), Board(tmp_path)
    other.say([held("A")], NOW)
    for name in ("fires-0.json", "fires-1.json"):
        (tmp_path / name).mkdir()
    errors: list[Exception] = []
    for _ in range(2):
        assert [one.notice.labels["alertname"] for one in board.all(NOW, errors.append)] == ["A"]
    assert [type(error) for error in errors] == [IsADirectoryError] * 4


def test_a_directory_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="can't be written"):
        Board(tmp_path / "file" / "firing")
