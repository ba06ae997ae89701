"""The options of a fairness monitor, checked."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from datetime import timedelta

from llmguard.detectors.fairness_counts import OUTCOMES
from llmguard.detectors.fairness_lexicon import Lexicon
from llmguard.detectors.fairness_report import Bounds
from llmguard.errors import ConfigurationError, nearest
from llmguard.types import Stage

#: How the dimensions of cohorts begin, which no dimension of a lexicon can.
COHORT = "cohort."
_STAGES: Mapping[str, tuple[Stage, ...]] = {
    "block": (Stage.INPUT, Stage.OUTPUT),
    "refusal": (Stage.OUTPUT,),
    "toxicity": (Stage.OUTPUT,),
    "length": (Stage.OUTPUT,),
}


def whole(name: str, value: object, least: int) -> int:
    """A whole number that is large enough; ``name`` is what the error calls it."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"fairness: {name} must be a whole number from {least} on, not {value!r}")
    return value


def number(name: str, value: object, low: float, high: float) -> float:
    """A number strictly between two others; ``name`` is what the error calls it."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low < value < high:
        raise ConfigurationError(f"fairness: {name} must be a number between {low:g} and {high:g}, not {value!r}")
    return float(value)


def checked_window(window: int | timedelta) -> tuple[int, float]:
    """Observations and seconds of a window, one of which has no bound."""
    if isinstance(window, timedelta):
        return sys.maxsize, number("window", window.total_seconds(), 0, math.inf)
    return whole("window", window, 1), math.inf


def checked_bounds(bounds: Bounds) -> Bounds:
    """The bounds, as they are."""
    whole("minimum", bounds.minimum, 2)
    number("confidence", bounds.confidence, 0.5, 1)
    if bounds.difference != 0:
        number("difference", bounds.difference, 0, 1)
    if bounds.ratio != 1:
        number("ratio", bounds.ratio, 1, math.inf)
    return bounds


def checked_references(references: Mapping[str, str], lexicon: Lexicon) -> dict[str, str]:
    """The reference groups by dimension; those of cohorts may be any."""
    if not isinstance(references, Mapping):
        raise ConfigurationError(f"fairness: references must be groups by dimension, not {type(references).__name__}")
    dimensions = {dimension for dimension, _ in lexicon.groups}
    for dimension, group in references.items():
        if not isinstance(dimension, str) or not isinstance(group, str) or not group:
            raise ConfigurationError("fairness: references must be names of groups by names of dimensions")
        if dimension.startswith(COHORT):
            continue
        if dimension not in dimensions:
            hint = nearest(dimension, dimensions)
            raise ConfigurationError(
                f"fairness: references: the lexicon has no dimension {dimension!r}{hint}; one of cohorts begins with "
                f"{COHORT!r}"
            )
        groups = {one for other, one in lexicon.groups if other == dimension}
        if group not in groups:
            raise ConfigurationError(
                f"fairness: references: {dimension} has no group {group!r}{nearest(group, groups)}"
            )
    return dict(references)


def checked_stages(stages: Mapping[str, Iterable[Stage | str]]) -> dict[str, frozenset[Stage]]:
    """The stages that count, by outcome."""
    chosen = {outcome: frozenset(own) for outcome, own in _STAGES.items()}
    if not isinstance(stages, Mapping):
        raise ConfigurationError(f"fairness: stages must be stages by outcome, not {type(stages).__name__}")
    for outcome, own in stages.items():
        if outcome not in chosen:
            raise ConfigurationError(
                f"fairness: stages: there is no outcome {outcome!r}{nearest(str(outcome), OUTCOMES)}"
            )
        try:
            chosen[outcome] = frozenset(Stage(stage) for stage in ([own] if isinstance(own, str) else own))
        except (TypeError, ValueError):
            raise ConfigurationError(f"fairness: stages of {outcome} must be a list of {', '.join(Stage)}") from None
    return chosen
