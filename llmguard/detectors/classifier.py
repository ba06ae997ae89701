"""Detectors that read a label of a model: toxicity, harmful requests, bias, and any classifier of the user's.

Every text is looked at whole: one longer than the model's window is read in windows, and its score is that of the
worst. The finding then says which window that was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmguard.detectors import model_options
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.types import Detector, Finding, Scope, Text

HARMLESS = frozenset(
    {
        "benign",
        "clean",
        "harmless",
        "legit",
        "legitimate",
        "neutral",
        "no_injection",
        "non_toxic",
        "none",
        "normal",
        "not_toxic",
        "ok",
        "safe",
    }
)
"""Labels of other people's models that say that a text is fine."""

Build = Callable[..., Detector]


class ClassifierDetector:
    """One finding for each label of a head that is not far from zero.

    Args:
        name: the detector's.
        options: which model runs where.
        head: which output is read.
        labels: which of its labels.
        categories: a category for a label; others are the label in capitals.
        floor: scores below it are not reported.
        rebuild: what makes this detector again in another process.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    scope = Scope.DOCUMENT
    inline = False

    def __init__(
        self,
        name: str,
        options: ModelOptions,
        *,
        head: str | None,
        labels: Sequence[str] | None,
        categories: Mapping[str, str],
        floor: float,
        rebuild: Build,
    ) -> None:
        self.name = name
        self._rebuild = rebuild
        self._floor = model_options.floor(floor)
        self.encoder = options.encoder()
        self._head = model_options.chosen_head(self.encoder, name, head)
        chosen = model_options.chosen_labels(self._head, labels, HARMLESS)
        self._columns = [self._head.labels.index(label) for label in chosen]
        self._categories = [categories.get(label, _category(label)) for label in chosen]
        self.categories = frozenset(self._categories)
        card = self.encoder.card
        self._reason = f"{card.name} {card.version}"
        self.version = f"1+{card.name}.{card.version}.{self.encoder.session.precision}"

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings whose score is not below the floor."""
        return [[found for found in own if found.score >= self._floor] for own in self.score(texts)]

    def score(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """A finding for every label, whatever its score: none for a text without a printed character."""
        encoded = self.encoder.encode([text.content for text in texts])
        return [self._findings(own.windows, own.rows) for own in encoded]

    def _findings(self, windows: Sequence[Any], rows: Sequence[Any]) -> list[Finding]:
        if not rows:
            return []
        found = []
        for column, category in zip(self._columns, self._categories, strict=True):
            scores = [float(row[self._head.name][column]) for row in rows]
            if self._head.aggregate == "mean":
                found.append(Finding(category, sum(scores) / len(scores), reasons=(self._reason,)))
                continue
            worst = max(range(len(scores)), key=scores.__getitem__)
            span = (windows[worst].start, windows[worst].end) if len(windows) > 1 else None
            reasons = (self._reason, f"window {worst + 1} of {len(windows)}") if span else (self._reason,)
            found.append(Finding(category, scores[worst], span, reasons=reasons))
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _call, (self._rebuild,)


def _call(rebuild: Build) -> Detector:
    return rebuild()


def _category(label: str) -> str:
    return "".join([char if char.isalnum() else "_" for char in label.upper()])


def toxicity(
    *,
    model: str = "guard-mini",
    head: str | None = None,
    labels: Sequence[str] | None = None,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    floor: float = FLOOR,
) -> ClassifierDetector:
    """Toxic language: ``TOXICITY`` and its finer kinds (insult, threat, identity attack, obscene, sexual).

    Args:
        model: a bundled model, a directory (an exported Detoxify checkpoint, say) or ``hf://…``.
        head: the output to read; by default ``toxicity``, or the only one there is.
        labels: those that count; by default all but those for harmless texts.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``.
        runtime: ``auto``, ``onnxruntime``, ``openvino``.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``int8``.
        threads: for one run; None for all cores.
        floor: scores below it are not reported.

    Raises:
        ConfigurationError: an option is wrong.
        ModelLoadError: the model can't be loaded.
    """
    rebuild = functools.partial(toxicity, **locals())
    return ClassifierDetector(
        "toxicity",
        ModelOptions(model, device, runtime, precision, threads),
        head=head,
        labels=labels,
        categories={"toxic": "TOXICITY"},
        floor=floor,
        rebuild=rebuild,
    )


def harmful_request(
    *,
    model: str = "guard-mini",
    head: str | None = None,
    labels: Sequence[str] | None = None,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    floor: float = FLOOR,
) -> ClassifierDetector:
    """A request for help with something that harms people: ``HARMFUL_REQUEST``.

    Args:
        model: as in `toxicity`.
        head: likewise; by default ``harmful``.
        labels: likewise.
        device: likewise.
        runtime: likewise.
        precision: likewise.
        threads: likewise.
        floor: likewise.

    Raises:
        ConfigurationError: an option is wrong.
        ModelLoadError: the model can't be loaded.
    """
    rebuild = functools.partial(harmful_request, **locals())
    return ClassifierDetector(
        "harmful_request",
        ModelOptions(model, device, runtime, precision, threads),
        head=head if head or model != "guard-mini" else "harmful",
        labels=labels,
        categories={"harmful": "HARMFUL_REQUEST"},
        floor=floor,
        rebuild=rebuild,
    )


def bias(
    *,
    model: str = "guard-mini",
    head: str | None = None,
    labels: Sequence[str] | None = None,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    floor: float = FLOOR,
) -> ClassifierDetector:
    """An attack on people for what they are: ``IDENTITY_ATTACK``.

    Args:
        model: as in `toxicity`.
        head: likewise; by default ``toxicity``.
        labels: likewise; by default ``identity_attack`` alone.
        device: likewise.
        runtime: likewise.
        precision: likewise.
        threads: likewise.
        floor: likewise.

    Raises:
        ConfigurationError: an option is wrong.
        ModelLoadError: the model can't be loaded.
    """
    rebuild = functools.partial(bias, **locals())
    return ClassifierDetector(
        "bias",
        ModelOptions(model, device, runtime, precision, threads),
        head=head if head or model != "guard-mini" else "toxicity",
        labels=labels if labels or model != "guard-mini" else ("identity_attack",),
        categories={"identity_hate": "IDENTITY_ATTACK"},
        floor=floor,
        rebuild=rebuild,
    )
