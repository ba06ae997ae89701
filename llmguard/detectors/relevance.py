"""Whether an answer is about the question: how near their embeddings are, and which of its words come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llmguard.detectors import model_options
from llmguard.detectors.grounding_models import cosine, direction
from llmguard.detectors.grounding_words import lexicon, words
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.detectors.sentences import sentences
from llmguard.errors import ConfigurationError
from llmguard.types import Finding, Role, Scope, Text

IRRELEVANT = "IRRELEVANT"
#: Log odds of an irrelevant answer: constant, weight of the cosine and of the share of words that come back.
#: Fitted by training/relevance_signals.py; docs/detectors/relevance.md has the figures.
WITH_MODEL = (2.41, -11.55, -1.19)
WORDS_ALONE = (0.65, 0.0, -7.78)
_SENTENCES = 8
"""Sentences of an answer that are read, from its beginning: what answers stands there."""


class RelevanceDetector:
    """``IRRELEVANT`` for an answer that is not about the question.

    The question is the last text of the role user in the same check; answers are those of the role assistant. Without
    a question there is no finding.

    Args:
        model: a bundled model, a directory or ``hf://…`` with an embedding; ``none`` for words alone, which needs no
            extra and is less sure.
        head: the embedding; by default the only one.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``.
        runtime: ``auto``, ``onnxruntime``, ``openvino``.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``int8``.
        threads: for one run; None for all cores.
        floor: scores below it are not reported.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    name = "relevance"
    scope = Scope.DOCUMENT
    inline = False
    #: Its texts belong together: the pipeline gives it those of one check at a time, and none from a cache.
    together = True
    categories = frozenset({IRRELEVANT})

    def __init__(
        self,
        *,
        model: str = "guard-mini",
        head: str | None = None,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        floor: float = FLOOR,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._floor = model_options.floor(floor)
        self._reasons: tuple[str, ...] = ("words",)
        self.version = "1+words"
        self._encoder: Any = None
        if model != "none":
            self._encoder = ModelOptions(model, device, runtime, precision, threads).encoder()
            self._head = model_options.chosen_head(self._encoder, "embedding", head, "embedding").name
            card = self._encoder.card
            self._reasons = (f"{card.name} {card.version}",)
            self.version = f"1+{card.name}.{card.version}.{self._encoder.session.precision}"
        elif head is not None:
            raise ConfigurationError("relevance: option 'head' needs a model")

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings whose score is not below the floor."""
        return [[found for found in own if found.score >= self._floor] for own in self.score(texts)]

    def score(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """A finding on every answer to a question, whatever its score."""
        asked = [text.content for text in texts if text.role is Role.USER and not _blank(text.content)]
        found: list[list[Finding]] = [[] for _ in texts]
        answers = [i for i, text in enumerate(texts) if text.role is Role.ASSISTANT and not _blank(text.content)]
        if asked and answers:
            scores = self.irrelevances(asked[-1], [texts[index].content for index in answers])
            for index, score in zip(answers, scores, strict=True):
                found[index] = [Finding(IRRELEVANT, score, reasons=self._reasons)]
        return found

    def irrelevances(self, question: str, answers: Sequence[str]) -> list[float]:
        """How likely each answer is not about the question, in [0, 1]; the question is read once for all of them."""
        constant, near, shared = WITH_MODEL if self._encoder is not None else WORDS_ALONE
        both = zip(self.cosines(question, answers), overlaps(question, answers), strict=True)
        return [1.0 / (1.0 + math.exp(-(constant + near * nearness + shared * share))) for nearness, share in both]

    def cosines(self, question: str, answers: Sequence[str]) -> list[float]:
        """The larger of the cosines of the question with an answer's beginning and with the nearest sentence of it.

        Without a model, and where one of them is nothing but white space, it is 0.
        """
        if self._encoder is None:
            return [0.0] * len(answers)
        parts = [_parts(answer) for answer in answers]
        encoded = self._encoder.encode([question, *(part for own in parts for part in own)])
        first, *rest = [direction(own, self._head) for own in encoded]
        left = iter(rest)
        return [max([cosine(first, next(left)) for _ in own]) for own in parts]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def overlaps(question: str, answers: Sequence[str]) -> list[float]:
    """The share of the question's content words that each answer has too, by their stems; 0.0 without any."""
    function = lexicon().function
    asked = {word.stem for word in words(question) if word.low not in function}
    said = [{word.stem for word in words(answer)} for answer in answers]
    return [len(asked & own) / len(asked) if asked else 0.0 for own in said]


def _parts(answer: str) -> list[str]:
    """An answer's beginning and the sentences in it."""
    spans = sentences(answer)[:_SENTENCES]
    return [answer[: spans[-1][1]] if spans else answer, *(answer[start:end] for start, end in spans)]


def _blank(content: str) -> bool:
    return not content or content.isspace()


def _rebuild(options: dict[str, Any]) -> RelevanceDetector:
    return RelevanceDetector(**options)
