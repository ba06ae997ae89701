import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.inference.run_time import RunTime


def learnt(*runs: tuple[int, float]) -> RunTime:
    time = RunTime()
    for tokens, seconds in [(1, 9.0), *runs]:
        time.learn(tokens, seconds, 0.0)
    return time


def test_nothing_is_known_at_first() -> None:
    time = RunTime()
    assert (time.seconds(1000), time.worth, time.trusted(0.0)) == (0.0, math.inf, False)


def test_the_first_run_is_left_out() -> None:
    assert learnt().seconds(100) == 0.0


def test_a_fixed_part_and_a_part_a_token_are_told_apart() -> None:
    time = learnt(*[(tokens, 0.002 + tokens * 1e-5) for tokens in (16, 256, 1024, 64) * 5])
    assert time.seconds(512) == pytest.approx(0.002 + 512e-5)
    assert time.worth == pytest.approx(200)


def test_runs_of_one_size_are_taken_as_proportional() -> None:
    time = learnt(*[(100, 0.01)] * 10)
    assert time.seconds(200) == pytest.approx(0.02)
    assert time.worth == 0.0


def test_the_last_runs_count_most() -> None:
    time = learnt(*[(100, 0.01)] * 50, *[(100, 0.02)] * 60)
    assert time.seconds(100) == pytest.approx(0.02, rel=0.05)


def test_one_slow_run_is_an_outlier() -> None:
    assert learnt(*[(100, 0.01)] * 30, (100, 60.0)).seconds(100) < 0.015


def test_an_estimate_is_trusted_for_a_second() -> None:
    time = learnt((100, 0.01))
    assert time.trusted(0.9)
    assert not time.trusted(1.1)


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(1e-6, 10)), min_size=1, max_size=30))
def test_an_estimate_is_never_negative_and_grows_with_tokens(runs: list[tuple[int, float]]) -> None:
    time = learnt(*runs)
    assert 0 <= time.seconds(1) <= time.seconds(100) <= time.seconds(10_000) < math.inf
