"""The first tier: hashed n-grams under a linear layer, some tens of microseconds a text.

A directory of the kind ``nano`` holds ``card.yaml`` and ``weights.npy``, the table of int8 weights. A text's logit is
that of its highest window of some blocks, so all of a long text is looked at and a bad part is not diluted by the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import ConfigurationError, ModelLoadError
from llmguard.inference.heads import calibrate
from llmguard.inference.store import ModelDirectory
from llmguard.kernels import hashing

WEIGHTS = "weights.npy"
#: The logit of every label for a text without a feature, such as an empty one: nothing said, nothing found.
NOTHING = -30.0


class Nano:
    """A linear layer over hashed n-grams; thread-safe, since nothing changes after the start.

    The kernels are compiled, or fetched from numba's cache, when the model is loaded and not at the first text.

    Args:
        model: of the kind ``nano``, with verified files.

    Raises:
        ModelLoadError: it is of another kind or scheme, or its table does not fit its card.
        MissingExtraError: numba is not installed.
    """

    def __init__(self, model: ModelDirectory) -> None:
        card = model.card
        if card.kind != "nano" or card.hashing is None:
            raise ModelLoadError(f"the model {card.name!r} is of the kind {card.kind!r}, not 'nano'")
        if card.hashing.scheme != hashing.SCHEME:
            raise ModelLoadError(
                f"the model {card.name!r} hashes by scheme {card.hashing.scheme}; this version knows {hashing.SCHEME}"
            )
        if WEIGHTS not in card.files:
            raise ModelLoadError(f"the card of the model {card.name!r} names no file {WEIGHTS!r}")
        self.card = card
        self._labels = sum(len(head.labels) for head in card.heads)
        self._weights = _read(model.path / WEIGHTS, self._labels)
        self._window = card.hashing.window
        self._scales = np.array(card.hashing.scales, np.float32)
        self._biases = np.array(card.hashing.biases, np.float32)
        hashing.highest([""], self._weights, self._window)

    def logits(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The logits of texts, [texts, labels] by head; `NOTHING` for a text without a feature."""
        means = hashing.highest(texts, self._weights, self._window)[:, : self._labels]
        values = np.where(np.isfinite(means), means * self._scales + self._biases, np.float32(NOTHING))
        logits, first = {}, 0
        for head in self.card.heads:
            logits[head.name] = values[:, first : first + len(head.labels)]
            first += len(head.labels)
        return logits

    def probabilities(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The calibrated probabilities of texts, [texts, labels] by head."""
        logits = self.logits(texts)
        return {head.name: calibrate(logits[head.name], head, "int8") for head in self.card.heads}


def _read(path: Path, labels: int) -> NDArray[np.int8]:
    """The table of a file, with as many columns as the kernels want.

    The file is mapped first, so a header that lies about its size allocates nothing.

    Raises:
        ModelLoadError: it can't be read, is no array, or has another type or number of columns.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelLoadError(f"no array that can be read: {type(error).__name__}", source=str(path)) from None
    if not isinstance(mapped, np.ndarray) or mapped.dtype != np.int8 or mapped.ndim != 2 or mapped.shape[1] != labels:
        raise ModelLoadError(
            f"the weights must be an int8 array of two dimensions with {labels} columns", source=str(path)
        )
    table = np.zeros((mapped.shape[0], -(-labels // 4) * 4), np.int8)
    table[:, :labels] = mapped
    try:
        hashing.table_bits(table)
    except ConfigurationError as error:
        raise ModelLoadError(str(error), source=str(path)) from None
    return table
