"""Who is told, without being kept alive by it: the first that listens and still is there."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Generic, ParamSpec
from weakref import WeakMethod

P = ParamSpec("P")


class Listeners(Generic[P]):
    """Tells one of those that listen, so that nothing counts twice where two guards share who tells."""

    def __init__(self) -> None:
        self._known: list[Callable[[], Callable[P, object] | None]] = []

    def add(self, hear: Callable[P, object]) -> None:
        """Have ``hear`` told, once nobody before it listens any more; it must not raise."""
        kept = WeakMethod(hear) if isinstance(hear, MethodType) else lambda: hear
        self._known = [*(known for known in self._known if known() is not None), kept]

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Tell the first that is alive."""
        for known in self._known:
            if (hear := known()) is not None:
                hear(*args, **kwargs)
                return
