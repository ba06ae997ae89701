import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from llmguard.inference.batch_request import Request
from llmguard.inference.batching import Batch, Limits, Queue
from llmguard.inference.run_time import RunTime


def queue(
    *,
    items: int = 4,
    tokens: int = 400,
    preferred: Sequence[int] = (),
    delay: float = 0.0,
    limit: int = 1000,
    time: RunTime | None = None,
) -> Queue[int]:
    return Queue(Limits(items, tokens, tuple(preferred), delay, limit), time or RunTime())


def request(*lengths: int, deadline: float | None = None, tenant: str = "", arrived: float = 0.0) -> Request[int]:
    return Request(range(len(lengths)), lengths, deadline=deadline, tenant=tenant, arrived=arrived)


def steady(fixed: float, per_token: float) -> RunTime:
    """A model that takes as long as it says."""
    time = RunTime()
    for tokens in (1, *(16, 512, 64, 1024) * 10):
        time.learn(tokens, fixed + per_token * tokens, 0.0)
    return time


def lengths(batch: Batch[int] | None) -> list[int]:
    assert batch is not None
    return [item.length for item in batch.items]


def taken(waiting: Queue[int], now: float = 0.0) -> Batch[int]:
    batch, late = waiting.take(now)
    assert batch is not None
    assert late == []
    return batch


def test_nothing_comes_of_an_empty_queue() -> None:
    waiting = queue()
    assert waiting.take(0.0) == (None, [])
    assert (waiting.expires(0.0), waiting.ripens(), waiting.waiting) == (None, None, 0)


def test_a_batch_counts_its_padding() -> None:
    waiting = queue(items=10, tokens=300)
    waiting.offer(request(100, 40, 40, 40), 0.0)
    assert lengths(taken(waiting)) == [100, 40, 40]
    assert lengths(taken(waiting)) == [40]


def test_an_item_longer_than_the_budget_runs_alone() -> None:
    waiting = queue(tokens=50)
    waiting.offer(request(80, 10, 10), 0.0)
    assert [lengths(taken(waiting)) for _ in range(2)] == [[80], [10, 10]]


def test_lengths_keep_apart_where_padding_costs_more_than_a_run() -> None:
    waiting = queue(items=8, tokens=10_000, time=steady(0.001, 1e-4))
    waiting.offer(request(128, 12, 126, 13, 120, 14, 128), 0.0)
    assert lengths(taken(waiting)) == [128, 126, 120, 128]
    assert lengths(taken(waiting)) == [12, 13, 14]


def test_lengths_mix_where_a_run_costs_more_than_padding() -> None:
    waiting = queue(items=8, tokens=10_000, time=steady(0.01, 1e-5))
    waiting.offer(request(128, 12, 126, 13), 0.0)
    assert lengths(taken(waiting)) == [128, 12, 126, 13]


def test_a_batch_waits_for_company_until_the_delay_is_over() -> None:
    waiting = queue(items=4, delay=0.01)
    waiting.offer(request(10, arrived=1.0), 1.0)
    assert waiting.take(1.005) == (None, [])
    assert waiting.ripens() == 1.01
    waiting.offer(request(10, arrived=1.009), 1.009)
    assert lengths(taken(waiting, 1.01)) == [10, 10]


def test_a_full_batch_waits_no_longer() -> None:
    waiting = queue(items=4, tokens=100, delay=1.0)
    waiting.offer(request(10, 10, 10, 10), 0.0)
    assert len(taken(waiting).items) == 4
    waiting.offer(request(60), 0.0)
    assert lengths(taken(waiting)) == [60]


def test_a_preferred_size_waits_no_longer_and_is_cut_to_size() -> None:
    waiting = queue(items=16, tokens=10_000, preferred=[8, 4], delay=1.0)
    waiting.offer(request(*[10] * 3), 0.0)
    assert waiting.take(0.5) == (None, [])
    waiting.offer(request(*[10] * 3), 0.5)
    assert len(taken(waiting, 0.5).items) == 4
    assert waiting.take(0.6) == (None, [])
    assert len(taken(waiting, 1.5).items) == 2


def test_who_drains_waits_for_nobody() -> None:
    waiting = queue(delay=10.0)
    waiting.offer(request(10), 0.0)
    assert lengths(waiting.take(0.0, drain=True)[0]) == [10]


def test_a_deadline_ends_the_wait_for_company() -> None:
    waiting = queue(items=16, tokens=10_000, delay=0.5, time=steady(0.1, 0.0))
    waiting.offer(request(10, deadline=0.55), 0.0)
    assert lengths(taken(waiting)) == [10]


def test_the_late_are_given_up() -> None:
    waiting = queue()
    late, on_time = request(10, deadline=1.0), request(10, deadline=2.0)
    waiting.offer(late, 0.0)
    waiting.offer(on_time, 0.0)
    assert waiting.expire(0.5) == []
    assert waiting.expires(0.5) == 1.0
    assert waiting.expire(1.0) == [late]
    assert [item.request for item in taken(waiting, 1.0).items] == [on_time]


def test_the_late_never_run_even_beside_others() -> None:
    waiting = queue()
    on_time = request(10)
    waiting.offer(on_time, 0.0)
    waiting.offer(request(10, deadline=0.5), 0.0)
    assert [item.request for item in taken(waiting, 1.0).items] == [on_time]
    assert waiting.take(1.0)[0] is None


def test_who_would_be_late_is_given_up_before_the_run() -> None:
    waiting = queue(time=steady(0.1, 0.0))
    doomed = request(10, deadline=0.55)
    waiting.offer(doomed, 0.0)
    assert waiting.expires(0.1) == pytest.approx(0.45)
    assert waiting.take(0.46) == (None, [doomed])
    assert waiting.waiting == 0


def test_a_guess_that_nothing_has_confirmed_for_a_second_gives_nobody_up() -> None:
    waiting = queue(time=steady(5.0, 0.0))
    waiting.offer(request(10, deadline=3.0), 2.0)
    assert waiting.expire(2.0) == []
    assert len(taken(waiting, 2.0).items) == 1


def test_a_batch_does_not_grow_so_long_that_one_of_it_is_late() -> None:
    waiting = queue(items=16, tokens=10_000, time=steady(0.0, 0.001))
    waiting.offer(request(100, deadline=0.35), 0.0)
    waiting.offer(request(*[100] * 10), 0.0)
    assert len(taken(waiting).items) == 3
    assert len(taken(waiting).items) == 8


def test_a_long_text_that_cannot_be_done_in_time_is_refused_whole() -> None:
    waiting = queue(time=steady(0.0, 0.001))
    assert waiting.late(request(*[100] * 20, deadline=1.0), 0.0)
    assert not waiting.late(request(*[100] * 20, deadline=3.0), 0.0)
    assert waiting.late(request(100, deadline=0.2), 0.0, busy_s=0.15)


def test_tenants_take_turns_by_tokens() -> None:
    waiting = queue(items=1, tokens=10_000)
    waiting.offer(request(*[300] * 5, tenant="long"), 0.0)
    waiting.offer(request(*[100] * 15, tenant="short"), 0.0)
    order = [taken(waiting).items[0] for _ in range(20)]
    for upto in range(1, 20):
        served = {name: sum(i.length for i in order[:upto] if i.request.tenant == name) for name in ("long", "short")}
        assert abs(served["long"] - served["short"]) <= 300 or upto > 15


def test_who_was_away_saves_nothing_up() -> None:
    waiting = queue(items=1)
    waiting.offer(request(*[10] * 100, tenant="steady"), 0.0)
    for _ in range(50):
        taken(waiting)
    waiting.offer(request(*[10] * 50, tenant="back"), 0.0)
    names = [taken(waiting).items[0].request.tenant for _ in range(20)]
    assert 9 <= names.count("steady") <= 11


def test_new_tenants_without_end_do_not_starve_an_old_one() -> None:
    waiting = queue(items=2, limit=10_000)
    waiting.offer(request(*[10] * 3, tenant="old"), 0.0)
    taken(waiting)
    for number in range(300):
        for part in range(3):
            waiting.offer(request(10, tenant=f"new-{number}-{part}"), 0.0)
        if any(item.request.tenant == "old" for item in taken(waiting).items):
            break
    else:
        pytest.fail("the old tenant was never served")


def test_a_full_queue_refuses_the_newcomer_of_the_greediest() -> None:
    waiting = queue(limit=10)
    waiting.offer(request(*[1] * 10, tenant="a"), 0.0)
    newcomer = request(1, tenant="a")
    assert waiting.offer(newcomer, 0.0) == [newcomer]
    assert waiting.waiting == 10


def test_a_full_queue_sheds_the_newest_of_the_greediest_for_another() -> None:
    waiting = queue(limit=10)
    mine = [request(*[1] * 3, tenant="greedy") for _ in range(3)]
    for own in mine:
        waiting.offer(own, 0.0)
    other = request(1, 1, tenant="modest")
    assert waiting.offer(other, 0.0) == [mine[2]]
    assert waiting.waiting == 8


def test_a_full_queue_takes_from_nobody_who_has_less() -> None:
    waiting = queue(limit=10)
    waiting.offer(request(*[1] * 5, tenant="a"), 0.0)
    waiting.offer(request(*[1] * 5, tenant="b"), 0.0)
    newcomer = request(*[1] * 6, tenant="c")
    assert waiting.offer(newcomer, 0.0) == [newcomer]


def test_a_request_that_has_begun_is_not_shed() -> None:
    waiting = queue(items=2, limit=10)
    waiting.offer(request(*[1] * 10, tenant="a"), 0.0)
    taken(waiting)
    waiting.offer(request(1, 1, tenant="b"), 0.0)
    newcomer = request(1, tenant="b")
    assert waiting.offer(newcomer, 0.0) == [newcomer]


def test_a_request_larger_than_the_queue_waits_alone() -> None:
    waiting = queue(limit=10)
    assert waiting.offer(request(*[1] * 50), 0.0) == []
    newcomer = request(1)
    assert waiting.offer(newcomer, 0.0) == [newcomer]


def test_dropped_requests_leave_nothing_behind() -> None:
    waiting = queue()
    for _ in range(1000):
        own = request(1, 2, deadline=1e9)
        waiting.offer(own, 0.0)
        waiting.drop(own)
        waiting.drop(own)
    assert waiting.waiting == 0
    assert len(waiting._deadlines) < 100
    assert waiting.take(0.0) == (None, [])


def test_tenants_that_are_gone_are_forgotten() -> None:
    waiting = queue()
    for number in range(5000):
        waiting.offer(request(1, tenant=str(number)), 0.0)
        taken(waiting)
    assert len(waiting._tenants) < 2000


def test_alone_is_who_need_not_wait() -> None:
    assert queue().alone(request(10, 10)) is not None
    assert queue(items=2).alone(request(10, 10, 10)) is None
    assert queue(tokens=50).alone(request(10, 40)) is None
    assert queue(tokens=50).alone(request(80)) is not None
    assert queue(delay=0.1).alone(request(10)) is None
    assert queue(delay=0.1, preferred=[1]).alone(request(10)) is not None
    waiting = queue()
    waiting.offer(request(10), 0.0)
    assert waiting.alone(request(10)) is None


@given(
    st.lists(st.lists(st.integers(0, 150), min_size=1, max_size=9), max_size=12),
    st.integers(1, 6),
    st.integers(1, 300),
    st.sampled_from([None, (0.001, 1e-5), (0.0, 1e-3)]),
)
def test_everything_comes_out_once_and_within_the_budget(
    requests: list[list[int]], items: int, tokens: int, model: tuple[float, float] | None
) -> None:
    waiting = queue(items=items, tokens=tokens, time=steady(*model) if model else None)
    for number, own in enumerate(requests):
        waiting.offer(request(*own, tenant=str(number % 3)), 0.0)
    seen = []
    while waiting.waiting:
        batch = taken(waiting)
        assert len(batch.items) <= items
        assert batch.tokens <= tokens or len(batch.items) == 1
        assert batch.longest == max(lengths(batch))
        seen += [(id(item.request), item.index) for item in batch.items]
    assert len(seen) == len(set(seen)) == sum(len(own) for own in requests)


class QueueMachine(RuleBasedStateMachine):
    """Every request ends in exactly one way, whatever happens in whatever order."""

    requests = Bundle("requests")

    @initialize(
        items=st.integers(1, 5), delay=st.sampled_from([0.0, 0.5]), known=st.booleans(), preferred=st.booleans()
    )
    def start(self, items: int, delay: float, known: bool, preferred: bool) -> None:
        self.time = steady(0.01, 1e-4) if known else RunTime()
        sizes = [items] if preferred else []
        self.queue = queue(items=items, tokens=200, delay=delay, limit=12, time=self.time, preferred=sizes)
        self.items = items
        self.now = 0.0
        self.open: dict[Request[int], int] = {}
        self.behind: dict[Request[int], int] = {}

    @rule(
        target=requests,
        sizes=st.lists(st.integers(1, 120), min_size=1, max_size=6),
        tenant=st.sampled_from("abc"),
        deadline=st.none() | st.floats(0.0, 2.0),
    )
    def offer(self, sizes: list[int], tenant: str, deadline: float | None) -> Request[int]:
        own = request(
            *sizes,
            tenant=tenant,
            deadline=None if deadline is None else self.now + deadline,
            arrived=self.now,
        )
        self.open[own] = len(sizes)
        self.behind[own] = 0
        self.end(self.queue.offer(own, self.now))
        return own

    @rule(own=requests)
    def cancel(self, own: Request[int]) -> None:
        self.queue.drop(own)
        self.open.pop(own, None)

    @rule(step=st.floats(0.0, 0.7))
    def wait(self, step: float) -> None:
        self.now += step

    @rule()
    def expire(self) -> None:
        late = self.queue.expire(self.now)
        assert all(own.deadline < math.inf for own in late)
        self.end(late)

    @rule(drain=st.booleans())
    def take(self, drain: bool) -> None:
        batch, late = self.queue.take(self.now, drain=drain)
        self.end(late)
        if batch is None:
            assert not drain or not self.queue.waiting
            return
        assert len(batch.items) <= self.items
        assert batch.tokens <= 200 or len(batch.items) == 1
        for item in batch.items:
            assert self.now < item.request.deadline
            self.open[item.request] -= 1
            if not self.open[item.request]:
                del self.open[item.request]
        for own in self.open:
            self.behind[own] += 1
            # Three tenants and 12 items, or one request more: nobody waits for more than can be before it.
            assert self.behind[own] < 200

    def end(self, gone: list[Request[int]]) -> None:
        for own in gone:
            del self.open[own]

    @invariant()
    def all_is_accounted_for(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.waiting == sum(self.open.values())


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestQueueMachine = QueueMachine.TestCase
