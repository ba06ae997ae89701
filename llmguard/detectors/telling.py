"""How a monitor tells its alerts: all of them to all who hear, whoever of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from llmguard.readings import Alert


def tell(told: Iterable[Alert], hearers: Iterable[Callable[[Alert], object]]) -> None:
    """Tell all who hear of all alerts, also when one of them raises.

    Args:
        told: the alerts.
        hearers: in the order in which they are told.

    Raises:
        Exception: what the first of them raised, when all have been told.
    """
    failed: list[Exception] = []
    hearers = tuple(hearers)
    for one in told:
        for hear in hearers:
            try:
                hear(one)
            except Exception as error:  # noqa: BLE001 - raised when all have been told
                failed.append(error)
    if failed:
        raise failed[0]
