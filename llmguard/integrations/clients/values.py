"""Calls of a client whose requests and answers are Python dicts in a wire format's JSON.

Sync and async, whole answers and streams: each a thin edge over the one order of events in `conduct.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from llmguard.dialects.wire import Body, Dialect, Json
from llmguard.errors import ConfigurationError
from llmguard.guard import Guard
from llmguard.integrations.clients import conduct
from llmguard.integrations.clients.value_events import AsyncEvents, Events
from llmguard.integrations.http import Fallback
from llmguard.operation import Operation

__all__ = ["Fallback", "Way", "check_fallback"]

Sender = Callable[[dict[str, Any]], Any]
_NO_SEGMENTS: Mapping[str, str] = MappingProxyType({})


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Way:
    """How the calls of one method are guarded.

    Attributes:
        guard: whose policy decides.
        dialect: that requests and answers are written in.
        fallback: called with the decision where the policy says ``on_block: fallback``; gives a text to be said, or the
            answer itself.
        build: makes an answer, or an event of a stream, of the client's own type out of JSON; those that are
            unchanged stay as they came.
        read: makes JSON of an answer, or of an event, that has none of its own.
        segments: what stands for the named segments of the dialect's route: the model, in some.
        provider: of the model, for telemetry; the dialect's without it.
        client: import name of the package that makes the call, likewise; "" for none of which others may tell.
        in_process: whether the model runs in this process.

    Raises:
        ConfigurationError: the policy needs a fallback and none is given.
    """

    guard: Guard
    dialect: Dialect
    fallback: Fallback | None = None
    build: Callable[[Json], Any] = _as_it_is
    read: Callable[[Any], Any] = _as_it_is
    segments: Mapping[str, str] = field(default_factory=lambda: _NO_SEGMENTS)
    provider: str = ""
    client: str = ""
    in_process: bool = False

    def __post_init__(self) -> None:
        check_fallback(self.guard, self.fallback)

    def call(self, body: Mapping[str, Any], send: Sender) -> Any:
        """Make a call.

        Args:
            body: the request; whatever in it has JSON is looked at, if it is a text.
            send: makes the call with a request, of which all that was not changed is the caller's own.

        Raises:
            Blocked: the policy stops the call.
            DialectError: the request or the answer is not in the wire format.
            TypeError: something in the request or the answer has no JSON.
        """
        steps, answer = conduct.whole(self, body), None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, conduct.Send):
                    with step.making():
                        answer = send(step.body)
                else:
                    answer = step.wait()
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    async def acall(self, body: Mapping[str, Any], send: Callable[[dict[str, Any]], Awaitable[Any]]) -> Any:
        """`call`, on an event loop."""
        steps, answer = conduct.whole(self, body), None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, conduct.Send):
                    with step.making():
                        answer = await send(step.body)
                else:
                    answer = await step.wait_async()
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    def stream(self, body: Mapping[str, Any], send: Sender) -> Events:
        """Make a call whose answer is an iterator of events; arguments and errors as of `call`.

        The request is looked at, and sent, before this returns.
        """
        return Events(conduct.events(self, body), send)

    async def astream(self, body: Mapping[str, Any], send: Sender) -> AsyncEvents:
        """`stream`, on an event loop: ``send`` gives an asynchronous iterator, or something to await that gives one."""
        events = AsyncEvents(conduct.events(self, body), send)
        await events.begin()
        return events

    def operation(self, asked: Body, *, streaming: bool = False) -> Operation:
        """Begin to tell of a call, right before it is made.

        Args:
            asked: the request.
            streaming: whether its answer is a stream, whatever the request says.
        """
        called = replace(asked, stream=streaming)
        client, here = self.client, self.in_process
        return self.guard.operation(self.dialect, called, provider=self.provider, client=client, in_process=here)

    def make(self, body: Mapping[str, Any], send: Sender, *, later: bool, streams: bool) -> Any:
        """The one of the four that fits.

        Args:
            body: the request.
            send: makes the call.
            later: whether the client is asynchronous: then this gives something to await.
            streams: whether the answer is a stream.
        """
        if later:
            return self.astream(body, send) if streams else self.acall(body, send)
        return self.stream(body, send) if streams else self.call(body, send)


def check_fallback(guard: Guard, fallback: Fallback | None) -> None:
    """Refuse a policy that needs a fallback where none is given.

    Raises:
        ConfigurationError: so it is.
    """
    if guard.policy.falls_back and fallback is None:
        raise ConfigurationError(f"the policy {guard.policy.name!r} calls a fallback on a block: give one")
