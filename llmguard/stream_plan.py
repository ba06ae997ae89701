"""What a stage looks at while a text grows, and where the windows of a text end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llmguard.policy_plan import StagePlan, StreamMode
from llmguard.types import Incremental

S = TypeVar("S")

_TOKEN = re.compile(r"\w{1,16}|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Watchers(Generic[S]):
    """Detectors that look at a text as it grows, and how each of them tells what is final."""

    steps: tuple[S, ...]
    growing: tuple[Incremental, ...]


@dataclass(frozen=True, slots=True)
class StreamPlan(Generic[S]):
    """How a stage's detectors take part in a stream.

    Attributes:
        held: whether nothing may go out before the end: a detector that has to see the whole text may change it.
        strict: the detectors that look at every piece before it goes out.
        ending: those of them that may block: they look at what is held back, too, since what they find is final.
        windowed: those that look at one window after the other.
        modes: of every detector.
    """

    held: bool
    strict: Watchers[S]
    ending: Watchers[S]
    windowed: tuple[S, ...]
    modes: Mapping[str, StreamMode]


def stream_plan(plan: StagePlan, steps: Sequence[S], growing: Callable[[S], Incremental | None]) -> StreamPlan[S]:
    """The plan of a stage.

    Args:
        plan: of the stage.
        steps: its detectors, in the order of ``plan.detectors`` or any other; each has a ``name``.
        growing: a detector's way of telling what is final; None where it must see the whole text.
    """
    modes = plan.streams
    strict = [(step, growing(step)) for step in steps if modes[_name(step)] == "strict"]
    told = [(step, one) for step, one in strict if one is not None]
    return StreamPlan(
        len(told) < len(strict),
        _watchers(told),
        _watchers([(step, one) for step, one in told if plan.ends(_name(step))]),
        tuple(step for step in steps if modes[_name(step)] == "windowed"),
        modes,
    )


def _watchers(told: Sequence[tuple[S, Incremental]]) -> Watchers[S]:
    return Watchers(tuple(step for step, _ in told), tuple(one for _, one in told))


def _name(step: object) -> str:
    name: str = step.name  # type: ignore[attr-defined]
    return name


def window_end(text: str, start: int, tokens: int) -> int | None:
    """Where the window that begins at a place ends: behind its last token; None while that can still grow.

    A token is a word, at most 16 letters and digits of it, or another sign: about what models count by.

    Args:
        text: as far as it has come.
        start: of the window.
        tokens: how many it has.
    """
    for number, token in enumerate(_TOKEN.finditer(text, start), 1):
        if number == tokens:
            end = token.end()
            last = text[end - 1]
            grows = end == len(text) and end - token.start() < 16 and (last.isalnum() or last == "_")
            return None if grows else end
    return None
