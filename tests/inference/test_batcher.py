import asyncio
import gc
import logging
import os
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard import limits
from llmguard.errors import ConfigurationError, DeadlineError, InferenceError, OverloadError
from llmguard.inference import batcher as module
from llmguard.inference.batcher import Batcher

PATIENCE = 30


class Model:
    """Squares numbers; keeps what it was asked, and can be held back at the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[str] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.append(threading.current_thread().name)
        self.begun.release()
        assert self.gate.wait(PATIENCE)
        if any(item < 0 for item in items):
            raise ZeroDivisionError
        return [item * item for item in items]

    def hold(self) -> None:
        self.gate.clear()

    def wait_until_begun(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def make() -> Iterator[Callable[..., Batcher[int, int]]]:
    made: list[tuple[Model, Batcher[int, int]]] = []

    def build(model: Model, **options: object) -> Batcher[int, int]:
        settings = {"length": lambda _: 10, "max_items": 8, "max_tokens": 1000, "max_delay_s": 0.0, "name": "squares"}
        own: Batcher[int, int] = Batcher(model, **(settings | options))
        made.append((model, own))
        return own

    yield build
    for model, own in made:
        model.gate.set()
        assert own.close(timeout_s=PATIENCE)


Make = Callable[..., Batcher[int, int]]


def held(model: Model, own: Batcher[int, int]) -> Future[list[int]]:
    """The model is busy until its gate opens."""
    model.hold()
    first = own.submit([1])
    model.wait_until_begun()
    return first


def test_answers_come_in_order(model: Model, make: Make) -> None:
    own = make(model)
    assert own.submit([3, 1, 2]).result(PATIENCE) == own.answer([3, 1, 2]) == [9, 1, 4]
    assert own.submit(list(range(100))).result(PATIENCE) == [n * n for n in range(100)]
    assert max(len(batch) for batch in model.batches) <= 8


def test_nothing_is_answered_with_nothing(model: Model, make: Make) -> None:
    own = make(model)
    assert own.submit([]).result(PATIENCE) == own.answer([]) == []
    assert model.batches == []


def test_an_idle_model_answers_on_the_callers_thread(model: Model, make: Make) -> None:
    assert make(model).answer([5]) == [25]
    assert model.threads == [threading.current_thread().name]


def test_submit_never_runs_on_the_callers_thread(model: Model, make: Make) -> None:
    own = make(model)
    held(model, own)
    assert own.submit([2]).done() is False
    assert threading.current_thread().name not in model.threads


def test_who_comes_while_a_batch_runs_makes_the_next(model: Model, make: Make) -> None:
    own = make(model)
    first = held(model, own)
    rest = [own.submit([n]) for n in range(2, 8)]
    model.gate.set()
    assert [f.result(PATIENCE) for f in [first, *rest]] == [[n * n] for n in range(1, 8)]
    assert [sorted(batch) for batch in model.batches] == [[1], [2, 3, 4, 5, 6, 7]]


def test_who_comes_while_a_caller_runs_its_own_is_served_after(model: Model, make: Make) -> None:
    own = make(model)
    model.hold()
    caller = threading.Thread(target=own.answer, args=([1],), name="caller")
    caller.start()
    model.wait_until_begun()
    rest = [own.submit([n]) for n in (2, 3)]
    model.gate.set()
    assert [f.result(PATIENCE) for f in rest] == [[4], [9]]
    caller.join()
    assert model.threads[0] == "caller"
    assert model.batches[1:] == [[2, 3]]


def test_a_delay_gathers_a_full_batch(model: Model, make: Make) -> None:
    own = make(model, max_delay_s=PATIENCE, max_items=4)
    futures = [own.submit([n]) for n in range(4)]
    assert [f.result(PATIENCE) for f in futures] == [[0], [1], [4], [9]]
    assert model.batches == [[0, 1, 2, 3]]


def test_a_delay_ends(model: Model, make: Make) -> None:
    assert make(model, max_delay_s=0.01).answer([4]) == [16]


def test_a_preferred_size_runs_at_once(model: Model, make: Make) -> None:
    own = make(model, max_delay_s=PATIENCE, preferred=[2])
    assert own.answer([1, 2]) == [1, 4]
    futures = [own.submit([3]), own.submit([4])]
    assert [f.result(PATIENCE) for f in futures] == [[9], [16]]


def test_a_deadline_that_is_over_is_answered_at_once(model: Model, make: Make) -> None:
    own = make(model)
    over = time.monotonic() - 1
    with pytest.raises(DeadlineError, match="'squares' would answer after the deadline"):
        own.answer([1], deadline=over)
    with pytest.raises(DeadlineError):
        own.submit([1], deadline=over).result(PATIENCE)
    assert model.batches == []


def test_a_deadline_passes_while_another_batch_runs(model: Model, make: Make) -> None:
    own = make(model)
    first = held(model, own)
    waiting = [own.submit([2], deadline=time.monotonic() + seconds) for seconds in (0.2, 0.05, 0.1)]
    for future in waiting:
        with pytest.raises(DeadlineError):
            future.result(PATIENCE)
    assert not first.done()
    model.gate.set()
    assert first.result(PATIENCE) == [1]
    assert model.batches == [[1]]


def test_a_deadline_passes_while_a_caller_runs_its_own(model: Model, make: Make) -> None:
    own = make(model)
    model.hold()
    caller = threading.Thread(target=own.answer, args=([1],))
    caller.start()
    model.wait_until_begun()
    with pytest.raises(DeadlineError):
        own.answer([2], deadline=time.monotonic() + 0.05)
    model.gate.set()
    caller.join()
    assert model.batches == [[1]]


def test_a_deadline_far_away_changes_nothing(model: Model, make: Make) -> None:
    own = make(model)
    assert own.answer([2], deadline=time.monotonic() + PATIENCE) == [4]
    assert own.submit([3], deadline=time.monotonic() + PATIENCE).result(PATIENCE) == [9]


def test_a_full_queue_refuses_at_once(model: Model, make: Make) -> None:
    own = make(model, queue_limit=3)
    first = held(model, own)
    waiting = own.submit([2, 3, 4])
    with pytest.raises(OverloadError, match="holds 3 texts"):
        own.submit([5]).result(PATIENCE)
    model.gate.set()
    assert first.result(PATIENCE) == [1]
    assert waiting.result(PATIENCE) == [4, 9, 16]
    assert own.submit([6]).result(PATIENCE) == [36]


def test_a_full_queue_sheds_the_greediest(model: Model, make: Make) -> None:
    own = make(model, queue_limit=4)
    held(model, own)
    greedy = [own.submit([n], tenant="greedy") for n in range(4)]
    modest = own.submit([9], tenant="modest")
    with pytest.raises(OverloadError):
        greedy[3].result(PATIENCE)
    model.gate.set()
    assert modest.result(PATIENCE) == [81]
    assert [f.result(PATIENCE) for f in greedy[:3]] == [[0], [1], [4]]


def test_what_is_cancelled_does_not_run(model: Model, make: Make) -> None:
    own = make(model, queue_limit=4)
    first = held(model, own)
    gone, stays = own.submit([2, 3, 4]), own.submit([5])
    assert gone.cancel()
    assert gone in wait([gone], PATIENCE).done
    room = own.submit([6, 7, 8])
    model.gate.set()
    assert [f.result(PATIENCE) for f in (first, stays, room)] == [[1], [25], [36, 49, 64]]
    assert sorted(n for batch in model.batches for n in batch) == [1, 5, 6, 7, 8]
    with pytest.raises(CancelledError):
        gone.result(PATIENCE)


def test_a_caller_that_leaves_in_the_middle_costs_nothing_more(model: Model, make: Make) -> None:
    own = make(model, max_items=2)
    model.hold()
    long = own.submit(list(range(100)))
    model.wait_until_begun()
    assert long.cancel()
    after = own.submit([7])
    model.gate.set()
    assert after.result(PATIENCE) == [49]
    assert model.batches == [[0, 1], [7]]


def test_only_the_poisoned_item_fails(model: Model, make: Make) -> None:
    own = make(model)
    first = held(model, own)
    futures = [own.submit([n]) for n in (2, -3, 4)]
    model.gate.set()
    assert [f.result(PATIENCE) for f in (first, futures[0], futures[2])] == [[1], [4], [16]]
    with pytest.raises(ZeroDivisionError):
        futures[1].result(PATIENCE)
    assert model.batches == [[1], [2, -3, 4], [2], [-3], [4]]


def test_a_request_that_has_failed_is_not_run_any_further(model: Model, make: Make) -> None:
    own = make(model)
    with pytest.raises(ZeroDivisionError):
        own.submit([-3, 4, 5]).result(PATIENCE)
    assert model.batches[:2] == [[-3, 4, 5], [-3]]
    assert own.answer([6]) == [36]
    assert model.batches[2:] == [[6]]


def test_a_request_with_a_poisoned_item_fails_and_leaves_the_queue(model: Model, make: Make) -> None:
    own = make(model, max_items=2)
    with pytest.raises(ZeroDivisionError):
        own.submit([1, -1, *range(50)]).result(PATIENCE)
    with pytest.raises(ZeroDivisionError):
        own.answer([-1])
    assert own.answer([3]) == [9]
    assert len(model.batches) <= 6


def test_a_broken_model_is_not_tried_with_every_item(make: Make) -> None:
    class Broken(Model):
        def __call__(self, items: Sequence[int]) -> list[int]:
            super().__call__(items)
            raise ZeroDivisionError

    model = Broken()
    own = make(model, max_items=64)
    first = held(model, own)
    futures = [own.submit([n]) for n in range(40)]
    model.gate.set()
    for future in [first, *futures]:
        with pytest.raises((ZeroDivisionError, InferenceError)):
            future.result(PATIENCE)
    assert len(model.batches) == 1 + 1 + 8


def test_a_wrong_number_of_answers_is_an_error() -> None:
    own: Batcher[int, int] = Batcher(
        lambda items: [1] * (len(items) + 1), length=lambda _: 1, max_items=4, max_tokens=99
    )
    with pytest.raises(InferenceError, match="2 answers to 1 texts"):
        own.answer([1])
    own.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_run_that_ends_the_thread_is_an_error_and_the_next_is_served(error: type[BaseException]) -> None:
    gate = threading.Event()

    def run(items: Sequence[int]) -> Sequence[int]:
        assert gate.wait(PATIENCE)
        if 13 in items:
            raise error
        return items

    own: Batcher[int, int] = Batcher(run, length=lambda _: 1, max_items=4, max_tokens=99)
    bad = [own.submit([13, *range(20)]), own.submit([13])]
    gate.set()
    for future in bad:
        with pytest.raises(InferenceError, match=error.__name__):
            future.result(PATIENCE)
    assert own.submit([1]).result(PATIENCE) == [1]
    with pytest.raises(error):
        own.answer([13])
    assert own.answer([1]) == [1]
    assert own.close()


def test_close_gives_up_what_waits_and_refuses_what_comes(model: Model, make: Make) -> None:
    own = make(model)
    first = held(model, own)
    waiting = own.submit([2])
    assert own.close(timeout_s=0) is False
    for future in (waiting, own.submit([3])):
        with pytest.raises(InferenceError, match="'squares' is closed"):
            future.result(PATIENCE)
    with pytest.raises(InferenceError, match="closed"):
        own.answer([3])
    model.gate.set()
    assert first.result(PATIENCE) == [1]
    assert own.close(timeout_s=PATIENCE)
    assert own.close()
    assert model.batches == [[1]]


def test_close_can_drain(model: Model, make: Make) -> None:
    own = make(model, max_items=2, max_delay_s=PATIENCE)
    futures = [own.submit([n]) for n in range(5)]
    assert own.close(drain=True, timeout_s=PATIENCE)
    assert [f.result(0) for f in futures] == [[n * n] for n in range(5)]


def test_a_run_can_close_its_own_batcher() -> None:
    closed: list[bool] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        closed.append(own.close())
        return items

    own: Batcher[int, int] = Batcher(run, length=lambda _: 1, max_items=4, max_tokens=99)
    assert own.submit([1]).result(PATIENCE) == [1]
    assert closed == [False]
    assert own.close(timeout_s=PATIENCE)


class Watcher:
    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.waiting = 0
        self.gone: list[str] = []
        self.lock = threading.Lock()

    def batch(self, name: str, size: int, tokens: int, queued: Sequence[float]) -> None:
        assert name == "squares"
        assert all(seconds >= 0 for seconds in queued)
        with self.lock:
            self.batches.append((size, tokens, len(queued)))

    def queue(self, name: str, delta: int) -> None:
        assert name == "squares"
        with self.lock:
            self.waiting += delta

    def shed(self, name: str, reason: str) -> None:
        assert name == "squares"
        with self.lock:
            self.gone.append(reason)


def test_an_observer_sees_batches_waiting_items_and_refusals(model: Model, make: Make) -> None:
    watcher = Watcher()
    own = make(model, observer=watcher, queue_limit=3)
    first = held(model, own)
    waiting = own.submit([2, 3])
    assert watcher.waiting == 2
    late, full, cancelled = own.submit([4], deadline=0.0), own.submit([5, 6]), own.submit([7])
    assert cancelled.cancel()
    assert watcher.waiting == 2
    wait([late, full], PATIENCE)
    model.gate.set()
    wait([first, waiting], PATIENCE)
    assert own.close(timeout_s=PATIENCE)
    wait([own.submit([8])], PATIENCE)
    assert watcher.gone == ["deadline", "full", "closed"]
    assert watcher.batches == [(1, 10, 1), (2, 20, 2)]
    assert watcher.waiting == 0


def test_an_observer_that_fails_is_logged_once_and_harms_nobody(
    model: Model, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad:
        def batch(self, *_: object) -> None:
            raise ValueError("secret words of a text")

        queue = shed = batch

    own = make(model, observer=Bad())
    with caplog.at_level(logging.WARNING):
        assert own.submit([2]).result(PATIENCE) == own.answer([2]) == [4]
        with pytest.raises(DeadlineError):
            own.answer([2], deadline=0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "the observer of the model 'squares' failed: ValueError"
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"max_items": 0},
        {"max_tokens": 0},
        {"queue_limit": 0},
        {"max_delay_s": -1.0},
        {"max_delay_s": float("nan")},
        {"preferred": [9]},
        {"preferred": [0]},
    ],
)
def test_numbers_out_of_range_are_refused(model: Model, make: Make, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        make(model, **options)


def test_many_threads_all_get_their_own(model: Model, make: Make) -> None:
    watcher = Watcher()
    own = make(model, max_items=16, length=lambda n: 1 + n % 50, observer=watcher)
    wrong: list[object] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            numbers = [chance.randrange(1000) for _ in range(chance.randrange(1, 6))]
            expected = [n * n for n in numbers]
            kind = chance.randrange(4)
            tenant = str(seed % 3)
            if kind == 0:
                found = own.answer(numbers, tenant=tenant)
            elif kind == 1:
                found = own.submit(numbers, tenant=tenant, deadline=time.monotonic() + PATIENCE).result(PATIENCE)
            elif kind == 2:
                own.submit(numbers, tenant=tenant).cancel()
                continue
            else:
                poisoned = own.submit([*numbers, -1], tenant=tenant)
                found, expected = type(poisoned.exception(PATIENCE)), ZeroDivisionError
            if found != expected:
                wrong.append((found, expected))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert own.close(drain=True, timeout_s=PATIENCE)
    assert wrong == []
    assert watcher.waiting == 0


async def test_event_loops_share_a_batcher(model: Model, make: Make) -> None:
    own = make(model, max_items=64)

    async def ask(number: int) -> list[int]:
        return await asyncio.wrap_future(own.submit([number]))

    def other_loop() -> None:
        async def everything() -> list[list[int]]:
            return await asyncio.gather(*[ask(n) for n in range(50)])

        others.append(asyncio.run(everything()))

    others: list[list[list[int]]] = []
    thread = threading.Thread(target=other_loop)
    thread.start()
    assert await asyncio.gather(*[ask(n) for n in range(200)]) == [[n * n] for n in range(200)]
    await asyncio.to_thread(thread.join)
    assert others == [[[n * n] for n in range(50)]]
    assert len(model.batches) < 250


async def test_a_cancelled_task_takes_its_items_back(model: Model, make: Make) -> None:
    own = make(model)
    first = held(model, own)
    task = asyncio.ensure_future(asyncio.wrap_future(own.submit([2])))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)  # asyncio tells the batcher's future in its next round
    model.gate.set()
    assert await asyncio.wrap_future(first) == [1]
    assert await asyncio.wrap_future(own.submit([3])) == [9]
    assert model.batches == [[1], [3]]


async def test_a_loop_that_is_gone_is_no_noise(model: Model, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    own = make(model)
    first = held(model, own)

    def leave() -> None:
        async def ask() -> None:
            asyncio.wrap_future(own.submit([2]))

        asyncio.run(ask())

    await asyncio.to_thread(leave)
    model.gate.set()
    assert await asyncio.wrap_future(first) == [1]
    assert await asyncio.wrap_future(own.submit([3])) == [9]
    assert caplog.records == []


@given(
    st.lists(
        st.tuples(st.lists(st.integers(-1, 60), min_size=1, max_size=9), st.sampled_from("ab"), st.booleans()),
        max_size=12,
    ),
    st.integers(1, 5),
)
@settings(max_examples=40)
def test_every_request_gets_its_own_answer_or_its_own_error(
    requests: list[tuple[list[int], str, bool]], max_items: int
) -> None:
    model = Model()
    own: Batcher[int, int] = Batcher(model, length=lambda n: max(n, 0), max_items=max_items, max_tokens=100)
    model.hold()
    futures = [own.submit(numbers, tenant=tenant) for numbers, tenant, _ in requests]
    for future, (_, _, leaves) in zip(futures, requests, strict=True):
        if leaves:
            future.cancel()
    model.gate.set()
    for future, (numbers, _, leaves) in zip(futures, requests, strict=True):
        if leaves and future.cancelled():
            continue
        if -1 in numbers:
            assert isinstance(future.exception(PATIENCE), (ZeroDivisionError, InferenceError))
        else:
            assert future.result(PATIENCE) == [n * n for n in numbers]
    assert own.close(timeout_s=PATIENCE)


def test_idle_threads_end_and_come_back(model: Model, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.001)
    own = make(model)
    assert own.submit([2]).result(PATIENCE) == [4]
    thread = own._worker
    if thread is not None:
        thread.join(PATIENCE)
    assert own._worker is None
    assert own.submit([3]).result(PATIENCE) == [9]


def test_a_batcher_nobody_holds_is_freed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.001)
    own: Batcher[int, int] = Batcher(model, length=lambda _: 1, max_items=4, max_tokens=99)
    own.submit([2]).result(PATIENCE)
    thread, seen = own._worker, weakref.ref(own)
    del own
    if thread is not None:
        thread.join(PATIENCE)
    gc.collect()
    assert seen() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")
def test_a_forked_child_has_a_queue_and_threads_of_its_own() -> None:
    program = """
import os, threading
from llmguard.inference.batcher import Batcher
begun, gate = threading.Event(), threading.Event()
def run(items):
    begun.set()
    gate.wait()
    return items
batcher = Batcher(run, length=lambda item: 1, max_items=1, max_tokens=99)
futures = [batcher.submit([1]), batcher.submit([2])]
begun.wait()
pid = os.fork()
if pid == 0:
    gate.set()
    right = batcher.submit([3]).result(10) == [3] and batcher.answer([4]) == [4] and batcher.close()
    os._exit(0 if right and not futures[1].done() else 1)
_, status = os.waitpid(pid, 0)
gate.set()
print(os.waitstatus_to_exitcode(status), [future.result(10) for future in futures])
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "0 [[1], [2]]\n"


@pytest.mark.parametrize("hung", [True, False])
def test_the_interpreter_ends_with_a_run_under_way(hung: bool) -> None:
    program = f"""
import threading
from llmguard.inference.batcher import Batcher
begun = threading.Event()
def run(items):
    begun.set()
    threading.Event().wait(None if {hung} else 0.05)
    return items
batcher = Batcher(run, length=lambda item: 1, max_items=1, max_tokens=99)
futures = [batcher.submit([n]) for n in range(3)]
begun.wait()
print("end")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_a_run_is_bound_by_the_latest_deadline_of_its_batch_on_any_thread() -> None:
    seen: list[float | None] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        seen.append(limits.deadline.get())
        return items

    batcher = Batcher(run, length=lambda _: 1, max_items=8, max_tokens=8)
    until = time.monotonic() + 60
    assert batcher.submit([1], deadline=until).result(30) == [1]
    assert batcher.answer([2], deadline=until + 1) == [2]
    assert batcher.answer([3]) == [3]
    batcher.close()
    assert seen == [until, until + 1, None]


def test_a_batch_that_came_too_late_is_not_run_again_one_by_one() -> None:
    runs: list[int] = []

    def run(items: Sequence[int]) -> Sequence[int]:
        runs.append(len(items))
        raise DeadlineError("the server did not answer in time")

    batcher = Batcher(run, length=lambda _: 1, max_items=8, max_tokens=8)
    with pytest.raises(DeadlineError):
        batcher.answer([1, 2, 3])
    batcher.close()
    assert runs == [3]
