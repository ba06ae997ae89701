"""``python -m training.grounding_signals --data DIR``: fits what each signal of groundedness weighs, and measures it.

The weights come from training rows alone: BEGIN (wow, cmu), our edits of public sentences as they fall (not thinned),
and the hand-written pairs. Three numbers are chosen on dev: the weight of the model of pairs, which has seen the
training rows itself, and scale and shift of the score. All of it is written into the detector's file of weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors import grounding_weights
from llmguard.detectors.grounding_models import PairReader
from llmguard.detectors.grounding_signals import NAMES, examined
from llmguard.detectors.grounding_source import Source
from llmguard.detectors.model_options import ModelOptions
from llmguard.detectors.sentences import sentences
from training.dev import GROUNDEDNESS
from training.figures import auc
from training.generate_grounding import OWN, TEXTS, edited, read
from training.grounding_edits import NAME, Editor

Row = Mapping[str, Any]
FITTED = ("begin_dev_wow", "begin_dev_cmu", "edits", "own")
#: Share-alike: measured, never fitted on.
MEASURED = ("begin_dev_tc",)
BEYOND = {"absent_share": 0.35, "uncovered": 0.5, "like": 0.5}
#: Words that a supported answer lacks as often as an unsupported one: they count by their share, from a third on.
LEFT_OUT = ("words_absent", "words_paraphrased")
PAIR_WEIGHTS = (0.0, 0.15, 0.3, 0.5, 0.75, 1.0)
_COMMAND = "python -m training.grounding_signals"
_PENALTY = 0.003
_HELD = 0.25
_NEAREST = 3
_DATA = Path(grounding_weights.__file__).parent / "data" / grounding_weights.FILE


class Seen(NamedTuple):
    """A row as the detector sees it: for each sentence its signals, the bent ones and the embedding's last, and more.

    Attributes:
        label: 1 for an unsupported text.
        signals: [sentences, signals].
        pair: log odds of each sentence's worst word, [sentences].
    """

    label: int
    signals: NDArray[np.float64]
    pair: NDArray[np.float64]


def looked_at(row: Row, model: PairReader | None, *, pairs: bool) -> Seen:
    """What the detector would know of a row.

    Args:
        row: a context, a text and a label.
        model: for embeddings, and for pairs if asked.
        pairs: whether the model reads pairs too, which takes most of the time.
    """
    context, text = row["context"], row["text"]
    claims = [text[start:end] for start, end in sentences(text)]
    source = Source([context])
    seen = [examined(claim, source) for claim in claims]
    passages = [[source.passages[at] for at in one.best[:_NEAREST]] for one in seen]
    near = [[context[one.start : one.end] for one in own] for own in passages]
    cosines = model.cosines(claims, near) if model is not None else [None] * len(claims)
    scores = [one.score for one in model.read(context, claims)] if pairs and model is not None else [0.5] * len(claims)
    bent = [
        [max(0.0, value - BEYOND.get(name, 0.0)) for name, value in zip(NAMES, one.signals, strict=True)]
        + [0.0 if cosine is None else max(0.0, BEYOND["like"] - cosine)]
        for one, cosine in zip(seen, cosines, strict=True)
    ]
    odds = [grounding_weights.log_odds(score) for score in scores]
    return Seen(row["label"], np.array(bent).reshape(-1, len(NAMES) + 1), np.array(odds))


def training_rows(data: Path, seed: int, most: int) -> dict[str, list[Row]]:
    """Up to ``most`` rows of each source."""
    draw = random.Random(seed)  # noqa: S311 - sampling data, not secrets
    public = {name: read(data / "groundedness" / f"{name}.jsonl.gz") for name in {*FITTED[:2], *MEASURED, *TEXTS}}
    contexts = sorted({row["context"] for name in TEXTS for row in public[name]})
    names = sorted({name for text in contexts for name in NAME.findall(text) if len(name) < 30})
    editor = Editor(draw, names)
    edits: list[Row] = []
    while len(edits) < most:
        edits += edited(editor, draw.choice(contexts))
    with OWN.open(encoding="utf-8") as file:
        own: list[Row] = [json.loads(line) for line in file]
    found = {name: public[name] for name in (*FITTED[:2], *MEASURED)} | {"edits": edits, "own": own}
    return {name: draw.sample(rows, min(most, len(rows))) for name, rows in found.items()}


def fitted(rows: Mapping[str, Sequence[Seen]]) -> NDArray[np.float64]:
    """Weights not below zero, and the shift behind them, of a logistic regression on each text's worst sentence.

    Which sentence that is depends on the weights, so they are fitted again until it stays. Sources weigh alike.
    """
    from scipy.optimize import minimize

    used = [place for place in range(len(NAMES) + 1) if place >= len(NAMES) or NAMES[place] not in LEFT_OUT]
    seen = [one for own in rows.values() for one in own if len(one.signals)]
    weight = np.concatenate([np.full(len([o for o in own if len(o.signals)]), 1 / len(own)) for own in rows.values()])
    label = np.array([one.label for one in seen], float)
    found = np.full(len(used) + 1, 0.5)
    for _ in range(8):
        worst = np.array([one.signals[(one.signals[:, used] @ found[:-1]).argmax()][used] for one in seen])

        def loss(values: NDArray[np.float64], worst: NDArray[np.float64] = worst) -> tuple[float, NDArray[np.float64]]:
            total = worst @ values[:-1] + values[-1]
            wrong = weight * (1 / (1 + np.exp(-total)) - label) / weight.sum()
            value = np.average(np.logaddexp(0, total) - label * total, weights=weight)
            slope = np.append(worst.T @ wrong + _PENALTY * values[:-1], wrong.sum())
            return float(value + _PENALTY * (values[:-1] ** 2).sum() / 2), slope

        limits = [(0, None)] * len(used) + [(None, None)]
        found = minimize(loss, found, jac=True, method="L-BFGS-B", bounds=limits).x
    whole = np.zeros(len(NAMES) + 2)
    whole[[*used, -1]] = found
    return whole


def totals(rows: Sequence[Seen], weights: NDArray[np.float64], pair: float) -> NDArray[np.float64]:
    """The largest sum over each text's sentences."""
    return np.array([float((one.signals @ weights + pair * one.pair).max(initial=-50.0)) for one in rows])


def calibrated(label: NDArray[np.float64], total: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shift of the sum that make it log odds, both labels weighing alike."""
    from scipy.optimize import minimize

    weight = np.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean()))

    def loss(values: NDArray[np.float64]) -> float:
        odds = values[0] * total + values[1]
        return float(np.average(np.logaddexp(0, odds) - label * odds, weights=weight))

    scale, shift = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(scale), float(shift)


def held_out(row: Row) -> bool:
    """Whether a row's context is kept from the fit that the figures on training sources come from."""
    digest = hashlib.sha256(str(row["context"]).encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELD * 2**32


def mean_auc(rows: Mapping[str, Sequence[Seen]], weights: NDArray[np.float64], pair: float) -> dict[str, float]:
    """AUC of each source, and their mean."""
    found = {name: auc([one.label for one in own], totals(own, weights, pair)) for name, own in rows.items()}
    return found | {"mean": float(np.mean(list(found.values())))}


def line(name: str, figures: Mapping[str, float]) -> str:
    """One row of a table."""
    return f"{name:<20}" + "".join(
        [f"{source.removeprefix('summedits_')} {value:.3f}  " for source, value in figures.items()]
    )


def main() -> None:
    """Fit, measure by signal and by set, write."""
    options = _options()
    model = PairReader(ModelOptions(options.model), None)
    train = training_rows(options.data / "train", options.seed, options.rows)
    seen = {name: [looked_at(row, model, pairs=held_out(row)) for row in rows] for name, rows in train.items()}
    kept = {name: [held_out(row) for row in rows] for name, rows in train.items()}
    parts = {name: [one for one, held in zip(seen[name], kept[name], strict=True) if not held] for name in FITTED}
    rest = {name: [one for one, held in zip(own, kept[name], strict=True) if held] for name, own in seen.items()}
    rest = {name: own for name, own in rest.items() if len({one.label for one in own}) == 2}
    trial = fitted(parts)[:-1]
    dev: dict[str, list[Seen]] = {}
    for name in GROUNDEDNESS:
        rows = read(options.data / "dev" / "groundedness" / f"{name}.jsonl.gz")
        dev[name] = [looked_at(row, model, pairs=True) for row in rows[:: max(1, len(rows) // options.dev)]]
    weights = fitted({name: seen[name] for name in FITTED})[:-1]
    grid = {value: mean_auc(dev, weights, value)["mean"] for value in PAIR_WEIGHTS}
    pair = max(PAIR_WEIGHTS, key=lambda value: grid[value])
    for place, name in enumerate([*NAMES, "unlike"]):
        single = np.eye(len(NAMES) + 1)[place]
        print(line(name, mean_auc(rest, single, 0)), line("", mean_auc(dev, single, 0)).strip())  # noqa: T201
    nothing = np.zeros(len(NAMES) + 1)
    figures = {}
    for name, own, share in (("signals", weights, 0.0), ("pair", nothing, 1.0), ("all", weights, pair)):
        on_rest = mean_auc(rest, trial if own is weights else own, share)
        on_dev = mean_auc(dev, own, share)
        print(line(name, on_rest), line("", on_dev).strip())  # noqa: T201
        figures[name] = {
            "held-out training contexts": {key: round(value, 3) for key, value in on_rest.items()},
            "dev": {key: round(value, 3) for key, value in on_dev.items()},
        }
    print("mean on dev by weight of the pairs:", {value: round(found, 3) for value, found in grid.items()})  # noqa: T201
    label = np.array([one.label for own in dev.values() for one in own], float)
    words = weights * np.append(np.ones(len(NAMES)), 0.0)
    flat = [one for own in dev.values() for one in own]
    calibration = {
        mode: dict(zip(("scale", "shift"), calibrated(label, totals(flat, own, share)), strict=True))
        for mode, own, share in (("words", words, 0.0), ("pair", weights, pair))
    }
    write(options.out, weights, pair, calibration, figures, options)


def write(
    path: Path,
    weights: NDArray[np.float64],
    pair: float,
    calibration: dict[str, dict[str, float]],
    figures: Mapping[str, Any],
    options: argparse.Namespace,
) -> None:
    """The file of weights, with its card."""
    import yaml

    card = PairReader(ModelOptions(options.model), None).encoder.card
    data = {
        "version": "1",
        "licence": "Apache-2.0",
        "made_by": f"{_COMMAND} --rows {options.rows} --dev {options.dev} --seed {options.seed}",
        "fitted_on": f"{', '.join(FITTED)}: training data; none of the rows of dev",
        "chosen_on_dev": "the weight of pair out of " + ", ".join(map(str, PAIR_WEIGHTS)) + "; scale and shift",
        "not_fitted": "the weight of nli and its scale and shift, which are those of pair",
        "model": f"{card.name} {card.version}",
        "weights": {name: round(float(value), 4) for name, value in zip([*NAMES, "unlike"], weights, strict=True)}
        | {"pair": pair, "nli": 1.0},
        "beyond": BEYOND,
        "calibration": {
            mode: {key: round(value, 4) for key, value in own.items()}
            for mode, own in (calibration | {"nli": calibration["pair"]}).items()
        },
        "auc": dict(figures),
    }
    head = "# What each signal of groundedness weighs: docs/detectors/groundedness.md. Written by the command below.\n"
    path.write_text(head + yaml.safe_dump(data, sort_keys=False, width=120), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.grounding_signals", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory with train/ and dev/")
    parser.add_argument("--model", default="guard-mini", help="a bundled model or a directory")
    parser.add_argument("--rows", type=int, default=600, help="of each training source")
    parser.add_argument("--dev", type=int, default=150, help="rows of each dev set")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=_DATA)
    return parser.parse_args()


if __name__ == "__main__":
    main()
