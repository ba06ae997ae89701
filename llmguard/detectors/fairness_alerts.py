"""What a fairness monitor tells of a comparison: a value of its gauge, and an alert."""

from __future__ import annotations

from collections.abc import Iterable

from llmguard import semconv, signals
from llmguard.detectors.fairness_report import Disparity
from llmguard.readings import Alert, Reading


def reading(monitor: str, one: Disparity) -> Reading:
    """The gauge's value for a group and an outcome."""
    labels = {
        semconv.MONITOR: monitor,
        semconv.FAIRNESS_OUTCOME: one.outcome,
        semconv.FAIRNESS_GROUP: one.name,
    }
    return Reading(signals.FAIRNESS_DISPARITY.name, one.disparity, labels)


def leading(disparities: Iterable[Disparity]) -> tuple[Disparity, ...]:
    """Of each dimension and outcome the notable disparity that is told.

    Where one group fares worse, all others of its dimension fare better than the rest, which holds that one. So the
    most significant one is told, and of equal ones the one with more of the outcome.
    """
    found: dict[tuple[str, str], Disparity] = {}
    for one in sorted(disparities, key=lambda one: (one.p_value, -one.difference)):
        if one.notable:
            found.setdefault((one.dimension, one.outcome), one)
    return tuple(found.values())


def alert(monitor: str, one: Disparity, seen: int) -> Alert:
    """That a disparity has become notable, or is so no more.

    Args:
        monitor: its name.
        one: the comparison.
        seen: observations in the window.
    """
    against = f"{one.dimension}.{one.against}" if one.against else f"the others of {one.dimension}"
    summary = (
        f"{'' if one.notable else 'no longer notable: '}{one.outcome} {one.value:.4g} for {one.name} "
        f"({one.count} observations), {one.other_value:.4g} for {against} ({one.other_count})"
    )
    attributes: dict[str, str | int | float] = {
        semconv.MONITOR: monitor,
        semconv.FAIRNESS_OUTCOME: one.outcome,
        semconv.FAIRNESS_GROUP: one.name,
        semconv.FAIRNESS_AGAINST: one.against or semconv.OTHER,
        semconv.FAIRNESS_DISPARITY: one.disparity,
        semconv.FAIRNESS_P_VALUE: one.p_value,
        semconv.FAIRNESS_WINDOW: seen,
    }
    return Alert(semconv.EVENT_FAIRNESS, monitor, summary, attributes, resolved=not one.notable)
