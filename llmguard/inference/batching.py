"""What runs next: a queue that forms batches. No threads, no clock, no futures: it is told the time and asked.

- A batch costs its number of items times its longest item, padding included, and stays within ``max_tokens``.
- An item joins a batch where the padding it brings costs less than a run of its own would.
- Tenants take turns by tokens: the next batch begins with the oldest item of the tenant that was served least
(start-time
  fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996), and the room left is given out in the same order.
- An item whose answer would come too late is given up before it runs, and no batch grows so long that one of its items
  would be late.
- When the queue is full, the newest requests of the tenant with the most waiting items go first; who is that tenant
itself, or
  alone, is refused.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from llmguard.errors import ConfigurationError
from llmguard.inference.batch_request import Batch, Item, Request, Tenant, refused
from llmguard.inference.run_time import RunTime

T = TypeVar("T")

#: Padding that an item may always bring, as a share of its own length.
_PADDING = 0.125
#: A tenant that has nothing waiting is remembered while there are no more than so many.
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How large batches and the queue may get, and how long a batch may wait.

    Attributes:
        max_items: of a batch.
        max_tokens: of a batch, padding included; a longer item runs alone.
        preferred: batch sizes that need no more waiting.
        max_delay_s: how long a request waits for company.
        queue_limit: items that may wait; a single request that is larger waits alone.

    Raises:
        ConfigurationError: a number is out of range.
    """

    max_items: int
    max_tokens: int
    preferred: tuple[int, ...]
    max_delay_s: float
    queue_limit: int

    def __post_init__(self) -> None:
        for option in ("max_items", "max_tokens", "queue_limit"):
            if getattr(self, option) < 1:
                raise ConfigurationError(f"{option} must be at least 1, not {getattr(self, option)}")
        if not 0 <= self.max_delay_s < math.inf:
            raise ConfigurationError(f"max_delay_s must be 0 or more seconds, not {self.max_delay_s}")
        if not all([1 <= size <= self.max_items for size in self.preferred]):
            raise ConfigurationError(f"preferred sizes must be from 1 to max_items, {self.max_items}")


class Queue(Generic[T]):
    """Holds requests until they run. Not thread-safe.

    Args:
        limits: of batches and of the queue.
        time: how long runs take.
    """

    def __init__(self, limits: Limits, time: RunTime) -> None:
        self._max_items = limits.max_items
        self._max_tokens = limits.max_tokens
        self._preferred = sorted(limits.preferred)
        self._max_delay_s = limits.max_delay_s
        self._limit = limits.queue_limit
        self._time = time
        self._requests: dict[Request[T], None] = {}
        self._tenants: dict[str, Tenant[T]] = {}
        self._active: dict[str, Tenant[T]] = {}
        self._virtual = 0.0
        self._deadlines: list[tuple[float, int, Request[T]]] = []
        self._count = 0
        #: Items that wait.
        self.waiting = 0

    def offer(self, request: Request[T], now: float) -> list[Request[T]]:
        """Take a request in; returns what is refused for it, maybe itself."""
        missing = self.waiting + request.waiting - self._limit
        shed = refused(request, missing, self._active) if self.waiting else []
        if request in shed:
            return shed
        for other in shed:
            self.drop(other)
        tenant = self._tenants.get(request.tenant)
        if tenant is None:
            tenant = self._tenants[request.tenant] = Tenant()
        if not tenant.items:
            # Who was away saves nothing up.
            tenant.served = max(tenant.served, self._virtual)
            self._active[request.tenant] = tenant
        for item in request.items:
            tenant.items[item] = None
        self._requests[request] = None
        self.waiting += request.waiting
        if request.deadline < math.inf:
            self._count += 1
            heapq.heappush(self._deadlines, (request.deadline, self._count, request))
        self._tidy()
        return shed

    def _tidy(self) -> None:
        if len(self._deadlines) > 2 * len(self._requests) + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[2] in self._requests]
            heapq.heapify(self._deadlines)
        if len(self._tenants) > len(self._active) + _REMEMBERED:
            self._tenants = dict(self._active)

    def drop(self, request: Request[T]) -> None:
        """Forget what of a request has not begun."""
        if request not in self._requests:
            return
        tenant = self._tenants[request.tenant]
        for item in request.items:
            if item in tenant.items:
                self._remove(tenant, item)

    def _remove(self, tenant: Tenant[T], item: Item[T]) -> None:
        request = item.request
        del tenant.items[item]
        if not tenant.items:
            del self._active[request.tenant]
        request.waiting -= 1
        request.tokens -= item.length
        self.waiting -= 1
        if not request.waiting:
            del self._requests[request]

    def clear(self) -> list[Request[T]]:
        """Forget everything; returns what waited."""
        waited = list(self._requests)
        for request in waited:
            self.drop(request)
        return waited

    def late(self, request: Request[T], now: float, busy_s: float = 0.0) -> bool:
        """Whether a request's answer would come after its deadline, were it to begin in ``busy_s`` seconds."""
        if request.deadline == math.inf:
            return False
        if self._time.trusted(now):
            return now + busy_s + self._time.seconds(request.tokens) >= request.deadline
        return now >= request.deadline

    def expire(self, now: float) -> list[Request[T]]:
        """Give up the requests that would be late; returns them."""
        found = []
        while self._deadlines:
            request = self._deadlines[0][2]
            if request in self._requests:
                if not self.late(request, now):
                    break
                self.drop(request)
                found.append(request)
            heapq.heappop(self._deadlines)
        return found

    def expires(self, now: float) -> float | None:
        """When the next request would be late, or None."""
        while self._deadlines and self._deadlines[0][2] not in self._requests:
            heapq.heappop(self._deadlines)
        if not self._deadlines:
            return None
        deadline, _, request = self._deadlines[0]
        return deadline - (self._time.seconds(request.tokens) if self._time.trusted(now) else 0.0)

    def ripens(self) -> float | None:
        """When the oldest request has waited long enough for company, or None."""
        return next(iter(self._requests)).arrived + self._max_delay_s if self._requests else None

    def alone(self, request: Request[T]) -> Batch[T] | None:
        """The request as a batch of its own, when it need not wait: nobody else does, and one run is enough."""
        batch = Batch(request.items, max([item.length for item in request.items]))
        count = len(batch.items)
        if self.waiting or count > self._max_items or (count > 1 and batch.tokens > self._max_tokens):
            return None
        return batch if not self._max_delay_s or count == self._max_items or count in self._preferred else None

    def take(self, now: float, *, drain: bool = False) -> tuple[Batch[T] | None, list[Request[T]]]:
        """The next batch, or None while it is better to wait for company; and what was found too late for any.

        Args:
            now: monotonic seconds.
            drain: whether nobody else is going to come.
        """
        late: list[Request[T]] = []
        while self._active:
            tenant = min(self._active.values(), key=_served)
            seed = next(iter(tenant.items))
            if not self.late(seed.request, now):
                break
            late.append(seed.request)
            self.drop(seed.request)
        else:
            return None, late
        batch, soonest = self._filled(tenant, seed, now)
        if not self._ready(batch, soonest, now, drain=drain):
            return None, late
        # It moves on with the work even while new tenants come without end, so that they don't all go before an old
        # one.
        share = sum([item.length for item in batch.items]) / len(self._active)
        self._virtual = max(self._virtual + share, tenant.served)
        for item in batch.items:
            owner = self._tenants[item.request.tenant]
            owner.served += item.length
            self._remove(owner, item)
        return batch, late

    def _filled(self, tenant: Tenant[T], seed: Item[T], now: float) -> tuple[Batch[T], float]:
        """The seed and what fits beside it; and the soonest deadline among them."""
        items, longest, soonest = [seed], seed.length, seed.request.deadline
        trusted = self._time.trusted(now)
        worth = self._time.worth
        for item in self._others(tenant, seed):
            most = max(longest, item.length)
            tokens = (len(items) + 1) * most
            if tokens > self._max_tokens or len(items) == self._max_items:
                if len(items) == self._max_items or (len(items) + 1) * longest > self._max_tokens:
                    break
                continue
            if tokens - len(items) * longest - item.length > worth + _PADDING * item.length:
                continue
            deadline = min(soonest, item.request.deadline)
            if trusted and now + self._time.seconds(tokens) >= deadline:
                continue
            if now >= item.request.deadline:
                continue
            items.append(item)
            longest, soonest = most, deadline
        return Batch(items, longest), soonest

    def _others(self, tenant: Tenant[T], seed: Item[T]) -> Iterator[Item[T]]:
        """Items in the order of fair turns, a bounded number of each tenant."""
        ahead = 4 * self._max_items
        if len(self._active) == 1:
            yield from itertools.islice(tenant.items, 1, ahead)
            return
        turns = [
            (own.served + (seed.length if own is tenant else 0), number, iter(own.items))
            for number, own in enumerate(self._active.values())
        ]
        seen = [0] * len(turns)
        heapq.heapify(turns)
        while turns:
            served, number, items = turns[0]
            item = next(items, None)
            if item is seed:
                item = next(items, None)
            if item is None or seen[number] == ahead:
                heapq.heappop(turns)
                continue
            seen[number] += 1
            heapq.heapreplace(turns, (served + item.length, number, items))
            yield item

    def _ready(self, batch: Batch[T], soonest: float, now: float, *, drain: bool) -> bool:
        """Whether to run now; cuts the batch to a preferred size where it has time to wait for the next one."""
        ripe = self.ripens() or 0.0
        count = len(batch.items)
        if drain or now >= ripe or count == self._max_items or (count + 1) * batch.longest > self._max_tokens:
            return True
        if ripe + self._time.seconds(batch.tokens) >= soonest:
            return True
        fitting = [size for size in self._preferred if size <= count]
        if fitting:
            del batch.items[fitting[-1] :]
            batch.longest = max([item.length for item in batch.items])
        return bool(fitting)


def _served(tenant: Tenant[T]) -> float:
    return tenant.served
