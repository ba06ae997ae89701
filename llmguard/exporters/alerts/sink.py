"""Where alerts go: a sink takes one message, and says what became of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from llmguard.exporters.alerts.notice import Group

#: It was taken.
DELIVERED = "delivered"
#: It was not, and may be later: the network, 429, 5xx.
RETRY = "retry"
#: It never will be: this message is wrong (400, 413).
REFUSED = "refused"
#: Nothing will be from now on: the receiver wants no more of any (410).
GONE = "gone"


class Verdict(NamedTuple):
    """What became of one message.

    Attributes:
        outcome: `DELIVERED`, `RETRY`, `REFUSED` or `GONE`.
        reason: why not, in fixed words such as ``status 503`` or ``timeout``; never an address or a secret. Of what was
            taken, who was refused it: that counts as an error of telemetry.
        after_s: how long the receiver asks to be left alone, in seconds, where it did.
    """

    outcome: str
    reason: str = ""
    after_s: float | None = None


@runtime_checkable
class Sink(Protocol):
    """One receiver. Used by one thread at a time, which it may block for at most its own timeout."""

    @property
    def name(self) -> str:
        """By which policy, telemetry and errors call it."""
        ...

    @property
    def most(self) -> int:
        """How many notices one message holds at most: 1 where each has an identity of its own."""
        ...

    @property
    def pause_s(self) -> float:
        """The least time between two messages, in seconds; 0.0 where there is none."""
        ...

    def send(self, message: str, group: Group, now: float) -> Verdict:
        """Deliver once, without trying again; never raises for what the network or the receiver does.

        Args:
            message: the id of this message, the same each time it is tried.
            group: what to tell.
            now: seconds since 1970.
        """
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


@runtime_checkable
class Forgetting(Protocol):
    """What a sink has besides whose receiver forgets what it is not told again."""

    @property
    def repeat_s(self) -> float:
        """After how many seconds it is to be told again of what fires, whatever the policy says."""
        ...
