"""From the trained model to a model directory: graphs in INT8 and FP16 over one file of weights, tokenizer, card."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.export.quantize import FP16, INT8, int8, share_weights
from llmguard.inference.card import CARD, Card, Data, TokenizerCard
from training.base import NAME
from training.dev import Seen, measure, measure_held, together
from training.encode import MAX_TOKENS, OVERLAP, Encoder, crop, window
from training.labels import Example
from training.model import GuardMini, Outputs, load_base, widen
from training.predict import Run
from training.verdicts import Known, errors, heads

_log = logging.getLogger(__name__)
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OPSET = 17
_CALIBRATION = 300
_DATA = Path(__file__).parent / "data.json"
_PAIRS = 60  # of each groundedness set; their long contexts take most of the time
_MOVED = 0.005  # of a figure, what rounding may cost before it is told
VERSION = "2"


def export(
    model: GuardMini,
    base: Path,
    tokenizer: str,
    encoder: Encoder,
    dev: Path,
    held: Sequence[Example],
    out: Path,
    limit: int | None = None,
) -> None:
    """Write a model directory, measured and calibrated in float32 and INT8.

    Args:
        model: trained.
        base: the base's directory, for an encoder with the attention that the exporter knows.
        tokenizer: tokenizer.json.
        encoder: that tokenizer.
        dev: dev sets, for calibration, thresholds and figures.
        held: examples kept from training, for the labels that dev has not.
        out: the directory; made if it is not there.
        limit: rows of each dev set, for a trial.
    """
    full = out.with_suffix(".full.onnx")
    write_graph(model, load_base(base), tokenizer, full)
    write_directory(full, tokenizer, encoder, held, out)
    measured: dict[str, Seen] = {}
    for precision, path in (("fp32", full), ("int8", out / INT8)):
        run = onnx_run(path)
        seen, kept = measure(run, encoder, dev, limit=limit, pairs=_PAIRS), measure_held(run, encoder, held)
        measured[precision] = together(seen, kept)
    for name, value in measured["fp32"].figures.items():
        moved = measured["int8"].figures[name] - value
        if abs(moved) > _MOVED:
            _log.warning("INT8 moves %s by %+.3f", name, moved)
    full.unlink()
    figures = {precision: dict(seen.figures) for precision, seen in measured.items()}
    made = card(out, figures, {precision: seen.logits for precision, seen in measured.items()}, limit)
    (out / CARD).write_text(made.text(), encoding="utf-8")
    _log.info("wrote %s", json.dumps({path.name: path.stat().st_size for path in sorted(out.iterdir())}))


def write_directory(full: Path, tokenizer: str, encoder: Encoder, held: Sequence[Example], out: Path) -> None:
    """Write the tokenizer, and INT8 and FP16 graphs over one file of weights.

    Args:
        full: the float32 graph.
        tokenizer: tokenizer.json.
        encoder: that tokenizer.
        held: texts that show which values go through the graph.
        out: the directory; made if it is not there.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    small = out.with_suffix(".small.onnx")
    products = int8(full, small, _feeds(encoder, held))
    share_weights(small, out)
    small.unlink()
    _log.info("%d products in INT8", products)


def write_graph(model: GuardMini, plain: Any, tokenizer: str, path: Path) -> None:
    """The model as a float32 graph with free batch and length.

    Args:
        model: trained.
        plain: an encoder of its shape before it was widened, with eager attention, whose graph the exporter writes
            without PyTorch's own operators. It gets the weights.
        tokenizer: tokenizer.json.
        path: where it is written.
    """
    import warnings

    import torch

    widen(plain, json.loads(tokenizer)["model"]["vocab"], {})
    copy = GuardMini(plain)
    copy.load_state_dict({name: value.cpu() for name, value in model.state_dict().items()})
    copy.eval()
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in _INPUTS)
    free = {0: "batch", 1: "length"}
    axes = dict.fromkeys(_INPUTS, free) | {name: {0: "batch"} for name in Outputs._fields}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter tells that it is the older one, and that it follows one example
        torch.onnx.export(
            copy,
            example,
            str(path),
            input_names=list(_INPUTS),
            output_names=list(Outputs._fields),
            dynamic_axes=axes | {"entities": free, "grounding": free},
            opset_version=_OPSET,
            dynamo=False,
        )


def onnx_run(path: Path, threads: int = 2) -> Run:
    """A graph in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64], types: NDArray[np.int64]) -> dict[str, Any]:
        feed = dict(zip(_INPUTS, (ids, mask, types), strict=True))
        return dict(zip(names, session.run(names, feed), strict=True))

    return run


def _feeds(encoder: Encoder, held: Sequence[Example]) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Calibration texts of every source, one at a time and without padding."""
    import random

    rng = random.Random(0)  # noqa: S311 - sampling, no secrets
    for item in rng.sample(list(held), min(_CALIBRATION, len(held))):
        text = encoder.tokens([item.text])[0]
        context = encoder.tokens([item.context])[0] if item.context else None
        start, end = crop(text, MAX_TOKENS // 2, rng, None, positive=False)
        piece = window(text, start, end, context, MAX_TOKENS // 2 if context else 0)
        values = (piece.ids, np.ones_like(piece.ids), piece.types)
        yield {name: value[None] for name, value in zip(_INPUTS, values, strict=True)}


def card(
    out: Path, figures: Mapping[str, dict[str, float]], logits: Mapping[str, Known], limit: int | None = None
) -> Card:
    """The card of what lies in a directory.

    Args:
        out: the directory.
        figures: by precision and name; what is NaN is left out.
        limit: rows of each dev set that they are over, where not all were taken; the card says so.
        logits: by precision and label, logits and labels of texts that were not trained on.
    """
    files = {path.name: _sha256(path) for path in sorted(out.iterdir()) if path.name != CARD}
    verdicts = heads(logits)
    rounded = {
        precision: {
            name: round(value, 4)
            for name, value in (found | errors(verdicts, logits[precision], precision)).items()
            if not math.isnan(value)
        }
        for precision, found in figures.items()
    }
    return Card(
        format=1,
        name="guard-mini",
        version=VERSION,
        kind="encoder",
        licence="Apache-2.0",
        description="One small encoder with heads for toxicity, prompt injection, harmful requests, names and places, "
        "groundedness and a sentence embedding. For groundedness each word of a statement is scored beside each "
        "window of the context: the smallest over windows counts, and of a statement its largest word.",
        base=NAME,
        languages=("en",),
        graphs={"int8": INT8, "fp16": FP16},
        tokenizer=TokenizerCard(max_tokens=MAX_TOKENS, overlap=OVERLAP, case_types=True, pad_id=0),
        heads=verdicts,
        files=files,
        figures=rounded,
        data=tuple(Data(**one) for one in json.loads(_DATA.read_text(encoding="utf-8"))),
        intended_use="A first look at texts that go into or come out of a language model, with thresholds tuned on the "
        "user's own traffic; not for judging people.",
        limits="English first: other languages were seen in injection alone, as letters rather than words. Irony, "
        "implicit abuse and facts that need knowledge are missed. Dev figures are of public sets and of the time they "
        "were collected. Of one changed fact in a long summary the head for groundedness sees little: the AUC of the "
        "summedits sets is in the figures, and near chance for news."
        + ("" if limit is None else f" They are over about {limit} rows a set."),
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
