"""What becomes of a message, and of a sink, after each answer; with a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alert_sinks import TAKEN, WEEK, Bench, Scripted, group

from llmguard.exporters.alerts.courier import Courier
from llmguard.exporters.alerts.notice import Group
from llmguard.exporters.alerts.outbox_claims import claim, retry, sinks
from llmguard.exporters.alerts.sink import DELIVERED, GONE, REFUSED, RETRY, Verdict
from llmguard.readings import OUTCOMES, Dispatched

DOWN = Verdict(RETRY, "status 503")
DAY = 86_400.0


def times(bench: Bench) -> list[float]:
    return [at for _, _, at in bench.sink.seen]


def always(verdict: Verdict) -> Callable[[Group, float], Verdict]:
    return lambda _, __: verdict


def test_a_message_is_delivered_once_and_gone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (id_,) = bench.put(group("a", severity="critical"))
    assert bench.deliver() > 0
    assert [message for message, _ in bench.sink.taken] == [id_]
    assert bench.outbox.messages() == []
    (told,) = bench.dispatched
    assert told == Dispatched("ops", "delivered", "critical", 1, told.seconds)
    assert told.seconds >= 0.0


def test_a_message_that_some_are_refused_is_delivered_and_that_is_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = always(Verdict(DELIVERED, "1 of 2 recipients refused"))
    bench.put(group("a"))
    bench.deliver()
    assert bench.failed == ["PartlyDeliveredError"]
    assert [told.outcome for told in bench.dispatched] == ["delivered"]
    assert bench.outbox.messages() == []


def test_pauses_grow_to_an_hour_with_jitter_and_the_id_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = always(DOWN)
    (id_,) = bench.put(group("a"))
    bench.run(bench.clock() + DAY)
    assert {message for message, _, _ in bench.sink.seen} == {id_}
    pauses = [later - earlier for earlier, later in zip(times(bench), times(bench)[1:], strict=False)]
    for n, pause in enumerate(pauses):
        most = min(2.0**n, 3600.0)
        assert most / 2 <= pause <= most + 0.01
    assert 24 + 11 <= len(pauses) <= 48 + 12
    assert len({round(pause, 3) for pause in pauses}) == len(pauses)
    (one,) = bench.outbox.messages()
    assert (one.dead, one.attempts, one.reason) == (False, len(times(bench)), "status 503")


def test_a_receiver_that_is_dead_for_a_week_loses_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    begun = bench.clock()
    dead_until = begun + WEEK
    bench.sink.answer = lambda _, now: TAKEN if now >= dead_until else Verdict(RETRY, "ConnectError")
    put = []
    for n in range(7 * 6):  # a firing alert is told again every four hours; others begin and end
        bench.run(begun + n * 4 * 3600)
        put += bench.put(group("lasting", value=str(n)), group(f"short-{n}"))
        bench.run(begun + n * 4 * 3600 + 1800)
        put += bench.put(group(f"short-{n}", over=True))
    assert bench.sink.told == []
    assert len(bench.outbox.messages()) == 1 + 2 * 42
    assert len(times(bench)) < WEEK / 30
    bench.run(dead_until + 3600)
    told = bench.sink.told
    assert told.count(("lasting", False)) == 1
    for n in range(42):
        assert [over for key, over in told if key == f"short-{n}"] == [False, True]
    assert bench.outbox.messages() == []
    assert bench.outbox.counts.dropped == 0
    assert len({message for message, _ in bench.sink.taken}) == len(told)


def test_what_nobody_takes_for_longer_is_dead_and_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = always(DOWN)
    bench.put(group("a"), group("a", over=True), group("b"))
    bench.run(bench.clock() + 9 * DAY)
    dead = bench.outbox.messages()
    assert [(one.key, one.dead) for one in dead] == [("a", True), ("a", True), ("b", True)]
    assert all(one.reason.startswith("gave up: ") for one in dead)
    assert bench.outcomes["expired"] == 3
    seen = len(times(bench))
    bench.run(bench.clock() + DAY)
    assert len(times(bench)) == seen
    assert retry(bench.outbox.file, bench.clock()) == 3
    bench.sink.answer = always(TAKEN)
    bench.run(bench.clock() + 60)
    assert sorted(bench.sink.told) == [("a", False), ("a", True), ("b", False)]


def test_a_machine_that_slept_or_had_no_clock_gives_nothing_up_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.put(group("a"), group("b"))
    bench.clock.now += 50 * 365 * DAY
    up = bench.clock() + 60
    bench.sink.answer = lambda _, now: TAKEN if now >= up else DOWN  # the network comes after the clock
    bench.run(up + 60)
    assert sorted(bench.sink.told) == [("a", False), ("b", False)]
    assert bench.outcomes["expired"] == 0


def test_the_receiver_says_when_to_come_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    begun = bench.clock()
    bench.sink.answer = lambda _, now: TAKEN if now >= begun + 120 else Verdict(RETRY, "status 429", 120.0)
    bench.put(group("a"), group("b"))
    assert bench.deliver() == 120.0
    assert len(times(bench)) == 1
    bench.clock.now += 60
    bench.put(group("c"))
    assert bench.deliver() == 60.0
    assert len(times(bench)) == 1
    bench.run(begun + 121)
    assert bench.sink.told == [("a", False), ("b", False), ("c", False)]
    assert times(bench)[1:] == [begun + 120] * 3


@pytest.mark.parametrize("asked", [1e12, float("inf"), -5.0, 0.0, float("nan")])
def test_a_receiver_that_asks_for_too_much_is_not_heeded(tmp_path: Path, asked: float) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = always(Verdict(RETRY, "status 429", asked))
    bench.put(group("a"))
    assert bench.courier.turn() == 0.0
    assert 0.0 < bench.courier.turn() <= DAY


def test_a_message_that_is_wrong_is_dead_and_the_next_of_its_group_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group, _: TAKEN if group.resolved else Verdict(REFUSED, "status 400")
    bench.put(group("a"), group("b"), group("a", over=True), group("b", over=True))
    bench.deliver()
    assert bench.sink.told == [("a", True), ("b", True)]
    assert [(one.reason, one.attempts, one.outdated) for one in bench.outbox.messages(dead=True)] == [
        ("status 400", 1, True)
    ] * 2
    assert bench.outcomes == {"refused": 2, "delivered": 2}


def test_a_sink_that_is_gone_gets_nothing_more_until_somebody_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = always(Verdict(GONE, "status 410"))
    bench.put(group("a"), group("b"))
    bench.deliver()
    bench.put(group("c"))
    bench.run(bench.clock() + DAY)
    assert len(times(bench)) == 1
    assert [(one.key, one.reason) for one in bench.outbox.messages(dead=True)] == [(key, "status 410") for key in "abc"]
    assert [(one.name, one.gone, one.dead) for one in sinks(bench.outbox.file)] == [("ops", "status 410", 3)]
    assert bench.outcomes == {"gone": 1}
    bench.sink.answer = always(TAKEN)
    assert retry(bench.outbox.file, bench.clock(), sink="ops") == 3
    bench.put(group("d"))
    bench.deliver()
    assert bench.sink.told == [(key, False) for key in "abcd"]


def test_one_message_that_always_fails_holds_up_only_its_group(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = lambda group, _: DOWN if group.key == "poison" else TAKEN
    bench.put(group("poison"), group("poison", over=True))
    for n in range(50):
        bench.put(group(f"g-{n}"))
        bench.run(bench.clock() + 300)
    assert [key for key, _ in bench.sink.told] == [f"g-{n}" for n in range(50)]
    assert len(bench.outbox.messages()) == 2
    assert len([1 for _, one, _ in bench.sink.seen if one.key == "poison"]) < 50


def test_a_dead_sink_is_tried_about_once_a_minute_however_much_waits(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = always(DOWN)
    bench.put(*(group(f"g-{n}") for n in range(1000)))
    bench.run(bench.clock() + 3600)
    assert 60 <= len(times(bench)) <= 120 + 10


def test_when_it_works_again_all_that_waits_is_due(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    begun = bench.clock()
    bench.sink.answer = lambda _, now: TAKEN if now >= begun + 7200 else DOWN
    bench.put(*(group(f"g-{n}") for n in range(100)))
    bench.run(begun + 7200 + 60)
    assert len(bench.sink.told) == 100


def test_no_more_often_than_the_sink_allows_whoever_delivers(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Scripted(pause_s=1.0))
    other = bench.another()
    bench.put(*(group(f"g-{n}") for n in range(5)))
    for _ in range(12):
        bench.courier.turn()
        other.turn()
        bench.clock.now += 0.5
    assert len(times(bench)) == 5
    assert all(later - earlier >= 1.0 for earlier, later in zip(times(bench), times(bench)[1:], strict=False))


def test_a_sink_that_raises_is_told_and_tried_again(tmp_path: Path) -> None:
    class Broken(Scripted):
        def send(self, message: str, group: Group, now: float) -> Verdict:
            super().send(message, group, now)
            if len(self.seen) < 3:
                raise ZeroDivisionError("canary-4711")
            return TAKEN

    bench = Bench(tmp_path, Broken())
    bench.put(group("a"))
    bench.deliver()
    (one,) = bench.outbox.messages()
    assert one.reason == "ZeroDivisionError"
    bench.run(bench.clock() + 60)
    assert bench.outbox.messages() == []
    assert bench.failed == ["ZeroDivisionError"] * 2


def test_no_answer_at_all_counts_as_a_failure(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.send = lambda *_: None  # type: ignore[assignment, method-assign, return-value]
    bench.put(group("a"))
    bench.deliver()
    assert [(one.attempts, one.reason) for one in bench.outbox.messages()] == [(1, "TypeError")]
    assert bench.failed == ["TypeError"]


def test_an_answer_that_is_none_counts_as_a_failure(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sink.answer = always(Verdict("perhaps"))
    bench.put(group("a"))
    bench.deliver()
    assert len(bench.outbox.messages(dead=False)) == 1
    assert bench.outcomes == {"retry": 1}
    assert set(bench.outcomes) <= set(OUTCOMES)


# Several that deliver


def test_one_at_a_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    inside: list[float] = []

    def send(_: Group, __: float) -> Verdict:
        inside.append(other.turn())
        return TAKEN

    bench.sink.answer = send
    other_sink = Scripted()
    other = bench.another(other_sink)
    bench.put(group("a"), group("b"))
    bench.deliver()
    assert inside == [45.0, 45.0]
    assert other_sink.seen == []
    assert other.turn() > 60


def test_who_was_killed_in_his_turn_loses_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    ids = bench.put(group("a"), group("b"))
    killed = claim(bench.outbox.file, "ops", "killed", bench.clock(), 45.0, 64)
    assert [one.id for one in killed.messages] == ids
    assert bench.courier.turn() == 45.0
    bench.run(bench.clock() + 46)
    assert [message for message, _ in bench.sink.taken] == ids


def test_who_wakes_up_after_his_turn_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    class Stopped(Scripted):
        def send(self, message: str, group: Group, now: float) -> Verdict:
            super().send(message, group, now)
            bench.clock.now += 100
            assert bench.courier.turn() == 0.0  # now another one's
            return self.answer(group, now)

    stopped = Stopped(answer=always(Verdict(RETRY, "timeout")))
    bench.sink.answer = always(DOWN)
    late = bench.another(stopped)
    bench.put(group("a"))
    late.turn()
    (one,) = bench.outbox.messages()
    assert (one.reason, one.attempts) == ("status 503", 1)
    assert bench.courier.turn() <= 1.0


def test_what_was_delivered_after_the_turn_is_delivered(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def stop(_: Group, __: float) -> Verdict:
        bench.clock.now += 100
        assert bench.courier.turn() == 0.0
        return TAKEN

    bench.sink.answer = always(DOWN)
    bench.put(group("a"))
    bench.another(Scripted(answer=stop)).turn()
    assert bench.outbox.messages() == []


def test_a_turn_is_short(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def slow(_: Group, __: float) -> Verdict:
        bench.clock.now += 0.2
        return TAKEN

    bench.sink.answer = slow
    bench.put(*(group(f"g-{n}") for n in range(4)))
    assert bench.courier.turn() == 0.0
    assert len(times(bench)) == 2
    assert len(bench.outbox.messages()) == 2
    bench.deliver()
    assert len(bench.sink.told) == 4


def test_a_clock_that_was_wrong_holds_nothing_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    right = bench.clock.now
    bench.clock.now += 10 * 365 * DAY
    bench.sink.answer = always(DOWN)
    bench.put(group("a"))
    assert bench.courier.turn() == 0.0
    claim(bench.outbox.file, "ops", "killed", bench.clock.now + 5, 45.0, 1)
    bench.clock.now = right
    bench.sink.answer = always(TAKEN)
    bench.put(group("b"))
    bench.deliver()
    assert bench.sink.told == [("a", False), ("b", False)]


def test_its_own_calls_are_not_traced(tmp_path: Path) -> None:
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    bench = Bench(tmp_path)
    seen: list[bool] = []
    bench.sink.answer = lambda _, __: [TAKEN, seen.append(is_instrumentation_enabled())][0]  # type: ignore[return-value]
    bench.put(group("a"))
    bench.deliver()
    assert seen == [False]
    assert is_instrumentation_enabled()


def test_no_further_message_is_begun_once_it_stops(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    options: dict[str, Any] = {"told": bench.dispatched.append, "failed": lambda *_: None, "clock": bench.clock}
    from llmguard.exporters.alerts.courier import Pace

    courier = Courier(bench.outbox, bench.sink, Pace(), stopping=lambda: len(bench.sink.seen) > 1, **options)
    bench.put(*(group(f"g-{n}") for n in range(4)))
    courier.turn()
    assert len(bench.sink.told) == 2
    bench.deliver()
    assert [key for key, _ in bench.sink.told] == [f"g-{n}" for n in range(4)]
