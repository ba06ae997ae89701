"""Whether an answer keeps to its sources: a model reads each answer beside the documents that came with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmguard.detectors import model_options
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.types import Finding, Role, Scope, Text

_SOURCES = frozenset({Role.RETRIEVAL, Role.TOOL})
UNGROUNDED = "UNGROUNDED"


class GroundednessDetector:
    """``UNGROUNDED`` for a text that says what the documents beside it don't say.

    Texts of the roles retrieval and tool are the documents; all others of the same check are judged against them.
    Without a document there is nothing to keep to, and no finding. A long document is read in parts; a statement is
    as well supported as it is by the part that supports it best.

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
        contents = [texts[index].content for index in judged]
        encoded = self.encoder.encode_pairs([sources] * len(contents), contents)
        for index, own in zip(judged, encoded, strict=True):
            if own.rows:
                found[index] = [self._finding(own)]
        return found

    def _finding(self, encoded: Any) -> Finding:
        """The worst part of the text, each beside the document that supports it best."""
        best: dict[tuple[int, int], float] = {}
        for window, row in zip(encoded.windows, encoded.rows, strict=True):
            place = (window.start, window.end)
            best[place] = min(best.get(place, 1.0), float(row[self._head.name][0]))
        place, score = max(best.items(), key=lambda item: item[1])
        return Finding(UNGROUNDED, score, place if len(best) > 1 else None, reasons=(self._reason,))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def _rebuild(options: dict[str, Any]) -> GroundednessDetector:
    return GroundednessDetector(**options)
