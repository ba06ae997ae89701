"""What a `DriftMonitor` tells: alerts of features that have changed, and how far each is from its reference."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from llmguard import semconv
from llmguard.detectors.drift_alarms import Change
from llmguard.detectors.drift_bins import Layout
from llmguard.detectors.drift_options import Span
from llmguard.detectors.drift_scores import scores
from llmguard.readings import Alert, Reading

METRIC = "llmguard.drift.score"


def alert(monitor: str, change: Change, origin: str, window: Span) -> Alert:
    """What is told of a change.

    Args:
        monitor: its name.
        change: that was noticed.
        origin: of the reference.
        window: the longest that is compared.
    """
    what = "has drifted" if change.drifting else "drifts no longer"
    return Alert(
        semconv.EVENT_DRIFT,
        monitor,
        f"{change.feature} {what}: {change.deviation:.1f} standard deviations from the reference",
        {
            semconv.MONITOR: monitor,
            semconv.DRIFT_FEATURE: change.feature,
            semconv.DRIFT_STATISTIC: "berk_jones",
            semconv.DRIFT_SCORE: change.deviation,
            semconv.DRIFT_P_VALUE: change.p_value,
            semconv.DRIFT_REFERENCE: origin,
            semconv.DRIFT_WINDOW: f"{window.calls} calls" if window.calls else f"{window.seconds:g} s",
        },
        resolved=not change.drifting,
    )


def readings(
    monitor: str, compared: Iterable[tuple[str, str, Layout, NDArray[np.int64], NDArray[np.int64], float]]
) -> list[Reading]:
    """The values of the gauge.

    Args:
        monitor: its name.
        compared: for each feature the origin of the reference, the feature's name, its bins, the counts of the
            reference and of the last windows, and the standard deviation of the reference.
    """
    return [
        Reading(
            METRIC,
            value,
            {
                semconv.MONITOR: monitor,
                semconv.DRIFT_FEATURE: feature,
                semconv.DRIFT_STATISTIC: statistic,
                semconv.DRIFT_REFERENCE: origin,
            },
        )
        for origin, feature, layout, reference, recent, std in compared
        for statistic, value in scores(layout, reference, recent, std).items()
    ]
