"""How near an exported graph is to the original: probabilities on texts, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import ConfigurationError, MissingExtraError, ModelLoadError
from llmguard.inference import runtimes
from llmguard.inference.card import Head, TokenizerCard
from llmguard.inference.heads import calibrate

Encoded = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Bound:
    """How far an export may be from the original.

    Attributes:
        greatest: of all differences of a probability.
        mean: of the differences.
        agreement: the least share of labels on the same side.
    """

    greatest: float = 1.0
    mean: float = 1.0
    agreement: float = 0.0


#: Bounds by precision. Those of INT8 suit trained models; where most probabilities lie near one half, as a model that
#: was never trained gives them, labels change sides for nothing.
BOUNDS: Mapping[str, Bound] = {
    "fp32": Bound(greatest=1e-4),
    "fp16": Bound(greatest=5e-3),
    "int8": Bound(mean=0.02, agreement=0.98),
}


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison found.

    Attributes:
        precision: of the graph.
        texts: how many were compared.
        greatest: difference of a probability.
        mean: difference.
        agreement: share of labels on the same side: of one half, or of the most probable one under softmax.
    """

    precision: str
    texts: int
    greatest: float
    mean: float
    agreement: float

    def figures(self) -> dict[str, Any]:
        """For the card."""
        return {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(self).items()}

    def check(self, bound: Bound) -> None:
        """Refuse a graph that is too far from the original.

        Raises:
            ModelLoadError: says the figure and its bound.
        """
        for what, value, limit in (("max", self.greatest, bound.greatest), ("mean", self.mean, bound.mean)):
            if not value <= limit:
                raise ModelLoadError(
                    f"the {self.precision} graph is too far from the original: {what} difference of the probabilities "
                    f"{value:.2g}, the bound is {limit:g}"
                )
        if self.agreement < bound.agreement:
            raise ModelLoadError(
                f"the {self.precision} graph is too far from the original: {self.agreement:.1%} of the labels agree, "
                f"the bound is {bound.agreement:.1%}"
            )


def compare(precision: str, head: Head, pairs: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Parity:
    """Put the original's and the export's probabilities side by side.

    Args:
        precision: of the export.
        head: says what a label is.
        pairs: the original's and the export's probabilities of each text, [..., labels].

    Raises:
        ModelLoadError: the two have different shapes.
        ConfigurationError: there are no texts.
    """
    differences, sides = [], []
    for theirs, ours in pairs:
        if theirs.shape != ours.shape:
            raise ModelLoadError(f"the export gives {ours.shape} probabilities, the original {theirs.shape}")
        differences.append(np.abs(theirs - ours).reshape(-1))
        if head.activation == "softmax":
            sides.append((theirs.argmax(-1) == ours.argmax(-1)).reshape(-1))
        else:
            sides.append(((theirs >= 0.5) == (ours >= 0.5)).reshape(-1))
    if not differences:
        raise ConfigurationError("no texts to compare on")
    every = np.concatenate(differences)
    agreement = float(np.concatenate(sides).mean())
    return Parity(precision, len(differences), float(every.max()), float(every.mean()), agreement)


def encoder(path: Path, window: TokenizerCard) -> Callable[[str], Encoded]:
    """A function from a text to the graph's inputs, cut to one window, by a ``tokenizer.json``.

    Raises:
        ModelLoadError: it is no tokenizer.
        MissingExtraError: ``tokenizers`` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingExtraError("reading a tokenizer", "tokenizers", "cpu") from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception
        raise ModelLoadError(f"no tokenizer: {str(error)[:100]}", source=str(path)) from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(window.max_tokens)

    def encode(text: str) -> Encoded:
        found = tokenizer.encode(text)
        ids = np.array([found.ids], np.int64)
        return {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.array([found.type_ids], np.int64),
        }

    return encode


def runner(path: Path, head: Head, precision: str) -> Callable[[Encoded], NDArray[np.float32]]:
    """A function from the graph's inputs to probabilities, on ONNX Runtime's CPU.

    Raises:
        ModelLoadError: the graph can't be loaded, or lacks the head's output.
        MissingExtraError: ``onnxruntime`` is not installed.
    """
    onnxruntime = runtimes.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its exceptions share no base class
        raise ModelLoadError(f"the graph can't be loaded ({type(error).__name__})", source=str(path)) from None
    if head.output not in {one.name for one in session.get_outputs()}:
        raise ModelLoadError(f"the graph has no output {head.output!r}", source=str(path))
    wanted = [one.name for one in session.get_inputs()]

    def run(feed: Encoded) -> NDArray[np.float32]:
        (logits,) = session.run([head.output], {name: feed[name] for name in wanted})
        return calibrate(logits, head.model_copy(update={"calibration": {}}), precision)

    return run


def pairs(
    texts: Sequence[str],
    encode: Callable[[str], Encoded],
    original: Callable[[str, Encoded], NDArray[np.float32]],
    export: Callable[[Encoded], NDArray[np.float32]],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The original's and the export's probabilities, a text at a time."""
    for text in texts:
        feed = encode(text)
        yield original(text, feed), export(feed)
