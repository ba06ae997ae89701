"""Whether an answer keeps to its sources: each of its sentences is compared with the documents that came with it.

Words, numbers and names are looked up in the documents, a model reads both together, and a small linear model adds up
what they say; `grounding_weights` holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmguard.detectors import model_options
from llmguard.detectors.grounding_claims import claims
from llmguard.detectors.grounding_judge import Judge, Judged
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.detectors.sentences import sentences
from llmguard.types import Finding, Role, Scope, Text

UNGROUNDED = "UNGROUNDED"
_SOURCES = frozenset({Role.RETRIEVAL, Role.TOOL})
_UNSURE = 0.5
"""Of an answer's sentences the worst is told, and all that are more likely unsupported than not."""


class GroundednessDetector:
    """``UNGROUNDED`` for sentences that say what the documents beside them don't say.

    Texts of the roles retrieval and tool are the documents; those of the role assistant in the same check are judged
    against them. Without a document there is nothing to keep to, and no finding. The least supported sentence of an
    answer is a finding, and so is every other one that is more likely unsupported than not.

    Args:
        model: a bundled model, a directory or ``hf://…`` with a head of the kind ``pair`` or ``pair_tokens``; ``none``
            to compare words, numbers and names alone, which needs no extra and is less sure.
        head: that head; by default ``grounding``, or the only one.
        nli: ``none``, or a classifier with a label for entailment, which reads each sentence too.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``.
        runtime: ``auto``, ``onnxruntime``, ``openvino``.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``int8``.
        threads: for one run; None for all cores.
        floor: scores below it are not reported.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    name = "groundedness"
    scope = Scope.DOCUMENT
    inline = False
    #: Its texts belong together: the pipeline gives it those of one check at a time, and none from a cache.
    together = True
    categories = frozenset({UNGROUNDED})

    def __init__(
        self,
        *,
        model: str = "guard-mini",
        head: str | None = None,
        nli: str = "none",
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        floor: float = FLOOR,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._floor = model_options.floor(floor)
        self._judge = Judge(ModelOptions(model, device, runtime, precision, threads), head, nli)
        self.version = f"{self._judge.version}+claims"

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings whose score is not below the floor."""
        return [[found for found in own if found.score >= self._floor] for own in self.score(texts)]

    def score(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """A finding on every text that can be judged, whatever its score, and on its other doubtful sentences.

        A sentence that claims nothing, such as a refusal, is not judged.
        """
        documents = [text.content for text in texts if text.role in _SOURCES]
        answers = [index for index, text in enumerate(texts) if text.role is Role.ASSISTANT]
        found: list[list[Finding]] = [[] for _ in texts]
        if not answers or not any([text and not text.isspace() for text in documents]):
            return found
        spans = {index: sentences(texts[index].content) for index in answers}
        said = {index: [texts[index].content[start:end] for start, end in spans[index]] for index in answers}
        claimed = {index: [place for place, one in enumerate(said[index]) if claims(one)] for index in answers}
        if not any(claimed.values()):
            return found
        judged = iter(self._judge.judge([said[index][at] for index in answers for at in claimed[index]], documents))
        for index in answers:
            found[index] = self._findings(spans[index], {place: next(judged) for place in claimed[index]})
        return found

    def _findings(self, spans: list[tuple[int, int]], judged: dict[int, Judged]) -> list[Finding]:
        worst = max(judged, key=lambda place: judged[place].score, default=None)
        told = [place for place, one in judged.items() if place == worst or one.score >= _UNSURE]
        return [self._finding(spans, place, judged[place]) for place in told]

    def _finding(self, spans: list[tuple[int, int]], place: int, one: Judged) -> Finding:
        start, _ = spans[place]
        reasons = [*self._judge.said_by, f"sentence {place + 1} of {len(spans)}"]
        if one.worst is not None:
            reasons.append(f"least supported from {start + one.worst[0]} to {start + one.worst[1]}")
        reasons += one.why
        if one.passage is not None:
            document, first, last = one.passage
            reasons.append(f"best passage: document {document + 1} from {first} to {last}")
        return Finding(UNGROUNDED, one.score, spans[place], reasons=tuple(reasons))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def _rebuild(options: dict[str, Any]) -> GroundednessDetector:
    return GroundednessDetector(**options)
