"""The cascade on development texts: what each step decides, how far it agrees with the next, what it lets through.

LLMGUARD_DATA names the directory with ``dev``. The last step is any large model of the user's: its share is printed.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import medians, microseconds, row
from llmguard.detectors.classifier import ToxicityDetector
from llmguard.inference.nano import Nano
from llmguard.inference.store import open_model
from llmguard.types import Text

#: Sets as they come in practice; the functional ones are made to be unclear.
SETS = ("tweeteval_offensive", "context_toxicity_wiki_cat_small", "convabuse_valid")
BENIGN = ("harmless_alpaca", "mitre_frr", "self_instruct")
ROWS = 300
#: A strict bound and the default of ``clear_below``; the default of ``unsure``.
BOUNDS = (0.0075, 0.02)
UNSURE = (0.2, 0.8)
YES = 0.5


def read(path: Path) -> Iterator[tuple[str, bool]]:
    """Texts of a set and whether they are toxic, evenly taken."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    for line in lines[:: max(len(lines) // ROWS, 1)]:
        yield line["text"], bool(line["label"])


def steps(what: str, small: NDArray[np.float64], large: NDArray[np.float64], toxic: NDArray[np.bool_]) -> None:
    """Rows for one kind of texts: the share of each step, and its agreement with the step after it."""
    for bound in BOUNDS:
        cleared = small < bound
        agrees = float((large[cleared] < YES).mean()) if cleared.any() else 1.0
        through = f", {(cleared & toxic).sum() / toxic.sum():.1%} of the toxic ones" if toxic.any() else ""
        row(
            f"{what}: cleared by guard-nano below {bound}",
            f"{cleared.mean():.1%}",
            f"{agrees:.1%} of them by guard-mini too{through}",
        )
        open_ = ~cleared & (large >= UNSURE[0]) & (large <= UNSURE[1])
        row(
            f"  decided by guard-mini / left to a large model ({bound})",
            f"{(~cleared & ~open_).mean():.1%}",
            f"{open_.mean():.1%}",
        )


def main() -> bool:
    """Shares and agreement, and what the first step costs against the second."""
    place = os.environ.get("LLMGUARD_DATA")
    if not place:
        row("the cascade", "not run", "LLMGUARD_DATA names no directory")
        return True
    dev = Path(place) / "dev"
    nano = Nano(open_model("guard-nano"))
    detector = ToxicityDetector(floor=0.0)

    def both(pairs: Sequence[tuple[str, bool]]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        texts = [text for text, _ in pairs]
        small = np.asarray(nano.probabilities(texts)["toxicity"]).max(axis=1)
        found = detector.score([Text(text) for text in texts])
        large = np.array([max((one.score for one in own), default=0.0) for own in found])
        return small.astype(np.float64), large, np.array([label for _, label in pairs])

    steps("user texts", *both([pair for name in SETS for pair in read(dev / "toxicity" / f"{name}.jsonl.gz")]))
    steps("harmless prompts", *both([pair for name in BENIGN for pair in read(dev / "benign" / f"{name}.jsonl.gz")]))
    text = "The meeting moved to Thursday, and the slides of last week are in the shared folder. " * 3
    numbers = iter(range(10**9))
    took = medians(
        {
            "nano": lambda: nano.probabilities([f"{next(numbers)} {text}"]),
            "mini": lambda: detector.score([Text(f"{next(numbers)} {text}")]),
        },
        rounds=5,
    )
    row(
        "guard-nano, a text of 260 characters",
        microseconds(took["nano"]),
        f"1/{took['mini'] / took['nano']:,.0f} of guard-mini",
    )
    return True
