"""Prompt injection by a model and by rules together, also behind encodings and disguises.

The same sentence is an order in a prompt and an attack in a document: what a user says is read by one label of the
model, what was retrieved or came from a tool by another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llmguard.detectors import model_options
from llmguard.detectors.cascade import FirstTier
from llmguard.detectors.classifier import BUNDLED, HARMLESS
from llmguard.detectors.decoding import candidates, decoded
from llmguard.detectors.injection_file import CATEGORIES
from llmguard.detectors.injection_rules import Chained, InjectionRulesDetector
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.detectors.views import View, is_plain, normalised
from llmguard.errors import ConfigurationError
from llmguard.types import Finding, Role, Scope, Text

DIRECT, INDIRECT = "PROMPT_INJECTION", "INDIRECT_INJECTION"
_DATA = frozenset({Role.TOOL, Role.RETRIEVAL})
_AROUND = 400
"""Characters beside what was decoded that are read with it: an order and its object may stand apart."""
_PARTS = 8
"""Decoded places of one reading that are read alone; with more, the whole reading is."""

Reading = tuple[str, View | Chained | None, int]
"""A text to read, the view that it is of, and where in the view it begins."""


class PromptInjectionDetector:
    """A model's score, the hits of `injection_rules`, and both again on what the text hides.

    The model's finding is ``PROMPT_INJECTION``, or ``INDIRECT_INJECTION`` in a document; the rules keep their
    categories and ids. A reading that was decoded counts like the text itself; the finding says how it was read.

    Args:
        model: a bundled model, a directory or ``hf://…`` (ProtectAI's or Meta's classifier, exported, say).
        head: the output to read; by default ``injection``, or the only one there is.
        labels: of the head, for all texts; by default ``user`` and ``data`` each for its own texts, and in other
            models all but those for harmless texts.
        rules: whether the rules of ``injection_rules`` run too.
        decode: whether encodings are undone and disguises taken off.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``.
        runtime: ``auto``, ``onnxruntime``, ``openvino``.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``int8``.
        threads: for one run; None for all cores.
        floor: scores of the model below it are not reported.
        first: ``none``, or a model of the kind ``nano`` that clears texts (``guard-nano``).
        clear_below: the probability under which it does.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    name = "prompt_injection"
    scope = Scope.DOCUMENT
    inline = False

    def __init__(
        self,
        *,
        model: str = BUNDLED,
        head: str | None = None,
        labels: Sequence[str] | None = None,
        rules: bool = True,
        decode: bool = True,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        floor: float = FLOOR,
        first: str = "none",
        clear_below: float = 0.02,
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        for option, value in (("rules", rules), ("decode", decode)):
            if not isinstance(value, bool):
                raise ConfigurationError(f"option {option!r} must be true or false, not {value!r}")
        self._floor = model_options.floor(floor)
        self._decode = decode
        self._rules = InjectionRulesDetector(decode=decode) if rules else None
        self.encoder = ModelOptions(model, device, runtime, precision, threads).encoder()
        if head is None and model == BUNDLED:
            head = "injection"
        self._head = model_options.chosen_head(self.encoder, self.name, head)
        by_role = labels is None and {"user", "data"} <= set(self._head.labels)
        if by_role:
            self._user = [self._head.labels.index("user")]
            self._data = [self._head.labels.index("data")]
        else:
            chosen = model_options.chosen_labels(self._head, labels, HARMLESS)
            self._user = self._data = [self._head.labels.index(label) for label in chosen]
        self.categories = frozenset({DIRECT, INDIRECT, *(CATEGORIES if rules else ())})
        card = self.encoder.card
        self._reason = f"{card.name} {card.version}"
        self.version = f"1+{card.name}.{card.version}.{self.encoder.session.precision}"
        self._first = None if first == "none" else FirstTier(first, "injection", clear_below)
        if self._first:
            self.version += f"+{self._first.version}"

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings whose score is not below the floor."""
        return [[found for found in own if found.score >= self._floor] for own in self.score(texts)]

    def score(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """The model's finding on every text, whatever its score, and the rules' findings."""
        readings = [self._unclear(text, list(self._readings(text.content))) for text in texts]
        encoded = iter(self.encoder.encode([reading[0] for own in readings for reading in own]))
        found = []
        for text, own in zip(texts, readings, strict=True):
            findings = [self._finding(text, reading, next(encoded)) for reading in own]
            best = max((finding for finding in findings if finding), key=lambda one: one.score, default=None)
            found.append([best] if best else [])
        if self._rules is not None:
            for own_found, by_rule in zip(found, self._rules.detect(texts), strict=True):
                own_found += by_rule
        return found

    def _unclear(self, text: Text, readings: list[Reading]) -> list[Reading]:
        """The readings that the first model does not clear."""
        if self._first is None:
            return readings
        label = "data" if text.role in _DATA else "user"
        cleared = self._first.clear([reading[0] for reading in readings], [label] * len(readings))
        return [reading for reading, clear in zip(readings, cleared, strict=True) if not clear]

    def _readings(self, content: str) -> Iterator[Reading]:
        yield content, None, 0
        if not self._decode:
            return
        base = content
        outer: View | None = None
        if not content.isascii() and not is_plain(content):
            outer = normalised(content)
            base = outer.content
            if base != content:
                yield from _parts(outer)
        for view in decoded(base, candidates(base)):
            yield from _parts(Chained(view, outer) if outer is not None else view)

    def _finding(self, text: Text, reading: Reading, encoded: Any) -> Finding | None:
        if not encoded.rows:
            return None
        content, view, at = reading
        data = text.role in _DATA
        columns = self._data if data else self._user
        scores = [float(max(row[self._head.name][column] for column in columns)) for row in encoded.rows]
        if self._head.aggregate == "mean":
            worst, score = 0, sum(scores) / len(scores)
        else:
            worst = max(range(len(scores)), key=scores.__getitem__)
            score = scores[worst]
        reasons = [self._reason]
        span: tuple[int, int] | None = None
        if len(scores) > 1 or len(content) < len(text.content):
            window = encoded.windows[worst]
            start, end = at + window.start, at + window.end
            span = (start, end) if view is None else view.original(start, end)
            if not 0 <= span[0] < span[1] <= len(text.content):
                span = None
        if len(scores) > 1:
            reasons.append(f"window {worst + 1} of {len(scores)}")
        if view is not None:
            reasons.append(f"read as {view.name}")
        return Finding(INDIRECT if data else DIRECT, score, span, reasons=tuple(reasons))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._options,)


def _parts(view: View | Chained) -> Iterator[Reading]:
    """What is to be read of a view: what was changed, with what stands around it, or all of it."""
    if view.changed is None or len(view.changed) > _PARTS:
        yield view.content, view, 0
        return
    for start, end in view.changed:
        low = max(0, start - _AROUND)
        yield view.content[low : end + _AROUND], view, low


def _rebuild(options: dict[str, Any]) -> PromptInjectionDetector:
    return PromptInjectionDetector(**options)
