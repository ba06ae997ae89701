import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.kernels import change

_spec = importlib.util.spec_from_file_location("naive_drift", Path(__file__).with_name("naive_drift.py"))
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

KINDS = [change.Adwin, change.Cusum, change.Ddm, change.PageHinkley]
CALM = {
    change.Adwin: {"delta": 1e-5},
    change.Cusum: {"threshold": 12.0},
    change.Ddm: {"drift": 5.0},
    change.PageHinkley: {"delta": 0.1},
}
EAGER = {
    change.Adwin: {"delta": 0.5, "clock": 3, "least": 1, "buckets": 2},
    change.Cusum: {"threshold": 1.0, "warm_up": 3},
    change.Ddm: {"drift": 1.0, "warning": 0.5, "warm_up": 3},
    change.PageHinkley: {"threshold": 0.5, "delta": 0.01, "warm_up": 3},
}
outcomes = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), max_size=120)
kinds = st.sampled_from(KINDS)


@settings(deadline=None)
@given(kinds, outcomes, st.integers(0, 120), st.booleans())
def test_in_bulk_as_one_by_one_and_over_a_saved_state(kind: Any, values: list[float], cut: int, eager: bool) -> None:
    options = EAGER[kind] if eager else {}
    single, bulk, first = kind(**options), kind(**options), kind(**options)
    hits = [place for place, value in enumerate(values) if single.update(value)]
    assert bulk.update_many(values).tolist() == hits
    assert bulk.state() == single.state()
    early = first.update_many(values[:cut]).tolist()
    second = kind.restore(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    assert early + (second.update_many(values[cut:]) + min(cut, len(values))).tolist() == hits
    assert second.state() == single.state()


def streams() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    steps = [np.r_[random.normal(0, 1, 150), random.normal(size, 1, 150)] for size in (0.0, 1.0, -2.0, 5.0)]
    return [*steps, random.normal(size=(300)).cumsum() / 5, np.r_[np.zeros(100), np.ones(50)]]


@pytest.mark.parametrize("stream", range(6))
def test_detectors_are_those_of_their_definitions(stream: int) -> None:
    values = streams()[stream]
    listed = values.tolist()
    found = change.PageHinkley(delta=0.05, threshold=15.0, warm_up=30).update_many(values)
    assert found.tolist() == naive.page_hinkley(listed, 0.05, 15.0, 30)
    if stream < 5:
        found = change.Cusum(allowance=0.5, threshold=4.0, warm_up=40).update_many(values)
        assert found.tolist() == naive.cusum(listed, 0.5, 4.0, 40)
    failed = (values > 0.5).astype(float)
    assert change.Ddm(warm_up=20).update_many(failed).tolist() == naive.ddm(failed.tolist(), 3.0, 20)
    scaled = values / 20 + 0.5
    for options in ((0.002, 32, 5, 5), (0.3, 7, 2, 2), (0.9, 1, 1, 3)):
        named = dict(zip(("delta", "clock", "least", "buckets"), options, strict=True))
        assert change.Adwin(**named).update_many(scaled).tolist() == naive.adwin(scaled.tolist(), *options)


def test_a_step_is_seen_soon_and_calm_is_calm() -> None:
    random = np.random.default_rng(1)
    before, after = random.normal(size=3_000), random.normal(1.5, 1.0, 300)
    streams = {
        change.Adwin: lambda values: np.clip(values / 6 + 0.5, 0, 1),
        change.Cusum: lambda values: values,
        change.Ddm: lambda values: (values > 1.0).astype(float),
        change.PageHinkley: lambda values: values,
    }
    for kind, scaled in streams.items():
        detector = kind(**CALM[kind])
        assert detector.update_many(scaled(before)).size == 0, kind
        hits = detector.update_many(scaled(after))
        assert hits.size >= 1, kind
        assert hits[0] < 150, kind


def test_a_window_holds_what_came_since_the_change() -> None:
    random = np.random.default_rng(0)
    detector = change.Adwin()
    detector.update_many(random.uniform(0.0, 0.2, 2_000))
    assert (detector.width, detector.mean) == (2_000, pytest.approx(0.1, abs=0.01))
    values = random.uniform(0.6, 1.0, 2_000)
    detector.update_many(values)
    assert detector.width == pytest.approx(2_000, abs=64)
    assert detector.mean == pytest.approx(0.8, abs=0.01)
    assert detector.variance == pytest.approx(values.var(), rel=0.1)
    assert (change.Adwin().mean, change.Adwin().variance, change.Adwin().width) == (0.0, 0.0, 0)


def test_memory_grows_with_the_logarithm() -> None:
    detector = change.Adwin()
    detector.update_many(np.full(200_000, 0.5))
    assert detector.width == 200_000
    assert sum(map(len, detector.state()["state"]["sums"])) <= 5 * 18


def test_a_warning_comes_before_the_change() -> None:
    random = np.random.default_rng(0)
    detector = change.Ddm()
    detector.update_many(random.uniform(size=500) < 0.1)
    warned = False
    for value in random.uniform(size=200) < 0.5:
        if detector.update(bool(value)):
            break
        warned |= detector.warning
    assert warned
    assert not detector.warning


def test_a_known_target_needs_nothing_to_learn() -> None:
    detector = change.Cusum(target=10.0, deviation=2.0, threshold=4.0)
    assert not detector.update(10.0)
    hits = change.Cusum(target=10.0, deviation=2.0, threshold=4.0).update_many([14.0] * 9)
    assert hits.tolist() == [2, 5, 8]
    assert change.Cusum.restore(detector.state()).state() == detector.state()


def test_of_a_constant_every_other_value_is_a_change() -> None:
    detector = change.Cusum(warm_up=10)
    assert detector.update_many([3.0] * 50).size == 0
    assert detector.update(3.001)
    assert detector.state()["state"]["count"] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_is_none_leaves_the_state(kind: Any) -> None:
    detector = kind()
    detector.update_many([0.0, 1.0, 0.5])
    before = detector.state()
    for wrong in (math.nan, math.inf, -math.inf, 2e100):
        with pytest.raises(ValueError, match=r"value|outcome"):
            detector.update(wrong)
        with pytest.raises(ValueError, match=r"value|outcome"):
            detector.update_many([0.0, wrong])
    for wrong in ("secret", None, [1.0], 1j):
        with pytest.raises(TypeError, match="value must be a number") as caught:
            detector.update(wrong)
        assert "secret" not in str(caught.value)
    with pytest.raises(TypeError, match="real numbers"):
        detector.update_many(["secret"])
    with pytest.raises(ValueError, match="one row"):
        detector.update_many([[0.0, 1.0]])
    assert detector.update_many([]).size == 0
    assert detector.state() == before


def test_an_outcome_lies_between_well_and_failed() -> None:
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="outcome"):
            change.Ddm().update(wrong)
        with pytest.raises(ValueError, match="outcomes"):
            change.Ddm().update_many([wrong])


def test_the_largest_values_overflow_nothing() -> None:
    values = np.resize([1e100, -1e100, 1e-300], 500)
    for kind in (change.Adwin, change.Cusum, change.PageHinkley):
        detector = kind()
        detector.update_many(values)
        assert kind.restore(detector.state()).state() == detector.state()


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        (change.Adwin, {"delta": 0.0}, ValueError),
        (change.Adwin, {"delta": math.nan}, ValueError),
        (change.Adwin, {"clock": 0}, ValueError),
        (change.Adwin, {"clock": 1.5}, TypeError),
        (change.Adwin, {"buckets": 1}, ValueError),
        (change.Adwin, {"buckets": 10**6}, ValueError),
        (change.Cusum, {"target": 1.0}, ValueError),
        (change.Cusum, {"deviation": 1.0}, ValueError),
        (change.Cusum, {"target": 1.0, "deviation": 0.0}, ValueError),
        (change.Cusum, {"target": math.nan, "deviation": 1.0}, ValueError),
        (change.Cusum, {"allowance": -1.0}, ValueError),
        (change.Cusum, {"warm_up": 1}, ValueError),
        (change.Ddm, {"warning": 4.0}, ValueError),
        (change.Ddm, {"drift": "3"}, TypeError),
        (change.PageHinkley, {"threshold": 0.0}, ValueError),
        (change.PageHinkley, {"delta": -0.1}, ValueError),
        (change.PageHinkley, {"warm_up": True}, TypeError),
    ],
)
def test_options_out_of_range_are_refused(kind: Any, options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match="|".join(options)):
        kind(**options)


def test_none_of_an_allowance_is_one() -> None:
    assert change.Cusum(allowance=0.0).options["allowance"] == 0.0
    assert change.PageHinkley(delta=0.0).options["delta"] == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_not_whole_is_refused(kind: Any) -> None:
    detector = kind()
    detector.update_many([0.0, 1.0, 0.5] * 30)
    saved = detector.state()
    with pytest.raises(TypeError, match="mapping"):
        kind.restore(json.dumps(saved))
    wrong: list[dict[str, Any]] = [
        {},
        {**saved, "detector": "other"},
        {**saved, "format": 2},
        {**saved, "options": None},
        {**saved, "options": {"nonsense": 1}},
        {**saved, "options": {**saved["options"], next(iter(saved["options"])): -5}},
        {key: value for key, value in saved.items() if key != "state"},
    ]
    for name in saved["state"]:
        wrong += [
            {**saved, "state": {**saved["state"], name: None}},
            {**saved, "state": {**saved["state"], name: math.nan}},
        ]
    for state in wrong:
        with pytest.raises(ValueError, match="state"):
            kind.restore(state)


@pytest.mark.parametrize(
    "altered",
    [
        {"width": 7.0},
        {"sums": [[0.0] * 9]},
        {"sums": [["a"]], "squares": [[0.0]]},
        {"sums": [[0.0]] * 41, "squares": [[0.0]] * 41},
        {"squares": [[-1.0]]},
        {"sums": {}},
    ],
)
def test_altered_buckets_are_refused(altered: dict[str, Any]) -> None:
    detector = change.Adwin()
    detector.update(0.5)
    saved = detector.state()
    with pytest.raises(ValueError, match="adwin"):
        change.Adwin.restore({**saved, "state": {**saved["state"], **altered}})
