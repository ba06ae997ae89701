"""Whether an answer keeps to its sources: a model reads each answer beside the documents that came with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmguard.detectors import model_options
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.detectors.sentences import sentences
from llmguard.types import Finding, Role, Scope, Text

_SOURCES = frozenset({Role.RETRIEVAL, Role.TOOL})
UNGROUNDED = "UNGROUNDED"


class GroundednessDetector:
    """``UNGROUNDED`` for a text that says what the documents beside it don't say.

    Texts of the roles retrieval and tool are the documents; all others of the same check are judged against them.
    Without a document there is nothing to keep to, and no finding. Each sentence is read beside each part of a long
    document, and is as well supported as it is by the part that supports it best; the least supported one counts.

    Args:
        model: a bundled model, a directory or ``hf://…`` with a head of the kind ``pair``.
        head: that head; by default ``grounding``, or the only one.
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
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        floor: float = FLOOR,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._floor = model_options.floor(floor)
        self.encoder = ModelOptions(model, device, runtime, precision, threads).encoder()
        self._head = model_options.chosen_head(self.encoder, "grounding", head, "pair")
        card = self.encoder.card
        self._reason = f"{card.name} {card.version}"
        self.version = f"1+{card.name}.{card.version}.{self.encoder.session.precision}"

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings whose score is not below the floor."""
        return [[found for found in own if found.score >= self._floor] for own in self.score(texts)]

    def score(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """A finding on every text that can be judged, whatever its score."""
        sources = "\n".join([text.content for text in texts if text.role in _SOURCES])
        judged = [index for index, text in enumerate(texts) if text.role not in _SOURCES]
        found: list[list[Finding]] = [[] for _ in texts]
        if not sources or sources.isspace() or not judged:
            return found
        spans = {index: sentences(texts[index].content) for index in judged}
        claims = [texts[index].content[start:end] for index in judged for start, end in spans[index]]
        encoded = iter(self.encoder.encode_pairs([sources] * len(claims), claims))
        for index in judged:
            scores = [self._unsupported(next(encoded)) for _ in spans[index]]
            if scores:
                found[index] = [self._finding(spans[index], scores)]
        return found

    def _unsupported(self, encoded: Any) -> float:
        """The score of one sentence: of each of its parts beside the piece of the documents that supports it best."""
        best: dict[tuple[int, int], float] = {}
        for window, row in zip(encoded.windows, encoded.rows, strict=True):
            place = (window.start, window.end)
            best[place] = min(best.get(place, 1.0), float(row[self._head.name][0]))
        return max(best.values(), default=0.0)

    def _finding(self, spans: list[tuple[int, int]], scores: list[float]) -> Finding:
        worst = max(range(len(scores)), key=scores.__getitem__)
        if len(spans) == 1:
            return Finding(UNGROUNDED, scores[0], reasons=(self._reason,))
        reasons = (self._reason, f"sentence {worst + 1} of {len(spans)}")
        return Finding(UNGROUNDED, scores[worst], spans[worst], reasons=reasons)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def _rebuild(options: dict[str, Any]) -> GroundednessDetector:
    return GroundednessDetector(**options)
