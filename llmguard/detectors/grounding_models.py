"""What models say of a sentence beside its documents: which words lack support, how near it is, whether it follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors import model_options
from llmguard.detectors.model_options import ModelOptions
from llmguard.errors import ConfigurationError, InferenceError

if TYPE_CHECKING:
    from llmguard.inference.card import Head

_PREMISES = 1 << 22
"""Characters of the premises of one question, each counted once: a second or more of a tokenizer."""
_ENTAILED = ("entailment", "entailed", "entails", "label_entailment", "supported", "consistent")


class Words(NamedTuple):
    """How little a model finds a sentence supported, and where in it the worst words stand, if it scores words."""

    score: float
    place: tuple[int, int] | None


class PairReader:
    """A model with a head that reads a sentence beside documents; with an embedding too, if it has one.

    Args:
        options: which model runs where.
        head: that head; by default ``grounding``, or the only one.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    def __init__(self, options: ModelOptions, head: str | None) -> None:
        self.encoder = options.encoder()
        self._head = model_options.chosen_head(self.encoder, "grounding", head, "pair", "pair_tokens")
        embeddings = [one.name for one in self.encoder.card.heads if one.kind == "embedding"]
        self._embedding = embeddings[0] if embeddings else None

    def read(self, documents: str, sentences: Sequence[str]) -> list[Words]:
        """Each sentence beside all parts of the documents: of each word the support by the part that has most."""
        return [self._worst(own) for own in self.encoder.encode_pairs([documents] * len(sentences), sentences)]

    def _worst(self, encoded: Any) -> Words:
        best: dict[tuple[int, int], NDArray[np.float32]] = {}
        places: dict[tuple[int, int], NDArray[np.int32]] = {}
        for window, row in zip(encoded.windows, encoded.rows, strict=True):
            at = (window.start, window.end)
            scores = row[self._head.name]
            if self._head.by_token:
                own = window.offsets[:, 0] >= 0
                scores, places[at] = scores[own, 0], window.offsets[own]
            best[at] = np.minimum(best[at], scores) if at in best else scores
        worst = max(best, key=lambda at: float(best[at].max(initial=0.0)), default=None)
        if worst is None:
            return Words(0.0, None)
        score = float(best[worst].max(initial=0.0))
        return Words(score, _around(places[worst], best[worst]) if worst in places and score else None)

    def cosines(self, sentences: Sequence[str], passages: Sequence[Sequence[str]]) -> list[float | None]:
        """For each sentence the cosine with the nearest of its passages; None without an embedding or a passage."""
        if self._embedding is None:
            return [None] * len(sentences)
        every = list(dict.fromkeys([*sentences, *(text for own in passages for text in own)]))
        encoded = self.encoder.encode(every)
        vectors = {text: direction(own, self._embedding) for text, own in zip(every, encoded, strict=True)}
        return [
            max([cosine(vectors[sentence], vectors[text]) for text in own], default=None)
            for sentence, own in zip(sentences, passages, strict=True)
        ]


def direction(encoded: Any, head: str) -> NDArray[np.float32] | None:
    """The mean embedding of a text's windows, of length 1; None for a text of nothing but white space.

    Args:
        encoded: what the model said about the text.
        head: the embedding.
    """
    if not encoded.rows:
        return None
    mean = encoded.stacked(head).mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)


def cosine(one: NDArray[np.float32] | None, other: NDArray[np.float32] | None) -> float:
    """How near two texts are by their `direction`; 0.0 where one has none."""
    return 0.0 if one is None or other is None else float(one @ other)


def _around(places: NDArray[np.int32], scores: NDArray[np.float32]) -> tuple[int, int]:
    """Where the least supported token stands, with its neighbours that are hardly better supported."""
    first = last = int(scores.argmax())
    enough = scores[first] / 2
    while first and scores[first - 1] >= enough:
        first -= 1
    while last + 1 < len(scores) and scores[last + 1] >= enough:
        last += 1
    return int(places[first][0]), int(places[last][1])


class InferenceReader:
    """A classifier of natural language inference: does a sentence follow from a passage?

    Args:
        options: which model runs where; an exported sequence classifier.

    Raises:
        ConfigurationError: an option is wrong, or the model has no label for entailment.
        ModelLoadError: the model can't be loaded.
    """

    def __init__(self, options: ModelOptions) -> None:
        self.encoder = options.encoder()
        self._head = self._chosen()
        labels = [label.lower() for label in self._head.labels]
        self._column = next(labels.index(name) for name in _ENTAILED if name in labels)

    def _chosen(self) -> Head:
        for head in self.encoder.card.heads:
            if head.kind == "labels" and any(label.lower() in _ENTAILED for label in head.labels):
                return head
        raise ConfigurationError(
            f"option 'nli': the model {self.encoder.card.name!r} has no label for entailment ({', '.join(_ENTAILED)})"
        )

    def read(self, premises: Sequence[Sequence[str]], sentences: Sequence[str]) -> list[float]:
        """For each sentence the probability that its premise does not entail it: by the part of it that does most.

        Args:
            premises: for each sentence the passages that it is read beside, as one text.
            sentences: any.

        Raises:
            InferenceError: a run failed, or the premises are longer than 4,194,304 characters together.
        """
        distinct = dict.fromkeys([tuple(passages) for passages in premises], "")
        if sum([len(text) for passages in distinct for text in passages]) > _PREMISES:
            raise InferenceError(
                f"option 'nli': the premises of {len(sentences)} sentences are longer than {_PREMISES} characters "
                "together: give it shorter documents"
            )
        joined = {passages: " ".join(passages) for passages in distinct}
        found = self.encoder.encode_pairs([joined[tuple(passages)] for passages in premises], sentences)
        return [
            1.0 - max([float(row[self._head.name][self._column]) for row in own.rows], default=1.0) for own in found
        ]
