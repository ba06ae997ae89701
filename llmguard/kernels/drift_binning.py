"""Two samples into counts of the same bins, chosen by the data themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.kernels import drift_input
from llmguard.kernels.drift_counts import histogram

#: Different values of the reference up to which each is a bin of its own: Evidently's.
DISTINCT = 20
_FIRST = 200


def paired_counts(reference: ArrayLike, current: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of both samples in the bins that Evidently 0.7 takes, so that PSI and Jensen-Shannon come out as its own.

    A reference of more than 20 different values makes equal bins from the lowest to the highest value of both
    samples, as many as Sturges' rule wants for both together (NumPy's ``"sturges"``). Any other makes a bin of each
    value of either. The bins depend on what is compared: histograms that are to be merged want fixed edges and
    `drift_counts.histogram`.

    Args:
        reference: finite numbers; at least one.
        current: likewise.

    Raises:
        TypeError: they are no real numbers.
        ValueError: none, or NaN or infinity among them.
        MissingExtraError: numba is not installed.
    """
    first = drift_input.sample("reference", reference, finite=True)
    second = drift_input.sample("current", current, finite=True)
    # Most samples show in their first values that they have many, which spares the sorting of all.
    distinct = np.unique(first[:_FIRST])
    if distinct.size <= DISTINCT:
        distinct = np.unique(first)
    if distinct.size > DISTINCT:
        edges = np.histogram_bin_edges(np.concatenate((first, second)), bins="sturges")
        return histogram(first, edges)[1:-1], histogram(second, edges)[1:-1]
    keys = np.union1d(distinct, second)
    ones, twos = (np.bincount(np.searchsorted(keys, values), minlength=keys.size) for values in (first, second))
    return ones, twos
