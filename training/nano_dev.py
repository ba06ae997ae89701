"""guard-nano on the dev sets: figures by source, and what calibration and thresholds are chosen on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.figures import auc, bpsn, recall_by_source, threshold_at
from training.labels import Example
from training.nano_features import OUTPUTS, targets_of
from training.read import lines

Scores = NDArray[np.float32]
Score = Callable[[Sequence[str]], Scores]

TOXICITY = (
    "hatecheck",
    "hatemoji_check",
    "tweeteval_offensive",
    "context_toxicity_wiki_cat_small",
    "madlibs_4000",
    "convabuse_valid",
)
BENIGN = ("awesome_prompts_classic", "harmless_alpaca", "mitre_frr", "self_instruct")
INJECTION = ("deepset", "jailbreak_wild", "tensor_trust_hijack")
#: Texts as people write them, with abuse at something like its natural rate; the others are functional tests.
NATURAL = ("tweeteval_offensive", "context_toxicity_wiki_cat_small", "convabuse_valid")


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of one set for one output, and the truth.

    Attributes:
        source: the set.
        scores: [texts].
        labels: bool [texts].
    """

    source: str
    scores: Scores
    labels: NDArray[np.bool_]


def judge(score: Score, data: Path, held: Sequence[Example]) -> dict[str, list[Judged]]:
    """Scores the dev sets, and for outputs that have none the examples that were kept from training.

    Args:
        score: texts to [texts, outputs].
        data: the directory with the dev sets.
        held: kept from training.

    Returns:
        By output.
    """
    judged: dict[str, list[Judged]] = {name: [] for name in OUTPUTS}
    for folder, names in (("toxicity", TOXICITY), ("injection", INJECTION), ("benign", BENIGN)):
        for name in names:
            rows = list(lines(data / folder / f"{name}.jsonl.gz"))
            scores, labels = score([row["text"] for row in rows]), np.array([row["label"] for row in rows], bool)
            for output in {"toxicity": ["toxic"], "injection": ["user"], "benign": OUTPUTS}[folder]:
                judged[output].append(Judged(name, scores[:, OUTPUTS.index(output)], labels))
    # A document is no prompt, and security questions sound harmful on purpose: those sets say nothing of these outputs.
    judged["data"] = []
    judged["harmful"] = [one for one in judged["harmful"] if one.source != "mitre_frr"]
    scores, known = score([item.text for item in held]), targets_of(held)
    sources = np.array([item.source for item in held])
    for place, output in enumerate(OUTPUTS[2:], 2):
        for source in sorted(set(sources.tolist())):
            own = (sources == source) & ~np.isnan(known[:, place])
            if own.any():
                judged[output].append(Judged(f"held_out_{source}", scores[own, place], known[own, place] > 0.5))
    return judged


def pooled(sets: Sequence[Judged]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """All scores and labels of some sets."""
    scores = np.concatenate([one.scores for one in sets]).astype(np.float64)
    return scores, np.concatenate([one.labels for one in sets])


def figures(judged: dict[str, list[Judged]], data: Path) -> dict[str, float]:
    """What the card tells: AUC by source, bias, recall at 1 % false positives of the benign pool."""
    found: dict[str, float] = {}
    for output, sets in judged.items():
        for one in sets:
            if one.labels.any() and not one.labels.all():
                found[f"{output} auc {one.source}"] = auc(one.labels.astype(int), one.scores)
        scores, labels = pooled(sets)
        found[f"{output} auc all"] = auc(labels.astype(int), scores)
    madlibs = next(one for one in judged["toxic"] if one.source == "madlibs_4000")
    texts = [row["text"] for row in lines(data / "toxicity" / "madlibs_4000.jsonl.gz")]
    found["toxic worst bpsn madlibs_4000"] = min(
        bpsn(texts, madlibs.labels.astype(int).tolist(), madlibs.scores).values()
    )
    scores, labels = pooled(judged["user"])
    negatives = scores[~labels]
    positives = {one.source: one.scores[one.labels] for one in judged["user"]}
    for source, recall in recall_by_source(positives, negatives).items():
        found[f"user recall at 1 % {source}"] = recall
    limit = threshold_at(negatives, 0.01)
    for one in judged["user"]:
        if not one.labels.all():
            found[f"user false alarms {one.source}"] = float((one.scores[~one.labels] > limit).mean())
    return {name: round(value, 4) for name, value in found.items()}
