"""The monitors of one guard: told of every check and every call, a moment later, and never why one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakMethod

from llmguard import limits
from llmguard.errors import ConfigurationError
from llmguard.later import Later
from llmguard.readings import Alert, Alerting, Failing, Gauged, Reading
from llmguard.types import Decision, Monitor, Observation, Text

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from llmguard.call_metrics import Called

_COHORT: ContextVar[Mapping[str, str]] = ContextVar("llmguard_cohort", default={})  # noqa: B039 - never changed in place
# Texts wait with their observations, so few may.
_WAITING = 256
_NO_PROMPT = ("", "", "")


class Whose(NamedTuple):
    """To whom a check or a call counts; known where it begins.

    Attributes:
        cohort: the group, by dimension.
        conversation: its id, or "".
        tenant: the customer, or "".
    """

    cohort: Mapping[str, str]
    conversation: str
    tenant: str


#: For where no monitor asks.
NOBODY = Whose({}, "", "")


def whose(conversation: str | None) -> Whose:
    """To whom what begins here and now counts."""
    return Whose(_COHORT.get(), conversation or "", limits.tenant.get())


class Monitors:
    """Hands observations to monitors, on a thread of its own.

    None is dropped: when more than 256 wait, whoever adds one tells of some of them first. That bounds how many wait,
    not how long their texts are.

    Args:
        monitors: in the order in which they are told.
        failed: told ``monitors`` and the error when one raises.
        told: told each alert of a monitor that has some.

    Raises:
        ConfigurationError: something given is no monitor, or two have the same name.
    """

    def __init__(
        self,
        monitors: Iterable[Monitor],
        failed: Callable[[str, Exception], None],
        told: Callable[[Alert], None],
    ) -> None:
        self._monitors = _checked(monitors)
        self._failed = failed
        # The queue's thread outlives the interpreter's end, and must not keep what the monitors hold alive till then.
        self._who: list[Callable[[], Callable[[Observation], None] | None]] = [WeakMethod(self._observe)]
        who = self._who
        self._later: Later[Observation] = Later(lambda seen: (who[0]() or _nobody)(seen), _WAITING)
        for monitor in self._monitors:
            if isinstance(monitor, Alerting):
                monitor.subscribe(told)
            if isinstance(monitor, Failing):
                monitor.on_failure(failed)

    def check(
        self,
        decision: Decision,
        texts: Sequence[Text],
        model: str,
        prompt: tuple[str, str, str] | None,
        whose: Whose,
        span: Span,
    ) -> None:
        """Tell of a check that has been decided."""
        self._later.add(_seen(decision, tuple(texts), model, prompt, whose, span, {}))

    def call(self, called: Called, prompt: tuple[str, str, str] | None, whose: Whose) -> None:
        """Tell of a call that has ended: seconds, tokens and USD, as far as they are known."""
        self._later.add(_seen(None, (), called.call.model, prompt, whose, called.span, _numbers(called)))

    def readings(self) -> Sequence[Reading]:
        """The values of all monitors that have some."""
        read: list[Reading] = []
        for monitor in self._monitors:
            if isinstance(monitor, Gauged):
                try:
                    read += monitor.readings()
                except Exception as error:  # noqa: BLE001 - a monitor never breaks anything else
                    self._failed("monitors", error)
        return read

    def flush(self) -> None:
        """Have the monitors told of all that waits, before this returns."""
        self._later.flush()

    def __del__(self) -> None:
        if hasattr(self, "_later"):
            self._who[0] = lambda: self._observe  # the collector may have cleared the other one by now
            try:
                self.flush()
            finally:
                self._who[0] = lambda: None

    def _observe(self, seen: Observation) -> None:
        for monitor in self._monitors:
            try:
                monitor.observe(seen)
            except Exception as error:  # noqa: BLE001 - a monitor never breaks anything else
                self._failed("monitors", error)


def _seen(
    decision: Decision | None,
    texts: tuple[Text, ...],
    model: str,
    prompt: tuple[str, str, str] | None,
    whose: Whose,
    span: Span,
    numbers: Mapping[str, float],
) -> Observation:
    known = span.get_span_context()
    return Observation(
        decision,
        texts,
        model,
        prompt or _NO_PROMPT,
        whose.cohort,
        numbers,
        time.time(),
        whose.conversation,
        whose.tenant,
        f"{known.trace_id:032x}" if known.trace_id else "",
    )


def _nobody(seen: Observation) -> None:
    """Who hears when the monitors are gone: `Monitors` has told them all by then."""
    del seen


def _numbers(called: Called) -> dict[str, float]:
    tokens, prices = called.tokens, called.prices
    known = {
        "latency": called.seconds,
        "time_to_first_chunk": called.first,
        "input_tokens": tokens.input if tokens is not None else None,
        "output_tokens": tokens.output if tokens is not None else None,
        "cost": prices.cost((called.model, called.call.model), tokens) if prices and tokens else None,
    }
    return {name: float(value) for name, value in known.items() if value is not None}


def _checked(monitors: Iterable[Monitor]) -> tuple[Monitor, ...]:
    checked = tuple(monitors)
    names: set[str] = set()
    for monitor in checked:
        if not isinstance(monitor, Monitor):
            raise ConfigurationError(
                f"{type(monitor).__name__} is no monitor: it needs a name and observe(seen), such as DriftMonitor has"
            )
        if monitor.name in names:
            raise ConfigurationError(f"two of the given monitors are named {monitor.name!r}: give each its own")
        names.add(monitor.name)
    return checked


@contextmanager
def within(dimensions: Mapping[str, str]) -> Generator[None, None, None]:
    """Count what happens inside to a group, in addition to the groups around it.

    Raises:
        ConfigurationError: a value is not a string.
    """
    for dimension, value in dimensions.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"the cohort's {dimension} must be a string, not {type(value).__name__}")
    before = _COHORT.get()
    _COHORT.set({**before, **dimensions})
    try:
        yield
    finally:
        _COHORT.set(before)  # no reset, which fails in another task than it was entered in
