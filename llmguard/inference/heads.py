"""From a head's logits to probabilities: calibration and activation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import InferenceError
from llmguard.inference.card import Head


def calibrate(logits: NDArray[Any], head: Head, precision: str = "default") -> NDArray[np.float32]:
    """The probabilities that the logits mean: ``activation((logit + bias) / temperature)``.

    Args:
        logits: [..., labels] of any float type; of an embedding [..., n], which comes back as it is, in float32.
        head: what the output means.
        precision: what ran; the calibration of "default" holds where the card has none for it.

    Raises:
        InferenceError: a value is NaN or infinite, or the number of labels is not the card's.
    """
    values = np.asarray(logits, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InferenceError(f"the model's output {head.output!r} is not finite: NaN or an overflow")
    if head.kind == "embedding":
        return values
    if not values.ndim or values.shape[-1] != len(head.labels):
        last = values.shape[-1] if values.ndim else "no"
        raise InferenceError(f"the model's output {head.output!r} has {last} labels, its card {len(head.labels)}")
    chosen = head.calibration.get(precision) or head.calibration.get("default")
    if chosen is not None:
        bias = np.array([chosen.bias.get(label, 0.0) for label in head.labels], np.float32)
        temperature = np.array([chosen.temperature.get(label, 1.0) for label in head.labels], np.float32)
        values = (values + bias) / temperature
    if head.activation == "sigmoid":
        return sigmoid(values)
    if head.activation == "softmax":
        return softmax(values)
    return values


def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + e^-x), without overflow for any finite x: half of a hyperbolic tangent, moved up."""
    half: NDArray[np.float32] = np.tanh(np.float32(0.5) * values)
    return np.float32(0.5) * (half + np.float32(1))


def softmax(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities along the last axis; the largest value is taken off first, so nothing overflows."""
    powers: NDArray[np.float32] = np.exp(values - values.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers
