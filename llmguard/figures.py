"""Precision, recall, F1, AUC, average precision and recall at 1 % false positives; docs/evaluation.md defines them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one set of texts; None where a figure is not defined.

    ``positives`` and ``predicted`` count texts, or spans where the examples are spans; precision,
    recall and F1 are then those of strict matching.
    """

    texts: int
    positives: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    false_positive_rate: float | None = None
    auc: float | None = None
    average_precision: float | None = None
    recall_at_1pct_fpr: float | None = None
    recall_at_pooled_1pct_fpr: float | None = None
    fpr_at_pooled_1pct_fpr: float | None = None
    overlap_precision: float | None = None
    overlap_recall: float | None = None
    overlap_f1: float | None = None


def figures(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float, pooled: float | None = None
) -> Figures:
    """The figures of texts that should (label 1) or should not be found.

    AUC by the rank formula of Mann and Whitney with ties counted half; average precision as the sum
    of the steps in recall times the precision there, ties taken as one step; recall at 1 % false
    positives over all thresholds that let at most 1 % of the negatives through.

    Args:
        labels: shape (n,).
        scores: shape (n,), in [0, 1], or below 0 for texts in which nothing was found.
        threshold: a text counts as found from this score on.
        pooled: what `pooled_threshold` says of the pool that these texts are a part of, if they are.
    """
    positives, negatives = int(labels.sum()), int((~labels).sum())
    hit = scores >= threshold
    tp, predicted = int((hit & labels).sum()), int(hit.sum())
    auc = average_precision = recall_at_1pct_fpr = None
    if positives and negatives:
        values, group = np.unique(-scores, return_inverse=True)  # negated: from the highest score down
        tps = np.bincount(group, weights=labels, minlength=len(values)).cumsum()
        fps = np.bincount(group, weights=~labels, minlength=len(values)).cumsum()
        steps = np.diff(tps, prepend=0)
        auc = float((np.diff(fps, prepend=0) * (tps - steps / 2)).sum() / (positives * negatives))
        average_precision = float((steps * tps / (tps + fps)).sum() / positives)
        recall_at_1pct_fpr = float(tps[fps * 100 <= negatives].max(initial=0) / positives)
    return Figures(
        texts=len(labels),
        positives=positives,
        predicted=predicted,
        precision=_ratio(tp, predicted),
        recall=_ratio(tp, positives),
        f1=_ratio(2 * tp, predicted + positives),
        false_positive_rate=_ratio(predicted - tp, negatives),
        auc=auc,
        average_precision=average_precision,
        recall_at_1pct_fpr=recall_at_1pct_fpr,
        recall_at_pooled_1pct_fpr=None if pooled is None else _ratio((labels & (scores >= pooled)).sum(), positives),
        fpr_at_pooled_1pct_fpr=None if pooled is None else _ratio((~labels & (scores >= pooled)).sum(), negatives),
    )


def pooled_threshold(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    """The lowest score from which at most 1 % of the negatives are found; None without negatives.

    Args:
        labels: shape (n,).
        scores: shape (n,).
    """
    negatives = np.sort(scores[~labels])[::-1]
    if not len(negatives):
        return None
    # The first score that may not be let through, as one more negative would be too many.
    over = negatives[len(negatives) // 100]
    above = scores[scores > over]
    return float(above.min()) if len(above) else float("inf")


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def span_tally(gold: set[tuple[int, int]], seen: set[tuple[int, int]]) -> NDArray[np.int64]:
    """Five counts: agreeing, seen, labelled, seen that overlap a labelled one, labelled that overlap a seen one."""
    return np.array([len(gold & seen), len(seen), len(gold), _overlapping(seen, gold), _overlapping(gold, seen)])


def _overlapping(spans: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> int:
    """How many of ``spans`` overlap one of ``others``: more of those start before its end than end before its start."""
    starts, ends = sorted(start for start, _ in others), sorted(end for _, end in others)
    return sum(bisect_left(starts, end) > bisect_right(ends, start) for start, end in spans)


def span_figures(texts: int, tally: NDArray[np.int64]) -> Figures:
    """The figures of summed tallies.

    Args:
        texts: how many there were.
        tally: from `span_tally`, shape (5,).
    """
    tp, seen, gold, seen_right, gold_found = (int(count) for count in tally)
    # The harmonic mean of seen_right / seen and gold_found / gold, without dividing by nothing.
    overlap_f1 = _ratio(2 * seen_right * gold_found, seen_right * gold + gold_found * seen)
    return Figures(
        texts=texts,
        positives=gold,
        predicted=seen,
        precision=_ratio(tp, seen),
        recall=_ratio(tp, gold),
        f1=_ratio(2 * tp, seen + gold),
        overlap_precision=_ratio(seen_right, seen),
        overlap_recall=_ratio(gold_found, gold),
        overlap_f1=0.0 if overlap_f1 is None and seen + gold else overlap_f1,
    )
