"""The requests of one stream over gRPC, each a guarded stream of its own, sans-I/O.

All answers come on one line, and which request one belongs to is said by its id alone. So every request has an id on
the wire: the caller's, or one of ours where there is none or another one that is under way has the same. Every request
asks for Triton's empty last response, without which nobody knows when what is held back may go out.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Generator, Mapping
from typing import Any

from llmguard.errors import Blocked, DialectError
from llmguard.guard import Guard
from llmguard.integrations.clients import conduct
from llmguard.integrations.clients.triton_pieces import STREAMED, UNSAID, Pieces, is_final
from llmguard.integrations.clients.triton_request import Asked
from llmguard.integrations.clients.values import Fallback, Way

Pair = tuple[Any, Exception | None]
"""What a callback is given: a result, or an error."""
Turn = Generator[Any, None, list[Pair]]
"""Yields what has to be waited for, and returns what goes out."""


class Request:
    """One request of a stream.

    Args:
        guard: whose policy decides.
        fallback: called with the decision where the policy says so.
        given: arguments of ``async_stream_infer`` by name.

    Attributes:
        wire: its id on the line.
        due: the call that is to be made now; None where there is none.
        over: whether nothing more of it goes out.

    Raises:
        TypeError: its id is no string, or something in it has no JSON.
    """

    def __init__(self, guard: Guard, fallback: Fallback | None, given: Mapping[str, Any]) -> None:
        self._given = dict(given)
        self.id = self._given.pop("request_id", "")
        if not isinstance(self.id, str):
            raise TypeError(f"request_id must be a string, is {type(self.id).__name__}")
        self._wants_last = bool(self._given.pop("enable_empty_final_response", False))
        self._asked = Asked(self._given)
        self._pieces = Pieces(self.id)
        way = Way(guard, STREAMED, fallback, self._build, self._read, self._asked.segments, client="tritonclient")
        self._steps = conduct.events(way, self._asked.body)
        self._unsaid = False
        self.wire = ""
        self.due: conduct.Send | None = None
        self.over = False

    def given(self) -> dict[str, Any]:
        """The arguments of the call that is due, but for those that are ours. It is taken to be made."""
        send, self.due = self.due, None
        return {} if send is None else self._asked.given(send.body)

    def begin(self) -> Turn:
        """Look at the request: then it is to be sent, or what stands in for its answer goes out."""
        return (yield from self._turn(None))

    def take(self, result: Any) -> Turn:
        """A result: what goes out after it, or another request that is to be sent in place of this one."""
        final, out = is_final(result.get_response()) is True, []
        if final and (rest := self._pieces.rest(result)) is not None:
            out += yield from self._turn(rest)
        if self._wants_last or not final or result.get_response().outputs:
            out += yield from self._turn(result)
        if final:
            out += yield from self._turn(conduct.END)
        return out

    def end(self) -> Turn:
        """There are no more results: what was held back goes out."""
        out: list[Pair] = []
        if (rest := self._pieces.rest()) is not None:
            out += yield from self._turn(rest)
        return out + (yield from self._turn(conduct.END))

    def fail(self, error: BaseException) -> None:
        """It ends by an error: what was held back stays back."""
        if not self.over:
            self.over = True
            with contextlib.suppress(BaseException):
                self._steps.throw(error)  # tells the check why, and raises it again

    def close(self) -> None:
        """Nobody waits for it any more."""
        self.over = True
        self._steps.close()

    def _turn(self, answer: Any) -> Turn:
        """Go on to where the next result is waited for, or to the end; what comes after a block is nobody's."""
        out: list[Pair] = []
        if self.over or (answer is not None and self.due is not None):
            return out
        try:
            yield from self._went(answer, out)
        except Exception as error:  # noqa: BLE001 - it is the caller's, as the answer would be
            self.close()
            out.append((None, error))
        except BaseException:
            self.close()
            raise
        return out

    def _went(self, answer: Any, out: list[Pair]) -> Generator[Any, None, None]:
        while True:
            try:
                step, answer = self._steps.send(answer), None
            except StopIteration as end:
                self.over = True
                if self._unsaid:
                    raise Blocked(end.value) from None
                return
            if isinstance(step, conduct.Pull):
                return
            if isinstance(step, conduct.Send):
                self._pieces = Pieces(self.id)
                self.due = step
            elif isinstance(step, conduct.Emit):
                out += self._shown(step.event)
            elif not isinstance(step, conduct.Leave):  # in a stream of many there is no leaving one
                yield step

    def _shown(self, event: Any) -> list[Pair]:
        self._unsaid = self._unsaid or event is UNSAID
        return [] if event is UNSAID else [(event, None)]

    def _read(self, result: Any) -> dict[str, Any]:
        return self._pieces.read(result)

    def _build(self, event: Any) -> Any:
        return self._pieces.build(event)


class Requests:
    """Those of one stream that are under way, by their ids on the wire; of those that are over, the ids alone.

    One thread may add requests while another one reads answers.

    Args:
        guard: that counts answers of nobody.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._lock = threading.Lock()
        self._known: dict[str, Request | None] = {}

    def add(self, request: Request) -> None:
        """A request that is about to be sent: gives it its id on the wire."""
        with self._lock:
            own = bool(request.id) and request.id not in self._known
            request.wire = request.id if own else uuid.uuid4().hex
            self._known[request.wire] = request

    def remove(self, request: Request) -> None:
        """Nothing of it will come."""
        with self._lock:
            self._known.pop(request.wire, None)

    def left(self, request: Request) -> None:
        """What more comes of it is of no interest."""
        with self._lock:
            if request.wire in self._known:
                self._known[request.wire] = None

    def whose(self, wire: str, final: bool | None) -> Request | None:
        """The request that an answer belongs to; None where it is of one that is of no interest.

        Args:
            wire: id in the answer; "" is taken for the only one there is.
            final: whether the answer is the last one.

        Raises:
            DialectError: nobody can say whose it is.
        """
        with self._lock:
            if not wire and len(self._known) == 1:
                wire = next(iter(self._known))
            if wire in self._known:
                return self._known.pop(wire) if final else self._known[wire]
        self._guard.unguarded("answer", passed=False, dialect=STREAMED.name)
        raise DialectError("an answer of the stream has no id of a request that is under way")

    def ended(self) -> list[Request]:
        """Those that are under way: none is, from now on."""
        with self._lock:
            known, self._known = self._known, {}
        return [request for request in known.values() if request is not None]

    def fail(self, error: BaseException) -> None:
        """The stream has ended by an error, and so have all of them."""
        for request in self.ended():
            request.fail(error)

    def close(self) -> None:
        """Nobody waits for any of them."""
        for request in self.ended():
            request.close()
