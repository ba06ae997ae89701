"""Who is told of the batches of all models: metrics, above all. Costs nothing to import."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from llmguard.inference.batch_observer import Observer

_watchers: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(observer: Observer) -> None:
    """Tell ``observer`` of the batches of all models, as long as it lives."""
    _watchers.add(observer)


class Everyone:
    """An observer that hands on what it is told to all who watch."""

    def batch(self, name: str, size: int, tokens: int, queued: Sequence[float]) -> None:
        """A batch ran."""
        for observer in list(_watchers):
            observer.batch(name, size, tokens, queued)

    def queue(self, name: str, delta: int) -> None:
        """So many items more, or fewer, wait."""
        for observer in list(_watchers):
            observer.queue(name, delta)

    def shed(self, name: str, reason: str) -> None:
        """A request was given up."""
        for observer in list(_watchers):
            observer.shed(name, reason)
