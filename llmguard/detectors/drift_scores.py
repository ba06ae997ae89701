"""How far a window is from its reference, by each statistic that fits the feature."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.drift_bins import Layout, coarse
from llmguard.detectors.drift_state import State
from llmguard.kernels import drift

# As for a scorecard: ten shares of the reference, the two ends besides.
_BINS = 12


def scores(layout: Layout, reference: NDArray[np.int64], current: NDArray[np.int64], std: float) -> Mapping[str, float]:
    """The statistics by name; none where one side is empty.

    Population stability index (with half a call added to each bin) and Jensen-Shannon distance over ten quantiles of
    the reference; Kolmogorov-Smirnov's statistic and the Wasserstein distance over all bins, the latter in standard
    deviations of the reference; for a category the chi-square statistic in place of these two.

    Args:
        layout: of the bins.
        reference: counts by bin.
        current: counts by bin.
        std: of the reference.

    Raises:
        MissingExtraError: numba is not installed.
    """
    size = max(len(reference), len(current))
    first, second = [np.concatenate((one, np.zeros(size - len(one), np.int64))) for one in (reference, current)]
    if not first.any() or not second.any():
        return {}
    mapped = coarse(layout, first, _BINS)
    few = [np.bincount(mapped, weights=one, minlength=_BINS) for one in (first, second)]
    few = [one[(few[0] + few[1]) > 0] for one in few]
    found = {
        "psi": drift.psi(few[0] + 0.5, few[1] + 0.5),
        "jensen_shannon": drift.jensen_shannon(few[0], few[1]),
    }
    if layout.kind == "category":
        return found | {"chi_square": drift.chi_square(first, second).statistic}
    apart = drift.wasserstein_binned(first, second, layout.edges())
    return found | {
        "ks": drift.ks_binned(first, second).statistic,
        "wasserstein": apart / max(std, 0.001),
    }


def compared(state: State) -> list[tuple[str, ...]]:
    """A row for each feature: name, values, missing ones, mean, median, those of the reference, statistics."""
    rows: list[tuple[str, ...]] = []
    for key, table in state.tables.items():
        for name, column in table.columns.items():
            seen, reference = column.seen, column.reference
            number = seen.names is None and seen.n > 0
            median = float(seen.quantiles(np.array([0.5]))[0]) if number else 0.0
            found = (
                scores(seen.layout, reference.counts, column.recent.counts, reference.std)
                if reference is not None
                else {}
            )
            rows.append(
                (
                    f"{name} {key.partition(' ')[2]}".strip(),
                    str(seen.n),
                    str(seen.missing),
                    f"{seen.mean:.6g}" if number else "",
                    f"{median:.6g}" if number else "",
                    str(reference.n) if reference is not None else "none yet",
                    " ".join(f"{statistic} {value:.3g}" for statistic, value in found.items()),
                )
            )
    return rows
