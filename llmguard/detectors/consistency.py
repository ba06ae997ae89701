"""Whether several answers to one question agree: a fact that a model makes up is seldom made up twice alike.

Each sentence of an answer is compared with each of the other answers as with a document; what the others do not support
on average is doubtful. After SelfCheckGPT (Manakul et al., EMNLP 2023, arXiv:2303.08896), with the judge of
`groundedness`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from llmguard.detectors import model_options
from llmguard.detectors.grounding_judge import Judge
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.detectors.sentences import sentences
from llmguard.types import Finding, Role, Scope, Text

INCONSISTENT = "INCONSISTENT"
_CHOICE = re.compile(r"/(?:choices|candidates|outputs|generations)/(\d+)(?:/|\Z)")
_UNSURE = 0.5
_MOST = 16
"""Answers that one is compared with: of more, the first ones. The time is the square of it."""


class Doubt(NamedTuple):
    """A sentence of an answer and how little the other answers support it.

    Attributes:
        span: where it stands in the answer.
        score: mean probability over the other answers that they do not support it.
        supporting: how many of them do, by a score under one half.
    """

    span: tuple[int, int]
    score: float
    supporting: int


class Consistency(NamedTuple):
    """How far several answers agree.

    Attributes:
        score: share of all comparisons of a sentence with another answer that do not support it, in [0, 1]; 0.0 with
            fewer than two answers.
        answers: for each answer its sentences.
    """

    score: float
    answers: tuple[tuple[Doubt, ...], ...]


def consistency(answers: Sequence[str], *, model: str = "guard-mini", device: str = "auto") -> Consistency:
    """How far the answers to one question agree, and which of their sentences the others do not support.

    Args:
        answers: the texts of the choices of one call.
        model: as `groundedness` takes it; ``none`` for words, numbers and names alone.
        device: where it runs.

    Raises:
        TypeError: an answer is no text.
        ConfigurationError: an option is wrong.
        ModelLoadError: the model can't be loaded.
        InferenceError: its run failed.
    """
    several = isinstance(answers, Iterable) and not isinstance(answers, str)
    texts = list(answers) if several else []
    if not several or not all([isinstance(text, str) for text in texts]):
        raise TypeError("answers must be a sequence of strings, one for each choice")
    return compared(Judge(ModelOptions(model, device)), texts)


def compared(judge: Judge, answers: Sequence[str]) -> Consistency:
    """`consistency` by a judge that is there already."""
    spans = [sentences(answer) for answer in answers]
    found: list[tuple[Doubt, ...]] = []
    for place, answer in enumerate(answers):
        claims = [answer[start:end] for start, end in spans[place]]
        others = list(islice((other for index, other in enumerate(answers) if index != place and spans[index]), _MOST))
        if not claims or not others:
            found.append(tuple([Doubt(span, 0.0, 0) for span in spans[place]]))
            continue
        rounds = [[one.score for one in judge.judge(claims, [other])] for other in others]
        by_claim = zip(spans[place], zip(*rounds, strict=True), strict=True)
        found.append(
            tuple([Doubt(span, sum(own) / len(own), sum([one < _UNSURE for one in own])) for span, own in by_claim])
        )
    compared_with = min(_MOST, sum([bool(own) for own in spans]) - 1)
    shares = [1.0 - one.supporting / compared_with for own in found for one in own] if compared_with > 0 else []
    return Consistency(sum(shares) / len(shares) if shares else 0.0, tuple(found))


class ConsistencyDetector:
    """``INCONSISTENT`` for sentences of an answer that the other choices of the same call do not support.

    The choices are the texts of the role assistant in one check that stand under different numbers of ``choices`` or
    ``candidates``, or that say nothing of where they stand. With fewer than two there is no finding.

    Args:
        model: as in `groundedness`.
        device: likewise.
        runtime: likewise.
        precision: likewise.
        threads: likewise.
        floor: scores below it are not reported.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    name = "consistency"
    scope = Scope.DOCUMENT
    inline = False
    #: Its texts belong together: the pipeline gives it those of one check at a time, and none from a cache.
    together = True
    categories = frozenset({INCONSISTENT})

    def __init__(
        self,
        *,
        model: str = "guard-mini",
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        floor: float = FLOOR,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._floor = model_options.floor(floor)
        self._judge = Judge(ModelOptions(model, device, runtime, precision, threads))
        self.version = self._judge.version

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings whose score is not below the floor."""
        return [[found for found in own if found.score >= self._floor] for own in self.score(texts)]

    def score(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Of each choice the worst sentence, whatever its score, and all others more likely made up than not."""
        found: list[list[Finding]] = [[] for _ in texts]
        chosen = _choices(texts)
        if len(chosen) < 2:
            return found
        doubts = compared(self._judge, [texts[index].content for index in chosen]).answers
        for index, own in zip(chosen, doubts, strict=True):
            worst = max(own, key=lambda doubt: doubt.score, default=None)
            for doubt in own:
                if doubt is worst or doubt.score >= _UNSURE:
                    others = min(_MOST, len(chosen) - 1)
                    reasons = (*self._judge.said_by, f"supported by {doubt.supporting} of {others} other answers")
                    found[index].append(Finding(INCONSISTENT, doubt.score, doubt.span, reasons=reasons))
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def _choices(texts: Sequence[Text]) -> list[int]:
    """Indices of the first text of each choice."""
    found: dict[str, int] = {}
    for index, text in enumerate(texts):
        if text.role is Role.ASSISTANT and text.content and not text.content.isspace():
            numbered = _CHOICE.search(text.path)
            if numbered:
                found.setdefault(numbered[1], index)
            elif not text.path:
                found[f"text {index}"] = index
    return list(found.values())


def _rebuild(options: dict[str, Any]) -> ConsistencyDetector:
    return ConsistencyDetector(**options)
