"""That whoever is to be told is told, in time, in order, and not twice."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard import ConfigurationError
from llmguard.exporters.alerts import routing
from llmguard.exporters.alerts.inhibition import Inhibition
from llmguard.exporters.alerts.matching import matchers
from llmguard.exporters.alerts.notice import Notice
from llmguard.exporters.alerts.routing import Firing, Message, Receiver, Router, Routing
from llmguard.exporters.alerts.silences import Silence

TIMES = Routing(("alertname",), 10.0, 60.0, 3600.0)
SINKS = {"group": Receiver(100), "pairs": Receiver(2), "single": Receiver(1)}


def notice(name: str, started: float = 0.0, **labels: str) -> Notice:
    return Notice({"alertname": name, "severity": "warning", **labels}, {"summary": "s"}, started)


def firing(*notices: Notice, sinks: Iterable[str] = SINKS) -> list[Firing]:
    return [Firing(one, tuple(sinks)) for one in notices]


def told(messages: Iterable[Message], sink: str = "group") -> list[list[tuple[str, bool]]]:
    """For each message to the sink: label ``model`` and whether it is over."""
    return [
        [(one.labels.get("model", ""), one.resolved) for one in message.group.notices]
        for message in messages
        if message.sink == sink
    ]


def run(router: Router, now: float, *notices: Notice) -> list[Message]:
    router.update(firing(*notices), now)
    return router.due(now)


A, B, C = notice("Blocks", model="a"), notice("Blocks", model="b"), notice("Blocks", model="c")


def test_a_group_waits_for_others_and_goes_out_whole_or_in_parts() -> None:
    router = Router(TIMES, SINKS)
    assert run(router, 0.0, A) == []
    assert run(router, 9.9, A, B, C) == []
    messages = run(router, 10.0, A, B, C)
    assert [len(part) for part in told(messages)] == [3]
    assert [len(part) for part in told(messages, "pairs")] == [2, 1]
    assert [len(part) for part in told(messages, "single")] == [1, 1, 1]
    assert {message.group.key for message in messages} == {messages[0].group.key}
    assert messages[0].group.labels == {"alertname": "Blocks"}


def test_what_joins_a_group_that_was_told_waits_for_the_interval_and_only_small_sinks_get_it_alone() -> None:
    router = Router(TIMES, SINKS)
    run(router, 0.0, A)
    run(router, 10.0, A)
    assert run(router, 69.9, A, B) == []
    messages = run(router, 70.0, A, B, C)
    assert [sorted(part) for part in told(messages)] == [[("a", False), ("b", False), ("c", False)]]
    assert sorted(told(messages, "single")) == [[("b", False)], [("c", False)]]


def test_an_alert_that_began_long_ago_does_not_wait() -> None:
    router = Router(TIMES, SINKS)
    assert len(told(run(router, 1000.0, replace(A, started=900.0)))) == 1


def test_what_still_fires_is_told_again_after_a_while_and_sooner_where_the_sink_forgets() -> None:
    router = Router(TIMES, {**SINKS, "forgets": Receiver(10, 120.0)})
    known = firing(A, sinks=[*SINKS, "forgets"])
    at: dict[str, list[float]] = defaultdict(list)
    for now in range(0, 3700, 5):
        router.update(known, now)
        for message in router.due(now):
            at[message.sink].append(now)
    assert at["group"] == at["single"] == [10, 3610]
    assert at["forgets"] == list(range(10, 3700, 120))


def test_that_it_is_over_is_told_once_and_only_to_who_knew_of_it() -> None:
    router = Router(TIMES, SINKS)
    run(router, 0.0, A)
    run(router, 10.0, A)
    assert run(router, 20.0, B) == []
    assert run(router, 30.0) == []  # b was over before anybody was told
    (over,) = told(run(router, 70.0))
    assert over == [("a", True)]
    assert [run(router, now) for now in (130.0, 190.0, 9000.0)] == [[], [], []]


def test_an_alert_that_flaps_between_two_messages_is_told_as_one_that_goes_on() -> None:
    router = Router(TIMES, SINKS)
    run(router, 0.0, A)
    run(router, 10.0, A)
    for now in range(11, 70):
        assert run(router, now, *([A] if now % 2 else [])) == []
    assert run(router, 70.0, A) == []


def test_what_goes_on_began_when_it_was_first_told() -> None:
    router = Router(Routing(repeat_s=60.0), SINKS)
    run(router, 100.0, replace(A, started=100.0))
    run(router, 110.0, replace(A, started=100.0))
    messages = run(router, 170.0, replace(A, started=150.0)) + run(router, 230.0)
    assert told(messages) == [[("a", False)], [("a", True)]]
    assert {one.started for message in messages for one in message.group.notices} == {100.0}


def test_a_group_that_is_over_keeps_its_pace_when_it_begins_anew() -> None:
    router = Router(TIMES, SINKS)
    at = [now for now in range(600) if run(router, now, *([A] if now // 30 % 2 == 0 else []))]
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(at))


def test_silences_and_inhibitions_keep_firing_alerts_back_but_not_that_they_are_over() -> None:
    silence = Silence(matchers({"model": "a"}), 0.0, 100.0)
    critical = replace(B, labels={**B.labels, "severity": "critical"})
    inhibition = Inhibition(matchers({"severity": "critical"}), matchers({"model": "c"}), ("alertname",))
    router = Router(TIMES, SINKS, [inhibition], [silence])
    messages = run(router, 0.0, A, critical, C) + run(router, 10.0, A, critical, C)
    assert told(messages) == [[("b", False)]]
    assert told(run(router, 70.0, A, critical, C)) == []
    assert sorted(told(run(router, 130.0, A, critical, C))[0]) == [("a", False), ("b", False)]
    assert sorted(told(run(router, 190.0, A, C))[0]) == [("a", False), ("b", True), ("c", False)]
    silence = Silence(matchers({"alertname": "Blocks"}), 0.0, 1e9)
    silenced = Router(TIMES, SINKS, [], [silence], told=router.told(), now=200.0)
    assert sorted(told(run(silenced, 210.0))[0]) == [("a", True), ("c", True)]


def test_labels_that_group() -> None:
    others = notice("Leaks", model="a")
    by_model = Router(Routing(("model", "none"), 0.0), SINKS)
    assert sorted(map(sorted, told(run(by_model, 0.0, A, B, others)))) == [[("a", False)] * 2, [("b", False)]]
    together = Router(Routing((), 0.0), SINKS)
    assert len(told(run(together, 0.0, A, B, others))) == 1
    apart = Router(Routing(("...",), 0.0), SINKS)
    assert len(told(run(apart, 0.0, A, B, others))) == 3


def test_what_was_told_is_known_after_a_restart_and_after_other_rules() -> None:
    before = Router(TIMES, SINKS)
    run(before, 0.0, A, B)
    run(before, 10.0, A, B)
    after = Router(replace(TIMES, group_by=("model",)), {"group": SINKS["group"]}, told=before.told(), now=20.0)
    messages = run(after, 20.0, B) + run(after, 30.0, B) + run(after, 90.0, B)
    assert {message.sink for message in messages} == {"group"}
    assert told(messages) == [[("a", True)]]


def test_at_the_end_nothing_is_waited_for() -> None:
    router = Router(TIMES, SINKS)
    router.update(firing(A), 0.0)
    assert len(told(router.due(0.0, hurry=True))) == 1
    router.update(firing(A, B), 1.0)
    assert told(router.due(1.0, hurry=True), "single") == [[("b", False)]]
    assert router.due(2.0, hurry=True) == []


def test_a_clock_that_is_set_back_puts_nothing_off() -> None:
    router = Router(TIMES, SINKS)
    run(router, 1e6, A)
    run(router, 1e6 + 10, A)
    assert run(router, 100.0, A, B) == []
    assert len(told(run(router, 170.0, A, B))) == 1


def test_memory_is_bounded_and_what_there_was_no_room_for_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MOST", 3)
    router = Router(Routing((), 0.0, 1.0), {"group": Receiver(100)})
    many = [notice("Many", model=str(number)) for number in range(5)]
    assert [len(part) for part in told(run(router, 0.0, *many))] == [3]
    assert router.left == 2
    over = run(router, 1.0, *many[3:])
    assert [len(part) for part in told(over)] == [3]
    assert [len(part) for part in told(run(router, 2.0, *many[3:]))] == [2]
    assert router.left == 0
    for now in range(3, 50):
        run(router, float(now))
    assert not router._groups


@pytest.mark.parametrize("wrong", [{"group_wait_s": -1.0}, {"group_interval_s": 0.0}, {"repeat_s": float("nan")}])
def test_times_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Routing(**wrong)


@st.composite
def _stories(draw: st.DrawFn) -> tuple[Routing, list[tuple[float, frozenset[int]]]]:
    """When is looked, and which of six alerts fire then."""
    times = Routing(
        draw(st.sampled_from([("alertname",), ("model",), (), ("...",)])),
        draw(st.sampled_from([0.0, 1.0, 10.0])),
        draw(st.sampled_from([1.0, 10.0, 60.0])),
        draw(st.sampled_from([5.0, 60.0, 200.0])),
    )
    story, now, fires = [], 0.0, frozenset[int]()
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([1.0, 3.0, 7.0, 30.0]))
        fires ^= draw(st.frozensets(st.integers(0, 5), max_size=2))
        story.append((now, fires))
    return times, story


ALERTS = [notice(name, model=model) for name in ("Blocks", "Leaks") for model in "abc"]
MARKS = {one.fingerprint: number for number, one in enumerate(ALERTS)}


class Reader:
    """Believes what it is told, and minds what it has no need to be told."""

    def __init__(self, times: Routing, most: int) -> None:
        self.times = times
        self.most = most
        self.believed: dict[int, float] = {}  # what it holds to be firing, and when it heard so last
        self.groups: dict[str, tuple[float, frozenset[tuple[int, bool]]]] = {}

    def hear(self, messages: Iterable[Message], fires: frozenset[int], now: float) -> None:
        before = dict(self.believed)
        for message in messages:
            content = frozenset((MARKS[one.fingerprint], one.resolved) for one in message.group.notices)
            assert len(content) == len(message.group.notices) <= self.most
            last, what = self.groups.get(message.group.key, (-1e9, frozenset()))
            assert last == now or now - last >= self.times.group_interval_s
            assert content != what or now - last >= self.times.repeat_s
            self.groups[message.group.key] = (now, content)
            assert any([self._news(number, over, before, fires, now) for number, over in content])

    def _news(self, number: int, over: bool, before: dict[int, float], fires: frozenset[int], now: float) -> bool:
        assert (number in fires) is not over
        if over:
            assert self.believed.pop(number, None) is not None
            return True
        self.believed[number] = now
        news = number not in before or now - before[number] >= self.times.repeat_s
        assert news or self.most > 1
        return news


@given(_stories(), st.integers(1, 39), st.sampled_from([1, 2, 100]))
def test_everybody_knows_in_time_and_nobody_is_told_twice(
    said: tuple[Routing, list[tuple[float, frozenset[int]]]], restart: int, most: int
) -> None:
    times, story = said
    router, reader = Router(times, {"sink": Receiver(most)}), Reader(times, most)
    since: dict[int, float] = {}  # since when each has been as it is
    before: frozenset[int] = frozenset()
    for step, (now, fires) in enumerate(story):
        since |= {number: now for number in range(len(ALERTS)) if number not in since or number in fires ^ before}
        before = fires
        if step == restart:
            router = Router(times, {"sink": Receiver(most)}, told=router.told(), now=now)
            since = dict.fromkeys(since, now)
            reader.groups.clear()
        notices = [replace(ALERTS[number], started=since[number]) for number in fires]
        router.update(firing(*notices, sinks=["sink"]), now)
        reader.hear(router.due(now), fires, now)
        late = {number for number, start in since.items() if now - start >= times.group_wait_s + times.group_interval_s}
        assert late & fires == late & set(reader.believed)
