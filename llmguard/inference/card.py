"""What a model directory says about itself: ``card.yaml``.

The card names the graphs, their outputs and what the numbers mean; the sha256 of every file; whose data and whose
licence it is; how good it was found to be. Nothing of a model is used that its card does not name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from llmguard.errors import ModelLoadError, nearest
from llmguard.inference import card_check, card_hashing, card_yaml
from llmguard.types import Stage

#: The file's name in every model directory.
CARD = "card.yaml"
#: The tokenizer's file, in the format of Hugging Face's ``tokenizers``.
TOKENIZER = "tokenizer.json"

Precision = Literal["fp32", "fp16", "int8", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "bf16")

_SHA256 = re.compile("[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# Windows reads a colon as a drive or a stream, and a backslash as a separator.
_FORBIDDEN = re.compile(r'[\x00-\x1f\\:*?"<>|]')


def inside(name: str) -> str:
    """A file's name if it can only lie in the directory that names it.

    Raises:
        ValueError: it is absolute, climbs out, or is read differently on another system.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or _FORBIDDEN.search(name) or str(path) != name:
        raise ValueError(f"{name!r} is no plain relative path: a model's files lie in its own directory")
    return name


def _word(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, '.', '_' and '-', at most 100")
    return name


def _known(words: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for word in words:
        if word not in known:
            raise ValueError(f"unknown {what} {word!r}{nearest(word, known)}")


File = Annotated[str, AfterValidator(inside)]
Name = Annotated[str, AfterValidator(_word)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    """Frozen, no unknown keys, no value bent into another type."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Calibration(_Part):
    """What makes a label's probability honest: ``p = sigmoid((logit + bias) / temperature)``, or softmax likewise.

    A label that is not named has temperature 1 and bias 0 (temperature scaling: Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017).
    """

    temperature: Mapping[str, Positive] = {}
    bias: Mapping[str, Finite] = {}


class Head(_Part):
    """One output of the graph and what its numbers, logits, mean.

    Attributes:
        name: how detectors ask for it.
        output: the graph's output.
        kind: ``labels`` and ``pair`` have the shape [batch, labels], ``embedding`` [batch, n]; ``tokens``, and
            ``pair_tokens`` of which the second text's tokens count, [batch, length, labels].
        labels: of ``tokens`` BIO labels, "O" first; none for an ``embedding``.
        activation: from logits to probabilities.
        aggregate: over the windows of a text.
        words: of ``tokens``, what says of which kind a word of several tokens is: its first one, or the mean of their
            log probabilities.
        calibration: by the precision that runs, or "default".
        thresholds: by stage, or "default"; for each label a probability. Advice for who
            writes rules: nothing reads it.
    """

    name: Name
    output: str = Field(min_length=1)
    kind: Literal["labels", "tokens", "embedding", "pair", "pair_tokens"]
    labels: tuple[str, ...] = ()
    activation: Literal["sigmoid", "softmax", "none"]
    aggregate: Literal["max", "mean"] = "max"
    words: Literal["first", "mean"] = "first"
    calibration: Mapping[str, Calibration] = {}
    thresholds: Mapping[str, Mapping[str, Share]] = {}

    @property
    def by_token(self) -> bool:
        """Whether the output has numbers for each token."""
        return self.kind in ("tokens", "pair_tokens")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "embedding") != (not self.labels):
            raise ValueError(f"the head {self.name!r}: an embedding has no labels, every other kind has some")
        if self.kind == "embedding" and (self.activation != "none" or self.calibration or self.thresholds):
            raise ValueError(f"the head {self.name!r}: an embedding has no activation, calibration or thresholds")
        if len(set(self.labels)) < len(self.labels) or "" in self.labels:
            raise ValueError(f"the head {self.name!r} has a label twice or an empty one")
        if self.kind == "tokens":
            _bio(self.name, self.labels)
        _known(self.calibration, ("default", *PRECISIONS), "precision")
        _known(self.thresholds, ("default", *(stage.value for stage in Stage)), "stage")
        for calibration in self.calibration.values():
            _known(calibration.temperature, self.labels, "label")
            _known(calibration.bias, self.labels, "label")
        for thresholds in self.thresholds.values():
            _known(thresholds, self.labels, "label")
        return self

    def threshold(self, label: str, stage: str) -> float | None:
        """The label's threshold at a stage, the default one, or None when the card has none."""
        for key in (stage, "default"):
            found = self.thresholds.get(key, {}).get(label)
            if found is not None:
                return found
        return None


def _bio(head: str, labels: tuple[str, ...]) -> None:
    if labels[0] != "O":
        raise ValueError(f"the head {head!r}: the first label of tokens is 'O', here it is {labels[0]!r}")
    for label in labels[1:]:
        if label[:2] not in ("B-", "I-") or len(label) < 3:
            raise ValueError(f"the head {head!r}: the label {label!r} begins with neither 'B-' nor 'I-'")


class TokenizerCard(_Part):
    """How a text is cut into windows.

    Attributes:
        max_tokens: of one window, special tokens included.
        overlap: tokens that a window shares with the one before.
        case_types: token types carry the case of the letters, for an uncased vocabulary.
        pad_id: the token that fills a batch up.
    """

    max_tokens: int = Field(ge=8, le=1 << 16)
    overlap: int = Field(ge=0)
    case_types: bool = False
    pad_id: int = Field(ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap > self.max_tokens // 2:
            raise ValueError(f"overlap: {self.overlap} must be at most half of max_tokens, {self.max_tokens}")
        return self


class Data(_Part):
    """A set of texts that the model learned from, and under which licence."""

    name: str
    licence: str
    url: str = ""


class Card(_Part):
    """All that a model directory says about itself.

    Attributes:
        format: of the card.
        name: the model's.
        version: the model's.
        kind: ``encoder`` is a transformer in ONNX, ``nano`` hashed n-grams and a linear layer.
        licence: an SPDX expression.
        description: one sentence or some.
        base: the model that it was made from, or "".
        languages: BCP 47 tags.
        graphs: a file for each precision.
        tokenizer: None for ``nano``.
        hashing: None for an ``encoder``.
        heads: the outputs.
        files: the sha256 of every file but the card.
        figures: how good it was found to be, and how its export agreed with the original; free.
        data: what it learned from.
        intended_use: what it is for.
        limits: what it can't do.
    """

    format: Literal[1]
    name: Name
    version: str = Field(min_length=1)
    kind: Literal["encoder", "nano"]
    licence: str
    description: str = ""
    base: str = ""
    languages: tuple[str, ...] = ()
    graphs: Mapping[Precision, File] = {}
    tokenizer: TokenizerCard | None = None
    hashing: card_hashing.Hashing | None = None
    heads: tuple[Head, ...] = Field(min_length=1)
    files: Mapping[File, str]
    figures: Mapping[str, Any] = {}
    data: tuple[Data, ...] = ()
    intended_use: str = ""
    limits: str = ""

    @field_validator("files")
    @classmethod
    def _digests(cls, files: Mapping[str, str]) -> Mapping[str, str]:
        if CARD in files:
            raise ValueError(f"{CARD} can't hold its own checksum")
        for name, digest in files.items():
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"the sha256 of {name!r} must be 64 lower-case hexadecimal digits")
        return files

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [head.name for head in self.heads]
        if len(set(names)) < len(names):
            raise ValueError("two heads have the same name")
        if self.kind == "encoder" and (not self.graphs or self.tokenizer is None):
            raise ValueError("an encoder needs the keys 'graphs' and 'tokenizer'")
        if self.kind == "nano":
            card_hashing.check(self.hashing, self.heads)
        needed = [*self.graphs.values(), *([TOKENIZER] if self.tokenizer is not None else [])]
        for file in needed:
            if file not in self.files:
                raise ValueError(f"files: {file!r} has no checksum")
        return self

    def head(self, name: str) -> Head:
        """The head of that name.

        Raises:
            ModelLoadError: there is none; names the nearest.
        """
        for head in self.heads:
            if head.name == name:
                return head
        known = [head.name for head in self.heads]
        raise ModelLoadError(f"the model {self.name!r} has no head {name!r}{nearest(name, known)}")

    @classmethod
    def parse(cls, text: str, source: str = CARD) -> Self:
        """Read the text of a card.

        Args:
            text: YAML.
            source: how messages call it.

        Raises:
            ModelLoadError: says file, key, value and what would be right.
        """
        data = card_yaml.parse(text, source)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ModelLoadError(card_check.sentence(error, cls), source=source) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a card's file.

        Raises:
            ModelLoadError: it can't be read, or is wrong.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ModelLoadError("the model's card is missing", source=str(path)) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ModelLoadError(f"the model's card can't be read: {reason}", source=str(path)) from None
        return cls.parse(text, str(path))

    def text(self) -> str:
        """The card as YAML, without what was not said."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        return card_yaml.write(said)
