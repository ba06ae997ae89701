"""What the parts of a rule may be; each error begins with the name of the part."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmguard.errors import ConfigurationError, nearest
from llmguard.exporters.alerts.notice import NAME, SEVERITY
from llmguard.types import Action, Outcome, Stage

Selection = Mapping[str, tuple[str, ...]]

_LONGEST_WORD = 512
_WORDS = {
    "stage": tuple(stage.value for stage in Stage),
    "action": tuple(action.value for action in Action),
    "outcome": tuple(outcome.value for outcome in Outcome),
    "enforced": ("true", "false"),
}
_label_name = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,127}", re.ASCII).fullmatch


def shown(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def word(name: str, value: object, *, empty: bool = False) -> None:
    """Refuse what is no text of one line.

    Raises:
        ConfigurationError: see above; so do the others.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: {shown(value)} must be text")
    if not (value or empty) or len(value) > _LONGEST_WORD or not value.isprintable():
        least = 0 if empty else 1
        raise ConfigurationError(
            f"{name}: {shown(value)} must be {least} to {_LONGEST_WORD} characters that can be printed, on one line"
        )


def words(name: str, values: object) -> None:
    """Refuse what is no tuple of different words."""
    if not isinstance(values, tuple):
        raise ConfigurationError(f"{name}: {shown(values)} must be a tuple of different words")
    for value in values:
        word(name, value)
    if len(set(values)) != len(values):
        raise ConfigurationError(f"{name}: {shown(values)} must be a tuple of different words")


def one_of(name: str, value: object, known: Iterable[str]) -> None:
    """Refuse a word that is none of these."""
    if not isinstance(value, str) or value not in known:
        raise ConfigurationError(f"{name}: unknown word {shown(value)}{nearest(str(value), known)}")


def number(name: str, value: Any, low: float, high: float = math.inf, *, least: bool = False) -> None:
    """Refuse what is no number in these limits.

    Args:
        name: of the part.
        value: that is looked at.
        low: it must be more than that.
        high: it must not be more than that; less than that if it is 1.
        least: whether it may be ``low``.
    """
    try:
        finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ConfigurationError(f"{name}: {shown(value)} must be a finite number")
    if value < low or (value == low and not least) or value > high or (value == high == 1.0):
        raise ConfigurationError(
            f"{name}: {value:g} must be {'at least' if least else 'more than'} {low:g}"
            + ("" if high == math.inf else f" and {'less than' if high == 1.0 else 'at most'} {high:g}")
        )


def selection(name: str, chosen: object) -> None:
    """Refuse what does not say for labels which values count."""
    if not isinstance(chosen, Mapping):
        raise ConfigurationError(f"{name}: {shown(chosen)} must be a mapping of labels to tuples of values")
    for label, values in chosen.items():
        word(name, label)
        words(f"{name}.{label}", values)
        if not values:
            raise ConfigurationError(f"{name}.{label} must not be empty: leave it out to mean all")


def closed(name: str, chosen: Selection) -> None:
    """Refuse values that a label of records never has."""
    for label, known in _WORDS.items():
        for value in chosen.get(label, ()):
            one_of(f"{name}.{label}", value, known)


def known(name: str, labels: Iterable[str], there: Sequence[str], what: str) -> None:
    """Refuse labels that something does not have."""
    for label in labels:
        if label not in there:
            raise ConfigurationError(f"{name}: {what} has no label {label!r}{nearest(label, there)}")


def labels(said: object, by: Sequence[str]) -> None:
    """Refuse labels that are none, or that a rule says by itself."""
    if not isinstance(said, Mapping):
        raise ConfigurationError(f"labels: {shown(said)} must be a mapping of names to words")
    for name, value in said.items():
        if not isinstance(name, str) or not _label_name(name):
            raise ConfigurationError(f"labels: {shown(name)} must be letters, digits and _, a letter first")
        if name in (NAME, SEVERITY) or name in by:
            raise ConfigurationError(f"labels: {name!r} says the rule itself")
        word(f"labels.{name}", value)
