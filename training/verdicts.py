"""The card's heads: what each output means, how its scores are calibrated, from where on they count."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llmguard.inference.card import Calibration, Head
from training.calibrate import expected_error, platt, probability, threshold
from training.labels import BIO, BIO_BIAS, GROUNDING, HARMFUL, INJECTION, TOXICITY

Known = Mapping[str, tuple[NDArray[np.floating], NDArray[np.integer]]]
#: False positives that a stage bears. A person may be rude, a model that answers may not; what was retrieved is read by
#: no one before the model does.
_SHARES = {
    "toxicity": {"default": 0.02, "output": 0.04},
    "injection": {"default": 0.01, "context": 0.02, "tool_result": 0.02},
    "harmful": {"default": 0.02},
    "grounding": {"default": 0.10},
}


def heads(logits: Mapping[str, Known]) -> tuple[Head, ...]:
    """All heads.

    Args:
        logits: by precision and label, logits and labels of texts that were not trained on; "fp32" becomes "default".
    """
    made = []
    for name, labels in (
        ("toxicity", TOXICITY),
        ("injection", INJECTION),
        ("harmful", HARMFUL),
        ("grounding", GROUNDING),
    ):
        calibration = {
            ("default" if key == "fp32" else key): _calibration(labels, known) for key, known in logits.items()
        }
        made.append(
            Head(
                name=name,
                output=name,
                kind="pair_tokens" if name == "grounding" else "labels",
                labels=labels,
                activation="sigmoid",
                calibration=calibration,
                thresholds=_thresholds(labels, logits["fp32"], calibration["default"], _SHARES[name]),
            )
        )
    names = {"default": Calibration(bias=BIO_BIAS)}
    made.append(
        Head(
            name="entities",
            output="entities",
            kind="tokens",
            labels=BIO,
            activation="softmax",
            calibration=names,
            words="mean",
        )
    )
    made.append(Head(name="embedding", output="embedding", kind="embedding", activation="none", aggregate="mean"))
    return tuple(made)


def errors(made: tuple[Head, ...], known: Known, precision: str) -> dict[str, float]:
    """The calibration error of each label that was calibrated, on the texts that it was calibrated on."""
    found = {}
    for head in made:
        chosen = head.calibration.get(precision) or head.calibration.get("default")
        for label in head.labels if chosen else ():
            if label in known and chosen is not None and (chosen.temperature[label], chosen.bias[label]) != (1.0, 0.0):
                values = probability(known[label][0], chosen.temperature[label], chosen.bias[label])
                found[f"calibration error {label}"] = expected_error(values, known[label][1])
    return found


def _calibration(labels: tuple[str, ...], known: Known) -> Calibration:
    found = {label: platt(*known[label]) for label in labels if label in known}
    return Calibration(
        temperature={label: round(value[0], 4) for label, value in found.items()},
        bias={label: round(value[1], 4) for label, value in found.items()},
    )


def _thresholds(
    labels: tuple[str, ...], known: Known, calibration: Calibration, shares: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {stage: {} for stage in shares}
    for label in labels:
        if label not in known or not (known[label][1] == 0).any():
            continue
        values, truth = known[label]
        scores = probability(values[truth == 0], calibration.temperature[label], calibration.bias[label])
        for stage, share in shares.items():
            found[stage][label] = threshold(scores, share)
    return found
