"""How well scores rank texts that mention a group of people, and how far they change when another one is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmguard.detectors.fairness_statistics import Interval, Sample, mean_interval, quantile, wilson
from llmguard.figures import figures

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BiasFigures:
    """The AUCs of one subgroup of texts; None where one of the two sides has no text.

    D. Borkan, L. Dixon, J. Sorensen, N. Thain, L. Vasserman, "Nuanced Metrics for Measuring Unintended Bias with Real
    Data for Text Classification", WWW 2019.

    Attributes:
        texts: of the subgroup.
        positives: among them.
        subgroup_auc: positives against negatives of the subgroup.
        bpsn_auc: positives of the background against negatives of the subgroup. Low where the subgroup's harmless texts
            score like harmful ones.
        bnsp_auc: negatives of the background against positives of the subgroup. Low where the subgroup's harmful texts
            score like harmless ones.
        subgroup_auc_interval: of ``subgroup_auc``; None where one of the two sides has one text.
        bpsn_auc_interval: likewise.
        bnsp_auc_interval: likewise.
    """

    texts: int
    positives: int
    subgroup_auc: float | None
    bpsn_auc: float | None
    bnsp_auc: float | None
    subgroup_auc_interval: Interval | None
    bpsn_auc_interval: Interval | None
    bnsp_auc_interval: Interval | None


def auc_interval(labels: NDArray[np.bool_], scores: NDArray[np.floating], z: float) -> Interval | None:
    """The interval of an AUC; None where one of the two sides has fewer than two texts. O(n log n).

    How far the AUC varies is told by the shares of the other side that each text ranks right against (E. R. DeLong,
    D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 1988; ties count half). The interval is Wilson's for a rate that varies as much,
    so it stays in [0, 1]; where nothing varies, for a rate of as many texts as the smaller side has.

    Args:
        labels: whether a text should be found, shape [n].
        scores: shape [n].
        z: of the interval.
    """
    positive, negative = np.sort(scores[labels]), np.sort(scores[~labels])
    if min(len(positive), len(negative)) < 2:
        return None
    above, below = _ranked(positive, negative), 1.0 - _ranked(negative, positive)
    auc = float(above.mean())
    variance = float(above.var(ddof=1)) / len(positive) + float(below.var(ddof=1)) / len(negative)
    spread = auc * (1.0 - auc)
    return wilson(auc, spread / variance if variance > 0 < spread else min(len(positive), len(negative)), z)


def _ranked(own: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each value the share of the others, which are sorted, that is below it; equal ones count half."""
    both = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
    return np.asarray(both / (2.0 * len(others)), np.float64)


def bias_figures(
    labels: NDArray[np.bool_],
    scores: NDArray[np.floating],
    members: NDArray[np.bool_],
    z: float = quantile(0.95),
) -> BiasFigures:
    """The figures of one subgroup.

    Args:
        labels: whether a text should be found, shape [n].
        scores: shape [n].
        members: which texts are of the subgroup, shape [n]; all others are the background.
        z: of the intervals.
    """
    sides = members, np.where(labels, ~members, members), np.where(labels, members, ~members)
    parts = [(labels[chosen], scores[chosen].astype(np.float64)) for chosen in sides]
    aucs = [figures(*part, 0.5).auc for part in parts]
    intervals = [auc_interval(*part, z) for part in parts]
    return BiasFigures(
        int(members.sum()),
        int((members & labels).sum()),
        aucs[0],
        aucs[1],
        aucs[2],
        intervals[0],
        intervals[1],
        intervals[2],
    )


@dataclass(frozen=True, slots=True)
class FlipFigures:
    """How far verdicts change when a group's term is replaced by those of other groups.

    Attributes:
        texts: that mention the term.
        swaps: all texts made from them.
        flip_rate: the mean over texts of the share of swaps with another decision.
        flip_interval: of ``flip_rate``.
        mean_absolute_difference: the mean over texts of the mean absolute difference of the scores.
        absolute_difference_interval: of the same; None with one text.
        mean_difference: likewise the score with the term less the score without: above 0 where the term raises it.
        difference_interval: of the same; None with one text.
    """

    texts: int
    swaps: int
    flip_rate: float
    flip_interval: Interval
    mean_absolute_difference: float
    absolute_difference_interval: Interval | None
    mean_difference: float
    difference_interval: Interval | None


def flip_figures(flips: Sequence[Sequence[tuple[bool, float]]], z: float) -> FlipFigures:
    """The figures of some texts.

    Swaps of one text are alike, so a text counts once, by its mean. The interval of the rate is Wilson's over texts: a
    share in [0, 1] never varies more than a yes or no with the same mean, so the interval errs to the wide side.

    Args:
        flips: of each text its swaps, one at least: whether the decision is another, and the score with the term less
            the score without it.
        z: of the intervals.
    """
    shares = _means([[flipped for flipped, _ in swaps] for swaps in flips])
    apart = _sample(_means([[abs(difference) for _, difference in swaps] for swaps in flips]))
    signed = _sample(_means([[difference for _, difference in swaps] for swaps in flips]))
    rate, several = sum(shares) / len(flips), len(flips) > 1
    return FlipFigures(
        texts=len(flips),
        swaps=sum(len(swaps) for swaps in flips),
        flip_rate=rate,
        flip_interval=wilson(rate, len(flips), z),
        mean_absolute_difference=apart.mean,
        absolute_difference_interval=mean_interval(apart, z) if several else None,
        mean_difference=signed.mean,
        difference_interval=mean_interval(signed, z) if several else None,
    )


def _means(values: Sequence[Sequence[float]]) -> list[float]:
    return [sum(own) / len(own) for own in values]


def _sample(values: Sequence[float]) -> Sample:
    return Sample(len(values), sum(values), sum(value * value for value in values))
