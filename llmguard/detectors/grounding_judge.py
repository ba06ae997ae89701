"""Sentences judged against documents: what words, a model of pairs and a model of inference say, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmguard.detectors.grounding_models import InferenceReader, PairReader
from llmguard.detectors.grounding_signals import NAMES, Claim, examined
from llmguard.detectors.grounding_source import Source
from llmguard.detectors.grounding_weights import weights
from llmguard.detectors.model_options import ModelOptions
from llmguard.errors import ConfigurationError

_NEAREST = 3
"""Passages that a sentence's embedding is compared with: those that share most of its words."""
_PREMISE = 2_000
"""Characters of documents that a model of inference is shown whole; of longer ones it is shown the best passages."""
_TOLD = {
    "numbers_absent": "numbers absent",
    "counts_absent": "numbers absent",
    "numbers_elsewhere": "numbers beside other words",
    "names_absent": "names absent",
    "names_elsewhere": "names beside other words",
    "opposites": "opposite words",
    "kinds": "another of its kind",
    "negation": "negation differs",
}


class Judged(NamedTuple):
    """What was found out about a sentence.

    Attributes:
        score: how likely it is that the documents do not support it.
        worst: where in it the least supported words stand, if that is known.
        why: which signals of words speak against it.
        passage: document, start and end of the passage that shares most with it, or None.
    """

    score: float
    worst: tuple[int, int] | None
    why: tuple[str, ...]
    passage: tuple[int, int, int] | None


class Judge:
    """Compares sentences with documents.

    Args:
        options: which model of pairs runs where; the model ``none`` for none.
        head: its head; by default ``grounding``, or the only one.
        nli: ``none``, or a model of inference, which runs where the other does.

    Attributes:
        said_by: what takes part, for findings.
        version: changes whenever a score may.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: a model can't be loaded.
    """

    def __init__(self, options: ModelOptions, head: str | None = None, nli: str = "none") -> None:
        if options.model == "none" and head is not None:
            raise ConfigurationError(f"option 'head': {head!r} needs a model, not model: none")
        self._weights = weights()
        self._pair = PairReader(options, head) if options.model != "none" else None
        self._nli: InferenceReader | None = None
        if nli != "none":
            where = (options.device, options.runtime, options.precision, options.threads)
            self._nli = InferenceReader(ModelOptions(nli, *where))
        self._mode = "nli" if self._nli else "pair" if self._pair else "words"
        cards = [(one.encoder.card, one.encoder.session) for one in (self._pair, self._nli) if one is not None]
        named = tuple([f"{card.name} {card.version}" for card, _ in cards])
        self.said_by = named or (f"words {self._weights.version}",)
        models = [f"+{card.name}.{card.version}.{session.precision}" for card, session in cards]
        self.version = f"2+words.{self._weights.version}{''.join(models)}"

    def judge(self, sentences: Sequence[str], documents: Sequence[str]) -> list[Judged]:
        """What speaks against each sentence.

        Args:
            sentences: of answers.
            documents: what they must keep to; at least one.

        Raises:
            InferenceError: a model's run failed.
        """
        source = Source(documents)
        seen = [examined(sentence, source) for sentence in sentences]
        whole = "\n".join(documents)
        pairs = cosines = entailed = None
        if self._pair is not None:
            pairs = self._pair.read(whole, sentences)
            near = _passages([one.best[:_NEAREST] for one in seen], documents, source)
            cosines = self._pair.cosines(sentences, near)
        if self._nli is not None:
            short = len(whole) <= _PREMISE
            premises = [[whole]] * len(seen) if short else _passages([one.best for one in seen], documents, source)
            entailed = self._nli.read(premises, sentences)
        judged = []
        for place, one in enumerate(seen):
            total = self._weights.sum(
                one.signals,
                cosine=cosines[place] if cosines else None,
                pair=pairs[place].score if pairs else None,
                nli=entailed[place] if entailed else None,
            )
            worst = pairs[place].place if pairs else one.doubtful[0] if one.doubtful else None
            judged.append(Judged(self._weights.score(total, self._mode), worst, _why(one), _passage(one, source)))
        return judged


def _why(claim: Claim) -> tuple[str, ...]:
    pairs = zip(NAMES, claim.signals, strict=True)
    return tuple(dict.fromkeys([_TOLD[name] for name, signal in pairs if signal and name in _TOLD]))


def _passage(claim: Claim, source: Source) -> tuple[int, int, int] | None:
    if not claim.best:
        return None
    best = source.passages[claim.best[0]]
    return best.document, best.start, best.end


def _passages(best: Sequence[Sequence[int]], documents: Sequence[str], source: Source) -> list[list[str]]:
    """For each sentence the texts of its passages; one that several sentences share is cut out once."""
    chosen = [(at, source.passages[at]) for at in dict.fromkeys([at for own in best for at in own])]
    texts = {at: documents[one.document][one.start : one.end] for at, one in chosen}
    return [[texts[at] for at in own] for own in best]
