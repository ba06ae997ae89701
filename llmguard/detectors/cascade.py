"""The first tier of a cascade: texts that a linear model is sure about need no forward pass.

It only clears. What it does not clear goes to the model, whose score is then the only one: a tier that also
condemned would have to know every finer category.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmguard.errors import ConfigurationError

if TYPE_CHECKING:
    from llmguard.inference.nano import Nano

_shared: weakref.WeakValueDictionary[tuple[Any, ...], Nano] = weakref.WeakValueDictionary()


def _nano(source: str) -> Nano:
    from llmguard.inference.nano import Nano
    from llmguard.inference.store import open_model

    model = open_model(source)
    key = (str(model.path.resolve()), tuple(sorted(model.card.files.items())))
    found = _shared.get(key)
    if found is None:
        found = _shared[key] = Nano(model)
    return found


class FirstTier:
    """Which texts need no further look.

    Args:
        model: of the kind ``nano``.
        head: which of its outputs.
        below: the probability under which a text is clear.

    Raises:
        ConfigurationError: the bound is none, or the model has no such head.
        ModelLoadError: the model can't be loaded.
    """

    def __init__(self, model: str, head: str, below: float) -> None:
        if isinstance(below, bool) or not isinstance(below, int | float) or not 0 < below <= 1:
            raise ConfigurationError(f"option 'clear_below' must be a number in (0, 1], not {below!r}")
        self._nano = _nano(model)
        self._head = head
        self._labels = self._nano.card.head(head).labels
        self._below = float(below)
        card = self._nano.card
        self.version = f"{card.name}.{card.version}"
        self.reason = f"{card.name} {card.version}"

    def clear(self, contents: Sequence[str], labels: Sequence[str | None]) -> list[bool]:
        """Whether each text is clear: all labels of it, or the one that counts for it, are below the bound.

        Args:
            contents: the texts.
            labels: for each the label that counts; None for all of them.
        """
        if not contents:
            return []
        scores = self._nano.probabilities(contents)[self._head]
        columns = {label: place for place, label in enumerate(self._labels)}
        found = []
        for row, label in zip(scores, labels, strict=True):
            worst = float(np.max(row)) if label is None or label not in columns else float(row[columns[label]])
            found.append(worst < self._below)
        return found
