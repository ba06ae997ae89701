"""What each signal of groundedness weighs: numbers that `training/grounding_signals.py` fits, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from llmguard.detectors.grounding_signals import NAMES

FILE = "grounding_weights.yaml"
_SURE = 1e-4
"""Probabilities nearer to 0 or 1 than this count as this near: one model is never the only voice."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A linear model, and from which values on some signals count.

    Attributes:
        words: weight of each signal of `grounding_signals.NAMES`, in their order.
        beyond: of a signal named here only what it has beyond this value counts.
        unlike: weight of what the embedding's cosine with the best passage lacks to ``like``.
        like: that cosine.
        pair: weight of the log odds of a sentence's worst word, by a model of pairs.
        nli: weight of the log odds of a sentence not being entailed, by a model of inference.
        scale: by what is looked at (``words``, ``pair``, ``nli``), what the sum is multiplied by.
        shift: likewise, what is then added.
        version: of the file.
    """

    words: tuple[float, ...]
    beyond: tuple[float, ...]
    unlike: float
    like: float
    pair: float
    nli: float
    scale: Mapping[str, float]
    shift: Mapping[str, float]
    version: str

    def sum(self, signals: list[float], *, cosine: float | None, pair: float | None, nli: float | None) -> float:
        """What all signals of one sentence add up to.

        Args:
            signals: of words.
            cosine: of the sentence's embedding with the best passage's, if there is one.
            pair: probability that its worst word is not supported, if a model says so.
            nli: probability that it is not entailed, likewise.
        """
        parts = zip(signals, self.beyond, self.words, strict=True)
        total = sum([max(0.0, signal - least) * weight for signal, least, weight in parts])
        if cosine is not None:
            total += self.unlike * max(0.0, self.like - cosine)
        if pair is not None:
            total += self.pair * log_odds(pair)
        if nli is not None:
            total += self.nli * log_odds(nli)
        return total

    def score(self, total: float, mode: str) -> float:
        """The probability that the documents do not support a sentence whose signals add up to ``total``."""
        odds = self.scale[mode] * total + self.shift[mode]
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds))))


def log_odds(probability: float) -> float:
    """The natural logarithm of the odds, bounded."""
    inside = max(_SURE, min(1.0 - _SURE, probability))
    return math.log(inside / (1.0 - inside))


@cache
def weights() -> Weights:
    """The bundled weights; read once."""
    text = (resources.files("llmguard.detectors") / "data" / FILE).read_text(encoding="utf-8")
    return read(yaml.safe_load(text))


def read(data: Mapping[str, Any]) -> Weights:
    """The weights of a file's content; a signal that it does not name weighs nothing."""
    return Weights(
        tuple([float(data["weights"].get(name, 0.0)) for name in NAMES]),
        tuple([float(data["beyond"].get(name, 0.0)) for name in NAMES]),
        float(data["weights"].get("unlike", 0.0)),
        float(data["beyond"]["like"]),
        float(data["weights"]["pair"]),
        float(data["weights"]["nli"]),
        {mode: float(own["scale"]) for mode, own in data["calibration"].items()},
        {mode: float(own["shift"]) for mode, own in data["calibration"].items()},
        str(data["version"]),
    )
