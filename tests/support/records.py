"""Records as a guard makes them, and exporters that keep, fail or wait."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from llmguard.exporters.record import Found, Ran, Record
from llmguard.types import PolicyRef


def made(number: int = 0, **changes: object) -> Record:
    """A record of a check that redacted one thing; ``number`` tells it from others."""
    values: dict[str, object] = {
        "at": 1_763_763_319_000_000_000 + 1000 * number,
        "kind": "check",
        "stage": "input",
        "action": "redact",
        "enforced": True,
        "policy": PolicyRef("p", "1", "sha256:00"),
        "findings": (Found("words", "BAD", 0.9, 3, "redact", ("a listed word",)),),
        "runs": (Ran("words", "1", "hit", 0.001, "", ""), Ran("other", "2", "error", 0.0, "KeyError", "open")),
        "coverage": (1.0, 0.5),
        "seconds": 0.002,
        "modified": True,
        "model": "some-model",
        "prompt": ("greeting", "3", "a"),
        "cohort": {"plan": "free"},
        "tenant": "acme",
        "conversation": f"c{number}",
        "trace": f"{number:032x}",
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def called(number: int = 0, **changes: object) -> Record:
    """A record of a whole call."""
    numbers = {"latency": 0.5, "input_tokens": 12.0}
    values: dict[str, object] = {"at": 1_763_763_319_000_000_000 + 1000 * number, "kind": "call", "seconds": 0.5}
    return Record(**{**values, "model": "m", "numbers": numbers, **changes})  # type: ignore[arg-type]


class Kept:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Record]] = []
        self.flushed = 0
        self.ended = 0

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]

    def export(self, batch: Sequence[Record]) -> None:
        self.batches.append(batch)

    def force_flush(self, timeout_s: float = 30.0) -> bool:
        self.flushed += 1
        return True

    def shutdown(self, timeout_s: float = 30.0) -> bool:
        self.ended += 1
        return True


class Refusing(Kept):
    """Raises as often as it is told to, then keeps."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def export(self, batch: Sequence[Record]) -> None:
        if self.times:
            self.times -= 1
            raise OSError("no space")
        super().export(batch)


class Waiting(Kept):
    """Waits in every export until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()

    def export(self, batch: Sequence[Record]) -> None:
        self.entered.set()
        self.go.wait(60)
        super().export(batch)
