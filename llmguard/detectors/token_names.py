"""Token labels as names: tokens put together to words, words of one kind to names, over all windows of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: A word is of the likeliest kind if that it is outside of all names is not likelier than this.
_OUTSIDE = 0.5
#: Added to probabilities, so that the logarithm of one that was rounded to 0 exists.
_LEAST = 1e-9


class Name(NamedTuple):
    """A name: its kind as the labels spell it, the mean probability over its words, and where it stands."""

    kind: str
    score: float
    start: int
    end: int


class Names:
    """Reads names from the probabilities of BIO labels.

    A word is of the kind of its first token, which is the one that most models were trained on, or of the kind that is
    likeliest over all its tokens (the mean of their log probabilities), and then words of one kind with nothing but
    space between them are one name. A name never begins or ends inside a word. Where windows overlap, each word is
    taken from the window that shows more of what stands around it.

    Args:
        labels: BIO labels, "O" first.
        words: ``first`` or ``mean``, as above.
    """

    def __init__(self, labels: Sequence[str], words: str) -> None:
        self.kinds = list(dict.fromkeys(label[2:] for label in labels[1:]))
        self._whole = words == "mean"
        self._labels = len(labels)
        self._begin = np.array([label.startswith("B-") for label in labels])
        self._kind = np.array([self.kinds.index(label[2:]) if label != "O" else -1 for label in labels])

    def read(self, content: str, windows: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> Iterator[Name]:
        """The names in a text, by place.

        Args:
            content: the text.
            windows: for each its tokens' offsets [n, 2] in code points, (-1, -1) for special ones, and the
                probabilities of their labels [n, labels].
        """
        starts, ends, rows = self._words(content, windows)
        if not len(rows):
            return
        by_kind = np.zeros((len(rows), len(self.kinds)), np.float32)
        for column, kind in enumerate(self._kind):
            if kind >= 0:
                by_kind[:, kind] += rows[:, column]
        kinds = by_kind.argmax(axis=1)
        kinds[rows[:, 0] > _OUTSIDE] = -1
        begins = self._begin[rows[:, 1:].argmax(axis=1) + 1]
        first = 0
        for index in range(1, len(kinds) + 1):
            between = content[int(ends[index - 1]) : int(starts[index])] if index < len(kinds) else ""
            new = index == len(kinds) or (begins[index] and not (self._whole and between.isspace()))
            if not new and kinds[index] == kinds[first]:
                continue
            if kinds[first] >= 0:
                kind = int(kinds[first])
                span = _trimmed(content, int(starts[first]), int(ends[index - 1]))
                if span is not None:
                    yield Name(self.kinds[kind], min(1.0, float(by_kind[first:index, kind].mean())), *span)
            first = index

    def _words(
        self, content: str, windows: Sequence[tuple[NDArray[Any], NDArray[Any]]]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        """Start, end and probabilities of every word of the text, by place."""
        found: dict[int, tuple[int, int, NDArray[np.float32]]] = {}
        for offsets, probabilities in windows:
            inside = np.flatnonzero(offsets[:, 0] >= 0)
            at = 0
            while at < len(inside):
                first = int(inside[at])
                start, end = int(offsets[first, 0]), int(offsets[first, 1])
                tokens = [first]
                at += 1
                while at < len(inside) and _continues(content, end, int(offsets[inside[at], 0])):
                    end = max(end, int(offsets[inside[at], 1]))
                    tokens.append(int(inside[at]))
                    at += 1
                room = min(first, len(offsets) - first)
                if start not in found or room > found[start][0]:
                    found[start] = (room, end, self._word(probabilities, tokens))
        order = sorted(found)
        return (
            np.array(order),
            np.array([found[start][1] for start in order]),
            np.array([found[start][2] for start in order], np.float32).reshape(-1, self._labels),
        )

    def _word(self, probabilities: NDArray[Any], tokens: Sequence[int]) -> NDArray[Any]:
        """The probabilities of a word's labels, from those of its tokens; inside a word each "B" may be an "I"."""
        if not self._whole or len(tokens) == 1:
            return np.asarray(probabilities[tokens[0]])
        chances = np.asarray(probabilities[tokens], np.float64)
        kinds = np.stack([chances[:, self._kind == kind].sum(axis=1) for kind in range(-1, len(self.kinds))], axis=1)
        joint = np.exp(np.log(kinds + _LEAST).mean(axis=0))
        joint /= joint.sum()
        own = chances[0] + _LEAST
        share = own / np.bincount(self._kind + 1, own)[self._kind + 1]
        return np.asarray(share * joint[self._kind + 1], np.float32)


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
