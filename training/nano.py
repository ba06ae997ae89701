"""``python -m training.nano --data DIR --out DIR``: guard-nano from the rows of guard-mini, in minutes on a CPU.

A linear layer over hashed n-grams, in int8, calibrated on the dev sets, as a model directory of the kind ``nano``.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmguard.inference.card import CARD, Calibration, Card, Head
from llmguard.inference.card_hashing import Hashing
from llmguard.inference.nano import WEIGHTS, Nano
from llmguard.inference.store import ModelDirectory
from llmguard.kernels import hashing
from training import nano_dev
from training.cascade import bounds, measure
from training.figures import threshold_at
from training.labels import Example
from training.nano_card import DATA, DESCRIPTION, INTENDED_USE, LANGUAGES, LIMITS
from training.nano_features import OUTPUTS, rows_of, targets_of, weights_of
from training.nano_fit import fit
from training.sources import PER_EPOCH, examples, held_out

_log = logging.getLogger("training.nano")
#: Shares of either class on which the first step of a cascade may be wrong.
SLIPS = (0.005, 0.02)
_HEADS = {"toxicity": ("toxic",), "injection": ("user", "data"), "harmful": ("harmful",)}


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What was chosen on the dev sets.

    Attributes:
        bits: of a feature's number: 2^18 rows by four int8 are 1 MB, which the second-level cache of a core holds.
        window: blocks of about 512 characters.
        epochs: passes over the rows.
        rate: of learning, at the start; it falls to nothing.
        decay: pull of a weight to nothing.
        decay_toxic: likewise for ``toxic``, whose labels are noisier.
        own: weight of a hand-written row; a row of a public set has at most 1.
        seed: of the generators and of the orders.
    """

    bits: int = 18
    window: int = 2
    epochs: int = 4
    rate: float = 0.2
    decay: float = 1e-4
    decay_toxic: float = 3e-3
    own: float = 3.0
    seed: int = 7


def chosen(data: Path, seed: int) -> Iterator[Example]:
    """The examples that say something about an output of guard-nano."""
    for item in examples(data, seed):
        if not item.context and not item.known.keys().isdisjoint(OUTPUTS):
            yield item


def train(items: Sequence[Example], settings: Settings) -> tuple[NDArray[np.int8], Hashing]:
    """The table in int8, and what its integers mean."""
    weights = weights_of(items, PER_EPOCH, settings.own)
    rows = rows_of((item.text for item in items), settings.bits, settings.window, targets_of(items), weights)
    table, bias = fit(
        rows,
        settings.bits,
        epochs=settings.epochs,
        rate=settings.rate,
        decay=[settings.decay_toxic if name == "toxic" else settings.decay for name in OUTPUTS],
        seed=settings.seed,
    )
    small, scales = quantise(table)
    named = Hashing(
        scheme=hashing.SCHEME,
        window=settings.window,
        scales=tuple(float(scale) for scale in scales),
        biases=tuple(float(value) for value in bias),
    )
    return small, named


def quantise(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Each column in steps of its own: int8 [rows, outputs] and the size of a step, float32 [outputs].

    The range ends where one weight in 5,000 lies beyond it and is clipped: the few largest would otherwise leave the
    others with a handful of steps.
    """
    top = np.quantile(np.abs(table), 1 - 1 / 5000, axis=0)
    scales = np.maximum(top / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.clip(np.rint(table / scales), -127, 127).astype(np.int8), scales


def calibrated(
    logits: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Temperature and bias with ``p = sigmoid((logit + bias) / temperature)`` of the highest likelihood.

    Platt's scaling ("Probabilistic Outputs for Support Vector Machines", 1999) by Newton's method, with his targets,
    which keep a clean split from an infinite slope.
    """
    positives, negatives = weights[labels].sum(), weights[~labels].sum()
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    inputs = np.stack([logits, np.ones_like(logits)])
    solution = np.array([0.5, 0.0])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(solution @ inputs, -500, 500)))
        gradient = inputs @ (weights * (chance - target))
        curvature = (inputs * (weights * chance * (1 - chance))) @ inputs.T + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        solution -= step / max(1.0, float(np.abs(step).max()))
    slope = max(float(solution[0]), 1e-3)
    return 1 / slope, float(solution[1]) / slope


def heads_of(judged: dict[str, list[nano_dev.Judged]]) -> tuple[Head, ...]:
    """Heads with calibration and thresholds: by each output's sets, a set counting as much as another.

    A threshold is where 1 % of the negatives of natural texts are above: for ``toxic`` real comments and prompts, for
    the others all that there are.
    """
    calibration: dict[str, tuple[float, float]] = {}
    thresholds: dict[str, float] = {}
    for output, sets in judged.items():
        logits, labels = nano_dev.pooled(sets)
        weights = np.concatenate([np.full(len(one.scores), len(logits) / len(sets) / len(one.scores)) for one in sets])
        temperature, bias = calibrated(logits, labels, weights)
        logits, labels = nano_dev.pooled(natural(output, sets))
        limit = (threshold_at(logits[~labels], 0.01) + bias) / temperature
        calibration[output] = (round(temperature, 5), round(bias, 5))
        thresholds[output] = round(float(1 / (1 + np.exp(-limit))), 4)
    return tuple(
        Head(
            name=name,
            output=name,
            kind="labels",
            labels=labels,
            activation="sigmoid",
            calibration={
                "default": Calibration(
                    temperature={label: calibration[label][0] for label in labels},
                    bias={label: calibration[label][1] for label in labels},
                )
            },
            thresholds={"default": {label: thresholds[label] for label in labels}},
        )
        for name, labels in _HEADS.items()
    )


def build(items: Sequence[Example], held: Sequence[Example], dev: Path, out: Path, settings: Settings) -> Card:
    """Trains, writes the model directory, measures and calibrates what was written.

    Args:
        items: learned from.
        held: kept from training, for outputs without a dev set.
        dev: the directory with the dev sets.
        out: the model directory; made if it isn't there.
        settings: how.
    """
    small, named = train(items, settings)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / WEIGHTS, small)
    heads = tuple(
        Head(name=name, output=name, kind="labels", labels=labels, activation="sigmoid")
        for name, labels in _HEADS.items()
    )
    card = Card(
        format=1,
        name="guard-nano",
        version="1",
        kind="nano",
        licence="Apache-2.0",
        description=DESCRIPTION,
        languages=LANGUAGES,
        hashing=named,
        heads=heads,
        files={WEIGHTS: hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest()},
        data=DATA,
        intended_use=INTENDED_USE,
        limits=LIMITS,
    )
    nano = Nano(ModelDirectory(out, card))

    def score(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.concatenate(list(nano.logits(texts).values()), axis=1)

    judged = nano_dev.judge(score, dev, held)
    figures = nano_dev.figures(judged, dev)
    card = card.model_copy(update={"heads": heads_of(judged), "figures": {"dev": figures}})
    card = card.model_copy(update={"figures": {"dev": figures, "cascade": cascade(judged, card)}})
    (out / CARD).write_text(card.text(), encoding="utf-8")
    return card


def natural(output: str, sets: Sequence[nano_dev.Judged]) -> list[nano_dev.Judged]:
    """The sets of texts as people write them: for ``toxic`` comments and prompts without the functional tests."""
    return [one for one in sets if output != "toxic" or one.source in (*nano_dev.NATURAL, *nano_dev.BENIGN)]


def cascade(judged: dict[str, list[nano_dev.Judged]], card: Card) -> dict[str, dict[str, dict[str, float]]]:
    """For each output and slip the bounds outside of which nano slips on that share of either class, and what it takes.

    ``share_of_negatives`` is the share of harmless texts that it decides.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for head in card.heads:
        calibration = head.calibration["default"]
        for label in head.labels:
            logits, truth = nano_dev.pooled(natural(label, judged[label]))
            chances = 1 / (1 + np.exp(-(logits + calibration.bias[label]) / calibration.temperature[label]))
            found[label] = {}
            for slip in SLIPS:
                low, high = bounds(chances, truth, slip)
                step = dataclasses.asdict(measure(chances, truth, low, high))
                step["share_of_negatives"] = measure(chances[~truth], truth[~truth], low, high).share
                found[label][f"slip {slip:g}"] = {name: round(value, 5) for name, value in step.items()}
    return found


def main() -> None:
    """Read, train, measure, calibrate, write."""
    parser = argparse.ArgumentParser(prog="python -m training.nano", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory with train/ and dev/")
    parser.add_argument("--out", type=Path, required=True, help="the model directory")
    for field in dataclasses.fields(Settings):
        kind = type(field.default)
        parser.add_argument(f"--{field.name}", type=kind, default=field.default)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    settings = Settings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Settings)})
    started = time.monotonic()
    items = list(chosen(options.data / "train", settings.seed))
    held = [item for item in items if held_out(item)]
    kept = [item for item in items if not held_out(item)]
    _log.info("%d examples, %d of them held out, read in %.0f s", len(items), len(held), time.monotonic() - started)
    card = build(kept, held, options.data / "dev", options.out, settings)
    for kind in card.figures.values():
        for name, value in kind.items():
            _log.info("%s: %s", name, value)
    _log.info("done in %.0f s", time.monotonic() - started)


if __name__ == "__main__":
    main()
