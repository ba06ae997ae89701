"""Names of people, places and organisations, and addresses: a model's token labels as spans of the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.model_options import ModelOptions, chosen_head
from llmguard.types import Finding

CATEGORIES = {
    "ADDRESS": "STREET_ADDRESS",
    "LOC": "LOCATION",
    "GPE": "LOCATION",
    "ORG": "ORGANIZATION",
    "PER": "PERSON",
}
"""What other people's models call what Presidio has a name for."""

_OUTSIDE = 0.5
"""A token is of the likeliest kind if that it is outside of all names is not likelier than this."""


class EntityReader:
    """The names that a model sees in texts.

    Tokens are put together to words first: a word is of the kind of its first token, since that is the one that
    the model was trained on, and a name never begins or ends inside a word. Where windows overlap, each word is taken
    from the window that shows more of what stands around it.

    Args:
        options: which model runs where.
        head: the output with the labels of tokens; by default ``entities``, or the only one.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    def __init__(self, options: ModelOptions, head: str | None = None) -> None:
        self.encoder = options.encoder()
        self._head = chosen_head(self.encoder, "entities", head, "tokens")
        kinds = list(dict.fromkeys(label[2:] for label in self._head.labels[1:]))
        self._kinds = kinds
        labels = self._head.labels
        self._begin = np.array([label.startswith("B-") for label in labels])
        self._kind = np.array([kinds.index(label[2:]) if label != "O" else -1 for label in labels])
        self._category = [CATEGORIES.get(kind.upper(), kind.upper()) for kind in kinds]
        self.categories = frozenset(self._category)
        card = self.encoder.card
        self.version = f"{card.name}.{card.version}.{self.encoder.session.precision}"
        self._reason = f"{card.name} {card.version}"

    def findings(self, contents: Sequence[str]) -> list[list[Finding]]:
        """The names in each text, by place; a score is the mean probability of the kind over the words of the name."""
        return [
            list(self._read(content, encoded))
            for content, encoded in zip(contents, self.encoder.encode(contents), strict=True)
        ]

    def _read(self, content: str, encoded: Any) -> Iterator[Finding]:
        if not encoded.rows:
            return
        starts, ends, rows = self._words(content, encoded)
        by_kind = np.zeros((len(rows), len(self._kinds)), np.float32)
        for column, kind in enumerate(self._kind):
            if kind >= 0:
                by_kind[:, kind] += rows[:, column]
        kinds = by_kind.argmax(axis=1)
        kinds[rows[:, 0] > _OUTSIDE] = -1
        begins = self._begin[rows[:, 1:].argmax(axis=1) + 1]
        first = 0
        for index in range(1, len(kinds) + 1):
            over = index == len(kinds) or kinds[index] != kinds[first] or (begins[index] and kinds[index] >= 0)
            if not over:
                continue
            if kinds[first] >= 0:
                kind = int(kinds[first])
                score = float(by_kind[first:index, kind].mean())
                span = _trimmed(content, int(starts[first]), int(ends[index - 1]))
                if span is not None:
                    yield Finding(self._category[kind], min(1.0, score), span, reasons=(self._reason,))
            first = index

    def _words(self, content: str, encoded: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        """Start, end and probabilities of every word of the text, by place."""
        found: dict[int, tuple[int, int, NDArray[np.float32]]] = {}
        for window, row in zip(encoded.windows, encoded.rows, strict=True):
            probabilities = row[self._head.name]
            offsets = window.offsets
            inside = np.flatnonzero(offsets[:, 0] >= 0)
            at = 0
            while at < len(inside):
                first = int(inside[at])
                start, end = int(offsets[first, 0]), int(offsets[first, 1])
                at += 1
                while at < len(inside) and _continues(content, end, int(offsets[inside[at], 0])):
                    end = max(end, int(offsets[inside[at], 1]))
                    at += 1
                room = min(first, len(offsets) - first)
                if start not in found or room > found[start][0]:
                    found[start] = (room, end, probabilities[first])
        order = sorted(found)
        return (
            np.array(order),
            np.array([found[start][1] for start in order]),
            np.array([found[start][2] for start in order], np.float32).reshape(-1, len(self._head.labels)),
        )


def _continues(content: str, end: int, start: int) -> bool:
    """Whether a token goes on with the word that ended at ``end``."""
    if start != end or not start:
        return start < end
    return content[start - 1].isalnum() and content[start : start + 1].isalnum()


def _trimmed(content: str, start: int, end: int) -> tuple[int, int] | None:
    """Without white space and punctuation at the edges; None when nothing is left."""
    while start < end and not (content[start].isalnum() or content[start] in "(#"):
        start += 1
    while end > start and not (content[end - 1].isalnum() or content[end - 1] in ".)"):
        end -= 1
    if end > start and content[end - 1] == ")" and "(" not in content[start:end]:
        end -= 1
    if end > start and content[end - 1] == "." and content[start:end].count(".") == 1 and end - start > 4:
        end -= 1
    return (start, end) if end > start else None
