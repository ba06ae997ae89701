"""Examples become windows of hashed features and targets, by the very kernel that scores them later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmguard.kernels import hashing
from training.labels import Example

#: The outputs of guard-nano, in the order of its heads' labels.
OUTPUTS = ("toxic", "user", "data", "harmful")


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts as the linear layer sees them.

    Attributes:
        ids: uint32 [features], of all windows one after the other.
        windows: int64 [windows + 1], where each window begins in ``ids``.
        texts: int64 [texts + 1], where the windows of each text begin.
        targets: float32 [texts, outputs], probabilities; NaN where nothing is known.
        weights: float32 [texts], of the loss.
    """

    ids: NDArray[np.uint32]
    windows: NDArray[np.int64]
    texts: NDArray[np.int64]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


def windows_of(blocks: Sequence[NDArray[np.uint32]], width: int) -> list[NDArray[np.uint32]]:
    """Each ``width`` blocks in a row as one window, each window one block further than the one before."""
    last = max(1, len(blocks) - width + 1)
    return [np.concatenate(blocks[first : first + width]) for first in range(last)] if blocks else []


def rows_of(
    texts: Iterable[str],
    bits: int,
    width: int,
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> Rows:
    """Hashes texts.

    Args:
        texts: as many as there are targets; one without a feature has no window.
        bits: of a feature's number.
        width: of a window, in blocks.
        targets: [texts, outputs].
        weights: [texts].
    """
    ids, windows, starts = [], [0], [0]
    for text in texts:
        for window in windows_of(hashing.features(text, bits), width):
            if len(window):
                ids.append(window)
                windows.append(windows[-1] + len(window))
        starts.append(len(windows) - 1)
    joined = np.concatenate(ids) if ids else np.empty(0, np.uint32)
    return Rows(joined, np.array(windows, np.int64), np.array(starts, np.int64), targets, weights)


def targets_of(examples: Sequence[Example]) -> NDArray[np.float32]:
    """What is known of each example's outputs, [examples, outputs]; NaN for nothing."""
    values = [[example.known.get(name, np.nan) for name in OUTPUTS] for example in examples]
    return np.array(values, np.float32).reshape(len(examples), len(OUTPUTS))


def weights_of(examples: Sequence[Example], mass: Mapping[str, float], own: float) -> NDArray[np.float32]:
    """The weight of each example: its own one times what gives its source its mass.

    Args:
        examples: those that are trained on.
        mass: by source, the sum of weights that it may have.
        own: weight of an example of a source that ``mass`` doesn't name: those that were written by hand.
    """
    counts = Counter(example.source for example in examples)
    scale = {source: mass[source] / n if source in mass else own for source, n in counts.items()}
    return np.array([example.weight * scale[example.source] for example in examples], np.float32)
