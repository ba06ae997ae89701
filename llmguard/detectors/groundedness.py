"""Whether an answer keeps to its sources: a model reads each answer beside the documents that came with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors import model_options
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.detectors.sentences import sentences
from llmguard.types import Finding, Role, Scope, Text

_SOURCES = frozenset({Role.RETRIEVAL, Role.TOOL})
UNGROUNDED = "UNGROUNDED"


class _Scored(NamedTuple):
    """A sentence: how little it is supported, and where in it the least supported words stand, if that is known."""

    score: float
    words: tuple[int, int] | None


class GroundednessDetector:
    """``UNGROUNDED`` for a text that says what the documents beside it don't say.

    Texts of the roles retrieval and tool are the documents; all others of the same check are judged against them.
    Without a document there is nothing to keep to, and no finding. Each sentence is read beside each part of a long
    document, and is as well supported as it is by the part that supports it best; the least supported one counts. A
    model that scores each word does so word by word, and the finding says where the least supported ones stand.

    Args:
        model: a bundled model, a directory or ``hf://…`` with a head of the kind ``pair`` or
            ``pair_tokens``.
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
        self._head = model_options.chosen_head(self.encoder, "grounding", head, "pair", "pair_tokens")
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

    def _unsupported(self, encoded: Any) -> _Scored:
        """The score of one sentence: of each of its parts, or words, beside the document that supports it best."""
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
            return _Scored(0.0, None)
        score = float(best[worst].max(initial=0.0))
        return _Scored(score, _around(places[worst], best[worst]) if worst in places and score else None)

    def _finding(self, spans: list[tuple[int, int]], scored: list[_Scored]) -> Finding:
        worst = max(range(len(scored)), key=lambda place: scored[place].score)
        start, end = spans[worst]
        reasons = [self._reason]
        if len(spans) > 1:
            reasons.append(f"sentence {worst + 1} of {len(spans)}")
        if (words := scored[worst].words) is not None:
            reasons.append(f"least supported from {start + words[0]} to {start + words[1]}")
        return Finding(
            UNGROUNDED, scored[worst].score, None if len(spans) == 1 else (start, end), reasons=tuple(reasons)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def _around(places: NDArray[np.int32], scores: NDArray[np.float32]) -> tuple[int, int]:
    """Where the least supported token stands, with its neighbours that are hardly better supported."""
    first = last = int(scores.argmax())
    enough = scores[first] / 2
    while first and scores[first - 1] >= enough:
        first -= 1
    while last + 1 < len(scores) and scores[last + 1] >= enough:
        last += 1
    return int(places[first][0]), int(places[last][1])


def _rebuild(options: dict[str, Any]) -> GroundednessDetector:
    return GroundednessDetector(**options)
