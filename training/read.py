"""Rows from files and generators become examples; what each row does not say stays unknown."""

from __future__ import annotations

import gzip
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.labels import CATEGORIES, TOXICITY, Example, Span

Row = Mapping[str, Any]

#: Rows that were written for this project.
OWN = Path(__file__).parent / "data"
#: Files of ``data/own`` that were taken over under another name.
_TAKEN = {"groundedness_pairs": "grounding_own", "pii_entities": "pii_own"}
GENERATORS = ("toxicity", "injection", "harmful", "pii", "grounding")
#: What other sets call a category of ours. The names that are not here are not looked for.
RENAMED = {"STREET_ADDRESS": "ADDRESS", "GPE": "LOCATION"} | {name: name for name in CATEGORIES}
_TASKS = {
    "toxicity": "toxicity",
    "injection": "injection",
    "harmful": "harmful",
    "pii": "entities",
    "groundedness": "grounding",
    "grounding": "grounding",
}


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file, plain or gzip-compressed."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def own_rows(data: Path) -> Iterator[tuple[str, Row]]:
    """Hand-written rows with the file's stem; a file of ``data/own`` counts where this package has none of its name."""
    here = {path.stem: path for path in sorted(OWN.glob("*.jsonl"))}
    given = {path.name.split(".")[0]: path for path in sorted((data / "own").glob("*.jsonl.gz"))}
    rest = {stem: path for stem, path in given.items() if _TAKEN.get(stem, stem) not in here}
    for stem, path in sorted((rest | here).items()):
        for row in lines(path):
            yield stem, row


def generated_rows(data: Path, seed: int) -> Iterator[tuple[str, Row]]:
    """Rows of the generators that are installed beside this module, with the generator's name."""
    for name in GENERATORS:
        if not (Path(__file__).parent / f"generate_{name}.py").exists():
            continue
        module = importlib.import_module(f"training.generate_{name}")
        for row in module.rows(data, seed):
            yield f"generated_{name}", row


def example(stem: str, row: Row) -> Example:
    """An own or generated row as an example.

    Args:
        stem: of the file or the generator; says the task where the row doesn't, and names the source.
        row: in one of the formats of training/README.md.
    """
    labels: Mapping[str, Any] = row.get("labels") or {}
    task = row.get("task") or _TASKS[next(word for word in stem.split("_") if word in _TASKS)]
    group = f"{stem}:{labels.get('twin')}" if labels.get("twin") is not None else ""
    if "spans" in row:
        return Example(row["text"], stem, spans=entity_spans(row["spans"]), group=group, known={"toxic": 0.0})
    if task == "grounding":
        where = labels.get("context_id", row["context"])
        known = {"unsupported": float(row["label"])}
        return Example(row["text"], stem, known, context=row["context"], false=_false(row), group=f"{stem}:{where}")
    made = {"toxicity": toxicity, "injection": injection, "harmful": harmful}[task](row)
    identity = str(labels.get("identity") or "")
    return Example(row["text"], stem, made, group=group, identity=identity, focus=_focus(row))


def _false(row: Row) -> tuple[Span, ...] | None:
    labels: Mapping[str, Any] = row.get("labels") or {}
    if not row["label"]:
        return ()
    if "false" not in labels:
        return None
    return tuple((*place, kind) for kind, key in (("FALSE", "false"), ("", "unsure")) for place in labels[key])


def _focus(row: Row) -> tuple[int, int] | None:
    attack = (row.get("labels") or {}).get("attack")
    if not isinstance(attack, str) or not attack or attack not in row["text"]:
        return None
    start: int = row["text"].index(attack)
    return start, start + len(attack)


_FINER = {
    "insult_direct": "insult",
    "insult_without_swearwords": "insult",
    "bullying_at_work_or_school": "insult",
    "humiliation": "insult",
    "abuse_of_a_chatbot": "insult",
    "identity_insult": "identity_attack",
    "threat_explicit": "threat",
    "threat_veiled": "threat",
    "threat_against_group": "threat",
    "sexual_harassment": "sexual",
}


def toxicity(row: Row) -> dict[str, float]:
    """The labels of a toxicity row: those that it names or its function implies, and that it is no injection."""
    labels: Mapping[str, Any] = row.get("labels") or {}
    toxic = float(row["label"])
    known = {"toxic": toxic, "user": 0.0, "data": 0.0}
    if not toxic:
        known |= {"insult": 0.0, "threat": 0.0, "identity_attack": 0.0}
    elif labels.get("identity"):
        known["identity_attack"] = 1.0
    if toxic and labels.get("function") in _FINER:
        known[_FINER[labels["function"]]] = 1.0
    known |= {name: float(labels[name]) for name in TOXICITY if labels.get(name) in (0, 1)}
    return known


def injection(row: Row) -> dict[str, float]:
    """The labels of an injection row by its channel.

    An order that overrides the rules is one in a document as well. The other way round nothing follows: what is an
    attack inside a document can be a user's ordinary wish, and a harmless wish of a user an attack inside a document.
    """
    labels: Mapping[str, Any] = row.get("labels") or {}
    label = float(row["label"])
    channel = row.get("channel") or labels.get("channel") or "user"
    if channel == "data":
        return {"data": label} if label else {"data": 0.0, "user": 0.0}
    return {"user": label, "data": 1.0} if label else {"user": 0.0, "harmful": 0.0}


def harmful(row: Row) -> dict[str, float]:
    """The labels of a harmful request or its harmless twin; whether it is polite is not said."""
    if row["label"]:
        return {"harmful": 1.0, "user": 0.0} if (row.get("source") or "").startswith("own") else {"harmful": 1.0}
    return {"harmful": 0.0, "toxic": 0.0, "user": 0.0}


def entity_spans(spans: Iterable[Mapping[str, Any]]) -> tuple[Span, ...]:
    """The spans of our categories, in order and without overlap; the longer of two that overlap stays."""
    ours = [(s["start"], s["end"], RENAMED[s["category"]]) for s in spans if s["category"] in RENAMED]
    kept: list[Span] = []
    for span in sorted(ours, key=lambda span: (span[0] - span[1], span[0])):
        if all(span[1] <= other[0] or other[1] <= span[0] for other in kept):
            kept.append(span)
    return tuple(sorted(kept))
