"""A receiver that can be waited for until it has been told something."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from receivers import Receiver, status


class Hook(Receiver):
    """Takes all that it is sent, at once."""

    def __init__(self, answer: bytes | None = None) -> None:
        self._told = threading.Condition()
        taken = status(200) if answer is None else answer
        super().__init__(lambda _, connection: self._take(connection, taken))

    def _take(self, connection: Any, answer: bytes) -> None:
        connection.sendall(answer)
        with self._told:
            self._told.notify_all()

    def until(self, done: Callable[[list[Any]], bool], seconds: float = 60.0) -> list[Any]:
        """Wait until what has been sent, as JSON, is as asked for; what it is then."""
        with self._told:
            assert self._told.wait_for(lambda: done(self.bodies), seconds), self.bodies
        return self.bodies

    @property
    def bodies(self) -> list[Any]:
        """What has been sent, as JSON."""
        return [json.loads(seen.body) for seen in list(self.seen)]
