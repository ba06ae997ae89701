"""Silences: for a while, nothing is told of some alerts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llmguard.errors import ConfigurationError
from llmguard.exporters.alerts.matching import Matcher, all_match


@dataclass(frozen=True)
class Silence:
    """Says when and of which alerts nothing is told.

    Attributes:
        match: conditions, all of which an alert fulfils that is silenced; at least one of them does not fit a label
            that is not there, so that no silence means all alerts by mistake.
        start: when it begins, in seconds since 1970.
        end: when it ends; from then on it says nothing.
        reason: for people.

    Raises:
        ConfigurationError: it would silence all alerts, or ends before it begins.
    """

    match: tuple[Matcher, ...]
    start: float
    end: float
    reason: str = ""

    def __post_init__(self) -> None:
        if all_match(self.match, {}):
            raise ConfigurationError("a silence needs a condition on a label, one that does not fit an empty value")
        if not (math.isfinite(self.start) and math.isfinite(self.end)) or self.end <= self.start:
            raise ConfigurationError("a silence must end after it begins")

    def holds(self, labels: Mapping[str, str], now: float) -> bool:
        """Whether it silences an alert with these labels now."""
        return self.start <= now < self.end and all_match(self.match, labels)


def silenced(silences: Iterable[Silence], labels: Mapping[str, str], now: float) -> bool:
    """Whether one of them silences an alert with these labels now."""
    return any([silence.holds(labels, now) for silence in silences])
