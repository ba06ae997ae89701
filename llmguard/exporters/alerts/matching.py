"""Which alerts are meant: conditions on their labels, as Alertmanager writes and understands them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmguard.errors import ConfigurationError

OPERATORS = ("=", "!=", "=~", "!~")
_MAX_PATTERN = 1000
_written = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!=|!~|=)(.*)", re.DOTALL).fullmatch
_label = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*").fullmatch
_escape = re.compile(r'\\(["\\n])')
_quoted = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).fullmatch
_plain = re.compile(r'[^"{},]*').fullmatch


@dataclass(frozen=True)
class Matcher:
    """One condition on a label. A label that is not there counts as one with an empty value.

    Attributes:
        label: its name.
        operator: ``=``, ``!=``, ``=~`` or ``!~``; the last two take a regular expression, which must fit the whole
            value. It is RE2's, which takes linear time whatever it says.
        value: what the label is compared with.

    Raises:
        ConfigurationError: the name is none, the operator is unknown, or the expression is broken or too long.
    """

    label: str
    operator: str
    value: str

    def __post_init__(self) -> None:
        if not isinstance(self.label, str) or not _label(self.label):
            raise ConfigurationError(f"{self.label!r} is no name of a label: letters, digits and _ make one")
        if self.operator not in OPERATORS:
            raise ConfigurationError(f"unknown operator {self.operator!r}: use one of {' '.join(OPERATORS)}")
        if not isinstance(self.value, str):
            raise ConfigurationError(f"the label {self.label!r} is compared with a string, not {self.value!r}")
        if self.operator in ("=~", "!~"):
            self._pattern  # noqa: B018 - a broken one is refused now, not at the first alert

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is meant."""
        value = labels.get(self.label, "")
        if self.operator == "=":
            return value == self.value
        if self.operator == "!=":
            return value != self.value
        found = self._pattern.fullmatch(value.encode("utf-8", "replace")) is not None
        return found if self.operator == "=~" else not found

    @cached_property
    def _pattern(self) -> Any:
        import re2

        if len(self.value) > _MAX_PATTERN:
            raise ConfigurationError(
                f"the expression for the label {self.label!r} is longer than {_MAX_PATTERN} characters"
            )
        options = re2.Options()
        options.never_capture = True
        options.log_errors = False
        try:
            return re2.compile(self.value.encode("utf-8", "surrogatepass"), options)
        except re2.error as error:
            why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
            raise ConfigurationError(f"the expression for the label {self.label!r} is broken: {why}") from None

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.operator}"{value}"'


def matchers(said: Mapping[str, str] | Sequence[str]) -> tuple[Matcher, ...]:
    """Conditions as a policy writes them.

    Args:
        said: labels and the values that they must have, or a list in Alertmanager's own words such as
            ``alertname=~"Blocks|Leaks"``, each by itself; the quotes may be left out where the value has none, no
            braces and no comma.

    Raises:
        ConfigurationError: one of them is broken.
    """
    if isinstance(said, Mapping):
        return tuple([Matcher(label, "=", value) for label, value in said.items()])
    if isinstance(said, str) or not isinstance(said, Sequence):
        raise ConfigurationError("conditions on labels are a mapping or a list")
    return tuple([_parsed(one) for one in said])


def all_match(conditions: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether an alert with these labels fulfils all of the conditions."""
    return all([condition.matches(labels) for condition in conditions])


def _parsed(said: object) -> Matcher:
    found = _written(said) if isinstance(said, str) else None
    if found is None:
        raise ConfigurationError(f'{said!r} is no condition on a label: write it as in alertname=~"Blocks|Leaks"')
    label, operator, value = found[1], found[2], found[3].strip()
    quoted = _quoted(value)
    if quoted is None and not _plain(value):
        raise ConfigurationError(
            f"{said!r} may be read in two ways: give each condition its own place in the list, and put a value with "
            'commas, braces or quotes into quotes, as in team="a, b"'
        )
    if quoted is not None:
        value = _escape.sub(lambda one: "\n" if one[1] == "n" else one[1], quoted[1])
    return Matcher(label, operator, value)
