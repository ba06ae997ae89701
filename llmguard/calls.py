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
from typing import TYPE_CHECKING, Any, NamedTuple

from llmguard import shapes
from llmguard.annotations import text_parameters
from llmguard.checks import NOTHING_MORE, About, Check
from llmguard.conversation import Conversation
from llmguard.errors import Blocked, ConfigurationError, nearest
from llmguard.types import Action, Decision, Role, Stage, Text

if TYPE_CHECKING:
    from llmguard.guard import Guard
    from llmguard.streaming import StreamCheck

# How long a cancelled call may take to clean up before it is left behind; its answer is dropped either way.
_CANCEL_S = 1.0
_STAGES = {Role.TOOL: Stage.TOOL_RESULT, Role.RETRIEVAL: Stage.CONTEXT}


class Checks:
    """The checks of one guarded call; those that the call leaves behind are ended with it.

    Args:
        start: starts a check of texts at a stage.
        stream: starts a check of texts that grow.
        conversation: what the checks belong to.
    """

    __slots__ = ("_begun", "_start", "_stream", "conversation")

    def __init__(
        self,
        start: Callable[[Stage, Sequence[Text], About], Check],
        stream: Callable[[Stage, About], StreamCheck],
        conversation: Conversation,
    ) -> None:
        self._start = start
        self._stream = stream
        self._begun: list[Check | StreamCheck] = []
        self.conversation = conversation

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
        """Abandon what has not finished."""
        for check in self._begun:
            check.abandon(None)


class _Call(NamedTuple):
    bound: inspect.BoundArguments
    beside: Check | None


_Events = Generator[Check | _Call, Any, Any]


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
        self._name = name
        self._signature = inspect.signature(function)
        self._context = self._known((context,) if isinstance(context, str) else tuple(context))
        if input is None:
            self._input = tuple(p for p in text_parameters(function, self._signature) if p not in self._context)
            if not self._input and not self._context:
                raise ConfigurationError(
                    f"no parameter of {name} is annotated as text (str, Text, chat messages): "
                    f"say which one is, as in @guard(input={next(iter(self._signature.parameters), 'question')!r})"
                )
        else:
            self._input = self._known((input,) if isinstance(input, str) else tuple(input))
        self.part = shapes.WHOLE if output is None else shapes.part(output)
        for option, made in (("fallback", fallback), ("reply", reply)):
            if (
                inspect.iscoroutinefunction(made)
                and not _is_async(function)
                and not inspect.isasyncgenfunction(function)
            ):
                raise ConfigurationError(
                    f"the {option} of {name} is async, and {name} is not: give it a plain function"
                )
        self._fallback = fallback
        self._reply = reply
        self._feedback = feedback or ("feedback" if "feedback" in self._signature.parameters else None)
        if self._feedback is not None:
            self._known((self._feedback,))
            self._input = tuple(p for p in self._input if p != self._feedback)
        on_block = guard.policy.on_block
        if on_block == "fallback" and fallback is None:
            raise ConfigurationError(
                f"the policy {guard.policy.name!r} calls a fallback on a block: "
                f"give {name} one, as in @guard(fallback=lambda decision: ...)"
            )

    def _known(self, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in self._signature.parameters:
                raise ConfigurationError(
                    f"{self._name} has no parameter {name!r}{nearest(name, self._signature.parameters)}"
                )
        return names

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
                if isinstance(event, Check):
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
                    return await end.value if inspect.isawaitable(end.value) else end.value
                answer = None
                if isinstance(event, Check):
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

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments by their names, with the defaults."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound

    def about(self, bound: inspect.BoundArguments) -> About:
        """The documents that the answer must keep to."""
        values = [(bound.arguments[name], f"/{name}") for name in self._context]
        return About(beside=tuple([text for value, at in values for text in shapes.read(value, Role.RETRIEVAL, at)]))

    def _conduct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Events:
        bound = self.bound(args, kwargs)
        on_block = self.guard.policy.on_block
        retries = 0 if isinstance(on_block, str) else on_block.retry or 0
        with self.guard.call_scope() as checks:
            stopped, beside = yield from self.clear(bound, checks)
            if stopped is not None:
                return self.stopped(stopped, None)
            while True:
                result = yield _Call(bound, beside)
                if beside is not None:
                    decision = beside.finish()[0]
                    beside = None
                    if decision.blocked:
                        return self.stopped(decision, None)
                texts = shapes.read(self.part.get(result), Role.ASSISTANT, "/result")
                check = checks.start(Stage.OUTPUT, texts, self.about(bound))
                yield check
                decision = check.finish()[0]
                if not decision.blocked:
                    return self._answer(result, decision, texts, checks.conversation.name)
                if not retries:
                    return self.stopped(decision, result)
                retries -= 1
                self.tell(bound, decision)

    def clear(
        self, bound: inspect.BoundArguments, checks: Checks
    ) -> Generator[Check, Any, tuple[Decision | None, Check | None]]:
        """Check the inputs and put them back cleared: the decision that stopped it, and the check left to run beside.

        Only one check runs beside the call: when a second one could, the first is waited for.
        """
        beside: Check | None = None
        for stage, texts in self._stages(bound).items():
            check = checks.start(stage, texts)
            due: Check | None = check
            if check.pending and self.guard.policy.overlap and not check.blocked:
                self._put(bound, stage, check.preview())
                due, beside = beside, check
            if due is None:
                continue
            yield due
            decision = due.finish()[0]
            if decision.blocked:
                return decision, None
            if due is check:
                self._put(bound, stage, decision.texts)
        return None, beside

    def _stages(self, bound: inspect.BoundArguments) -> dict[Stage, list[Text]]:
        stages: dict[Stage, list[Text]] = {}
        for name, role in (*zip(self._input, repeat(Role.USER)), *zip(self._context, repeat(Role.RETRIEVAL))):
            for text in shapes.read(bound.arguments[name], role, f"/{name}"):
                stages.setdefault(_STAGES.get(text.role, Stage.INPUT), []).append(text)
        return stages

    def _put(self, bound: inspect.BoundArguments, stage: Stage, cleared: Sequence[str]) -> None:
        left = iter(cleared)
        for name, role in (*zip(self._input, repeat(Role.USER)), *zip(self._context, repeat(Role.RETRIEVAL))):
            value = bound.arguments[name]
            texts = shapes.read(value, role, f"/{name}")
            mine = [_STAGES.get(text.role, Stage.INPUT) is stage for text in texts]
            if any(mine):
                new = [next(left) if hit else text.content for text, hit in zip(texts, mine, strict=True)]
                bound.arguments[name] = shapes.write(value, iter(new))

    def _answer(self, result: Any, decision: Decision, texts: Sequence[Text], conversation: str) -> Any:
        cleared = [self.guard.vault.restore(conversation, text) for text in decision.texts]
        if all(text.content == new for text, new in zip(texts, cleared, strict=True)):
            return result
        return self.part.put(result, shapes.write(self.part.get(result), iter(cleared)))

    def stopped(self, decision: Decision, result: Any) -> Any:
        """What the caller gets in place of an answer, as the policy says.

        Args:
            decision: that blocked.
            result: what was to be answered; None when it never came to that.

        Raises:
            Blocked: the policy raises.
        """
        on_block = self.guard.policy.on_block
        if on_block == "fallback" and self._fallback is not None:
            return self._fallback(decision)
        text = None if isinstance(on_block, str) else on_block.reply
        if text is None:
            raise Blocked(decision)
        if self._reply is not None:
            return self._reply(text)
        if self.part is shapes.WHOLE and not isinstance(result, (list, tuple, Mapping)):
            return text
        if result is None:
            raise Blocked(decision)
        return self.part.put(result, shapes.write(self.part.get(result), repeat(text)))

    def tell(self, bound: inspect.BoundArguments, decision: Decision) -> None:
        """Put into the arguments why the last answer was withheld."""
        why = sorted({f"{f.detector}/{f.category}" for f in decision.findings if f.action is Action.BLOCK})
        told = f"Your last answer was withheld ({', '.join(why) or 'a check failed'}). Answer again without it."
        if self._feedback is not None:
            bound.arguments[self._feedback] = told
            return
        name = self._input[-1] if self._input else self._context[-1]
        texts = [text.content for text in shapes.read(bound.arguments[name], Role.USER)]
        texts[-1] = f"{texts[-1]}\n\n{told}"
        bound.arguments[name] = shapes.write(bound.arguments[name], iter(texts))


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
    """Whether a call of it has to be awaited."""
    kinds = (function, type(function).__call__)
    return any(inspect.iscoroutinefunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds)
