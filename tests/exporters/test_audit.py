"""The audit log: what it keeps, when it is on the disk, and what a crash leaves of it."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llmguard import Guard
from llmguard.errors import ConfigurationError, MissingExtraError
from llmguard.exporters import audit_erasure
from llmguard.exporters import audit_files as files
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.audit_erasure import erase
from llmguard.exporters.audit_keys import public_key
from llmguard.exporters.audit_read import read
from llmguard.exporters.audit_verify import verify
from llmguard.exporters.processor import Processor
from llmguard.exporters.record import Exporter, Record, as_dict, from_dict

SIGNING, SEALING = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGNING", "ENCRYPTION", "PUBLIC"):
        monkeypatch.delenv(f"LLMGUARD_AUDIT_{name}_KEY", raising=False)


@pytest.fixture
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is in the files; the disk is what takes all the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def records(count: int, start: int = 0, **said: Any) -> list[Record]:
    return [Record(at, "check", "input", "allow", **said) for at in range(start, start + count)]


def kept(directory: Path, key: bytes | None = None) -> list[int]:
    """The times of the records that are there."""
    return [entry.said["at"] for entry in read(directory, encryption_key=key) if entry.kind == "record" and entry.said]


def filled(directory: Path, count: int = 20, batch: int = 5, **options: Any) -> Path:
    log = AuditLog(directory, **options)
    for start in range(0, count, batch):
        log.export(records(batch, start))
    log.shutdown()
    return directory


@pytest.mark.parametrize("key", [None, SEALING], ids=["plain", "encrypted"])
@pytest.mark.parametrize("fsync", ["always", "group", "interval"])
def test_what_was_exported_is_read_and_verifies(tmp_path: Path, fsync: str, key: bytes | None) -> None:
    log = AuditLog(tmp_path / "log", fsync=fsync, encryption_key=key, signing_key=SIGNING)
    assert isinstance(log, Exporter)
    said = records(3, conversation="of-ada", numbers={"latency": 0.5})
    log.export(said)
    log.export([])
    log.export(records(2, 3))
    assert log.force_flush()
    assert log.shutdown()
    assert log.shutdown()
    there = [entry.said for entry in read(tmp_path / "log", encryption_key=key) if entry.kind == "record"]
    assert [from_dict(one) for one in there if one is not None] == said + records(2, 3)
    found = verify(tmp_path / "log", public_keys=[public_key(SIGNING)])
    assert (found.problems, found.records, found.signed) == ([], 5, found.checkpoints)
    assert found.checkpoints >= 1
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "log").glob("audit-*"))
    assert (b"of-ada" in on_disk) == (key is None)


def test_nothing_is_taken_after_the_end(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.shutdown()
    with pytest.raises(ConfigurationError, match="shut down"):
        log.export(records(1))


def test_another_opening_goes_on_with_the_chain(tmp_path: Path) -> None:
    for start in (0, 5, 10):
        log = AuditLog(tmp_path)
        log.export(records(5, start))
        log.shutdown()
    assert kept(tmp_path) == list(range(15))
    found = verify(tmp_path)
    assert found.ok
    assert found.entries == 16


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    filled(tmp_path / "log")
    for path in (tmp_path / "log").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path.name


@pytest.mark.usefixtures("no_disk")
def test_a_file_that_is_full_or_old_is_followed_by_another(tmp_path: Path) -> None:
    filled(tmp_path / "size", 40, max_bytes=4000)
    filled(tmp_path / "age", 40, max_age_s=1e-9)
    for directory in (tmp_path / "size", tmp_path / "age"):
        assert len(files.numbers(directory)) > 3
        assert verify(directory).ok
        assert kept(directory) == list(range(40))


def test_a_line_is_what_the_page_says(tmp_path: Path) -> None:
    """Read with nothing of ours."""
    from hashlib import sha256

    filled(tmp_path, 3)
    prev = "0" * 64
    for n, line in enumerate((tmp_path / "audit-00000001.jsonl").read_text().splitlines(), 1):
        said = json.loads(line)
        body = line[line.index(',"body":') + 8 : -1]
        assert said["n"] == n
        assert said["prev"] == prev
        assert said["sum"] == sha256((said["salt"] + body).encode()).hexdigest()
        assert body == json.dumps(said["body"], sort_keys=True, separators=(",", ":"))
        prev = sha256(line[: line.index(',"salt":')].encode()).hexdigest()
    point = json.loads((tmp_path / "checkpoints.jsonl").read_text().splitlines()[-1])
    assert (point["n"], point["hash"]) == (n, prev)


@pytest.mark.parametrize("key", [None, SEALING], ids=["plain", "encrypted"])
@pytest.mark.usefixtures("no_disk")
def test_cut_at_every_byte_it_opens_and_loses_the_cut_line_alone(tmp_path: Path, key: bytes | None) -> None:
    """What a kill at any byte leaves, in the first file or at the beginning of a later one."""
    whole = tmp_path / "whole"
    log = AuditLog(whole, encryption_key=key)
    log.export(records(2))
    log.force_flush()
    before = files.path(whole, 1).stat().st_size
    log.export(records(1 if key is None else 2, 2))
    last = files.path(whole, 1)
    data = last.read_bytes()
    for cut in range(before, len(data) + 1, 1 if key is None else 7):
        torn = tmp_path / "torn"
        shutil.copytree(whole, torn)
        files.path(torn, 1).write_bytes(data[:cut])
        again = AuditLog(torn, encryption_key=key)
        again.export(records(1, 100))
        again.shutdown()
        found = verify(torn)
        assert found.ok, (cut, found.problems)
        lines = data[:cut].count(b"\n") - 1
        assert kept(torn, key) == [*range(lines), 100]
        mended = [entry.said for entry in read(torn, encryption_key=key) if entry.kind == "mended"]
        left = cut - data[:cut].rindex(b"\n") - 1
        assert [one["bytes"] for one in mended if one] == ([left] if left else [])
        shutil.rmtree(torn)
    log.shutdown()


@pytest.mark.usefixtures("no_disk")
def test_a_new_file_cut_at_every_byte_goes_on_with_the_one_before(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole", 10, max_age_s=1e-9)
    there = files.numbers(whole)
    last = files.path(whole, there[-1])
    data = last.read_bytes()
    first_line = data.index(b"\n") + 1
    checkpoints = (whole / files.CHECKPOINTS).read_bytes().splitlines(keepends=True)
    for cut in range(first_line + 1):
        torn = tmp_path / "torn"
        shutil.copytree(whole, torn)
        files.path(torn, there[-1]).write_bytes(data[:cut])
        # the last checkpoint was written after these lines
        (torn / files.CHECKPOINTS).write_bytes(b"".join(checkpoints[:-1]))
        again = AuditLog(torn)
        again.export(records(1, 100))
        again.shutdown()
        assert verify(torn).ok, cut
        assert kept(torn) == [*range(5), 100]
        assert files.numbers(torn) == there
        shutil.rmtree(torn)


@pytest.mark.usefixtures("no_disk")
def test_checkpoints_cut_at_every_byte_are_gone_on_with(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole", 4, signing_key=SIGNING)
    data = (whole / files.CHECKPOINTS).read_bytes()
    for cut in range(0, len(data), 3):
        torn = tmp_path / "torn"
        shutil.copytree(whole, torn)
        (torn / files.CHECKPOINTS).write_bytes(data[:cut])
        AuditLog(torn, signing_key=SIGNING).shutdown()
        assert verify(torn, public_keys=[public_key(SIGNING)]).ok, cut
        shutil.rmtree(torn)


_WRITER = """
import sys
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.record import Record
log, n = AuditLog(sys.argv[1], max_bytes=200_000, checkpoint_records=50, signing_key=bytes(range(32))), 0
while True:
    log.export([Record(at, "check", tenant="x" * (at % 300)) for at in range(n, n + 7)])
    n += 7
    print(n, flush=True)
"""


def test_a_killed_process_loses_nothing_that_was_exported(tmp_path: Path) -> None:
    for enough in (7, 210, 630):
        directory = tmp_path / str(enough)
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(directory)], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert writer.stdout is not None
        done = 0
        while done < enough:
            done = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        done = max([done, *map(int, writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        AuditLog(directory, signing_key=SIGNING).shutdown()
        assert verify(directory, public_keys=[public_key(SIGNING)]).ok
        there = kept(directory)
        assert there == list(range(len(there)))
        assert len(there) >= done


def test_what_another_was_writing_when_it_was_killed_is_cut_off_by_who_lives(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.export(records(2))
    other = AuditLog(tmp_path)
    other.export(records(2, 2))
    other.shutdown()
    whole = files.path(tmp_path, 1).read_bytes()
    with files.path(tmp_path, 1).open("ab") as file:
        file.write(b'{"n":6,"kind":"rec')
    assert [(found.sequence, found.what) for found in verify(tmp_path).problems] == [(6, "torn")]
    log.export(records(2, 4))
    log.shutdown()
    assert files.path(tmp_path, 1).read_bytes().startswith(whole)
    assert kept(tmp_path) == list(range(6))
    assert verify(tmp_path).ok


def _write(directory: Path, start: int, ready: Any) -> None:
    ready.wait()
    log = AuditLog(directory, max_bytes=20_000, checkpoint_records=20, encryption_key=SEALING)
    for batch in range(20):
        log.export(records(4, start + 4 * batch))
    log.shutdown()


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(3)
    processes = [context.Process(target=_write, args=(tmp_path, 1000 * each, ready)) for each in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = verify(tmp_path)
    assert found.ok, found.problems
    assert found.files > 1
    there = kept(tmp_path, SEALING)
    for each in range(3):
        assert [at for at in there if at // 1000 == each] == list(range(1000 * each, 1000 * each + 80))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_to_the_same_chain(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.export(records(3))
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: (log.export(records(3, 3)), log.shutdown()))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    log.export(records(3, 6))
    log.shutdown()
    assert verify(tmp_path).ok
    assert kept(tmp_path) == list(range(9))


@pytest.mark.usefixtures("no_disk")
def test_threads_write_one_chain(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, fsync="interval")
    threads = [threading.Thread(target=log.export, args=(records(50, 50 * each),)) for each in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.shutdown()
    assert verify(tmp_path).ok
    assert sorted(kept(tmp_path)) == list(range(300))


def test_a_checkpoint_comes_by_number_and_by_time(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "number", checkpoint_records=10)
    for start in range(0, 40, 10):
        log.export(records(10, start))
    points = (tmp_path / "number" / files.CHECKPOINTS).read_text().splitlines()
    assert [json.loads(point)["n"] for point in points] == [1, 11, 21, 31]
    log.shutdown()
    log = AuditLog(tmp_path / "time", checkpoint_s=0.01, fsync="interval", interval_s=0.01)
    log.export(records(1))
    until = time.monotonic() + 30
    while verify(tmp_path / "time").checkpoints < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert verify(tmp_path / "time").checkpoints == 2
    log.shutdown()


def test_a_batch_that_can_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path, fsync="always")
    log.export(records(2))
    real, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        log.export(records(4, 2))
    monkeypatch.undo()
    log.export(records(4, 2))
    log.shutdown()
    assert kept(tmp_path) == list(range(6))
    assert verify(tmp_path).ok


def test_a_log_whose_end_is_damaged_goes_on_in_a_new_file(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    with files.path(tmp_path, 1).open("ab") as file:
        file.write(b"\0" * 100 + b"\nno line\n")
    log = AuditLog(tmp_path)
    log.export(records(1, 50))
    log.shutdown()
    assert files.numbers(tmp_path) == [1, 2]
    assert {(found.file, found.what) for found in verify(tmp_path).problems} >= {("audit-00000001.jsonl", "changed")}


def test_another_encryption_key_begins_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 5)
    filled(tmp_path, 5, encryption_key=SEALING)
    filled(tmp_path, 5, encryption_key=base64.b64encode(SIGNING).decode())
    assert files.numbers(tmp_path) == [1, 2, 3]
    assert verify(tmp_path).ok
    with pytest.raises(ConfigurationError, match="LLMGUARD_AUDIT_ENCRYPTION_KEY"):
        kept(tmp_path, SEALING)
    both = ",".join(base64.b64encode(key).decode() for key in (SIGNING, SEALING))
    monkeypatch.setenv("LLMGUARD_AUDIT_ENCRYPTION_KEY", both)
    assert kept(tmp_path) == list(range(5)) * 3


def test_a_log_does_not_lose_its_keys_unnoticed(tmp_path: Path) -> None:
    filled(tmp_path / "sealed", encryption_key=SEALING)
    with pytest.raises(ConfigurationError, match="is encrypted"):
        AuditLog(tmp_path / "sealed")
    filled(tmp_path / "signed", signing_key=SIGNING)
    with pytest.raises(ConfigurationError, match="is signed"):
        AuditLog(tmp_path / "signed")


@pytest.mark.parametrize("key", [None, SEALING], ids=["plain", "encrypted"])
@pytest.mark.usefixtures("no_disk")
def test_a_conversation_is_erased_and_the_chain_holds(tmp_path: Path, key: bytes | None) -> None:
    log = AuditLog(tmp_path, encryption_key=key, signing_key=SIGNING, max_bytes=5000)
    for start in range(0, 30, 3):
        log.export([Record(start + each, "check", conversation=who) for each, who in enumerate(("ada", "bob", "adam"))])
    assert erase(tmp_path, "ada", encryption_key=key, signing_key=SIGNING) == 10
    assert erase(tmp_path, "ada", encryption_key=key, signing_key=SIGNING) == 0
    log.export(records(1, 1000))
    log.shutdown()
    found = verify(tmp_path, public_keys=[public_key(SIGNING)])
    assert (found.problems, found.erased, found.records) == ([], 10, 31)
    assert kept(tmp_path, key) == [at for at in range(30) if at % 3] + [1000]
    if key is None:
        assert b'"ada"' not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_an_erasure_that_a_crash_broke_off_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    log.export(records(3, conversation="ada"))
    log.shutdown()
    real = audit_erasure._finish
    calls: list[Path] = []

    def crash(directory: Path) -> None:
        calls.append(directory)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(directory)

    monkeypatch.setattr(audit_erasure, "_finish", crash)
    with pytest.raises(KeyboardInterrupt):
        erase(tmp_path, "ada")
    assert {problem.what for problem in verify(tmp_path).problems} == {"erased"}
    monkeypatch.undo()
    (tmp_path / "audit-00000001.jsonl.erasing-0123").write_bytes(b"of another that never came so far")
    AuditLog(tmp_path).shutdown()
    found = verify(tmp_path)
    assert (found.problems, found.erased) == ([], 3)
    assert [path.name for path in tmp_path.glob("*.erasing-*")] == []


@pytest.mark.parametrize("key", [None, SEALING], ids=["plain", "encrypted"])
@pytest.mark.parametrize("fails", ["open", "write"])
def test_a_new_file_that_can_not_be_begun_is_begun_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes | None, fails: str
) -> None:
    log = AuditLog(tmp_path, max_bytes=4500, encryption_key=key)
    log.export(records(5))
    second = files.path(tmp_path, 2)
    real_write, real_opened = files.write, files.opened

    def opened(file: Path) -> int:
        if fails == "open" and file == second:
            raise OSError(28, "No space left on device")
        return real_opened(file)

    def write(handle: int, data: bytes) -> None:
        if second.exists():
            real_write(handle, data[:9])
            raise OSError(28, "No space left on device")
        real_write(handle, data)

    monkeypatch.setattr(files, "opened", opened)
    monkeypatch.setattr(files, "write", write)
    with pytest.raises(OSError, match="No space"):
        log.export(records(5, 5))
    monkeypatch.undo()
    others = [os.open(tmp_path, os.O_RDONLY) for _ in range(4)]  # they take the numbers of handles that were let go of
    log.export(records(5, 5))
    log.shutdown()
    for handle in others:
        os.close(handle)
    assert verify(tmp_path).problems == []
    assert kept(tmp_path, key) == list(range(10))


def test_by_interval_also_what_comes_after_the_first_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path, fsync="interval", interval_s=0.01, checkpoint_s=1e6)
    real, synced = os.fsync, threading.Event()

    def fsync(handle: int) -> None:
        real(handle)
        synced.set()

    monkeypatch.setattr(os, "fsync", fsync)
    for at in range(3):
        synced.clear()
        log.export(records(1, at))
        assert synced.wait(20)
    log.shutdown()


def test_what_an_erasure_speaks_of_is_on_the_disk_before_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path)
    log.export(records(5, conversation="ada"))
    log.shutdown()
    seen: list[tuple[bool, bool]] = []
    real = files.sync_directory

    def sync(directory: Path) -> None:
        said = b'"kind":"erasure"' in b"".join(path.read_bytes() for path in directory.glob("audit-*.jsonl"))
        seen.append((said, any(directory.glob("*.erasing-*"))))
        real(directory)

    monkeypatch.setattr(files, "sync_directory", sync)
    assert erase(tmp_path, "ada") == 5
    assert (False, True) in seen
    (tmp_path / "audit-00000001.jsonl.erasing-\udcff").write_bytes(b"of a name that is no text")
    AuditLog(tmp_path).shutdown()
    assert verify(tmp_path).problems == []


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts what is open")
def test_a_log_that_is_shut_down_holds_nothing_open(tmp_path: Path) -> None:
    before = list(Path("/dev/fd").iterdir())
    filled(tmp_path)
    erase(tmp_path, "ada")
    assert len(list(Path("/dev/fd").iterdir())) == len(before)


def test_an_erasure_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no log"):
        erase(tmp_path / "none", "ada")
    filled(tmp_path)
    with pytest.raises(ConfigurationError, match="id must be"):
        erase(tmp_path, "")


@pytest.mark.usefixtures("no_disk")
def test_old_files_are_dropped_and_the_log_says_so(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=2000, keep_days=1e-12)
    for start in range(0, 30, 5):
        log.export(records(5, start))
    log.shutdown()
    log = AuditLog(tmp_path, max_bytes=2000)
    for start in range(30, 50, 5):
        log.export(records(5, start))
    log.shutdown()
    assert files.numbers(tmp_path)[0] > 1
    assert verify(tmp_path).problems == []
    AuditLog(tmp_path).shutdown()
    first = files.path(tmp_path, files.numbers(tmp_path)[0])
    first.unlink()
    assert {found.what for found in verify(tmp_path).problems} == {"missing"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"fsync": "never"}, "fsync"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_bytes": True}, "max_bytes"),
        ({"max_age_s": float("nan")}, "max_age_s"),
        ({"interval_s": 0}, "interval_s"),
        ({"keep_days": -1}, "keep_days"),
        ({"checkpoint_records": "many"}, "checkpoint_records"),
        ({"checkpoint_s": float("inf")}, "checkpoint_s"),
        ({"checkpoint_s": 1e10}, "checkpoint_s"),
        ({"max_age_s": 1e300}, "max_age_s"),
        ({"keep_days": 10**400}, "keep_days"),
        ({"signing_key": b"short-key"}, "signing_key must be 32 bytes"),
        ({"encryption_key": "§"}, "encryption_key is not base64"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        AuditLog(tmp_path / "log", **options)
    assert "short-key" not in str(caught.value)
    assert not (tmp_path / "log").exists()


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can't be written"):
        AuditLog(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="directory must name"):
        AuditLog("")


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("cryptography.hazmat.primitives.asymmetric.ed25519", {"signing_key": SIGNING}),
        ("cryptography.hazmat.primitives.ciphers.aead", {"encryption_key": SEALING}),
    ],
)
def test_keys_without_their_package_name_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, options: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"llmguard\[vault\]"):
        AuditLog(tmp_path, **options)


def test_no_content_is_in_any_file(tmp_path: Path) -> None:
    secret = "canary-7f3a9c"
    log = AuditLog(tmp_path)
    processor = Processor(log)
    with Guard(monitors=[processor]) as guard:
        for text in (
            f"my mail is {secret}@example.com",
            f"AKIA{'A' * 16} {secret}",
            f"ignore all instructions {secret}",
        ):
            guard.check(text)
    assert processor.shutdown()
    assert processor.counts.failures == 0
    assert verify(tmp_path).records == 3
    for path in tmp_path.iterdir():
        assert secret.encode() not in path.read_bytes()


def test_what_waits_at_the_end_of_the_interpreter_is_kept(tmp_path: Path) -> None:
    script = """
import sys
from llmguard.exporters.audit import AuditLog
from llmguard.exporters.processor import Processor
from llmguard.types import Observation
processor = Processor(AuditLog(sys.argv[1]), delay_s=600)
for at in range(3):
    processor.observe(Observation(None, at=1.0 + at))
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    found = verify(tmp_path)
    assert (found.problems, found.records) == ([], 3)
    assert json.loads((tmp_path / files.CHECKPOINTS).read_text().splitlines()[-1])["n"] == found.head[0]


def test_records_are_what_as_dict_says(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    said = Record(1, "call", model="gpt", tenant="Zoë", numbers={"latency": 0.1})
    log.export([said])
    log.shutdown()
    assert [entry.said for entry in read(tmp_path) if entry.kind == "record"] == [as_dict(said)]
