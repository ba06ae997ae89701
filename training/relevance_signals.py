"""``python -m training.relevance_signals --data DIR``: fits the weights of `relevance`, and prints them with their AUC.

Questions and answers of HaluEval's training rows (the right answer with its passage), and messages and replies of
BEGIN (wow): each question with its own answer, and with that of another. A quarter, by question, is kept for the AUC.
"""

from __future__ import annotations

import argparse
import hashlib
import random
from pathlib import Path

import numpy as np

from llmguard.detectors.relevance import RelevanceDetector, overlaps
from training.figures import auc
from training.generate_grounding import read

_HELD = 0.25


def pairs(data: Path, seed: int, most: int) -> list[tuple[str, str, int]]:
    """Question, answer, and 1 where it is another question's."""
    draw = random.Random(seed)  # noqa: S311 - sampling data, not secrets
    told: list[tuple[str, str]] = []
    for row in read(data / "groundedness" / "halueval_qa.jsonl.gz"):
        if row["label"] == 0:
            told.append((row["labels"]["question"], row["text"]))
            passage = row["context"][:400]
            if row["text"] in passage:
                told.append((row["labels"]["question"], passage))
    replies = read(data / "groundedness" / "begin_dev_wow.jsonl.gz")
    told += [(row["labels"]["message"], row["text"]) for row in replies]
    draw.shuffle(told)
    told = told[:most]
    others = told[1:] + told[:1]
    return [(*own, 0) for own in told] + [
        (question, other[1], 1) for (question, _), other in zip(told, others, strict=True)
    ]


def main() -> None:
    """Fit, measure, print."""
    from sklearn.linear_model import LogisticRegression

    parser = argparse.ArgumentParser(prog="python -m training.relevance_signals", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory with train/")
    parser.add_argument("--model", default="guard-mini", help="a bundled model or a directory")
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    detector = RelevanceDetector(model=options.model)
    rows = pairs(options.data / "train", options.seed, options.pairs)
    label = np.array([row[2] for row in rows])
    signals = np.array([[*detector.cosines(row[0], [row[1]]), *overlaps(row[0], [row[1]])] for row in rows])
    held = np.array([hashlib.sha256(row[0].encode()).digest()[0] < _HELD * 256 for row in rows])
    for name, used in (("with the model", [0, 1]), ("words alone", [1])):
        fitted = LogisticRegression(C=10.0).fit(signals[~held][:, used], label[~held])
        found = auc(label[held], fitted.decision_function(signals[held][:, used]))
        weights = np.zeros(2)
        weights[used] = fitted.coef_[0]
        numbers = f"{fitted.intercept_[0]:.2f}, {weights[0]:.2f}, {weights[1]:.2f}"
        print(f"{name}: {numbers}; AUC {found:.3f} on {held.sum()} pairs")  # noqa: T201


if __name__ == "__main__":
    main()
