"""A guarded call that is taken step by step by who makes it: for answers that come later, or many at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmguard.integrations.clients import conduct
from llmguard.integrations.clients.values import Way


class Pending:
    """A call between its request and its answer.

    Args:
        way: how it is guarded.
        body: the request.

    Attributes:
        asked: the request that is to be made; None once the answer is there.
        done: the answer as the caller gets it, in the end.

    Raises:
        Blocked: the request must not go on; likewise what else `Way.call` raises.
    """

    def __init__(self, way: Way, body: Mapping[str, Any]) -> None:
        self._steps = conduct.whole(way, body)
        self.done: Any = None
        self._error: Exception | None = None
        self.asked: dict[str, Any] | None = None
        self._advance(None)

    def take(self, answer: Any) -> None:
        """Take an answer: then there is another request to be made, or the end.

        Raises:
            Blocked: the answer must not go on.
        """
        self._advance(answer)

    def close(self) -> None:
        """There will be no answer."""
        self._steps.close()

    def _advance(self, answer: Any) -> None:
        if self._error is not None:
            raise self._error
        self.asked = None
        try:
            while True:
                step = self._steps.send(answer)
                if isinstance(step, conduct.Send):
                    self.asked = step.body
                    return
                answer = step.wait()
        except StopIteration as end:
            self.done = end.value
        except Exception as error:
            self._error = error  # who asks again is told again
            raise
