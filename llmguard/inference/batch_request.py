"""What a batcher's queue holds: requests of items, by tenant; and who has to go when it is full."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Item(Generic[T]):
    """One item of a request and its length."""

    request: Request[T]
    index: int
    value: T
    length: int


class Request(Generic[T]):
    """What one caller wants answered.

    Args:
        values: at least one.
        lengths: tokens of each; an empty one counts as one token.
        deadline: when the answer must be there, or None.
        tenant: whose it is.
        arrived: when it came.
    """

    __slots__ = ("arrived", "deadline", "items", "tenant", "tokens", "waiting")

    def __init__(
        self, values: Sequence[T], lengths: Sequence[int], *, deadline: float | None, tenant: str, arrived: float
    ) -> None:
        self.items = [
            Item(self, index, value, max(1, length))
            for index, (value, length) in enumerate(zip(values, lengths, strict=True))
        ]
        self.deadline = math.inf if deadline is None else deadline
        self.tenant = tenant
        self.arrived = arrived
        #: Items that have not begun, and their tokens.
        self.waiting = len(self.items)
        self.tokens = sum([item.length for item in self.items])

    @property
    def untouched(self) -> bool:
        """Whether none of its items has begun."""
        return self.waiting == len(self.items)


@dataclass(slots=True)
class Batch(Generic[T]):
    """Items that run together.

    Attributes:
        items: in no order.
        longest: tokens of the longest.
    """

    items: list[Item[T]]
    longest: int

    @property
    def tokens(self) -> int:
        """What the run costs: tokens with padding."""
        return len(self.items) * self.longest


@dataclass(slots=True, eq=False)
class Tenant(Generic[T]):
    """Tokens that a tenant was served, and what of it waits, oldest first."""

    served: float = 0.0
    items: OrderedDict[Item[T], None] = field(default_factory=OrderedDict)


def refused(request: Request[T], missing: int, tenants: Mapping[str, Tenant[T]]) -> list[Request[T]]:
    """Which requests go to make room for one more: the newest of whoever has the most waiting, or the new one itself.

    A tenant loses nothing to one that would then have more waiting than it, and no request goes of which a part ran.

    Args:
        request: the new one.
        missing: items for which there is no room.
        tenants: those with something waiting, by name.
    """
    own = tenants.get(request.tenant)
    mine = (len(own.items) if own else 0) + request.waiting
    left = {name: len(tenant.items) for name, tenant in tenants.items()}
    newest: dict[str, Iterator[Item[T]]] = {}
    shed: dict[Request[T], None] = {}
    while missing > 0:
        greediest = max(left, key=left.__getitem__)
        items = newest.setdefault(greediest, reversed(tenants[greediest].items))
        victim = next((item.request for item in items if item.request.untouched and item.request not in shed), None)
        if victim is None or left[greediest] <= mine:
            return [request]
        shed[victim] = None
        left[greediest] -= victim.waiting
        missing -= victim.waiting
    return list(shed)
