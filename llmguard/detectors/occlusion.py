"""Which parts of a text drove a score: each is left out in turn, and what the score loses is its weight.

Works with any detector, since it only asks it again (occlusion: Zeiler and Fergus, "Visualizing and Understanding
Convolutional Networks", ECCV 2014). First sentences, then the words of those that weigh most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from llmguard.detectors.sentences import sentences
from llmguard.errors import ConfigurationError
from llmguard.types import Detector, Finding, Text

_WORD = re.compile(r"\S+")
#: Parts that are left out in one go, at most; of more, neighbours are taken together.
PARTS = 48
_DEEPER = 2


class Contribution(NamedTuple):
    """One part of a text and what it adds to a score.

    Attributes:
        span: half-open range of code points.
        weight: how much lower the score is without the part, in [-1, 1]; negative when the part speaks against it.
    """

    span: tuple[int, int]
    weight: float


def contributions(detector: Detector, text: Text, category: str) -> list[Contribution]:
    """The parts of a text by their weight for a category, the heaviest first.

    Sentences, and for the heaviest of them their words; costs one to three batches of up to ``PARTS`` texts.

    Args:
        detector: any; one with a method ``score`` is asked by that.
        text: what it found something in.
        category: which of its categories is explained.

    Raises:
        ConfigurationError: the detector has no such category.
    """
    if category not in detector.categories:
        raise ConfigurationError(f"the detector {detector.name!r} has no category {category!r}")
    content = text.content
    whole = _scores(detector, [text], category)[0]
    parts = _grouped(sentences(content))
    found = _weighed(detector, text, category, whole, parts) if len(parts) > 1 else []
    deeper = [one.span for one in sorted(found, key=_weight)[:_DEEPER] if one.weight > 0] or [(0, len(content))]
    words = [match.span() for start, end in deeper for match in _WORD.finditer(content, start, end)]
    if len(words) > 1:
        found += _weighed(detector, text, category, whole, _grouped(words))
    return sorted(found, key=_weight)


def _weight(contribution: Contribution) -> tuple[float, tuple[int, int]]:
    return -contribution.weight, contribution.span


def _grouped(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most ``PARTS`` spans: neighbours are joined."""
    size = -(-len(spans) // PARTS) or 1
    return [(spans[at][0], spans[min(at + size, len(spans)) - 1][1]) for at in range(0, len(spans), size)]


def _weighed(
    detector: Detector, text: Text, category: str, whole: float, spans: Sequence[tuple[int, int]]
) -> list[Contribution]:
    without = [Text(f"{text.content[:start]} {text.content[end:]}", text.role, text.path) for start, end in spans]
    scores = _scores(detector, without, category)
    return [Contribution(span, whole - score) for span, score in zip(spans, scores, strict=True)]


def every_score(detector: Detector, texts: Sequence[Text]) -> Sequence[Sequence[Finding]]:
    """A detector's findings whatever their score; one that has no method ``score`` gives what it gives."""
    ask: Callable[[Sequence[Text]], Sequence[Sequence[Finding]]] = getattr(detector, "score", detector.detect)
    return ask(texts) if callable(ask) else detector.detect(texts)


def _scores(detector: Detector, texts: Sequence[Text], category: str) -> list[float]:
    answers = every_score(detector, texts)
    return [max((found.score for found in own if found.category == category), default=0.0) for own in answers]
