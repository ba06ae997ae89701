"""Detectors that read labels of a model: toxicity, harmful requests, bias, with any classifier behind them.

Every text is looked at whole: one longer than the model's window is read in windows, and its score is that of the
worst. The finding then says which window that was. Up to three models work as a cascade: a linear one clears what is
clearly fine, the usual one reads the rest, and a large one has the last word where the usual one is not sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llmguard.detectors import model_options
from llmguard.detectors.cascade import FirstTier
from llmguard.detectors.model_options import FLOOR, ModelOptions
from llmguard.errors import ConfigurationError
from llmguard.types import Finding, Scope, Text

BUNDLED = "guard-mini"

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


class HeadReader:
    """One finding for each label of a head that counts.

    Args:
        options: which model runs where.
        detector: names the head where none is named.
        head: which output is read.
        labels: which of its labels.
        categories: a category for a label; others are the label in capitals.

    Raises:
        ConfigurationError: an option does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    def __init__(
        self,
        options: ModelOptions,
        detector: str,
        head: str | None,
        labels: Sequence[str] | None,
        categories: Mapping[str, str],
    ) -> None:
        self.encoder = options.encoder()
        self._head = model_options.chosen_head(self.encoder, detector, head)
        chosen = model_options.chosen_labels(self._head, labels, HARMLESS)
        self._columns = [self._head.labels.index(label) for label in chosen]
        self._categories = [categories.get(label, _category(label)) for label in chosen]
        self.categories = frozenset(self._categories)
        card = self.encoder.card
        self._reason = f"{card.name} {card.version}"
        self.version = f"{card.name}.{card.version}.{self.encoder.session.precision}"

    def read(self, contents: Sequence[str]) -> list[list[Finding]]:
        """The findings on each text: none on a text without a printed character."""
        return [self._findings(own.windows, own.rows) for own in self.encoder.encode(contents)]

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


class ClassifierDetector:
    """What the detectors of this file share.

    Args:
        model: a bundled model, a directory (an exported Detoxify checkpoint, say) or ``hf://…``.
        head: the output to read; by default the detector's own, or the only one there is.
        labels: those that count; by default all but those for harmless texts.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``tensorrt``.
        runtime: ``auto``, ``onnxruntime``, ``openvino``.
        precision: ``auto``, ``fp32``, ``fp16``, ``bf16``, ``int8``.
        threads: for one run; None for all cores.
        floor: scores below it are not reported.
        first: ``none``, or a model of the kind ``nano`` that clears texts (``guard-nano``).
        clear_below: the probability under which it does.
        last: ``none``, or a model that reads again where ``model`` is not sure.
        unsure: the scores between which ``model`` is not.

    Raises:
        ConfigurationError: an option is wrong or does not fit the model.
        ModelLoadError: the model can't be loaded.
    """

    name: ClassVar[str]
    own_head: ClassVar[str]
    own_labels: ClassVar[tuple[str, ...] | None] = None
    named: ClassVar[Mapping[str, str]]
    overall_category: ClassVar[str] = ""

    scope = Scope.DOCUMENT
    inline = False

    def __init__(
        self,
        *,
        model: str = BUNDLED,
        head: str | None = None,
        labels: Sequence[str] | None = None,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        floor: float = FLOOR,
        first: str = "none",
        clear_below: float = 0.02,
        last: str = "none",
        unsure: Sequence[float] = (0.2, 0.8),
    ) -> None:
        self._options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self._floor = model_options.floor(floor)
        self._unsure = _range(unsure)
        ours = model == BUNDLED
        self._reader = HeadReader(
            ModelOptions(model, device, runtime, precision, threads),
            self.name,
            self.own_head if head is None and ours else head,
            self.own_labels if labels is None and ours else labels,
            self.named,
        )
        self.encoder = self._reader.encoder
        self.categories = self._reader.categories
        self.version = f"1+{self._reader.version}"
        self._first = None if first == "none" else FirstTier(first, self.own_head, clear_below)
        self._last: HeadReader | None = None
        if self._first:
            self.version += f"+{self._first.version}"
        if last != "none":
            options = ModelOptions(last, device, runtime, precision, threads)
            self._last = HeadReader(options, self.name, None, None, self.named)
            self.categories |= self._last.categories
            self.version += f"+{self._last.version}"

    @property
    def overall(self) -> str:
        """The category by which whole texts are ranked, its finer kinds aside; "" where there is none."""
        return self.overall_category if self.overall_category in self.categories else ""

    def detect(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """Findings whose score is not below the floor."""
        return [[found for found in own if found.score >= self._floor] for own in self.score(texts)]

    def score(self, texts: Sequence[Text]) -> list[list[Finding]]:
        """The findings whatever their score; none for a text that the first model clears, or that shows nothing."""
        found: list[list[Finding]] = [[] for _ in texts]
        left = list(range(len(texts)))
        if self._first is not None:
            cleared = self._first.clear([text.content for text in texts], [None] * len(texts))
            left = [index for index in left if not cleared[index]]
        for index, own in zip(left, self._reader.read([texts[index].content for index in left]), strict=True):
            found[index] = own
        if self._last is not None:
            low, high = self._unsure
            left = [index for index in left if low <= max((one.score for one in found[index]), default=0.0) <= high]
            for index, own in zip(left, self._last.read([texts[index].content for index in left]), strict=True):
                again = {finding.category for finding in own}
                found[index] = [one for one in found[index] if one.category not in again] + own
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._options)


class ToxicityDetector(ClassifierDetector):
    """Toxic language: ``TOXICITY`` and its finer kinds, insult, threat, identity attack, obscene and sexual."""

    name = "toxicity"
    own_head = "toxicity"
    named: ClassVar[Mapping[str, str]] = {"toxic": "TOXICITY"}
    overall_category = "TOXICITY"


class HarmfulRequestDetector(ClassifierDetector):
    """A request for help with something that harms people: ``HARMFUL_REQUEST``."""

    name = "harmful_request"
    own_head = "harmful"
    named: ClassVar[Mapping[str, str]] = {"harmful": "HARMFUL_REQUEST"}


class BiasDetector(ClassifierDetector):
    """An attack on people for what they are: ``IDENTITY_ATTACK``."""

    name = "bias"
    own_head = "toxicity"
    own_labels = ("identity_attack",)
    named: ClassVar[Mapping[str, str]] = {"identity_hate": "IDENTITY_ATTACK"}


def _range(value: object) -> tuple[float, float]:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        low, high = value
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in value) and 0 <= low <= high <= 1:
            return float(low), float(high)
    raise ConfigurationError(f"option 'unsure' must be two numbers in [0, 1], the lower first, not {value!r}")


def _category(label: str) -> str:
    return "".join([char if char.isalnum() else "_" for char in label.upper()])


def _rebuild(kind: type[ClassifierDetector], options: dict[str, Any]) -> ClassifierDetector:
    return kind(**options)
