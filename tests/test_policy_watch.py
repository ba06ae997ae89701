from __future__ import annotations

import shutil
from pathlib import Path
from queue import Queue

import pytest

from llmguard.errors import ConfigurationError
from llmguard.policy import Policy
from llmguard.policy_watch import Watcher, watch

GOOD = "name: p\nversion: '{}'\nrules:\n  - {{detector: a, action: flag}}\n"


class Heard:
    """What a watcher said, in order."""

    def __init__(self) -> None:
        self.said: Queue[Policy | ConfigurationError] = Queue()

    def watch(self, path: Path, current: Policy | None = None) -> Watcher:
        return watch(path, self.said.put, self.said.put, current=current)

    def policy(self) -> Policy:
        said = self.said.get(timeout=20)
        assert isinstance(said, Policy), said
        return said

    def error(self) -> ConfigurationError:
        said = self.said.get(timeout=20)
        assert isinstance(said, ConfigurationError), said
        return said


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(GOOD.format(1))
    return tmp_path / "policy.yaml"


def replace(file: Path, text: str) -> None:
    fresh = file.with_suffix(".swp")
    fresh.write_text(text)
    fresh.replace(file)


def test_a_change_is_handed_over_however_it_is_written(file: Path, heard: Heard) -> None:
    with heard.watch(file):
        replace(file, GOOD.format(2))
        assert heard.policy().version == "2"
        replace(file, GOOD.format(3))
        assert heard.policy().version == "3"
        with file.open("r+") as handle:
            handle.write(GOOD.format(4))
        assert heard.policy().version == "4"
    assert heard.said.empty()


def test_a_broken_file_is_told_once_and_a_repaired_one_is_handed_over(file: Path, heard: Heard) -> None:
    with heard.watch(file):
        replace(file, "name: p\nrules:\n  - {detector: a, action: flg}\n")
        error = heard.error()
        assert (Path(error.source), error.line) == (file, 3)
        assert "(did you mean 'flag'?)" in str(error)
        replace(file, GOOD.format(1))
        assert heard.policy().version == "1", "after trouble the same policy is news"
        file.unlink()
        assert "can't be read" in str(heard.error())
        file.write_text(GOOD.format(2))
        assert heard.policy().version == "2"
    assert heard.said.empty()


def test_only_what_is_said_counts(file: Path, heard: Heard) -> None:
    with heard.watch(file):
        replace(file, "# a comment\n" + GOOD.format(1))
        (file.parent / "other.yaml").write_text("name: other")
        replace(file, GOOD.format(2))
        assert heard.policy().version == "2"
    assert heard.said.empty()


def test_extended_files_are_followed_into_other_folders(file: Path, heard: Heard) -> None:
    base = file.parent / "base" / "base.yaml"
    base.parent.mkdir()
    base.write_text("deadline_ms: 1\n")
    with heard.watch(file):
        replace(file, "extends: base/base.yaml\n")
        assert heard.policy().deadline_ms == 1
        replace(base, "deadline_ms: 2\n")
        assert heard.policy().deadline_ms == 2
        replace(base, "deadline_ms: 0\n")
        assert Path(heard.error().source) == base
        replace(base, "deadline_ms: 3\n")
        assert heard.policy().deadline_ms == 3


def test_a_folder_behind_a_link_may_be_swapped_as_kubernetes_does(tmp_path: Path, heard: Heard) -> None:
    for version in (1, 2):
        (tmp_path / f"v{version}").mkdir()
        (tmp_path / f"v{version}" / "policy.yaml").write_text(GOOD.format(version))
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "policy.yaml").symlink_to("data/policy.yaml")
    with heard.watch(tmp_path / "policy.yaml"):
        (tmp_path / "fresh").symlink_to("v2")
        (tmp_path / "fresh").replace(tmp_path / "data")
        assert heard.policy().version == "2"


def test_a_folder_may_go_and_come_back(file: Path, heard: Heard) -> None:
    with heard.watch(file):
        replace(file, GOOD.format(2))
        assert heard.policy().version == "2"
        shutil.rmtree(file.parent)
        assert "can't be read" in str(heard.error())
        file.parent.mkdir()
        file.write_text(GOOD.format(3))
        assert heard.policy().version == "3"


def test_what_changed_before_the_watch_began_counts(file: Path, heard: Heard) -> None:
    current = Policy.load(file)
    file.write_text(GOOD.format(2))
    with heard.watch(file, current):
        assert heard.policy().version == "2"


def test_a_policy_that_is_refused_is_an_error(file: Path) -> None:
    errors: Queue[ConfigurationError] = Queue()

    def refuse(policy: Policy) -> None:
        raise ConfigurationError(f"not version {policy.version}")

    with watch(file, refuse, errors.put):
        replace(file, GOOD.format(2))
        assert str(errors.get(timeout=20)) == "not version 2"


def test_a_broken_file_can_not_be_the_first(file: Path, heard: Heard) -> None:
    file.write_text("nam: x")
    with pytest.raises(ConfigurationError, match="unknown key 'nam'"):
        heard.watch(file)


def test_a_callback_may_close_and_closing_twice_is_fine(file: Path) -> None:
    closed: Queue[str] = Queue()
    watchers: list[Watcher] = []

    def stop(policy: Policy) -> None:
        watchers[0].close()
        closed.put(policy.version)

    watchers.append(watch(file, stop, lambda _: None))
    replace(file, GOOD.format(2))
    assert closed.get(timeout=20) == "2"
    watchers[0].close()
    watchers[0].close()
    assert not watchers[0]._thread.is_alive()
