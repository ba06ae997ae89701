"""What is done to an audit log is found, and named."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmguard.errors import ConfigurationError
from llmguard.exporters import audit_files as files
from llmguard.exporters import audit_lines as lines
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.audit_erasure import erase
from llmguard.exporters.audit_keys import new_key, public_key
from llmguard.exporters.audit_verify import Verified, verify
from llmguard.exporters.record import Record

SIGNING = bytes(range(32))
FIRST, SECOND = "audit-00000001.jsonl", "audit-00000002.jsonl"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGNING", "ENCRYPTION", "PUBLIC"):
        monkeypatch.delenv(f"LLMGUARD_AUDIT_{name}_KEY", raising=False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Sequences 1 to 8 in one file, of which the first is the file's own, and 9 to 16 in the next."""
    for start in (0, 7):
        writer = AuditLog(tmp_path, signing_key=SIGNING, max_age_s=1e9 if not start else 1e-9)
        writer.export([Record(at, "check", conversation=f"c{at}") for at in range(start, start + 7)])
        writer.shutdown()
    assert verify(tmp_path).problems == []
    assert verify(tmp_path).entries == 16
    return tmp_path


def change(path: Path, how: Callable[[list[bytes]], list[bytes] | None]) -> None:
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(how(whole) or whole))


def named(found: Verified) -> set[tuple[str, int | None, str]]:
    return {(problem.file, problem.sequence, problem.what) for problem in found.problems}


@pytest.mark.parametrize("n", range(1, 17))
def test_a_changed_body_is_named(log: Path, n: int) -> None:
    file = FIRST if n <= 8 else SECOND

    def how(whole: list[bytes]) -> None:
        place = (n - 1) % 8
        whole[place] = re.sub(rb'"at":\d+', b'"at":99', whole[place])

    change(log / file, how)
    assert named(verify(log)) == {(file, n, "changed")}


@pytest.mark.parametrize("field", [b'"prev":"', b'"sum":"', b'"kind":"', b'"n":'])
@pytest.mark.parametrize("n", [2, 5, 8, 12])
def test_a_changed_head_is_named(log: Path, n: int, field: bytes) -> None:
    file = FIRST if n <= 8 else SECOND
    put = {b'"kind":"': b"x", b'"n":': b"9"}.get(field)

    def how(whole: list[bytes]) -> None:
        line = whole[(n - 1) % 8]
        at = line.index(field) + len(field)
        digit = put or (b"0" if line[at : at + 1] != b"0" else b"1")
        whole[(n - 1) % 8] = line[:at] + digit + line[at + (field != b'"n":') :]

    change(log / file, how)
    assert named(verify(log)) == {(file, n, "changed")}


@pytest.mark.parametrize("n", [2, 5, 8])
def test_a_missing_line_is_named(log: Path, n: int) -> None:
    change(log / FIRST, lambda whole: whole.pop(n - 1) and None)
    assert {(what, at) for _, at, what in named(verify(log))} == {("missing", n)}


def test_missing_first_lines_are_named(log: Path) -> None:
    change(log / FIRST, lambda whole: whole[2:])
    assert ("missing", 3) in {(what, at) for _, at, what in named(verify(log))}


def test_several_missing_lines_are_named_together(log: Path) -> None:
    change(log / SECOND, lambda whole: whole[:2] + whole[5:])
    (problem,) = verify(log).problems
    assert str(problem) == f"{SECOND}: sequence 11: missing: the lines to sequence 13 are not there"


def test_lines_that_changed_places_are_named(log: Path) -> None:
    def how(whole: list[bytes]) -> None:
        whole[3], whole[4] = whole[4], whole[3]

    change(log / FIRST, how)
    assert named(verify(log)) == {(FIRST, 4, "moved")}


@pytest.mark.parametrize("to", [3, 5, 7])
def test_a_doubled_line_is_named(log: Path, to: int) -> None:
    change(log / FIRST, lambda whole: whole.insert(to, whole[2]))
    assert named(verify(log)) == {(FIRST, 3, "doubled")}


@pytest.mark.parametrize("left", range(1, 8))
def test_an_end_that_is_cut_off_is_named(log: Path, left: int) -> None:
    change(log / SECOND, lambda whole: whole[:left])
    assert named(verify(log)) == {(SECOND, 9 + left, "truncated")}
    # who goes on writing covers nothing up
    writer = AuditLog(log, signing_key=SIGNING)
    writer.export([Record(at, "check") for at in range(20)])
    writer.shutdown()
    assert not verify(log).ok


def test_a_line_that_is_cut_in_the_middle_is_named(log: Path) -> None:
    data = (log / SECOND).read_bytes()
    (log / SECOND).write_bytes(data[:-30])
    assert named(verify(log)) == {(SECOND, 16, "torn"), (SECOND, 16, "truncated")}


def test_an_end_without_its_checkpoints_is_missed_by_who_noted_the_head(log: Path) -> None:
    head = verify(log).head
    change(log / SECOND, lambda whole: whole[:3])
    change(log / files.CHECKPOINTS, lambda whole: whole[:2])
    assert verify(log).ok
    assert named(verify(log, head=head)) == {(SECOND, 12, "truncated")}


def test_a_missing_file_is_named(log: Path) -> None:
    writer = AuditLog(log, signing_key=SIGNING, max_age_s=1e-9)
    writer.export([Record(1, "check")])
    writer.shutdown()
    (log / SECOND).unlink()
    assert (SECOND, None, "missing") in named(verify(log))
    (log / FIRST).unlink()
    assert {what for _, _, what in named(verify(log))} == {"missing"}


def test_a_file_in_the_place_of_another_is_named(log: Path, tmp_path: Path) -> None:
    (log / FIRST).rename(log / "kept")
    (log / SECOND).rename(log / FIRST)
    (log / "kept").rename(log / SECOND)
    assert {(FIRST, 9, "moved"), (SECOND, 1, "moved")} <= named(verify(log))


def test_a_file_of_another_log_is_named(log: Path, tmp_path: Path) -> None:
    other = AuditLog(tmp_path / "other", max_age_s=1e-9)
    for at in (1, 2):
        other.export([Record(at, "check")])
    other.shutdown()
    (log / SECOND).write_bytes((tmp_path / "other" / SECOND).read_bytes())
    assert ("moved") in {what for _, _, what in named(verify(log))}


def test_a_body_that_was_taken_out_without_a_word_is_named(log: Path) -> None:
    def how(whole: list[bytes]) -> None:
        line = lines.parse(whole[4])
        assert line is not None
        whole[4] = line.erased()

    change(log / FIRST, how)
    assert named(verify(log)) == {(FIRST, 5, "changed")}
    erase(log, "c1", signing_key=SIGNING)
    assert named(verify(log)) == {(FIRST, 5, "changed")}


def test_a_log_that_was_written_anew_is_not_signed(log: Path) -> None:
    """All hashes are right; only who has the key can sign."""
    public = public_key(SIGNING)
    assert verify(log, public_keys=[public]).signed == verify(log).checkpoints
    prev, whole = lines.START, []
    for n, raw in enumerate((log / FIRST).read_bytes().splitlines(keepends=True), 1):
        line = lines.parse(raw)
        assert line is not None
        assert line.body is not None
        body = line.body.decode().replace('"conversation":"c3"', '"conversation":"c4"')
        made, prev = lines.link(n, prev, line.kind, "0" * 32, body)
        whole.append(made.encode())
    (log / FIRST).write_bytes(b"".join(whole))
    (log / SECOND).unlink()
    head = lines.checkpoint_head(1, 8, prev, lines.START, 1, "0" * 32, "")
    points = log / files.CHECKPOINTS
    points.write_bytes(head + b',"sig":""}\n')
    assert verify(log).ok
    assert {(file, what) for file, _, what in named(verify(log, public_keys=[public]))} == {
        (files.CHECKPOINTS, "checkpoint")
    }
    points.unlink()
    assert named(verify(log, public_keys=[public])) == {(files.CHECKPOINTS, None, "checkpoint")}


@pytest.mark.parametrize("what", ["forged", "removed", "garbage", "another key"])
def test_checkpoints_that_are_not_as_they_were_signed_are_named(log: Path, what: str) -> None:
    def how(whole: list[bytes]) -> list[bytes]:
        return {
            "forged": [whole[0].replace(b'"n":1,', b'"n":2,'), *whole[1:]],
            "removed": [whole[0], *whole[2:]],
            "garbage": [whole[0], b"{}\n", *whole[2:]],
            "another key": whole,
        }[what]

    change(log / files.CHECKPOINTS, how)
    public = public_key(new_key() if what == "another key" else SIGNING)
    found = verify(log, public_keys=[base64.b64encode(public).decode()])
    assert {(file, kind) for file, _, kind in named(found)} == {(files.CHECKPOINTS, "checkpoint")}


def test_public_keys_come_from_the_environment(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [base64.b64encode(public_key(key)).decode() for key in (new_key(), SIGNING)]
    monkeypatch.setenv("LLMGUARD_AUDIT_PUBLIC_KEY", ",".join(both))
    found = verify(log)
    assert found.ok
    assert found.signed == found.checkpoints > 0


def test_no_log_is_no_log_that_verifies(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError, match="no log"):
            verify(directory)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_can_be_changed_unseen(log: Path, data: st.DataObject) -> None:
    path = log / data.draw(st.sampled_from([FIRST, SECOND]))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    to = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    try:
        path.write_bytes(whole[:at] + bytes([to]) + whole[at + 1 :])
        found = verify(log)
        assert not found.ok
        assert all(problem.file for problem in found.problems)
    finally:
        path.write_bytes(whole)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_order_of_the_lines_but_theirs_verifies(log: Path, data: st.DataObject) -> None:
    path = log / FIRST
    whole = path.read_bytes()
    given = whole.splitlines(keepends=True)
    other = data.draw(st.lists(st.sampled_from(given), min_size=1, max_size=10).filter(lambda some: some != given))
    try:
        path.write_bytes(b"".join(other))
        assert not verify(log).ok
    finally:
        path.write_bytes(whole)


def put(log: Path, kind: str, said: str) -> None:
    """Add a line whose hashes are right, as anybody may who may write to the files; no checkpoint holds it."""
    path = log / SECOND
    last = lines.parse(path.read_bytes().splitlines(keepends=True)[-1])
    assert last is not None
    made, _ = lines.link(last.n + 1, last.hash, kind, "0" * 32, said)
    with path.open("ab") as file:
        file.write(made.encode())


def take_out(log: Path, file: str, place: int) -> None:
    def how(whole: list[bytes]) -> None:
        line = lines.parse(whole[place])
        assert line is not None
        whole[place] = line.erased()

    change(log / file, how)


def test_an_erasure_that_nobody_signed_is_named(log: Path) -> None:
    take_out(log, FIRST, 4)
    put(log, lines.ERASURE, '{"sequences":[[5,5]]}')
    found = verify(log, public_keys=[public_key(SIGNING)])
    assert named(found) == {(SECOND, 17, "checkpoint")}
    assert verify(log, head=found.head).ok


def test_a_retention_that_nobody_signed_is_named(log: Path) -> None:
    after = lines.parse((log / SECOND).read_bytes().splitlines(keepends=True)[0])
    assert after is not None
    put(log, lines.RETENTION, f'{{"through":1,"last":8,"hash":"{after.prev}"}}')
    (log / FIRST).unlink()
    assert named(verify(log, public_keys=[public_key(SIGNING)])) == {(SECOND, 17, "checkpoint")}


def test_a_line_that_is_no_record_is_never_erased(log: Path) -> None:
    put(log, "mended", "{}")
    put(log, lines.ERASURE, '{"sequences":[[17,17]]}')
    take_out(log, SECOND, 8)
    assert (SECOND, 17, "changed") in named(verify(log))


def test_nothing_is_erased_by_a_word_before_it(log: Path) -> None:
    put(log, lines.ERASURE, '{"sequences":[[1,1000000]]}')
    put(log, lines.RECORD, "{}")
    take_out(log, SECOND, 9)
    assert (SECOND, 18, "changed") in named(verify(log))


@pytest.mark.parametrize("said", ["[[1e999,2]]", "[[NaN,2]]", "[[1]]", "7", '[["x","y"]]'])
def test_an_erasure_of_no_sequences_is_named(log: Path, said: str) -> None:
    put(log, lines.ERASURE, f'{{"sequences":{said}}}')
    assert (SECOND, 17, "changed") in named(verify(log))


def test_what_was_erased_twice_verifies(log: Path) -> None:
    take_out(log, FIRST, 4)
    put(log, lines.ERASURE, '{"sequences":[[5,5]]}')
    put(log, lines.ERASURE, f'{{"sequences":[{",".join(["[5,5]"] * 1000)}]}}')
    AuditLog(log, signing_key=SIGNING).shutdown()
    assert verify(log, public_keys=[public_key(SIGNING)]).problems == []


def test_lines_that_stand_after_many_gaps_are_named(tmp_path: Path) -> None:
    """Each second line first, then the rest from its end: each is looked for among thousands of gaps."""
    prev, whole = lines.START, []
    for n in range(1, 60_001):
        made, prev = lines.link(n, prev, lines.RECORD, "0" * 32, "{}")
        whole.append(made.encode())
    (tmp_path / FIRST).write_bytes(b"".join(whole[::2] + whole[1::2][::-1]))
    found = verify(tmp_path)
    assert len(found.problems) == 1000
    assert found.entries == 60_000


@pytest.mark.parametrize(
    "name",
    ["audit-000000002.jsonl", "audit-٠٠٠٠٠٠٠١.jsonl", f"audit-{'9' * 200}.jsonl"],
    ids=["zero", "arabic", "long"],
)
def test_a_name_that_is_none_of_ours_is_none_of_the_log(log: Path, name: str) -> None:
    (log / name).write_bytes((log / FIRST).read_bytes())
    assert verify(log).ok
    AuditLog(log, signing_key=SIGNING).shutdown()
    assert verify(log).ok


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_is_named_and_not_waited_for(log: Path) -> None:
    (log / FIRST).unlink()
    os.mkfifo(log / FIRST)
    assert (FIRST, None, "changed") in named(verify(log))
    (log / files.CHECKPOINTS).unlink()
    os.mkfifo(log / files.CHECKPOINTS)
    assert (files.CHECKPOINTS, None, "checkpoint") in named(verify(log, public_keys=[public_key(SIGNING)]))


@pytest.mark.parametrize("field", ["log", "key", "salt", "cipher", "file", "at"])
def test_a_first_line_says_nothing_that_a_checkpoint_would_not_hold(field: str) -> None:
    said = {"format": lines.FORMAT, "version": lines.VERSION, "log": "a" * 32, "file": 1, "at": 1}
    said |= {"cipher": "AES-256-GCM", "key": "b" * 16, "salt": "c" * 32}
    first, _ = lines.link(1, lines.START, lines.FILE, "0" * 32, lines.canonical(said))
    assert lines.header(lines.parse(first.encode())) is not None
    bad, _ = lines.link(1, lines.START, lines.FILE, "0" * 32, lines.canonical({**said, field: 'a"\n'}))
    assert lines.header(lines.parse(bad.encode())) is None
