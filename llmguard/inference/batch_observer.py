"""Who wants to know what a batcher does, and how it is told without being able to do harm."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told what a batcher does, by the thread that did it, outside of locks; what it raises is logged once."""

    def batch(self, name: str, size: int, tokens: int, queued: Sequence[float]) -> None:
        """A batch ran: its items, its tokens with padding, and the seconds that each item had waited."""

    def queue(self, name: str, delta: int) -> None:
        """So many items more, or fewer, wait."""

    def shed(self, name: str, reason: str) -> None:
        """A request was given up: ``full``, ``deadline`` or ``closed``."""


class Reporter:
    """Tells an observer, if there is one.

    Args:
        observer: or None.
        name: of the batcher.
    """

    def __init__(self, observer: Observer | None, name: str) -> None:
        self._observer = observer
        self._name = name
        self._failed = False
        #: Whether anybody listens.
        self.on = observer is not None

    def batch(self, size: int, tokens: int, queued: Sequence[float]) -> None:
        """A batch ran."""
        if self._observer is not None:
            try:
                self._observer.batch(self._name, size, tokens, queued)
            except Exception as error:  # noqa: BLE001 - a watcher's fault is not the caller's
                self._note(error)

    def queue(self, delta: int) -> None:
        """Another number of items waits."""
        if self._observer is not None:
            try:
                self._observer.queue(self._name, delta)
            except Exception as error:  # noqa: BLE001 - a watcher's fault is not the caller's
                self._note(error)

    def shed(self, reason: str) -> None:
        """A request was given up."""
        if self._observer is not None:
            try:
                self._observer.shed(self._name, reason)
            except Exception as error:  # noqa: BLE001 - a watcher's fault is not the caller's
                self._note(error)

    def _note(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            # The message may hold anything, so only the kind is told.
            _log.warning("the observer of the model %r failed: %s", self._name, type(error).__name__)
