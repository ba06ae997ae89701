"""A guarded stream of one text, for a program that feeds it: the sync and the async edge of `streaming.StreamCheck`."""

from __future__ import annotations

from types import TracebackType

from llmguard.errors import Blocked
from llmguard.streaming import StreamCheck
from llmguard.types import Decision, Role
from llmguard.waiting import adrive, drive


class GuardedStream:
    """One text that comes in pieces: feed it, and pass on what comes back.

    Joined, what comes back is the text of the decision that a check of the whole text makes, however the text was
    cut; nothing of what a rule takes out or blocks is in it, unless the rule says ``stream: windowed`` or ``observe``.

    It belongs to one reader at a time. Leave it by `close`, or as a context manager: what is left half read is told
    to telemetry as abandoned.

    Args:
        check: the core, with one channel.
        role: who the text comes from.
        reply: said in place of the rest when the text is blocked; None to raise `Blocked`.
    """

    def __init__(self, check: StreamCheck, role: Role, reply: str | None) -> None:
        self._check = check
        check.open(role=role)
        self._reply = reply
        self._told = False

    @property
    def decision(self) -> Decision | None:
        """What was decided; None while the stream goes on."""
        return self._check.decision

    def feed(self, piece: str) -> str:
        """What may go out after one more piece; it may be empty, and belongs behind all that went out before.

        Raises:
            Blocked: the text must not go on, and the policy does not reply.
            TypeError: the piece is no string.
            ValueError: the stream has been closed.
        """
        return self._answer(drive(self._check.feed(_string(piece))))

    async def afeed(self, piece: str) -> str:
        """`feed` for an event loop: slow detectors don't hold it up."""
        return self._answer(await adrive(self._check.feed(_string(piece))))

    def close(self) -> str:
        """The rest, once the text is complete.

        Raises:
            Blocked: see `feed`.
        """
        return self._answer(drive(self._check.end()), last=True)

    async def aclose(self) -> str:
        """`close` for an event loop."""
        return self._answer(await adrive(self._check.end()), last=True)

    def abandon(self, error: BaseException | None = None) -> None:
        """The reader has gone, or the source broke off: nothing more goes out. Does nothing after `close`."""
        self._check.abandon(error)

    def __enter__(self) -> GuardedStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abandon(error)

    def _answer(self, text: str, *, last: bool = False) -> str:
        if self._check.abandoned:
            return text
        if not self._check.blocked:
            if last:
                self._check.finish()
            return text
        decision = self._check.finish()
        if self._reply is None:
            raise Blocked(decision)
        if self._told:
            return ""
        self._told = True
        return self._reply


def _string(piece: object) -> str:
    if not isinstance(piece, str):
        hint = ": decode it first, by an incremental decoder" if isinstance(piece, (bytes, bytearray)) else ""
        raise TypeError(f"a stream takes str, not {type(piece).__name__}{hint}")
    return piece
