"""The monitors of one guard: told of every check and every call, a moment later, and never why one fails."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from weakref import WeakMethod, WeakSet

from llmguard import limits
from llmguard.errors import ConfigurationError
from llmguard.later import Later
from llmguard.readings import Alert, Alerting, Dispatched, Dispatching, Failing, Gauged, Hearing, Reading
from llmguard.types import Decision, Monitor, Observation, Text

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from llmguard.call_metrics import Called

_COHORT: ContextVar[Mapping[str, str]] = ContextVar("llmguard_cohort", default={})  # noqa: B039 - never changed in place
# Texts wait with their observations, so few may.
_WAITING = 256
# Code points of them: at most 16 MB.
_ROOM = 1 << 22
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


#: What an `Observation` is made of, as cheap as it can be had on the caller's path: see `_seen`.
_Told: TypeAlias = (
    "tuple[Decision | None, tuple[Text, ...], str, _Prompt | None, Whose, Span, Mapping[str, float], float]"
)
_Prompt: TypeAlias = tuple[str, str, str]

#: For where no monitor asks.
NOBODY = Whose({}, "", "")


def whose(conversation: str | None) -> Whose:
    """To whom what begins here and now counts."""
    return Whose(_COHORT.get(), conversation or "", limits.tenant.get())


class Monitors:
    """Hands observations to monitors, on a thread of its own.

    None is dropped: when more than 256 wait, or texts of more than 4,194,304 code points, whoever adds one tells of
    some of them first.

    Args:
        monitors: in the order in which they are told.
        failed: told ``monitors`` and the error when one raises.
        told: told each alert of a monitor that has some, as are the monitors that hear them.
        dispatched: told each attempt of a monitor that sends messages.

    Raises:
        ConfigurationError: something given is no monitor, or two have the same name.
    """

    def __init__(
        self,
        monitors: Iterable[Monitor],
        failed: Callable[[str, Exception], None],
        told: Callable[[Alert], None],
        dispatched: Callable[[Dispatched], None],
    ) -> None:
        self._given = self._monitors = _checked(monitors)
        self._failed = failed
        self._told = told
        self._dispatched = dispatched
        # The queue's thread outlives the interpreter's end, and must not keep what the monitors hold alive till then.
        self._who: list[Callable[[], Callable[[_Told], None] | None]] = [WeakMethod(self._observe)]
        who = self._who
        self._later: Later[_Told] = Later(
            lambda told: (who[0]() or _nobody)(told), _WAITING, size=_code_points, room=_ROOM
        )
        self._listen(self._monitors)
        _all.add(self)

    def change(self, further: Iterable[Monitor]) -> None:
        """Have these told beside those that were given at the beginning, in place of any that were added before.

        Raises:
            ConfigurationError: one of them is no monitor, or has the name of another; nothing is changed.
        """
        before = self._monitors
        monitors = _checked([*self._given, *further])
        self._listen([monitor for monitor in monitors if all([monitor is not known for known in before])])
        self._monitors = monitors

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
        self._later.add((decision, tuple(texts), model, prompt, whose, span, {}, time.time()))

    def call(self, called: Called, prompt: tuple[str, str, str] | None, whose: Whose) -> None:
        """Tell of a call that has ended: seconds, tokens and USD, as far as they are known."""
        numbers = _numbers(called)
        self._later.add((None, (), called.call.model, prompt, whose, called.span, numbers, time.time()))

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

    def _listen(self, monitors: Iterable[Monitor]) -> None:
        # The last to be registered is the first to run: they hear what there was before they themselves end.
        atexit.unregister(_before_others)
        atexit.register(_before_others)
        for monitor in monitors:
            if isinstance(monitor, Alerting):
                monitor.subscribe(self._hear)
            if isinstance(monitor, Dispatching):
                monitor.on_dispatch(self._dispatched)
            if isinstance(monitor, Failing):
                monitor.on_failure(self._failed)
            if isinstance(monitor, Hearing):
                monitor.attend(self.readings)

    def _hear(self, alert: Alert) -> None:
        self._told(alert)
        for monitor in self._monitors:
            if isinstance(monitor, Hearing):
                try:
                    monitor.overhear(alert)
                except Exception as error:  # noqa: BLE001 - a monitor never breaks anything else
                    self._failed("monitors", error)

    def _observe(self, told: _Told) -> None:
        seen = _seen(*told)
        for monitor in self._monitors:
            try:
                monitor.observe(seen)
            except Exception as error:  # noqa: BLE001 - a monitor never breaks anything else
                self._failed("monitors", error)


_all: WeakSet[Monitors] = WeakSet()


@atexit.register
def _at_exit() -> None:
    # Later than this what a guard that nobody closed is held by may be gone before it is.
    for monitors in list(_all):
        monitors.flush()


def _before_others() -> None:
    _at_exit()  # and once more at the end, for what others check while they end


def _seen(
    decision: Decision | None,
    texts: tuple[Text, ...],
    model: str,
    prompt: tuple[str, str, str] | None,
    whose: Whose,
    span: Span,
    numbers: Mapping[str, float],
    at: float,
) -> Observation:
    known = span.get_span_context()
    return Observation(
        decision,
        texts,
        model,
        prompt or _NO_PROMPT,
        whose.cohort,
        numbers,
        at,
        whose.conversation,
        whose.tenant,
        f"{known.trace_id:032x}" if known.trace_id else "",
    )


def _code_points(told: _Told) -> int:
    return sum([len(text.content) for text in told[1]])


def _nobody(told: _Told) -> None:
    """Who hears when the monitors are gone: `Monitors` has told them all by then."""
    del told


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
