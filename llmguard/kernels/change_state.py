"""What a detector of change accepts, and how it is saved: as a mapping of plain numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels import drift_input
from llmguard.kernels.pvalues import number

#: Changes when a saved state of before can no longer be read.
FORMAT = 1
#: Beyond it squares would overflow.
LARGEST = 1e100


def value(given: Any) -> float:
    """One value to watch.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN, or of more than 1e100.
    """
    checked = given if type(given) is float else number("value", given)
    if not -LARGEST <= checked <= LARGEST:
        raise ValueError(f"a watched value must be a number of at most 1e100 in size, not {checked}: leave it out")
    return checked


def values(given: ArrayLike) -> NDArray[np.float64]:
    """A row of values to watch, which may be empty.

    Raises:
        TypeError: they are no real numbers.
        ValueError: one is NaN or of more than 1e100, or they are not in one row.
    """
    row = drift_input.reals("values", given)
    if row.ndim != 1:
        raise ValueError(f"values must be in one row, not of shape {row.shape}")
    refused = int(np.count_nonzero(~(np.abs(row) <= LARGEST)))
    if refused:
        raise ValueError(f"{refused} of {row.size} values are NaN or of more than 1e100 in size: leave them out")
    return row


def option(name: str, given: Any, low: float, high: float) -> float:
    """An option of a detector, above ``low`` and below ``high``.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range.
    """
    checked = number(name, given)
    if not low < checked < high:
        raise ValueError(f"{name} must be above {low:g} and below {high:g}, not {checked:g}")
    return checked


def count(name: str, given: Any, least: int) -> int:
    """An option that counts values.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is below ``least``, or above a thousand million.
    """
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, not {type(given).__name__}")
    if not least <= given <= 10**9:
        raise ValueError(f"{name} must be from {least} to {10**9}, not {given}")
    return int(given)


def opened(saved: Mapping[str, Any], detector: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The options and the numbers of a saved state.

    Raises:
        TypeError: it is no mapping.
        ValueError: it is another detector's, of another format, or parts of it are missing.
    """
    if not isinstance(saved, Mapping):
        raise TypeError(f"a saved state is a mapping, not {type(saved).__name__}")
    if saved.get("detector") != detector or saved.get("format") != FORMAT:
        raise ValueError(f"this is no state of {detector!r} in format {FORMAT}: restore it with what saved it")
    options, numbers = saved.get("options"), saved.get("state")
    if not isinstance(options, Mapping) or not isinstance(numbers, Mapping):
        raise ValueError(f"the state of {detector!r} lacks its options or its numbers: it was cut short or altered")  # noqa: TRY004
    return options, numbers


def made(kind: Any, options: Mapping[str, Any], detector: str) -> Any:
    """A detector of saved options.

    Raises:
        ValueError: they are not its options.
    """
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the options in the state of {detector!r} are not its own: {error}") from error


def row(numbers: Mapping[str, Any], names: Iterable[str], detector: str) -> NDArray[np.float64]:
    """The named numbers of a saved state in order.

    Raises:
        ValueError: one is missing, no number, or not finite.
    """
    found = []
    for name in names:
        held = numbers.get(name)
        if isinstance(held, bool) or not isinstance(held, (int, float)) or not math.isfinite(held):
            raise ValueError(f"the state of {detector!r} has no sound number {name!r}: it was cut short or altered")
        found.append(float(held))
    return np.array(found)


@cache
def compiled() -> ModuleType:
    """The kernels, which compile at their import."""
    try:
        from llmguard.kernels import change_jit
    except ImportError as error:
        raise MissingExtraError("change detection", "numba", "kernels") from error
    return change_jit
