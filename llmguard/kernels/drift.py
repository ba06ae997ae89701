"""How far what comes in now is from what came before: statistics of two samples, two histograms, two sets of vectors.

Nothing here keeps a state; `change` watches one value after the other.
"""

from llmguard.kernels.drift_binned import energy_binned, ks_binned, wasserstein_binned
from llmguard.kernels.drift_binning import paired_counts
from llmguard.kernels.drift_counts import (
    Comparison,
    chi_square,
    chi_square_fit,
    histogram,
    jensen_shannon,
    jensen_shannon_rows,
    psi,
    psi_rows,
)
from llmguard.kernels.drift_samples import energy, ks, wasserstein, wasserstein_normed
from llmguard.kernels.mmd import Discrepancy, mmd, mmd_linear
from llmguard.kernels.pvalues import benjamini_hochberg, holm

__all__ = [
    "Comparison",
    "Discrepancy",
    "benjamini_hochberg",
    "chi_square",
    "chi_square_fit",
    "energy",
    "energy_binned",
    "histogram",
    "holm",
    "jensen_shannon",
    "jensen_shannon_rows",
    "ks",
    "ks_binned",
    "mmd",
    "mmd_linear",
    "paired_counts",
    "psi",
    "psi_rows",
    "wasserstein",
    "wasserstein_binned",
    "wasserstein_normed",
]
