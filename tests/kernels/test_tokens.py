"""The token kernels against their slow twins, on random and hostile input, and what they refuse."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.kernels import tokens, tokens_loops, tokens_odds
from llmguard.kernels.tokens_loops import LoopTracker

_spec = importlib.util.spec_from_file_location("naive", Path(__file__).with_name("naive.py"))
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

NEAR_ZERO = 1e-9
BIG = [2**63 - 1, -(2**63), 0, -1, 2**63 - 1, 0, -1, 0]
small = st.lists(st.integers(-3, 3), max_size=60)
any_ids = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=40)


@given(st.lists(st.integers(0, 40), max_size=80))
def test_a_histogram_equals_its_twin(ids: list[int]) -> None:
    made = tokens.histogram(ids)
    assert made.counts.tolist() == naive.histogram(ids)
    assert made.entropy == pytest.approx(naive.entropy(naive.histogram(ids)), abs=NEAR_ZERO)
    assert tokens.entropy(made.counts) == pytest.approx(made.entropy, abs=NEAR_ZERO)


@settings(deadline=None)
@given(small | any_ids, st.integers(1, 5))
def test_repetition_repeats_and_burstiness_equal_their_twins(ids: list[int], n: int) -> None:
    array = np.array(ids, np.int64)
    assert tokens.repetition(array, n) == pytest.approx(naive.repetition(ids, n), abs=NEAR_ZERO)
    assert tokens.type_token_ratio(array) == (len(set(ids)) / len(ids) if ids else 1.0)
    assert tuple(tokens.longest_repeat(array)) == naive.longest_repeat(ids)
    assert tokens.burstiness(array) == pytest.approx(naive.burstiness(ids), abs=NEAR_ZERO)


loop_part = st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=7), st.integers(1, 9))


@settings(deadline=None)
@given(st.lists(loop_part, max_size=5), st.integers(2, 4), st.integers(1, 8), st.integers(4, 20), st.integers(0, 2**32))
def test_loops_are_told_at_the_very_token_however_the_sequence_is_cut(
    parts: list[tuple[list[int], int]], repeats: int, longest: int, length: int, seed: int
) -> None:
    draw = random.Random(seed)
    ids = [token for unit, times in parts for token in unit * times]
    expected = naive.loops(ids, length, repeats, longest)
    whole = LoopTracker(length=length, repeats=repeats, longest=longest)
    assert [tuple(loop) for loop in whole.feed(np.array(ids, np.int64))] == expected
    pieces = LoopTracker(length=length, repeats=repeats, longest=longest)
    found = []
    place = 0
    while place < len(ids):
        step = draw.choice([0, 1, 2, 30])
        piece = ids[place : place + step]
        found += pieces.feed(piece if draw.random() < 0.5 else np.array(piece, np.int32))
        place += step
    assert [tuple(loop) for loop in found] == expected
    assert pieces.taken == whole.taken == len(ids)


def test_a_loop_is_told_again_from_where_it_was_told() -> None:
    tracker = LoopTracker(length=10, repeats=2, longest=4)
    assert [tracker.add(7) for _ in range(21)] == [None] * 9 + [(1, 0, 10)] + [None] * 9 + [(1, 10, 20), None]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (1.5, TypeError),
        ("secret", TypeError),
        (None, TypeError),
        (True, TypeError),
        (2**70, TypeError),
        (2**31, ValueError),
        (-(2**31) - 1, ValueError),
    ],
)
def test_an_id_that_is_refused_leaves_a_tracker_as_it_was(wrong: Any, error: type[Exception]) -> None:
    tracker = LoopTracker(length=4, repeats=2, longest=4)
    tracker.feed([7, 7])
    with pytest.raises(error, match="tokens must") as caught:
        tracker.add(wrong)
    assert "secret" not in str(caught.value)
    with pytest.raises(error, match="tokens must"):
        tracker.feed([7, 7, wrong])
    assert tracker.taken == 2
    assert tracker.add(np.int64(7)) is None
    assert tracker.feed([7]) == [(1, 0, 4)]


@pytest.mark.parametrize("edge", [2**31 - 1, -(2**31)])
def test_the_largest_ids_are_told_apart_from_others(edge: int) -> None:
    tracker = LoopTracker(length=4, repeats=2, longest=1)
    assert tracker.feed([edge, edge, edge, edge + (1 if edge < 0 else -1), edge, edge, edge, edge]) == [(1, 4, 8)]


def test_a_long_sequence_is_followed_across_many_turns_of_the_buffer() -> None:
    ids = np.random.default_rng(1).integers(0, 50_000, 50_000)
    ids[40_000:40_800] = np.tile(np.arange(200), 4)
    tracker = LoopTracker(length=64, repeats=4, longest=256)
    assert tracker.feed(ids) == [(200, 40_000, 40_800)]


logs = st.floats(-40.0, 0.0) | st.sampled_from([0.0, -1e-300, -800.0])


@given(st.lists(logs, max_size=50))
def test_confidence_equals_its_twin(values: list[float]) -> None:
    assert tuple(tokens_odds.confidence(values)) == pytest.approx(naive.confidence(values), rel=1e-9)


@given(st.lists(st.lists(st.floats(-30.0, -2.1), min_size=5, max_size=5), min_size=1, max_size=6))
def test_the_entropy_of_the_likeliest_counts_the_rest_as_one_more(rows: list[list[float]]) -> None:
    assert tokens_odds.top_entropy(rows).tolist() == pytest.approx([naive.top_entropy(row) for row in rows], abs=1e-9)


def test_certain_and_impossible_alternatives_have_no_entropy() -> None:
    assert tokens_odds.top_entropy([[0.0, -math.inf], [-math.log(2.0), -math.log(2.0)]]).tolist() == [0.0, 1.0]


@settings(deadline=None)
@given(st.lists(st.floats(-20.0, 0.0), max_size=60), st.integers(8, 12), st.sampled_from([0.0, 0.37, 1.51, 3.0]))
def test_surprises_equal_their_twin(values: list[float], window: int, deviations: float) -> None:
    found = tokens_odds.surprises(values, window=window, deviations=deviations, floor=2.003)
    assert found.tolist() == naive.surprises(values, window, deviations, 2.003)


def test_an_impossible_token_is_a_surprise_and_hides_none_after_it() -> None:
    values = [-0.1] * 20 + [-math.inf] + [-0.1] * 70 + [-12.0]
    assert tokens_odds.surprises(values).tolist() == [20, 91]
    assert tokens_odds.confidence(values).perplexity == math.inf
    assert tokens_odds.confidence(values).min_probability == 0.0


@pytest.mark.parametrize("empty", [[], (), np.array([], np.int64), np.array([], np.uint8)])
def test_nothing_has_numbers_too(empty: Any) -> None:
    assert tokens.histogram(empty).counts.tolist() == []
    assert tokens.histogram(empty, 3).counts.tolist() == [0, 0, 0]
    assert tokens.histogram(empty).entropy == tokens.entropy(empty) == tokens.repetition(empty) == 0.0
    assert tokens.type_token_ratio(empty) == 1.0
    assert tokens.longest_repeat(empty) == (0, -1, -1)
    assert tokens.burstiness(empty) == 0.0
    assert LoopTracker().feed(empty) == []


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_every_kind_of_whole_number_will_do(kind: type) -> None:
    ids = np.array([5, 1, 1, 0, 5, 1, 1], kind)
    assert tokens.histogram(ids).counts.tolist() == [1, 4, 0, 0, 0, 2]
    assert tokens.longest_repeat(ids) == (3, 0, 4)
    assert tokens.histogram(ids[::-2]).counts.tolist() == [0, 2, 0, 0, 0, 2]
    assert tokens.histogram(ids.astype(ids.dtype.newbyteorder())).counts.tolist() == [1, 4, 0, 0, 0, 2]
    assert len(LoopTracker(length=4, repeats=2).feed(np.array([1, 1, 1, 1], kind))) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tokens.histogram([1.0]), TypeError, "tokens must be whole numbers of at most 64 bits, not float64"),
        (lambda: tokens.histogram(np.array([math.nan])), TypeError, "tokens must be whole numbers"),
        (lambda: tokens.histogram(np.array([math.inf])), TypeError, "tokens must be whole numbers"),
        (lambda: tokens.histogram([True]), TypeError, "not bool"),
        (lambda: tokens.histogram(["a"]), TypeError, "tokens must be whole numbers"),
        (lambda: tokens.histogram([1, None]), TypeError, "tokens must be whole numbers"),
        (lambda: tokens.histogram([[1], [1, 2]]), TypeError, "tokens must be whole numbers in one row"),
        (lambda: tokens.histogram([2**70]), TypeError, "tokens must be whole numbers"),
        (lambda: tokens.histogram([[1, 2]]), ValueError, "tokens must have one dimension, not 2"),
        (lambda: tokens.histogram(3), ValueError, "tokens must have one dimension, not 0"),
        (lambda: tokens.histogram([0, -1]), ValueError, "these go from -1 to 0"),
        (lambda: tokens.histogram([0, 5], 5), ValueError, "tokens must be from 0 to 4; these go from 0 to 5"),
        (lambda: tokens.histogram([2**40]), ValueError, "these go from"),
        (lambda: tokens.histogram(np.full(40_000, -7)), ValueError, "these go from -7 to -7"),
        (lambda: tokens.histogram(np.full(40_000, 2**40)), ValueError, "tokens must be from 0 to 67108863"),
        (lambda: tokens.histogram(np.array([2**63], np.uint64)), ValueError, "tokens must be below"),
        (lambda: tokens.histogram([1], -1), ValueError, "bins must be from 0"),
        (lambda: tokens.histogram([1], 2.0), TypeError, "bins must be a whole number, not float"),  # type: ignore[arg-type]
        (lambda: tokens.histogram([1], threads=0), ValueError, "threads must be from 1"),
        (lambda: tokens.entropy([1, -1]), ValueError, "counts must not be negative"),
        (lambda: tokens.entropy([2**62, 2**62]), ValueError, "counts must have a sum below"),
        (lambda: tokens.repetition([1], 0), ValueError, "n must be from 1 to 64, not 0"),
        (lambda: LoopTracker(repeats=1), ValueError, "repeats must be from 2"),
        (lambda: LoopTracker(longest=True), TypeError, "longest must be a whole number"),
        (lambda: LoopTracker().feed(np.array([2**31])), ValueError, "tokens must fit 32 bits"),
        (lambda: LoopTracker().feed([0.5] * 40), TypeError, "tokens must be whole numbers"),
        (lambda: tokens_odds.confidence([math.nan]), ValueError, "one is nan"),
        (lambda: tokens_odds.confidence([math.inf]), ValueError, "one is inf"),
        (lambda: tokens_odds.confidence([0.5]), ValueError, "logprobs must be natural logarithms"),
        (lambda: tokens_odds.confidence(["x"]), TypeError, "logprobs must be numbers"),
        (lambda: tokens_odds.confidence([[-1.0]]), ValueError, "logprobs must have 1 dimension, not 2"),
        (lambda: tokens_odds.top_entropy([-1.0]), ValueError, "logprobs must have 2 dimensions, not 1"),
        (lambda: tokens_odds.top_entropy([[-1.0], [-1.0, -2.0]]), TypeError, "rows of one length"),
        (lambda: tokens_odds.top_entropy([[0.0, -0.1]]), ValueError, "sum up to 1"),
        (lambda: tokens_odds.surprises([-1.0], window=4), ValueError, "window must be from 8"),
        (lambda: tokens_odds.surprises([-1.0], floor=math.nan), ValueError, "floor must be at least 0"),
    ],
)
def test_what_is_no_sequence_of_ids_is_refused_by_name(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def _bincount(ids: np.ndarray[Any, Any], bins: int) -> list[int]:
    return np.bincount(ids, minlength=bins).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [tokens.FEW - 1, tokens.FEW, tokens.MANY - 1, tokens.MANY, tokens.MANY + 12_345])
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_every_way_of_counting_counts_the_same(size: int, threads: int | None) -> None:
    ids = np.random.default_rng(size).integers(0, 5_000, size, dtype=np.int32)
    ids[7] = 6_000
    made = tokens.histogram(ids, 7_000, threads=threads)
    assert made.counts.tolist() == _bincount(ids, 7_000)
    assert made.entropy == pytest.approx(tokens.entropy(made.counts), abs=NEAR_ZERO)
    assert tokens.histogram(ids, threads=threads).counts.tolist() == _bincount(ids, 0)


def test_many_threads_have_no_more_counters_together_than_there_are_ids() -> None:
    ids, bins = np.zeros(tokens.MANY, np.int32), 1 << 22
    tokens.histogram(ids[:9])
    tracemalloc.start()
    try:
        assert tokens.histogram(ids, bins, threads=16).counts[0] == len(ids)
        assert tracemalloc.get_traced_memory()[1] < 20 * bins
    finally:
        tracemalloc.stop()


def test_a_vocabulary_beyond_the_common_ones_is_counted_too() -> None:
    ids = np.zeros(tokens.FEW, np.int64)
    ids[-1] = tokens.COMMON + 5
    made = tokens.histogram(ids).counts
    assert (len(made), int(made.sum()), int(made[-1])) == (tokens.COMMON + 6, tokens.FEW, 1)


def _numbers(ids: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    made = tokens.histogram(ids)
    return (
        *(made.counts.tolist(), made.entropy, tokens.repetition(ids), tokens.type_token_ratio(ids)),
        *(tokens.longest_repeat(ids), tokens.burstiness(ids), LoopTracker().feed(ids)),
    )


SEQUENCE = np.concatenate([np.random.default_rng(5).integers(0, 99, 40_000), np.tile(np.arange(30), 200)])


def test_numbers_are_the_same_from_many_threads() -> None:
    expected = _numbers(SEQUENCE)
    found: dict[int, Any] = {}
    barrier = threading.Barrier(4)

    def work(index: int) -> None:
        barrier.wait(60)
        found[index] = _numbers(SEQUENCE)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [found[index] for index in range(4)] == [expected] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_with_threads_as_its_parent_did() -> None:
    ids = np.tile(SEQUENCE, 30).astype(np.int32)
    assert len(ids) > tokens.MANY
    expected = tokens.histogram(ids, threads=2)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        made = tokens.histogram(ids, threads=2)
        sender.send((made.counts.tolist(), made.entropy))

    process = context.Process(target=child)
    process.start()
    assert receiver.poll(60)
    assert receiver.recv() == (expected.counts.tolist(), expected.entropy)
    process.join(60)
    assert process.exitcode == 0


def test_the_kernels_over_arrays_let_go_of_the_lock_and_those_of_one_token_keep_it() -> None:
    jit, loops, odds = tokens.compiled(), tokens_loops.compiled(), tokens_odds.compiled()
    free = (jit.count, jit.entropy, jit.distinct, jit.longest, jit.gaps, loops.follow_long)
    free += (odds.confidence, odds.top_entropy, odds.spikes)
    assert all(kernel.targetoptions["nogil"] for kernel in free)
    assert not any(kernel.targetoptions["nogil"] for kernel in (jit.count_few, loops.add, loops.follow))


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, env=here)


def test_the_kernels_say_the_same_with_the_jit_off() -> None:
    program = f"""
import math, random
import naive, numpy as np
from numba import config
from llmguard.kernels import tokens, tokens_loops, tokens_odds
assert config.DISABLE_JIT
draw = random.Random(3)
with np.errstate(over="ignore"):
    for ids in ([], [4], {BIG}, [draw.randrange(3) for _ in range(40)], [0, 1, 2] * 9, [2, 2] * 20):
        array = np.array(ids, np.int64)
        assert math.isclose(tokens.repetition(array, 2), naive.repetition(ids, 2), abs_tol=1e-9)
        assert tokens.type_token_ratio(array) == (len(set(ids)) / len(ids) if ids else 1.0)
        assert tuple(tokens.longest_repeat(array)) == naive.longest_repeat(ids)
        assert math.isclose(tokens.burstiness(array), naive.burstiness(ids), abs_tol=1e-9)
        if ids != {BIG}:
            made = tokens.histogram(ids)
            assert made.counts.tolist() == naive.histogram(ids)
            assert math.isclose(made.entropy, naive.entropy(naive.histogram(ids)), abs_tol=1e-9)
            assert math.isclose(tokens.entropy(made.counts), made.entropy, abs_tol=1e-9)
            tracker = tokens_loops.LoopTracker(length=8, repeats=3, longest=4)
            assert [tuple(loop) for loop in tracker.feed(array)] == naive.loops(ids, 8, 3, 4)
    many = np.arange(tokens.FEW) % 7
    assert tokens.histogram(many, threads=2).counts.tolist() == np.bincount(many).tolist()
    logs = [-draw.random() * 9 for _ in range(50)]
    assert np.allclose(tokens_odds.confidence(logs), naive.confidence(logs))
    assert np.allclose(tokens_odds.top_entropy([[-2.0, -3.0]]), naive.top_entropy([-2.0, -3.0]))
    assert tokens_odds.surprises(logs, floor=1.0, deviations=1.03).tolist() == naive.surprises(logs, 64, 1.03, 1.0)
print("same")
"""
    done = run(program, NUMBA_DISABLE_JIT="1")
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


def test_a_second_process_reads_the_compiled_code_from_the_cache() -> None:
    program = """
from llmguard.kernels import tokens
tokens.warm()
jit = tokens.compiled()
print(sum(jit.count.stats.cache_hits.values()), sum(jit.count.stats.cache_misses.values()))
"""
    assert run(program).returncode == 0
    assert run(program).stdout == "2 0\n"


def test_without_numba_the_extra_is_named_and_warming_in_the_background_is_silent() -> None:
    program = """
import sys, threading
sys.modules["numba"] = None
from llmguard.errors import MissingExtraError
from llmguard.kernels import tokens, tokens_loops, tokens_odds
tokens.warm(wait=False)
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join()
confidence = lambda: tokens_odds.confidence([-1.0])
for call in (tokens.warm, lambda: tokens.entropy([1]), tokens_loops.LoopTracker, confidence):
    try:
        call()
    except MissingExtraError as error:
        print(error.package, error.extra)
"""
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "numba kernels\n" * 4, "")


def test_warming_in_the_background_leaves_everything_ready() -> None:
    tokens.warm(wait=False)
    for thread in threading.enumerate():
        if thread.name == "llmguard-compile":
            thread.join(120)
    assert tokens.compiled.cache_info().currsize == 1
