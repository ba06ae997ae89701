"""An original becomes a model directory; a model directory gets its INT8 graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import ConfigurationError, ModelLoadError
from llmguard.export import directory, quantize, samples
from llmguard.export.onnx_export import to_onnx
from llmguard.export.original import OUTPUT, Original
from llmguard.export.parity import BOUNDS, Bound, Encoded, Parity, compare, encoder, pairs, runner
from llmguard.inference.card import PRECISIONS, TOKENIZER, Card
from llmguard.inference.heads import calibrate
from llmguard.inference.store import ModelDirectory

FILES: Mapping[str, str] = {"fp32": "model.onnx", "fp16": "fp16.onnx", "int8": "int8.onnx"}

# Of these the optimizer recognises every layer; if it does not, something is wrong with the export.
_FUSED = ("bert", "roberta", "xlm-roberta", "electra", "camembert")

Report = Callable[[Parity], None]


def export(
    original: Original,
    target: Path,
    *,
    precisions: Sequence[str] = ("fp32", "fp16", "int8"),
    bounds: Mapping[str, Bound] = BOUNDS,
    calibration: Sequence[str] = samples.CALIBRATION,
    bits: int = 8,
    report: Report = lambda parity: None,
) -> Card:
    """Write a model directory.

    Args:
        original: what is exported.
        target: a directory that is not there yet.
        precisions: the graphs that it will hold.
        bounds: how far each may be from the original; a precision without one is only measured.
        calibration: texts for the ranges of INT8, best such as the model will see.
        bits: of INT8's weights, 8 or 7.
        report: told of each graph's parity before it is checked.

    Raises:
        ModelLoadError: the model can't be exported, or a graph is too far from it. Nothing is left behind.
        ConfigurationError: the target is taken, or a precision unknown.
        MissingExtraError: a package is not installed.
    """
    unknown = [name for name in precisions if name not in FILES]
    if unknown or not precisions:
        raise ConfigurationError(f"unknown precision {unknown[0]!r}" if unknown else "no precision was asked for")
    with directory.staged(target) as stage:
        (stage / TOKENIZER).write_text(original.graph_tokenizer(), encoding="utf-8")
        encode = encoder(stage / TOKENIZER, original.window)
        full = stage / FILES["fp32"]
        fused = _traced(original, full)
        found = []
        for precision in sorted(precisions, key=PRECISIONS.index):
            path = stage / FILES[precision]
            _write(precision, full, path, encode, calibration, bits)
            run = runner(path, original.head, precision)
            parity = compare(precision, original.head, pairs(samples.PARITY, encode, _reference(original), run))
            report(parity)
            if precision in bounds:
                parity.check(bounds[precision])
            found.append(parity)
        if "fp32" not in precisions:
            full.unlink()
        said = {
            "name": original.name,
            "version": "1",
            "kind": "encoder",
            **original.facts,
            "graphs": {precision: FILES[precision] for precision in PRECISIONS if precision in precisions},
            "tokenizer": original.window.model_dump(mode="json"),
            "heads": [original.head.model_dump(mode="json", exclude_defaults=True)],
            "figures": {"parity": [parity.figures() for parity in found], "fused": fused},
        }
        return directory.finish(stage, said)


def add_int8(
    model: ModelDirectory,
    *,
    bounds: Mapping[str, Bound] = BOUNDS,
    calibration: Sequence[str] = samples.CALIBRATION,
    bits: int = 8,
    report: Report = lambda parity: None,
) -> Card:
    """Give a model directory its INT8 graph, made from its float32 one and compared with it.

    Args:
        model: with a float32 graph and heads that answer by text or token.
        bounds: how far it may be from the float32 graph.
        calibration: texts for the ranges.
        bits: of the weights, 8 or 7.
        report: told of the parity before it is checked.

    Raises:
        ModelLoadError: there is no float32 graph, or the new one is too far from it. The directory stays as it was.
        MissingExtraError: a package is not installed.
    """
    card = model.card
    if "fp32" not in card.graphs or card.tokenizer is None:
        raise ModelLoadError(f"the model {card.name!r} has no fp32 graph to quantise")
    head = next((one for one in card.heads if one.kind in ("labels", "tokens")), None)
    if head is None:
        raise ModelLoadError(f"the model {card.name!r} has no head to compare by")
    encode = encoder(model.tokenizer, card.tokenizer)
    with directory.staged(model.path, replace=True) as stage:
        for name in card.files:
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.path / name, stage / name)
        path = stage / FILES["int8"]
        quantize.int8(model.graphs["fp32"], path, map(encode, calibration), bits=bits)
        full = runner(model.graphs["fp32"], head, "fp32")
        run = runner(path, head, "int8")
        parity = compare("int8", head, pairs(samples.PARITY, encode, lambda _, feed: full(feed), run))
        report(parity)
        if "int8" in bounds:
            parity.check(bounds["int8"])
        said = card.model_dump(mode="json", exclude_defaults=True, exclude={"format", "files"})
        said["graphs"] = {**card.graphs, "int8": FILES["int8"]}
        figures = dict(card.figures)
        others = [one for one in figures.get("parity", []) if one.get("precision") != "int8"]
        said["figures"] = {**figures, "parity": [*others, parity.figures()]}
        return directory.finish(stage, said)


def _traced(original: Original, path: Path) -> dict[str, int]:
    config = original.model.config
    free = ("batch", "length") if original.head.kind == "tokens" else ("batch",)
    return to_onnx(
        original.module(),
        path,
        inputs=original.inputs,
        outputs={OUTPUT: free},
        layers=config.num_hidden_layers,
        attention_heads=config.num_attention_heads,
        hidden=config.hidden_size,
        tokens=original.model.get_input_embeddings().weight.shape[0],
        must_fuse=config.model_type in _FUSED,
    )


def _write(
    precision: str,
    full: Path,
    path: Path,
    encode: Callable[[str], Encoded],
    calibration: Sequence[str],
    bits: int,
) -> None:
    if precision == "fp16":
        quantize.fp16(full, path)
    elif precision == "int8":
        quantize.int8(full, path, map(encode, calibration), bits=bits)


def _reference(original: Original) -> Callable[[str, Encoded], NDArray[np.float32]]:
    """The original's probabilities, by its own tokenizer and PyTorch."""
    import torch

    module, names = original.module(), original.inputs

    def run(text: str, feed: Encoded) -> NDArray[np.float32]:
        limit = original.window.max_tokens
        own = original.tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)
        if own["input_ids"].tolist() != feed["input_ids"].tolist():
            raise ModelLoadError(
                f"{TOKENIZER} doesn't fit: it cuts a sample text otherwise than the original's tokenizer"
            )
        with torch.no_grad():
            logits = module(*(own[name] for name in names))
        return calibrate(logits.numpy(), original.head)

    return run
