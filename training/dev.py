"""The dev sets: their figures, and the logits and labels that calibration and thresholds are chosen on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.encode import Encoder
from training.figures import auc, bpsn, recall_by_source, span_f1, threshold_at
from training.labels import CATEGORIES, HEADS, Example
from training.predict import Run, entities, label_logits, pair_logits
from training.read import entity_spans, lines

Logits = NDArray[np.float32]
Row = Mapping[str, Any]
_HELD_PAIRS = 600
_NATURAL = ("tweeteval_offensive", "context_toxicity_wiki_cat_small", "convabuse_valid")
_LENGTHS = (0, 50, 150, 500, 1500, 10**6)
TOXICITY = (
    "hatecheck",
    "hatemoji_check",
    "tweeteval_offensive",
    "context_toxicity_wiki_cat_small",
    "madlibs_4000",
    "convabuse_valid",
)
BENIGN = ("awesome_prompts_classic", "harmless_alpaca", "mitre_frr", "self_instruct")
INJECTION = ("deepset", "jailbreak_wild", "tensor_trust_hijack")
PII = ("presidio_synth_v2", "wikigold", "wnut17_dev")
GROUNDEDNESS = ("summedits_ectsum", "summedits_news", "summedits_sales_email", "summedits_samsum")
#: What a first try of 640 s on two cores reached, without rows of our own.
BASELINE: Mapping[str, float] = {
    "toxicity auc hatecheck": 0.54,
    "toxicity auc hatemoji_check": 0.62,
    "toxicity auc tweeteval_offensive": 0.80,
    "toxicity auc context_toxicity_wiki_cat_small": 0.86,
    "toxicity auc madlibs_4000": 0.91,
    "toxicity worst bpsn madlibs_4000": 0.25,
    "injection recall@1% all": 0.80,
    "injection recall@1% jailbreak_wild": 0.93,
    "injection recall@1% deepset": 0.40,
    "injection false alarms awesome_prompts_classic": 0.07,
    "groundedness auc mean of summedits": 0.58,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run over the dev sets gave: figures by name, and of each label the logits, labels and sources."""

    figures: dict[str, float]
    logits: dict[str, tuple[Logits, NDArray[np.int64]]]


def measure(run: Run, encoder: Encoder, data: Path, *, limit: int | None = None, pairs: int = 150) -> Seen:
    """Run over the dev sets.

    Args:
        run: a forward pass.
        encoder: tokenizes.
        data: the directory with the dev sets.
        limit: about so many rows of each set, for a trial.
        pairs: about so many rows of each groundedness set, whose long contexts make many windows.
    """
    figures: dict[str, float] = {}
    logits: dict[str, tuple[Logits, NDArray[np.int64]]] = {}
    logits |= _toxicity(run, encoder, data / "toxicity", figures, limit)
    logits |= _injection(run, encoder, data, figures, limit)
    _pii(run, encoder, data / "pii", figures, limit)
    logits |= _groundedness(run, encoder, data / "groundedness", figures, min(pairs, limit // 5) if limit else pairs)
    return Seen(figures, logits)


def _read(directory: Path, name: str, limit: int | None) -> list[Row]:
    rows: list[Row] = list(lines(directory / f"{name}.jsonl.gz"))
    return rows[:: max(len(rows) // limit, 1)] if limit else rows


def _toxicity(
    run: Run, encoder: Encoder, data: Path, figures: dict[str, float], limit: int | None
) -> dict[str, tuple[Logits, Any]]:
    pooled, labels = [], []
    lengths: list[int] = []
    natural: list[tuple[int, float]] = []
    for name in TOXICITY:
        rows = _read(data, name, limit)
        texts, label = [row["text"] for row in rows], np.array([row["label"] for row in rows])
        logits = label_logits(run, encoder, texts)["toxicity"][:, 0]
        figures[f"toxicity auc {name}"] = auc(label, logits)
        if name == "madlibs_4000":
            by_term = bpsn(texts, label.tolist(), logits)
            worst = min(by_term, key=lambda term: by_term[term])
            figures[f"toxicity worst bpsn {name}"] = by_term[worst]
            figures |= {f"toxicity bpsn {term}": by_term[term] for term in sorted(by_term, key=by_term.__getitem__)}
        if name == "hatecheck":
            _functions(rows, logits, label, figures)
        if name in _NATURAL:
            lengths += [len(text) for text in texts]
            natural += zip(label.tolist(), logits.tolist(), strict=True)
        pooled.append(logits)
        labels.append(label)
    truth, scores = np.array([pair[0] for pair in natural]), np.array([pair[1] for pair in natural])
    for low, high, own in _by_length(lengths):
        figures[f"toxicity auc of {low} to {high} characters"] = auc(truth[own], scores[own])
    return {"toxic": (np.concatenate(pooled), np.concatenate(labels))}


def _by_length(lengths: Sequence[int]) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Lower and upper bound of each class of lengths that has texts, and which they are."""
    count = np.array(lengths)
    for low, high in itertools.pairwise(_LENGTHS):
        own = (count >= low) & (count < high)
        if own.any():
            yield low, high, own


def _functions(rows: Sequence[Row], logits: Logits, label: NDArray[np.int64], figures: dict[str, float]) -> None:
    """How far each function of hatecheck is on its side: its AUC against all rows of the other label."""
    kinds = np.array([row["labels"]["functionality"] for row in rows])
    for kind in sorted(set(kinds.tolist())):
        own = kinds == kind
        chosen = own | (label != label[own][0])
        figures[f"hatecheck {kind}"] = auc(label[chosen], logits[chosen])


def _injection(
    run: Run, encoder: Encoder, data: Path, figures: dict[str, float], limit: int | None
) -> dict[str, tuple[Logits, Any]]:
    positives: dict[str, Logits] = {}
    negatives: dict[str, Logits] = {}
    harmful: dict[str, Logits] = {}
    lengths: list[int] = []
    for folder, names in (("benign", BENIGN), ("injection", INJECTION)):
        for name in names:
            rows = _read(data / folder, name, limit)
            label = np.array([row["label"] for row in rows])
            found = label_logits(run, encoder, [row["text"] for row in rows])
            user = found["injection"][:, 0]
            if (label == 1).any():
                positives[name] = user[label == 1]
                lengths += [len(row["text"]) for row in rows if row["label"]]
            if (label == 0).any():
                negatives[name] = user[label == 0]
                harmful[name] = found["harmful"][:, 0][label == 0]
    pool, asked = np.concatenate(list(negatives.values())), np.concatenate(list(harmful.values()))
    bar = threshold_at(pool, 0.01)
    for name, value in recall_by_source(positives, pool).items():
        figures[f"injection recall@1% {name}"] = value
    for name, values in negatives.items():
        figures[f"injection false alarms {name}"] = float((values > bar).mean())
    caught = np.concatenate(list(positives.values()))
    for low, high, own in _by_length(lengths):
        figures[f"injection recall@1% of {low} to {high} characters"] = float((caught[own] > bar).mean())
    values = np.concatenate([caught, pool])
    return {
        "user": (values, np.r_[np.ones(len(caught), int), np.zeros(len(pool), int)]),
        "harmful": (asked, np.zeros(len(asked), int)),
    }


def _pii(run: Run, encoder: Encoder, data: Path, figures: dict[str, float], limit: int | None) -> None:
    for name in PII:
        rows = _read(data, name, limit)
        gold = [entity_spans(row["spans"]) for row in rows]
        seen = entities(run, encoder, [row["text"] for row in rows])
        for category in CATEGORIES:
            if any(span[2] == category for spans in gold for span in spans):
                figures[f"pii f1 {name} {category}"] = span_f1(gold, seen, category)


def _groundedness(
    run: Run, encoder: Encoder, data: Path, figures: dict[str, float], limit: int
) -> dict[str, tuple[Logits, Any]]:
    pooled, labels = [], []
    for name in GROUNDEDNESS:
        rows = _read(data, name, limit)
        label = np.array([row["label"] for row in rows])
        logits = pair_logits(run, encoder, [row["context"] for row in rows], [row["text"] for row in rows])
        figures[f"groundedness auc {name}"] = auc(label, logits)
        pooled.append(logits)
        labels.append(label)
    figures["groundedness auc mean of summedits"] = float(
        np.mean([figures[f"groundedness auc {name}"] for name in GROUNDEDNESS])
    )
    return {"unsupported": (np.concatenate(pooled), np.concatenate(labels))}


def measure_held(run: Run, encoder: Encoder, held: Sequence[Example]) -> Seen:
    """AUC of each label on examples that were held back from training, by source and over all."""
    figures: dict[str, float] = {}
    logits: dict[str, tuple[Logits, NDArray[np.int64]]] = {}
    plain = [item for item in held if not item.context and item.spans is None]
    found = label_logits(run, encoder, [item.text for item in plain])
    for head in ("toxicity", "injection", "harmful"):
        for place, label in enumerate(HEADS[head]):
            chosen = [row for row, item in enumerate(plain) if label in item.known]
            values = found[head][chosen, place]
            truth = np.array([int(plain[row].known[label] > 0.5) for row in chosen], np.int64)
            logits[label] = (values, truth)
            figures[f"held out auc {label}"] = auc(truth, values)
            sources = np.array([plain[row].source for row in chosen])
            for source in sorted(set(sources.tolist())):
                own = sources == source
                if 10 <= truth[own].sum() <= own.sum() - 10:
                    figures[f"held out auc {label} {source}"] = auc(truth[own], values[own])
    pairs = [item for item in held if item.context][:_HELD_PAIRS]
    values = pair_logits(run, encoder, [item.context for item in pairs], [item.text for item in pairs])
    truth = np.array([int(item.known["unsupported"] > 0.5) for item in pairs], np.int64)
    logits["unsupported"] = (values, truth)
    for source in sorted({item.source for item in pairs}):
        own = np.array([item.source == source for item in pairs])
        if 10 <= truth[own].sum() <= own.sum() - 10:
            figures[f"held out auc unsupported {source}"] = auc(truth[own], values[own])
    return Seen(figures, logits)


def together(*parts: Seen) -> Seen:
    """The figures of all, and for each label the texts of all."""
    figures: dict[str, float] = {}
    logits: dict[str, tuple[Logits, NDArray[np.int64]]] = {}
    for part in parts:
        figures |= part.figures
        for label, (values, truth) in part.logits.items():
            old = logits.get(label)
            logits[label] = (
                (values, truth) if old is None else (np.concatenate([old[0], values]), np.concatenate([old[1], truth]))
            )
    return Seen(figures, logits)


def lines_of(figures: Mapping[str, float]) -> list[str]:
    """The figures to print, each with what a first try had reached."""
    return [
        f"{name}: {value:.3f}" + (f" ({BASELINE[name]:.2f})" if name in BASELINE else "")
        for name, value in figures.items()
    ]
