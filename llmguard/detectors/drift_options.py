"""What may be asked of a `DriftMonitor`, checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from llmguard.detectors.drift_state import State
from llmguard.errors import ConfigurationError

_MOST_ALARMS = 1000
_LEAST_REFERENCE = 100


class Span(NamedTuple):
    """How long something lasts: so many calls, or so many seconds."""

    calls: int | None = None
    seconds: float | None = None


FOREVER = Span(calls=1 << 62)


@dataclass(frozen=True, slots=True)
class PreviousPrompt:
    """Compares each version of a prompt (`Guard.prompt`) with the version before it.

    Attributes:
        calls: how many calls a version must have had to be compared with.
    """

    calls: int = 500


def span(what: str, value: object, least: int) -> Span:
    """A number of calls or a time.

    Raises:
        ConfigurationError: it is neither, or too short.
    """
    if isinstance(value, timedelta):
        if value <= timedelta(0):
            raise ConfigurationError(f"the {what} must be longer than no time, not {value}")
        return Span(seconds=value.total_seconds())
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"the {what} must be a number of calls from {least} up, or a timedelta, not {value!r}")
    return Span(calls=value)


def reference(asked: object) -> tuple[Span, PreviousPrompt | None, State | None]:
    """How long own calls make the reference, or what else it is.

    Raises:
        ConfigurationError: it is none, or the file can't be read.
    """
    if isinstance(asked, PreviousPrompt):
        if isinstance(asked.calls, bool) or not isinstance(asked.calls, int) or asked.calls < 1:
            raise ConfigurationError(
                f"PreviousPrompt(calls=...) must be a number of calls from 1 up, not {asked.calls!r}"
            )
        return FOREVER, asked, None
    if isinstance(asked, str | Path):
        return FOREVER, None, State.load(asked)
    if isinstance(asked, State):
        return FOREVER, None, asked
    return span("reference", asked, _LEAST_REFERENCE), None, None


def level(false_alarms: object, tables: int) -> float:
    """The chance of a false alarm that each call of a table may take.

    Raises:
        ConfigurationError: the number of false alarms in 10,000 calls is none, or past all use.
    """
    if (
        not isinstance(false_alarms, int | float)
        or isinstance(false_alarms, bool)
        or not 0 < false_alarms <= _MOST_ALARMS
    ):
        raise ConfigurationError(
            f"false_alarms must be above 0, and at most {_MOST_ALARMS} in 10,000 calls, not {false_alarms!r}"
        )
    return false_alarms / 10_000 / max(1, tables)


def named(name: object) -> str:
    """A monitor's name.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"a monitor's name must be a string that is not empty, not {name!r}")
    return name
