"""Temperature and bias that make a label's probability honest, and thresholds that hold a false-positive rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.figures import threshold_at

Numbers = NDArray[np.floating]
_FEW = 20  # texts of a class, below which a fit says more about chance than about the label
_FLAT = 0.05


def platt(logits: Numbers, labels: NDArray[np.integer], *, steps: int = 50) -> tuple[float, float]:
    """Temperature and bias for ``p = sigmoid((logit + bias) / temperature)``.

    Logistic regression on one logit (Platt, "Probabilistic outputs for support vector machines", 1999), by Newton's
    method with a weak pull towards temperature 1 and bias 0. Both classes weigh the same, whatever the set's mixture.

    Args:
        logits: [n].
        labels: [n], 0 or 1; with fewer than 20 of a class the result is temperature 1 and bias 0.
        steps: of Newton's method, at most.
    """
    label = np.asarray(labels, np.float64)
    if min(label.sum(), len(label) - label.sum()) < _FEW:
        return 1.0, 0.0
    weight = np.where(label == 1, 0.5 / label.sum(), 0.5 / (len(label) - label.sum()))
    inputs = np.stack([np.asarray(logits, np.float64), np.ones(len(label))], 1)
    pull, rest = 1e-3, np.array([1.0, 0.0])
    found = rest.copy()
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        gradient = inputs.T @ (weight * (p - label)) + pull * (found - rest)
        curve = (inputs * (weight * p * (1 - p))[:, None]).T @ inputs + pull * np.eye(2)
        step = np.linalg.solve(curve, gradient)
        # A step of Newton's method can overshoot where nearly all is saturated.
        found -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        found[0] = max(found[0], _FLAT)
        if np.abs(step).max() < 1e-9:
            break
    if found[0] <= _FLAT:
        return 1.0, 0.0  # the logit tells nothing or the opposite: no temperature mends that
    return float(1 / found[0]), float(found[1] / found[0])


def probability(logits: Numbers, temperature: float, bias: float) -> Numbers:
    """``sigmoid((logit + bias) / temperature)``."""
    values: Numbers = 1 / (1 + np.exp(-np.clip((np.asarray(logits, np.float64) + bias) / temperature, -60, 60)))
    return values


def threshold(negatives: Numbers, share: float) -> float:
    """The lowest probability, rounded up to three digits, that at most ``share`` of the negatives reach."""
    limit = threshold_at(negatives, share)
    return float(min(np.floor(limit * 1000 + 1) / 1000, 0.999))


def expected_error(probabilities: Numbers, labels: NDArray[np.integer], bins: int = 15) -> float:
    """Expected calibration error over bins of one width (Naeini et al., AAAI 2015), both classes weighing the same.

    So weighs `platt` too: a probability is meant for texts of which half are positive.
    """
    values, label = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    weight = np.where(label == 1, 0.5 / max(label.sum(), 1), 0.5 / max((1 - label).sum(), 1))
    place = np.minimum((values * bins).astype(int), bins - 1)
    shown, true, total = (np.bincount(place, kind, bins) for kind in (weight * values, weight * label, weight))
    return float(np.abs(shown - true).sum() / total.sum())
