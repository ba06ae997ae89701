"""States of drift monitors: saved, restored, merged, and refused when they are something else."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from llmguard.detectors import drift_report, state_file
from llmguard.detectors.drift import Category, DriftMonitor, Numeric, State
from llmguard.detectors.drift_state import FORMAT, VERSION
from llmguard.errors import ConfigurationError

FEATURES = [Numeric("value"), Category("word")]


def filled(seed: int, calls: int = 900, reference: int = 300) -> DriftMonitor:
    monitor = DriftMonitor(reference, window=320, features=FEATURES)
    rng = random.Random(seed)
    for _ in range(calls):
        monitor.record({"value": rng.gauss(10, 2), "word": rng.choice("abcd"[: 2 + seed % 3])})
    return monitor


def test_a_restored_monitor_is_the_same(tmp_path: Path) -> None:
    monitor = filled(1)
    monitor.save(tmp_path / "state.json")
    other = DriftMonitor(300, window=320, features=FEATURES)
    other.restore(tmp_path / "state.json")
    assert other.state().digest() == monitor.state().digest()
    assert other.scores() == monitor.scores()


def test_a_monitor_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    monitor = filled(1, calls=200)  # the reference is not complete yet
    monitor.save(tmp_path / "state.json")
    other = DriftMonitor(300, window=320, features=FEATURES)
    other.restore(tmp_path / "state.json")
    rng = random.Random(9)
    for _ in range(100):
        other.record({"value": rng.gauss(10, 2), "word": "a"})
    column = other.state().tables["record"].columns["value"]
    assert column.reference is not None
    assert column.reference.n == column.seen.n == 300


def test_states_of_workers_merge_into_that_of_one() -> None:
    parts = [filled(seed).state() for seed in (1, 2, 3)]
    merged = State.merged(parts).tables["record"]
    again = State.merged(reversed(parts)).tables["record"]
    assert merged.calls == 2700
    for name in ("value", "word"):
        columns = [part.tables["record"].columns[name] for part in parts]
        for side in ("seen", "recent", "reference"):
            one, other = getattr(merged.columns[name], side), getattr(again.columns[name], side)
            assert one.n == sum(getattr(column, side).n for column in columns)
            assert one.named() == other.named()
            assert one.layout.kind == "category" or (one.counts == other.counts).all()
            assert one.layout.kind == "category" or (one.mean, one.std) == (other.mean, other.std)
    whole = DriftMonitor(10_000, features=FEATURES)
    for seed in (1, 2, 3):
        rng = random.Random(seed)
        for _ in range(900):
            whole.record({"value": rng.gauss(10, 2), "word": rng.choice("abcd"[: 2 + seed % 3])})
    seen = whole.state().tables["record"].columns["value"].seen
    mine = merged.columns["value"].seen
    assert (mine.counts == seen.counts).all()
    assert (mine.mean, mine.std) == (seen.mean, seen.std)
    np.testing.assert_allclose(mine.quantiles(np.array([0.5])), seen.quantiles(np.array([0.5])), rtol=0.02)


def test_workers_of_one_reference_keep_it_once() -> None:
    known = filled(1).state()
    workers = []
    for seed in (5, 6):
        worker = DriftMonitor(known, window=320, features=FEATURES)
        rng = random.Random(seed)
        for _ in range(400):
            worker.record({"value": rng.gauss(10, 2), "word": "a"})
        workers.append(worker.state())
    column = State.merged(workers).tables["record"].columns["value"]
    assert column.reference is not None
    assert (column.seen.n, column.reference.n) == (800, 900)


def test_workers_of_different_references_do_not_merge() -> None:
    states = []
    for seed in (1, 2):
        worker = DriftMonitor(filled(seed).state(), features=FEATURES)
        worker.record({"value": 1.0, "word": "a"})
        states.append(worker.state())
    with pytest.raises(ConfigurationError, match="not the same one"):
        State.merged(states)


def test_features_of_other_bins_do_not_merge() -> None:
    states = []
    for feature in (Numeric("value"), Numeric("value", low=0, high=1)):
        monitor = DriftMonitor(100, features=[feature])
        monitor.record({"value": 0.5})
        states.append(monitor.state())
    with pytest.raises(ConfigurationError, match="different bins"):
        State.merged(states)


def test_nothing_does_not_merge() -> None:
    with pytest.raises(ConfigurationError, match="no drift state to merge"):
        State.merged([])


def broken(path: Path, how: str) -> None:
    text = path.read_text()
    said = json.loads(text)
    if how == "truncated":
        path.write_text(text[: len(text) // 2])
    elif how == "empty":
        path.write_text("")
    elif how == "foreign":
        path.write_text('{"format": "something else"}')
    elif how == "list":
        path.write_text("[1]")
    elif how == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif how == "version":
        path.write_text(json.dumps(said | {"version": 99}))
    else:
        said["tables"]["record"]["calls"] += 1
        path.write_text(json.dumps(said))


@pytest.mark.parametrize("how", ["truncated", "empty", "foreign", "list", "binary", "version", "changed"])
def test_a_file_that_is_none_is_refused_and_the_old_state_stays(how: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    filled(1).save(path)
    broken(path, how)
    monitor = filled(2)
    before = monitor.state().digest()
    with pytest.raises(ConfigurationError, match=r"state\.json"):
        monitor.restore(path)
    assert monitor.state().digest() == before


FORGED: list[tuple[tuple[str, ...], object]] = [
    (("calls",), -1),
    (("calls",), 1 << 60),
    (("calls",), 3.5),
    (("columns",), []),
    (("columns", "value", "layout"), ["signed", 0]),
    (("columns", "value", "seen", "missing"), -5),
    (("columns", "value", "seen", "counts"), [1 << 62] * 9),
    (("columns", "value", "seen", "at"), [-1]),
    (("columns", "value", "seen", "at"), [[1]]),
    (("columns", "value", "seen", "sum"), "9" * 5000),
    (("columns", "value", "seen", "squares"), "0"),
    (("columns", "value", "seen", "minimum"), "nan"),
    (("columns", "value", "seen", "maximum"), "-inf"),
    (("columns", "value", "recent", "sketch"), "AAAA"),
    (("columns", "value", "reference", "sketch"), ""),
    (("columns", "value", "names"), ["other"]),
    (("columns", "word", "names"), []),
    (("columns", "word", "names"), ["other", "a", "a"]),
    (("columns", "word", "names"), ["a", "other", "b", "c", "d"]),
    (("columns", "word", "names"), ["other", *map(str, range(1 << 16))]),
    (("columns", "word", "seen"), None),
]


@pytest.mark.parametrize(("place", "value"), FORGED, ids=[" ".join(place) for place, _ in FORGED])
def test_what_no_monitor_can_have_seen_is_refused_whatever_its_checksum(
    place: tuple[str, ...], value: object, tmp_path: Path
) -> None:
    path = tmp_path / "state.json"
    monitor = filled(1)
    monitor.save(path)
    body = state_file.read(path, FORMAT, VERSION)
    at = body["tables"]["record"]
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = value
    state_file.write(path, FORMAT, VERSION, body)
    before = monitor.state().digest()
    with pytest.raises(ConfigurationError, match="can't be understood"):
        monitor.restore(path)
    assert monitor.state().digest() == before


def test_a_state_of_other_bins_is_refused_and_the_old_state_stays() -> None:
    other = DriftMonitor(100, features=[Numeric("value", low=0, high=1), Category("word")])
    other.record({"value": 0.5, "word": "z"})
    monitor = filled(2)
    before = monitor.state().digest()
    with pytest.raises(ConfigurationError, match="different bins"):
        monitor.restore(other.state())
    assert monitor.state().digest() == before


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(ConfigurationError, match="can't be written"):
        filled(1).save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_state_does_not_grow_with_the_calls(tmp_path: Path) -> None:
    sizes = []
    for calls in (3_000, 24_000):
        path = tmp_path / f"{calls}.json"
        filled(1, calls=calls).save(path)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 1.3 * sizes[0]


def test_a_report_holds_rows_that_are_like_the_windows() -> None:
    pytest.importorskip("pandas", exc_type=ImportError)
    monitor = filled(1)
    before, after = monitor.report().frames()
    assert list(before.columns) == ["value", "word"]
    assert len(before) == 300
    assert before["value"].mean() == pytest.approx(10, abs=0.5)
    named = monitor.state().tables["record"].columns["word"].recent.named()
    assert after["word"].value_counts().to_dict() == named


def test_there_is_nothing_to_report_before_there_is_a_reference() -> None:
    with pytest.raises(ConfigurationError, match="nothing to report yet"):
        filled(1, calls=10).report()


def test_states_without_a_common_feature_have_no_report() -> None:
    other = DriftMonitor(100, features=[Numeric("else")])
    other.record({"else": 1.0})
    with pytest.raises(ConfigurationError, match="no feature in common"):
        drift_report.between(filled(1).state(), other.state())
