"""Counters against a list of all records, and that neither series nor memory grow without bound."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import called, made

from llmguard.exporters.alerts.counters import MAX_GROUPS, Counters, Watch, watch
from llmguard.exporters.alerts.measure import MEASURES
from llmguard.exporters.alerts.windows import PARTS
from llmguard.exporters.record import Found, Ran, Record
from llmguard.types import PolicyRef

STAGES, ACTIONS, MODELS = ("input", "output"), ("allow", "redact", "block"), ("", "a", "b")
SELECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "all": {},
    "input": {"stage": ("input",)},
    "blocked": {"action": ("block", "redact"), "stage": ("output",)},
    "found": {"category": ("BAD",), "detector": ("one",)},
    "failed": {"outcome": ("error",), "model": ("a",)},
    "shadow": {"enforced": ("false",), "policy": ("p",), "tenant": ("t1",)},
}


@st.composite
def records(draw: Any) -> Record:
    about = {
        "model": draw(st.sampled_from(MODELS)),
        "tenant": draw(st.sampled_from(["", "t1"])),
        "prompt": ("n", draw(st.sampled_from("12")), ""),
    }
    if draw(st.booleans()):
        return called(numbers={"latency": draw(st.floats(0, 3)), "cost": 0.25}, **about)
    names = st.sampled_from(["one", "two"])
    found = st.builds(
        Found, names, st.sampled_from(["BAD", "ODD"]), st.floats(0, 1), st.none(), st.sampled_from(ACTIONS), st.just(())
    )
    ran = st.builds(
        Ran, names, st.just("1"), st.sampled_from(["hit", "error"]), st.floats(0, 1), st.just(""), st.just("")
    )
    return made(
        stage=draw(st.sampled_from(STAGES)),
        action=draw(st.sampled_from(ACTIONS)),
        enforced=draw(st.booleans()),
        policy=PolicyRef(draw(st.sampled_from("pq")), "", ""),
        findings=tuple(draw(st.lists(found, max_size=3))),
        runs=tuple(draw(st.lists(ran, max_size=3))),
        seconds=draw(st.floats(0, 3)),
        **about,
    )


def matching(one: Watch, record: Record) -> list[tuple[tuple[str, ...], float]]:
    measure = MEASURES[one.value]
    if record.kind != measure.kind:
        return []
    rows = [(dict(zip(measure.labels, key, strict=True)), amount) for key, amount in measure.seen(record)]
    return [
        (tuple(labels[name] for name in one.by), amount)
        for labels, amount in rows
        if all(labels[name] in words for name, words in one.of)
    ]


WATCHES = [
    watch(value, of, by, window_s)
    for value, of, by, window_s in itertools.product(
        MEASURES, SELECTIONS.values(), [(), ("model",), ("stage", "model")], [60.0, 600.0]
    )
    if all(label in MEASURES[value].labels for label in (*of, *by))
]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 120), records()), max_size=25),
    st.lists(st.sampled_from(WATCHES), min_size=1, max_size=12),
)
def test_counters_are_lists_of_all_records(seen: list[tuple[int, Record]], watches: list[Watch]) -> None:
    counters, now, all_of_them = Counters(watches), 1_000.0, []
    for wait, record in seen:
        now += wait
        counters.observe(record, now)
        all_of_them.append((now, record))
    for one in watches:
        measure, part = MEASURES[one.value], one.window_s / PARTS
        first = math.ceil(now / part) - PARTS
        expected: dict[tuple[str, ...], list[float]] = {} if one.by else {(): []}
        for at, record in all_of_them:
            for group, amount in matching(one, record):
                values = expected.setdefault(group, [])
                if math.ceil(at / part) > first:
                    values.append(amount)
        read = {group: sum(window.sums(now)) for group, window in counters.read(one).items()}
        assert read == pytest.approx(
            {group: len(values) if measure.spread else math.fsum(values) for group, values in expected.items()}
        )


def test_series_are_bounded_and_shares_keep_their_groups() -> None:
    of, among = watch("decisions", {"action": ("block",)}, ("model",), 60.0), watch("decisions", {}, ("model",), 60.0)
    counters, draw = Counters([of, among]), random.Random(1)
    models = [f"m{number}" for number in range(3 * MAX_GROUPS)]
    for at in range(3000):
        action = draw.choice(("block", "allow"))
        counters.observe(made(model=draw.choice(models), action=action, tenant=f"t{at}"), 1000.0 + at / 100)
    assert len(counters.read(of)) <= MAX_GROUPS + 1
    assert len(counters.read(among)) == MAX_GROUPS + 1
    assert set(counters.read(of)) <= set(counters.read(among))
    total = sum(sum(window.sums(1030.0)) for window in counters.read(among).values())
    assert total == 3000
    assert all(len(figure.known) <= 4096 for figures in counters._figures.values() for figure in figures)


def test_a_clock_that_is_set_back_stands_still_and_goes_on() -> None:
    one = watch("decisions", {}, (), 60.0)
    counters = Counters([one])
    for now in (1000.0, 1030.0, 30.0, 40.0):  # set back by 1,000 seconds
        counters.observe(made(), now)
    assert counters.time(50.0) == 1050.0
    assert counters.read(one)[()].sums(1050.0) == [4]
    assert counters.time(71.0) == 1071.0
    assert counters.read(one)[()].sums(1071.0) == [3]


def test_a_clock_that_is_set_back_and_put_right_again_loses_nothing() -> None:
    one = watch("decisions", {}, (), 60.0)
    counters = Counters([one])
    for now in (10_000.0, 10_005.0, 6_405.0, 6_410.0, 10_010.5):  # an hour back, and forward again
        counters.observe(made(), now)
    assert counters.time(10_011.0) == 10_011.0
    assert counters.read(one)[()].sums(10_011.0) == [5]
    assert not counters.whole(one, counters.time(10_059.0))
    assert counters.whole(one, counters.time(10_060.0))


def test_threads_that_read_the_clock_in_another_order_move_nothing() -> None:
    counters = Counters([watch("decisions", {}, (), 60.0)])
    for _ in range(1000):
        assert counters.time(1000.5) == 1000.5
        assert counters.time(1000.0) == 1000.5
    assert counters.time(1001.0) == 1001.0


def test_what_stays_is_counted_on() -> None:
    one, other = watch("decisions", {}, (), 60.0), watch("decisions", {"stage": ("input",)}, (), 60.0)
    counters = Counters([one])
    counters.observe(made(), 1000.0)
    counters.count([other, one])
    counters.observe(made(), 1001.0)
    assert [counters.read(each)[()].sums(1001.0) for each in (one, other)] == [[2], [1]]
    assert counters.whole(one, 1060.0)
    assert not counters.whole(other, 1060.0)
    counters.count([other])
    counters.observe(made(), 1002.0)
    assert counters.read(other)[()].sums(1002.0) == [2]
