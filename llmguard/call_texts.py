"""The texts in the arguments of a guarded function: which they are, how they are read, and put back cleared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

from llmguard import shapes
from llmguard.annotations import text_parameters
from llmguard.checks import About
from llmguard.errors import ConfigurationError, nearest
from llmguard.types import Action, Decision, Role, Stage, Text

_STAGES = {Role.TOOL: Stage.TOOL_RESULT, Role.RETRIEVAL: Stage.CONTEXT}


class CallTexts:
    """Which parameters of a function hold text.

    Args:
        function: that is guarded.
        name: of it, for errors.
        input: names of the parameters that hold text; by default those annotated as text.
        context: names of those that hold retrieved text.
        feedback: name of the one that is told why an answer was withheld; by default ``feedback`` if there is one,
            else the last input text is added to.

    Raises:
        ConfigurationError: the function does not have such parameters, or none that holds text.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        input: str | Sequence[str] | None,  # noqa: A002 - the word the users write
        context: str | Sequence[str],
        feedback: str | None,
    ) -> None:
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
        self._feedback = feedback or ("feedback" if "feedback" in self._signature.parameters else None)
        if self._feedback is not None:
            self._known((self._feedback,))
            self._input = tuple(p for p in self._input if p != self._feedback)

    def _known(self, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in self._signature.parameters:
                raise ConfigurationError(
                    f"{self._name} has no parameter {name!r}{nearest(name, self._signature.parameters)}"
                )
        return names

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments by their names, with the defaults."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound

    def about(self, bound: inspect.BoundArguments) -> About:
        """What the answer is compared with: documents, instructions, and the last text of the user."""
        texts = [text for name, role in self._places() for text in shapes.read(bound.arguments[name], role, f"/{name}")]
        beside = [text for text in texts if text.role not in (Role.USER, Role.ASSISTANT)]
        return About(beside=(*beside, *[text for text in texts if text.role is Role.USER][-1:]))

    def stages(self, bound: inspect.BoundArguments) -> dict[Stage, list[Text]]:
        """The texts, by the stage at which they are looked at."""
        stages: dict[Stage, list[Text]] = {}
        for name, role in self._places():
            for text in shapes.read(bound.arguments[name], role, f"/{name}"):
                stages.setdefault(_STAGES.get(text.role, Stage.INPUT), []).append(text)
        return stages

    def put(self, bound: inspect.BoundArguments, stage: Stage, cleared: Sequence[str]) -> None:
        """Put the texts of a stage back as they may go on, in the order of `stages`."""
        left = iter(cleared)
        for name, role in self._places():
            value = bound.arguments[name]
            texts = shapes.read(value, role, f"/{name}")
            mine = [_STAGES.get(text.role, Stage.INPUT) is stage for text in texts]
            if any(mine):
                new = [next(left) if hit else text.content for text, hit in zip(texts, mine, strict=True)]
                bound.arguments[name] = shapes.write(value, iter(new))

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

    def _places(self) -> Iterator[tuple[str, Role]]:
        yield from zip(self._input, repeat(Role.USER))
        yield from zip(self._context, repeat(Role.RETRIEVAL))
