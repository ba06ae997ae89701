"""Where a small model may decide alone: bounds on its probability, the share it takes, and how far it agrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Step:
    """What the first step of a cascade does with some texts.

    Attributes:
        low: below it the small model says no.
        high: from it on the small model says yes.
        share: of the texts that it decides.
        agreement: share of those on which it says what the reference says; 1.0 when it decides none.
        missed: share of the reference's positives that it says no to.
        raised: share of the reference's negatives that it says yes to.
    """

    low: float
    high: float
    share: float
    agreement: float
    missed: float
    raised: float


def measure(scores: Scores, reference: NDArray[np.bool_], low: float, high: float) -> Step:
    """What a small model with these bounds decides alone, and how often the reference says the same.

    Args:
        scores: the small model's probabilities, [texts].
        reference: the labels, or what a larger model decides at its threshold.
        low: below it the small model says no.
        high: from it on the small model says yes.
    """
    no, yes = scores < low, scores >= high
    wrong = int((no & reference).sum() + (yes & ~reference).sum())
    decided = int((no | yes).sum())
    return Step(
        low=low,
        high=high,
        share=decided / max(len(scores), 1),
        agreement=1 - wrong / decided if decided else 1.0,
        missed=float((no & reference).sum() / max(reference.sum(), 1)),
        raised=float((yes & ~reference).sum() / max((~reference).sum(), 1)),
    )


def bounds(scores: Scores, reference: NDArray[np.bool_], slip: float = 0.005) -> tuple[float, float]:
    """The widest bounds at which a small model slips on at most that share of either class.

    The limit is on each class and not on all texts: where attacks are one text in a thousand, saying no to everything
    agrees with 99.9 % of the labels.

    Args:
        scores: the small model's probabilities, [texts].
        reference: the labels, or what a larger model decides at its threshold.
        slip: share of the positives that may lie below the lower bound, and of the negatives that may lie at the
            upper one or above it.

    Returns:
        The lower and the upper bound; where they would cross, both are the middle.
    """
    positives, negatives = np.sort(scores[reference]), np.sort(scores[~reference])
    low = float(positives[int(slip * len(positives))]) if len(positives) else 0.0
    highest = float(negatives[len(negatives) - 1 - int(slip * len(negatives))]) if len(negatives) else 1.0
    high = float(np.nextafter(highest, np.inf))
    return (low, high) if low <= high else ((low + high) / 2, (low + high) / 2)
