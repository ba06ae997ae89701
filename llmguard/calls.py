"""A guarded function: its texts are checked before the call, its answer after it.

The order of events is one generator (`Guarded._conduct`) that yields what it waits for; a sync and
an async driver do the waiting.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import repeat
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmguard import shapes
from llmguard.asking import Asking, is_async
from llmguard.call_texts import CallTexts
from llmguard.checks import NOTHING_MORE, About, Check
from llmguard.conversation import Conversation
from llmguard.errors import Blocked, ConfigurationError
from llmguard.types import Decision, Role, Stage, Text

if TYPE_CHECKING:
    from llmguard.guard import Guard
    from llmguard.streaming import StreamCheck

# How long a cancelled call may take to clean up before it is left behind; its answer is dropped either way.
_CANCEL_S = 1.0


class Checks:
    """The checks of one guarded call, within a ``with`` block; those that the call leaves behind are ended with it.

    Args:
        start: starts a check of texts at a stage.
        stream: starts a check of texts that grow.
        conversation: what the checks belong to.
        forget: forgets the values of a conversation that ends with the call; None where it goes on.
    """

    __slots__ = ("_begun", "_forget", "_start", "_stream", "conversation")

    def __init__(
        self,
        start: Callable[[Stage, Sequence[Text], About], Check],
        stream: Callable[[Stage, About], StreamCheck],
        conversation: Conversation,
        forget: Callable[[str], None] | None,
    ) -> None:
        self._start = start
        self._stream = stream
        self._begun: list[Check | StreamCheck] = []
        self._forget = forget
        self.conversation = conversation

    def __enter__(self) -> Checks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self, stage: Stage, texts: Sequence[Text], about: About = NOTHING_MORE) -> Check:
        """Start a check."""
        check = self._start(stage, texts, about)
        self._begun.append(check)
        return check

    def stream(self, stage: Stage, about: About = NOTHING_MORE) -> StreamCheck:
        """Start a check of texts that grow."""
        check = self._stream(stage, about)
        self._begun.append(check)
        return check

    def close(self) -> None:
        """Abandon what has not finished, and forget what belonged to this call alone."""
        for check in self._begun:
            check.abandon(None)
        if self._forget is not None:
            self._forget(self.conversation.name)


class _Call(NamedTuple):
    bound: inspect.BoundArguments
    beside: Check | None


Steps = Generator[Check | Asking | _Call, Any, Any]


class Guarded:
    """How one function is guarded; `guarded` makes the wrapper.

    Args:
        guard: whose policy decides.
        function: what is called.
        input: names of the parameters that hold text; by default those annotated as text.
        context: names of the parameters that hold retrieved text; they are checked at stage ``context``.
        output: which part of the result is text; by default all of it.
        fallback: called with the decision when the policy says ``on_block: fallback``.
        reply: makes a result out of the policy's reply text, for functions that don't return plain text.
        feedback: name of the parameter that is told why an answer was withheld, when the policy
            retries; by default ``feedback`` if there is one, else the last input text is added to.

    Attributes:
        guard: see above.
        function: likewise.
        part: of the result that is text.
        texts: the texts in the arguments.

    Raises:
        ConfigurationError: the function does not have such parameters, or none that holds text.
    """

    def __init__(
        self,
        guard: Guard,
        function: Callable[..., Any],
        *,
        input: str | Sequence[str] | None = None,  # noqa: A002 - the word the users write
        context: str | Sequence[str] = (),
        output: shapes.Where | None = None,
        fallback: Callable[[Decision], Any] | None = None,
        reply: Callable[[str], Any] | None = None,
        feedback: str | None = None,
    ) -> None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        self.guard = guard
        self.function = function
        self.texts = CallTexts(function, name, input, context, feedback)
        self.part = shapes.WHOLE if output is None else shapes.part(output)
        for option, made in (("fallback", fallback), ("reply", reply)):
            if made is not None and is_async(made) and not _is_async(function):
                raise ConfigurationError(
                    f"the {option} of {name} is async, and {name} is not: give it a plain function"
                )
        self._fallback = fallback
        self._reply = reply
        if guard.policy.falls_back and fallback is None:
            raise ConfigurationError(
                f"the policy {guard.policy.name!r} calls a fallback on a block: "
                f"give {name} one, as in @guard(fallback=lambda decision: ...)"
            )

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Drive the call without an event loop."""
        events = self._conduct(args, kwargs)
        answer: Any = None
        try:
            while True:
                try:
                    event = events.send(answer)
                except StopIteration as end:
                    return end.value
                answer = None
                if not isinstance(event, _Call):
                    event.wait()
                elif event.beside is None:
                    answer = self.function(*event.bound.args, **event.bound.kwargs)
                else:
                    answer = self._with_check(event.bound, event.beside)
        finally:
            events.close()

    def _with_check(self, bound: inspect.BoundArguments, check: Check) -> Any:
        try:
            answer = self.function(*bound.args, **bound.kwargs)
        except Exception:
            check.wait()
            if check.blocked:
                return None
            raise
        check.wait()
        return None if check.blocked else answer

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Drive the call on an event loop."""
        events = self._conduct(args, kwargs)
        answer: Any = None
        try:
            while True:
                try:
                    event = events.send(answer)
                except StopIteration as end:
                    return end.value
                answer = None
                if not isinstance(event, _Call):
                    await event.wait_async()
                elif event.beside is None:
                    answer = await self.function(*event.bound.args, **event.bound.kwargs)
                else:
                    answer = await self._beside(event.bound, event.beside)
        finally:
            events.close()

    async def _beside(self, bound: inspect.BoundArguments, check: Check) -> Any:
        call = asyncio.ensure_future(self.function(*bound.args, **bound.kwargs))
        try:
            await check.wait_async()
            if not check.blocked:
                return await call
            return None
        finally:
            if not call.done():
                call.cancel()
                await asyncio.wait((call,), timeout=_CANCEL_S)
            # asyncio logs exceptions that nobody fetched, and this one's answer is dropped.
            call.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def _conduct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Steps:
        bound = self.texts.bound(args, kwargs)
        retries = self.guard.policy.retries
        with self.guard.call_scope() as checks:
            stopped, beside = yield from self.clear(bound, checks)
            if stopped is not None:
                return (yield from self.stopped(stopped, None))
            while True:
                result = yield _Call(bound, beside)
                if beside is not None:
                    decision = beside.finish()[0]
                    beside = None
                    if decision.blocked:
                        return (yield from self.stopped(decision, None))
                texts = shapes.read(self.part.get(result), Role.ASSISTANT, "/result")
                check = checks.start(Stage.OUTPUT, texts, self.texts.about(bound))
                yield check
                decision = check.finish()[0]
                if not decision.blocked:
                    return self._answer(result, decision, texts, checks.conversation.name)
                if not retries:
                    return (yield from self.stopped(decision, result))
                retries -= 1
                self.texts.tell(bound, decision)

    def clear(
        self, bound: inspect.BoundArguments, checks: Checks
    ) -> Generator[Check, Any, tuple[Decision | None, Check | None]]:
        """Check the inputs and put them back cleared: the decision that stopped it, and the check left to run beside.

        Only one check runs beside the call: when a second one could, the first is waited for.
        """
        beside: Check | None = None
        for stage, texts in self.texts.stages(bound).items():
            check = checks.start(stage, texts)
            due: Check | None = check
            if check.pending and self.guard.policy.overlap and not check.blocked:
                self.texts.put(bound, stage, check.preview())
                due, beside = beside, check
            if due is None:
                continue
            yield due
            decision = due.finish()[0]
            if decision.blocked:
                return decision, None
            # A string that was cleared as it is stands there already; a list may have been changed meanwhile.
            if due is check and (
                decision.modified or any(type(value) is not str for value in bound.arguments.values())
            ):
                self.texts.put(bound, stage, decision.texts)
        return None, beside

    def _answer(self, result: Any, decision: Decision, texts: Sequence[Text], conversation: str) -> Any:
        cleared = [self.guard.vault.restore(conversation, text) for text in decision.texts]
        if all(text.content == new for text, new in zip(texts, cleared, strict=True)):
            return result
        return self.part.put(result, shapes.write(self.part.get(result), iter(cleared)))

    def stopped(self, decision: Decision, result: Any) -> Generator[Asking, Any, Any]:
        """What the caller gets in place of an answer, as the policy says.

        Args:
            decision: that blocked.
            result: what was to be answered; None when it never came to that.

        Raises:
            Blocked: the policy raises.
        """
        policy = self.guard.policy
        if policy.falls_back and self._fallback is not None:
            asking = Asking(self._fallback, decision)
            yield asking
            return asking.answer
        text = policy.reply
        if text is None:
            raise Blocked(decision)
        if self._reply is not None:
            asking = Asking(self._reply, text)
            yield asking
            return asking.answer
        if self.part is shapes.WHOLE and not isinstance(result, (list, tuple, Mapping)):
            return text
        if result is None:
            raise Blocked(decision)
        return self.part.put(result, shapes.write(self.part.get(result), repeat(text)))


def guarded(guard: Guard, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The function with checks around it, of the same kind (sync or async) and the same signature."""
    how = Guarded(guard, function, **options)
    if _is_async(function):

        async def acall(*args: Any, **kwargs: Any) -> Any:
            return await how.acall(*args, **kwargs)

        return functools.update_wrapper(acall, function)

    def call(*args: Any, **kwargs: Any) -> Any:
        return how.call(*args, **kwargs)

    return functools.update_wrapper(call, function)


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether it is called on an event loop."""
    return is_async(function) or any(inspect.isasyncgenfunction(kind) for kind in (function, type(function).__call__))
