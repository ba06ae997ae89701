"""Scores of whole texts: windows through a model, the largest logit over windows, entities put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.token_names import Names
from training.encode import MAX_STATEMENT, Encoder, Piece, pair_windows, window, windows
from training.labels import BIO, BIO_BIAS, HEADS, Span

Arrays = Mapping[str, NDArray[np.float32]]
#: One forward pass: ids, mask and types [batch, length] to logits by head.
Run = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], Arrays]
_TOKENS, _ROWS = 4096, 64
_BY_TOKEN = ("entities", "grounding")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])|\n+")


def torch_run(model: object) -> Run:
    """A PyTorch model as it runs in training."""
    import torch

    from training.train import half

    where = next(model.parameters()).device  # type: ignore[attr-defined]

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64], types: NDArray[np.int64]) -> Arrays:
        with torch.no_grad(), torch.autocast(where.type, dtype=torch.bfloat16, enabled=half(where)):
            outputs = model(*(torch.from_numpy(part).to(where) for part in (ids, mask, types)))  # type: ignore[operator]
        return {name: value.float().cpu().numpy() for name, value in outputs._asdict().items()}

    return run


def batched(run: Run, pieces: Sequence[Piece], heads: Sequence[str]) -> list[dict[str, NDArray[np.float32]]]:
    """The outputs of each window, in its order, computed in batches of about one length."""
    order = sorted(range(len(pieces)), key=lambda place: len(pieces[place].ids))
    found: list[dict[str, NDArray[np.float32]]] = [{} for _ in pieces]
    first = 0
    while first < len(order):
        last = first + 1
        while (
            last < len(order) and last - first < _ROWS and len(pieces[order[last]].ids) * (last - first + 1) <= _TOKENS
        ):
            last += 1
        chosen = order[first:last]
        shape = (len(chosen), len(pieces[chosen[-1]].ids))
        ids, mask, types = (np.zeros(shape, np.int64) for _ in range(3))
        for row, place in enumerate(chosen):
            width = len(pieces[place].ids)
            ids[row, :width], types[row, :width], mask[row, :width] = pieces[place].ids, pieces[place].types, 1
        outputs = run(ids, mask, types)
        for row, place in enumerate(chosen):
            width = len(pieces[place].ids)
            found[place] = {
                head: outputs[head][row, :width] if head in _BY_TOKEN else outputs[head][row] for head in heads
            }
        first = last
    return found


def label_logits(run: Run, encoder: Encoder, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Per head of labels, the largest logit over the windows of each text: [texts, labels]."""
    heads = ("toxicity", "injection", "harmful")
    pieces, owners = _cut(encoder, texts)
    found = batched(run, pieces, heads)
    result = {head: np.full((len(texts), len(HEADS[head])), -np.inf, np.float32) for head in heads}
    for outputs, owner in zip(found, owners, strict=True):
        for head in heads:
            np.maximum(result[head][owner], outputs[head], out=result[head][owner])
    return result


def entities(run: Run, encoder: Encoder, texts: Sequence[str]) -> list[list[Span]]:
    """The entities of each text, read as the detector reads them."""
    pieces, owners = _cut(encoder, texts)
    names, bias = Names(BIO, "mean"), np.array([BIO_BIAS.get(label, 0.0) for label in BIO], np.float32)
    shown: list[list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = [[] for _ in texts]
    for piece, outputs, owner in zip(pieces, batched(run, pieces, ("entities",)), owners, strict=True):
        logits = outputs["entities"] + bias
        chances = np.exp(logits - logits.max(-1, keepdims=True))
        shown[owner].append((np.asarray(piece.offsets, np.int64), chances / chances.sum(-1, keepdims=True)))
    return [
        [(name.start, name.end, name.kind) for name in names.read(text, windows)]
        for text, windows in zip(texts, shown, strict=True)
    ]


def sentences(text: str) -> list[str]:
    """A text's sentences, by their end marks."""
    return [part for part in _SENTENCE.split(text) if part.strip()]


def pair_logits(run: Run, encoder: Encoder, contexts: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
    """How little the context supports each text: the largest logit of its words, each beside what supports it best."""
    split = [sentences(text) or [text] for text in texts]
    claims = encoder.tokens([part for parts in split for part in parts])
    grounds = dict(zip(contexts, encoder.tokens(contexts), strict=True))
    pieces: list[Piece] = []
    owners: list[tuple[int, int]] = []
    claim = iter(claims)
    for row, (context, parts) in enumerate(zip(contexts, split, strict=True)):
        for number in range(len(parts)):
            text = next(claim)
            for part in pair_windows(grounds[context], text):
                pieces.append(window(text, 0, min(len(text.ids), MAX_STATEMENT), part, len(part.ids)))
                owners.append((row, number))
    smallest: dict[tuple[int, int], NDArray[np.float32]] = {}
    for piece, outputs, owner in zip(pieces, batched(run, pieces, ("grounding",)), owners, strict=True):
        own = outputs["grounding"][[start >= 0 for start, _ in piece.offsets], 0]
        smallest[owner] = np.minimum(smallest[owner], own) if owner in smallest else own
    result = np.full(len(texts), -np.inf, np.float32)
    for (row, _), values in smallest.items():
        result[row] = max(result[row], values.max(initial=-np.inf))
    return result


def _cut(encoder: Encoder, texts: Sequence[str]) -> tuple[list[Piece], list[int]]:
    pieces, owners = [], []
    for owner, text in enumerate(encoder.tokens(texts)):
        for start, end in windows(text):
            pieces.append(window(text, start, end))
            owners.append(owner)
    return pieces, owners
