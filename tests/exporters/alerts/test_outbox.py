"""That what is put stays until it is delivered, in order, and that the file stays bounded."""

from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from alert_sinks import Bench, Scripted, group
from hypothesis import given
from hypothesis import strategies as st

from llmguard import ConfigurationError
from llmguard.exporters.alerts import outbox as outbox_module
from llmguard.exporters.alerts import outbox_file
from llmguard.exporters.alerts.notice import Group, Notice
from llmguard.exporters.alerts.outbox import COMPONENT, Counts, Outbox
from llmguard.exporters.alerts.outbox_claims import retry, sinks
from llmguard.exporters.alerts.outbox_rows import Message, encoded
from llmguard.exporters.alerts.sink import GONE, REFUSED, RETRY, Verdict


def waiting(outbox: Outbox) -> list[tuple[str, bool]]:
    return [(one.key, one.over) for one in outbox.messages(dead=False)]


def test_what_is_put_is_there_for_the_next_process(tmp_path: Path) -> None:
    first = Outbox(tmp_path / "a.sqlite")
    ids = first.put([("ops", group("a")), ("pager", group("b", over=True, severity="critical"))], 5.0)
    first.close()
    messages = Outbox(tmp_path / "a.sqlite").messages()
    assert [one.id for one in messages] == ids
    assert [(one.sink, one.severity, one.over, one.created) for one in messages] == [
        ("ops", "warning", False, 5.0),
        ("pager", "critical", True, 5.0),
    ]
    assert messages[0].group == group("a")
    assert len(set(ids)) == 2


_words = st.text(max_size=8)
_notices = st.builds(
    Notice,
    st.dictionaries(_words.filter(lambda name: name != "severity"), _words, max_size=4),
    st.dictionaries(_words, _words, max_size=3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.builds(Group, _words, st.dictionaries(_words, _words, max_size=3), st.tuples(_notices)))
def test_a_group_comes_back_as_it_was(one: Group) -> None:
    body = encoded(one)
    json.loads(body)
    message = Message(1, "m", "s", one.key, body, "warning", False, False, False, 0, 0.0, 0.0, 0.0, "")
    assert message.group == one


def test_broken_unicode_is_no_reason_to_lose_an_alert(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put(group("\udc80"))
    bench.deliver()
    assert bench.sink.taken[0][1].labels == group("\udc80").labels
    assert bench.outbox.messages() == []


@pytest.mark.parametrize(
    "body",
    [
        '{"key":"g","labels":{},"notices":[]}',
        '{"key":"g","labels":{},"notices":[{"labels":{"severity":"loud"},"annotations":{},"started":1,"ended":0}]}',
        '{"key":"g","labels":{},"notices":[{"labels":{},"annotations":{},"started":NaN,"ended":0}]}',
        '{"key":"g","labels":{},"notices":[{"labels":{},"annotations":{},"started":1' + "0" * 400 + ',"ended":0}]}',
    ],
)
def test_a_body_that_no_group_has_is_damaged(body: str) -> None:
    message = Message(1, "m", "s", "g", body, "warning", False, False, False, 0, 0.0, 0.0, 0.0, "")
    with pytest.raises(ValueError, match="notices"):
        _ = message.group


@pytest.mark.parametrize(
    "bad",
    [
        Group("g", {}, (Notice({"severity": "loud"}, {}, 1.0),)),
        Group("g", {}, (Notice({}, {}, 1.0), Notice({"severity": "loud"}, {}, 1.0, 2.0))),
        Group("g", {}, ()),
        Group("g", {}, (Notice({}, {}, float("nan")),)),
        Group("g", {}, (Notice({"x": object()}, {}, 1.0),)),  # type: ignore[dict-item]
    ],
)
def test_a_group_that_is_none_is_refused_and_nothing_of_it_kept(tmp_path: Path, bad: Group) -> None:
    outbox = Outbox(tmp_path / "a.sqlite")
    with pytest.raises(ConfigurationError, match="a group needs"):
        outbox.put([("ops", group()), ("ops", bad)])
    assert outbox.messages() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": ""}, "path must name a file"),
        ({"path": 3}, "path must name a file"),
        ({"max_messages": 0}, "max_messages must be a whole number, at least 1, not 0"),
        ({"max_bytes": 10}, "max_bytes must be a whole number, at least 65536, not 10"),
        ({"max_held": True}, "max_held must be a whole number"),
    ],
)
def test_arguments_that_are_none(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Outbox(**{"path": tmp_path / "a.sqlite", **options})


# Superseding


def test_a_repeat_takes_the_place_of_what_was_not_delivered(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    first = bench.put(group("a", value="1"))
    second = bench.put(group("a", value="2"))
    (one,) = bench.outbox.messages()
    assert [one.id] == second != first
    assert one.group.notices[0].annotations["value"] == "2"
    assert bench.outbox.counts == Counts(put=2, superseded=1)


def test_another_state_is_told_by_itself_and_in_order(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put(group("a"), group("a", over=True), group("a", started=9.0), group("a", over=True))
    bench.deliver()
    assert [(one.notices[0].started, one.resolved) for _, one in bench.sink.taken] == [
        (1.0, False),
        (1.0, True),
        (9.0, False),
        (1.0, True),
    ]


def test_a_message_that_tells_more_takes_the_place_of_its_parts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    a, b = group("a").notices[0], group("b").notices[0]
    parts = [Group("k", {}, (a,)), Group("k", {}, (b,))]
    bench.put(*parts)
    assert len(bench.outbox.messages()) == 2
    bench.put(*parts)
    assert len(bench.outbox.messages()) == 2
    bench.put(Group("k", {}, (a, b)))
    (one,) = bench.outbox.messages()
    assert one.group.notices == (a, b)
    bench.put(parts[0])
    assert len(bench.outbox.messages()) == 2


def test_other_sinks_and_groups_keep_theirs(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put(group("a"))
    bench.put(group("b"))
    bench.put(group("a"), sink="pager")
    assert bench.outbox.counts.superseded == 0


# Bounds


def refused(bench: Bench, *groups: Group) -> None:
    bench.sink.answer = lambda _, __: Verdict(REFUSED, "status 400")
    bench.put(*groups)
    bench.deliver()


def test_what_goes_when_it_is_full(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_messages=5)
    gone: list[tuple[str, bool, bool]] = []
    bench.outbox.on_drop(lambda one: gone.append((one.key, one.over, one.dead)))
    refused(bench, group("dead-1"), group("dead-over", over=True), group("dead-2"))
    bench.put(group("w-1", over=True), group("w-2"))
    assert gone == []
    for n in range(5):
        bench.put(group(f"new-{n}"))
    assert gone == [
        ("dead-over", True, True),
        ("dead-1", False, True),
        ("dead-2", False, True),
        ("w-1", True, False),
        ("w-2", False, False),
    ]
    assert [key for key, _ in waiting(bench.outbox)] == [f"new-{n}" for n in range(5)]
    assert bench.outbox.counts.dropped == 5
    with sqlite3.connect(bench.outbox.path) as known:
        assert known.execute("SELECT dropped, rows FROM totals").fetchone() == (5, 5)
    known.close()


def test_the_bytes_are_bounded_too_and_the_file_with_them(tmp_path: Path) -> None:
    most = 1 << 16
    bench = Bench(tmp_path, max_bytes=most)
    for n in range(500):
        bench.put(group(f"g-{n}", much="x" * 1000))
    kept = bench.outbox.messages()
    assert sum(one.size for one in kept) <= most
    assert [one.key for one in kept] == [f"g-{n}" for n in range(500 - len(kept), 500)]
    assert bench.outbox.counts.dropped == 500 - len(kept)
    bench.outbox.close()
    assert bench.outbox.path.stat().st_size < 4 * most


def test_what_is_too_large_drives_nothing_else_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_bytes=1 << 16)
    bench.put(group("small"))
    bench.put(group("large", much="x" * (1 << 16)))
    assert waiting(bench.outbox) == [("small", False)]
    assert bench.outbox.counts.dropped == 1


def test_a_repeat_in_a_full_outbox_drives_nothing_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path, max_messages=2)
    bench.put(group("a"), group("b"))
    for _ in range(10):
        bench.put(group("a"))
    assert sorted(waiting(bench.outbox)) == [("a", False), ("b", False)]


# A file that can't be written


def test_a_locked_file_makes_messages_wait_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_file, "_BUSY_S", 0.01)
    bench = Bench(tmp_path, max_held=3)
    told: list[tuple[str, str]] = []
    dropped: list[str] = []
    bench.outbox.on_failure(lambda component, error: told.append((component, type(error).__name__)))
    bench.outbox.on_drop(lambda one: dropped.append(one.key))
    bench.put(group("before"))
    other = sqlite3.connect(bench.outbox.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for n in range(5):
        bench.put(group(f"g-{n}"))
    assert (bench.outbox.counts.held, dropped, bench.outbox.flush()) == (3, ["g-0", "g-1"], False)
    assert set(told) == {(COMPONENT, "OperationalError")}
    other.execute("ROLLBACK")
    other.close()
    assert bench.outbox.flush()
    bench.deliver()
    assert [key for key, _ in bench.sink.told] == ["before", "g-2", "g-3", "g-4"]
    assert bench.outbox.counts.held == 0


def test_a_full_disk_does_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (connection,) = bench.outbox.file._open
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    for n in range(40):
        bench.put(group(f"g-{n}", much="x" * 1000))
    held = bench.outbox.counts.held
    assert 0 < held < 40
    assert bench.outbox.counts.failures == held
    connection.execute("PRAGMA max_page_count = 100000")
    bench.deliver()
    assert [key for key, _ in bench.sink.told] == [f"g-{n}" for n in range(40)]


def test_what_waits_in_memory_is_delivered_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_file, "_BUSY_S", 0.01)
    bench = Bench(tmp_path)
    bench.put(group("before"))
    other = sqlite3.connect(bench.outbox.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ids = bench.put(group("new"), group("before", over=True), group("new", over=True), group("bad"))
    bench.sink.answer = lambda one, _: Verdict(REFUSED if one.key == "bad" else "delivered", "status 400")
    for _ in range(3):
        bench.courier.turn()
    assert bench.sink.taken == [(ids[0], group("new")), (ids[2], group("new", over=True))]
    assert bench.outbox.counts.held == 1
    assert bench.outcomes == {"delivered": 2, "refused": 1}
    other.execute("ROLLBACK")
    other.close()
    bench.deliver()
    assert bench.sink.told[2:] == [("before", False), ("before", True)]
    assert bench.outbox.messages() == []


def test_a_receiver_that_is_down_while_the_file_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_file, "_BUSY_S", 0.01)
    bench = Bench(tmp_path)
    other = sqlite3.connect(bench.outbox.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.sink.answer = lambda *_: Verdict(RETRY, "status 429", 30.0)
    ids = bench.put(group("a"), group("b"))
    for _ in range(3):
        bench.courier.turn()
    assert len(bench.sink.seen) == 1
    bench.clock.now += 31
    bench.sink.answer = lambda *_: Verdict("delivered")
    bench.courier.turn()
    assert [message for message, _ in bench.sink.taken] == ids
    other.execute("ROLLBACK")
    other.close()
    bench.deliver()
    assert len(bench.sink.taken) == 2
    assert bench.outbox.messages() == []


def test_what_was_delivered_is_not_sent_again_because_nobody_could_write_it_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_file, "_BUSY_S", 0.01)
    other: list[sqlite3.Connection] = []

    def lock() -> None:
        other.append(sqlite3.connect(bench.outbox.path, isolation_level=None))
        other[0].execute("BEGIN IMMEDIATE")

    class Locking(Scripted):
        def send(self, message: str, group: Group, now: float) -> Verdict:
            if not other:
                lock()
            return super().send(message, group, now)

    bench = Bench(tmp_path, Locking())
    bench.put(group("a"), group("b"))
    assert [bench.courier.turn() for _ in range(3)] == [1.0, 2.0, 4.0]
    other[0].execute("ROLLBACK")
    other[0].close()
    bench.deliver()
    assert bench.sink.told == [("a", False), ("b", False)]
    assert bench.outbox.messages() == []


def test_what_could_not_be_written_down_keeps_nothing_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_file, "_BUSY_S", 0.01)
    other: list[sqlite3.Connection] = []

    class Locking(Scripted):
        def send(self, message: str, group: Group, now: float) -> Verdict:
            if not other:
                other.append(sqlite3.connect(bench.outbox.path, isolation_level=None))
                other[0].execute("BEGIN IMMEDIATE")
            return super().send(message, group, now)

    bench = Bench(tmp_path, Locking())
    bench.put(group("a"))
    bench.courier.turn()
    bench.put(group("a", over=True), group("b"))
    bench.courier.turn()
    assert bench.sink.told == [("a", False), ("b", False)]
    other[0].execute("ROLLBACK")
    other[0].close()
    bench.deliver()
    assert bench.sink.told == [("a", False), ("b", False), ("a", True)]
    assert bench.outbox.messages() == []


def test_a_receiver_that_wants_to_be_left_alone_is_so_though_nobody_could_write_it_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_file, "_BUSY_S", 0.01)
    bench = Bench(tmp_path)
    other = sqlite3.connect(bench.outbox.path, isolation_level=None)

    def busy(_: Group, __: float) -> Verdict:
        other.execute("BEGIN IMMEDIATE")
        return Verdict(RETRY, "status 429", 30.0)

    bench.sink.answer = busy
    bench.put(group("a"))
    bench.courier.turn()
    bench.put(group("b"))
    bench.courier.turn()
    assert len(bench.sink.seen) == 1
    other.execute("ROLLBACK")
    other.close()


def test_what_waits_in_memory_is_bounded_by_its_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_file, "_BUSY_S", 0.01)
    bench = Bench(tmp_path, max_bytes=1 << 16)
    other = sqlite3.connect(bench.outbox.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.put(*(group(f"g-{n}", much="x" * 10_000) for n in range(20)))
    assert (bench.outbox.counts.held, bench.outbox.counts.dropped) == (6, 14)
    other.execute("ROLLBACK")
    other.close()
    bench.deliver()
    assert [key for key, _ in bench.sink.told] == [f"g-{n}" for n in range(14, 20)]


@pytest.mark.parametrize("now", [float("nan"), float("inf"), "noon"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, now: Any) -> None:
    outbox = Outbox(tmp_path / "a.sqlite")
    with pytest.raises(ConfigurationError, match="now must be seconds since 1970"):
        outbox.put([("ops", group())], now)
    assert outbox.put([("ops", group())])
    assert outbox.counts == Counts(put=1)


def test_many_threads_put_at_a_time(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.sqlite")
    ids: list[list[str]] = [[] for _ in range(8)]

    def work(number: int) -> None:
        for n in range(20):
            ids[number] += outbox.put([("ops", group(f"{number}-{n}"))])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = outbox.messages()
    assert sorted(one.id for one in kept) == sorted(id_ for some in ids for id_ in some)
    for number in range(8):
        own = [one.id for one in kept if one.key.startswith(f"{number}-")]
        assert own == ids[number]


def test_who_is_interrupted_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)

    def interrupt(*_: object) -> list[Message]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(outbox_module, "make_room", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench.put(group("a"))
    assert bench.outbox.messages() == []
    bench.put(group("b"))
    assert waiting(bench.outbox) == [("a", False), ("b", False)]
    assert bench.outbox.counts.put == 2


# Looking and trying again by hand


def test_what_is_listed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    refused(bench, group("dead"))
    bench.put(group("a"))
    bench.put(group("b"), sink="pager")
    assert [one.key for one in bench.outbox.messages(dead=True)] == ["dead"]
    assert [one.key for one in bench.outbox.messages(sink="ops")] == ["dead", "a"]
    assert [one.key for one in bench.outbox.messages(limit=2)] == ["dead", "a"]
    said = bench.outbox.messages(dead=True)[0].as_dict()
    assert (said["state"], said["reason"], said["attempts"]) == ("dead", "status 400", 1)
    assert said["group"]["notices"][0]["labels"]["alertname"] == "Blocks"
    json.dumps(said)


def test_the_dead_live_again_by_hand_and_keep_their_id(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    refused(bench, group("a"), group("b"))
    first = [message for message, _, _ in bench.sink.seen]
    bench.sink.answer = lambda _, __: Verdict("delivered")
    assert retry(bench.outbox.file, bench.clock(), ids=[first[1]]) == 1
    bench.deliver()
    assert [message for message, _ in bench.sink.taken] == [first[1]]
    assert retry(bench.outbox.file, bench.clock(), sink="nobody") == 0
    assert retry(bench.outbox.file, bench.clock()) == 1
    bench.deliver()
    assert [message for message, _ in bench.sink.taken] == [first[1], first[0]]


def test_a_message_is_tried_again_only_at_the_sink_that_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda _, __: Verdict(GONE, "status 410")
    (id_,) = bench.put(group("a"))
    bench.deliver()
    assert retry(bench.outbox.file, bench.clock(), ids=[id_], sink="pager") == 0
    assert [one.gone for one in sinks(bench.outbox.file)] == ["status 410"]


def test_what_is_outdated_lives_again_only_by_its_id(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    refused(bench, group("a"))
    bench.sink.answer = lambda _, __: Verdict("delivered")
    bench.put(group("a", over=True))
    bench.deliver()
    (one,) = bench.outbox.messages()
    assert one.outdated
    assert retry(bench.outbox.file, bench.clock()) == 0
    assert retry(bench.outbox.file, bench.clock(), ids=[one.id]) == 1
    bench.deliver()
    assert bench.sink.told == [("a", True), ("a", False)]


def test_what_waits_for_its_next_attempt_need_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda _, __: Verdict(RETRY, "status 503")
    bench.put(group("a"))
    assert bench.deliver() > 0
    assert retry(bench.outbox.file, bench.clock()) == 1
    assert bench.courier.turn() == 0.0
    assert len(bench.sink.seen) == 2


def test_a_closed_outbox_opens_again(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "a.sqlite")
    outbox.put([("ops", group("a"))])
    outbox.close()
    outbox.put([("ops", group("b"))])
    assert len(outbox.messages()) == 2
    outbox.close()
