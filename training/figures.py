"""Figures that ``llmguard.figures`` has not: bias by identity term, and recall by source over one pool."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llmguard.fairness_figures import bias_figures
from llmguard.figures import figures, span_figures, span_tally

Scores = NDArray[np.floating]

#: Identity terms of Dixon et al., "Measuring and Mitigating Unintended Bias in Text Classification", AIES 2018.
_WORDS = """
lesbian gay bisexual transgender trans queer lgbt lgbtq homosexual straight heterosexual male female nonbinary african
american mexican hispanic latino latina latinx black white asian indian japanese chinese christian muslim jewish
buddhist catholic protestant sikh taoist old older young younger teenage millenial elderly blind deaf paralyzed european
canadian
"""
TERMS = tuple(_WORDS.split())


def auc(labels: Sequence[int] | NDArray[np.integer], scores: Scores) -> float:
    """Area under the ROC curve, ties counted half; NaN with one class alone."""
    found = figures(np.asarray(labels, bool), np.asarray(scores, np.float64), 0.5).auc
    return float("nan") if found is None else found


def bpsn(texts: Sequence[str], labels: Sequence[int], scores: Scores, terms: Sequence[str] = TERMS) -> dict[str, float]:
    """For each identity term the AUC of harmless texts with it against toxic texts without it.

    Background positive, subgroup negative. Terms without both kinds of text are left out.
    """
    label = np.asarray(labels, bool)
    found = {}
    for term in terms:
        word = re.compile(rf"\b{re.escape(term)}\b", re.IGNORECASE)
        has = np.array([bool(word.search(text)) for text in texts])
        value = bias_figures(label, np.asarray(scores), has).bpsn_auc
        if value is not None:
            found[term] = value
    return found


def threshold_at(negatives: Scores, share: float) -> float:
    """The lowest threshold that at most ``share`` of the negatives are above; a text counts above it."""
    ordered = np.sort(np.asarray(negatives, np.float64))[::-1]
    allowed = int(np.floor(share * len(ordered) + 1e-9))
    return float(ordered[min(allowed, len(ordered) - 1)])


def recall_by_source(scores: Mapping[str, Scores], negatives: Scores, share: float = 0.01) -> dict[str, float]:
    """Recall of each source's positives, and of ``all`` together, where ``share`` of the pooled negatives pass."""
    limit = threshold_at(negatives, share)
    found = {name: float((np.asarray(values) > limit).mean()) for name, values in scores.items() if len(values)}
    pooled = np.concatenate([np.asarray(values) for values in scores.values()])
    return found | {"all": float((pooled > limit).mean())}


def span_f1(
    gold: Sequence[Sequence[tuple[int, int, str]]], seen: Sequence[Sequence[tuple[int, int, str]]], category: str
) -> float:
    """Overlap F1 of one category over many texts."""
    tally = np.zeros(5, np.int64)
    for one, other in zip(gold, seen, strict=True):
        tally += span_tally({s[:2] for s in one if s[2] == category}, {s[:2] for s in other if s[2] == category})
    return span_figures(len(gold), tally).overlap_f1 or 0.0
