"""The public sets: what each row of each teaches, and how much of it an epoch takes."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from training.labels import Example
from training.read import example, generated_rows, lines, own_rows
from training.toxicity_profanity import profane

Row = Mapping[str, Any]
_NO_ATTACK = {"user": 0.0, "data": 0.0}
_NO_KIND = {"insult": 0.0, "threat": 0.0, "identity_attack": 0.0}

#: Rows of a source in one epoch; a source that is smaller comes whole, and own rows several times.
PER_EPOCH: Mapping[str, int] = {
    "wiki": 6000,
    "wiki_toxic": 630,
    "civil": 5000,
    "civil_rest": 4000,
    "davidson": 2600,
    "davidson_neither": 2600,
    "diasafety": 3600,
    "hatemoji": 5905,
    "convabuse": 1535,
    "halueval_queries": 2200,
    "awesome": 2000,
    "guard": 3900,
    "bipia": 2700,
    "jailbreak_wild": 970,
    "deepset": 1070,
    "btc": 7000,
    "wnut17": 3394,
    "begin": 1500,
    "generated_toxicity": 10000,
    "generated_injection": 11000,
    "generated_harmful": 3000,
    "generated_pii": 15000,
    "grounding_records": 6000,
    "grounding_answers": 1600,
    "grounding_own_joined": 3000,
    "grounding_edits": 6500,
    "grounding_questions": 400,
}
#: How often an epoch holds each hand-written row.
OWN_TIMES = 2


def _wiki(row: Row) -> Example:
    toxic = float(row["label"])
    return Example(
        row["text"], "wiki_toxic" if toxic else "wiki", {"toxic": toxic, **_NO_ATTACK, **({} if toxic else _NO_KIND)}
    )


def _davidson(row: Row) -> Example:
    labels = row["labels"]
    if labels["class"] == "neither":
        return Example(row["text"], "davidson_neither", {"toxic": 0.05, **_NO_ATTACK, **_NO_KIND})
    # "offensive" is mostly swearing, and its raters mark African American English: a weak positive.
    hate = labels["class"] == "hate"
    sure = labels["offensive_votes"] + labels["hate_votes"] == labels["votes"]
    known = {"toxic": 0.95 if hate else 0.85, "identity_attack": 0.9 if hate else 0.1, **_NO_ATTACK}
    return Example(row["text"], "davidson", known, weight=0.6 if sure else 0.3)


def _diasafety(row: Row) -> Example | None:
    kind = row["labels"]["category"]
    if kind == "Toxicity Agreement":
        return None  # toxic only together with the turn before
    toxic = float(row["label"])
    finer = {"insult": 1.0} if kind == "Offending User" else {"identity_attack": 0.8}
    return Example(
        row["text"], "diasafety", {"toxic": 0.05 + 0.85 * toxic, **_NO_ATTACK, **(finer if toxic else _NO_KIND)}
    )


def _hatemoji(row: Row) -> Example:
    toxic = float(row["label"])
    finer = {"identity_attack": 1.0, "threat": float(row["labels"]["type"] == "threateninglanguage")}
    return Example(row["text"], "hatemoji", {"toxic": toxic, **_NO_ATTACK, **(finer if toxic else _NO_KIND)})


def _convabuse(row: Row) -> Example:
    toxic = float(row["label"])
    kinds = row["labels"]["kinds"]
    known = {"toxic": toxic, **_NO_ATTACK, "sexual": float("sex_harassment" in kinds)}
    if toxic:
        known |= {"identity_attack": float(bool({"homophobic", "sexist", "racist", "transphobic"} & set(kinds)))}
        known |= {"insult": 1.0} if "intellectual" in kinds else {}
    else:
        known |= {"threat": 0.0, "identity_attack": 0.0}
    return Example(row["text"], "convabuse", known)


def _guard(row: Row) -> Example:
    known = {"harmful": 0.03 + 0.94 * row["label"]}
    return Example(row["text"], "guard", known if row["label"] else known | {"toxic": 0.05})


def _bipia(row: Row) -> Example | None:
    if row["labels"]["context_kind"] != "email":
        return None  # tables and code answers are share-alike
    attack = row["labels"].get("attack") or ""
    start = row["text"].find(attack) if row["label"] else -1
    focus = (start, start + len(attack)) if start >= 0 else None
    known = {"data": float(row["label"]), "harmful": 0.0} | ({} if row["label"] else {"user": 0.0, "toxic": 0.0})
    return Example(row["text"], "bipia", known, focus=focus, group=f"bipia:{attack or row['text'][:200]}")


def _deepset(row: Row) -> Example:
    label = row["label"]
    return Example(
        row["text"], "deepset", {"user": 0.05 + 0.9 * label} | ({"data": 0.95} if label else {"harmful": 0.0})
    )


def _jailbreak(row: Row) -> Example:
    return Example(row["text"], "jailbreak_wild", {"user": 1.0, "data": 1.0})


def _query(source: str) -> Callable[[Row], Example]:
    # Not screened: a few ask for questionable things, and some personas are close to jailbreaks.
    return lambda row: Example(row["text"], source, {"user": 0.0, "harmful": 0.03, "toxic": 0.0})


def _named(stem: str, row: Row) -> Example:
    # Handles are names of people in one set and nothing in another: nobody is taught on them.
    made = example(stem, row)
    handles = tuple((m.start(), m.end(), "") for m in re.finditer(r"@\w+", made.text))
    free = tuple(s for s in made.spans or () if all(s[1] <= h[0] or h[1] <= s[0] for h in handles))
    return dataclasses.replace(
        made, source=_TOKENS[row["source"]], spans=tuple(sorted(free + handles)), known=_NO_ATTACK
    )


def _grounded(stem: str, row: Row) -> Example:
    made = example(stem, row)
    if not row["source"].startswith("begin"):
        return dataclasses.replace(made, source=row["source"])
    return dataclasses.replace(made, source="begin", known={"unsupported": 0.03 + 0.94 * row["label"]})


def _generated(stem: str, row: Row) -> Example | None:
    if row["source"] in _LEFT_OUT:
        return None
    if row["source"] in _TOKENS:
        return _named(stem, row)
    return _grounded(stem, row) if "context" in row else example(stem, row)


PUBLIC: Mapping[str, Callable[[Row], Example | None]] = {
    "toxicity/context_toxicity_wiki_gc": _wiki,
    "toxicity/context_toxicity_wiki_gn": _wiki,
    "toxicity/davidson": _davidson,
    "toxicity/diasafety": _diasafety,
    "toxicity/hatemoji_build": _hatemoji,
    "toxicity/convabuse": _convabuse,
    "harmful/guardreasoner_wildguard_aegis": _guard,
    "injection/bipia": _bipia,
    "injection/deepset": _deepset,
    "injection/jailbreak_wild": _jailbreak,
    "benign/halueval_queries": _query("halueval_queries"),
    "benign/awesome_prompts_new": _query("awesome"),
}
#: Public sets with labelled tokens, which come cleaned from ``generate_pii``.
_TOKENS = {"btc": "btc", "wnut17_train": "wnut17"}
#: Public rows that the generators give and a shipped model is not made from: share-alike.
_LEFT_OUT = ("begin_dev_tc", "presidio_generated_large")
_CIVIL = "toxicity/toxic_spans_civil_spans"
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")


def civil(row: Row) -> Iterator[Example]:
    """A toxic comment, and its longest run of clean sentences as a probable negative of the same style."""
    spans = [(span["start"], span["end"]) for span in row["spans"]]
    if not spans:
        return
    group = f"civil:{row['text'][:200]}"
    first = (spans[0][0], spans[0][1])
    yield Example(row["text"], "civil", {"toxic": 0.97, **_NO_ATTACK}, focus=first, group=group)
    clean, run = "", ""
    for match in _SENTENCE.finditer(row["text"]):
        touched = any(start < match.end() and match.start() < end for start, end in spans)
        run = "" if touched else run + match.group()
        clean = max(clean, run, key=len)
    if len(clean.strip()) > 40:
        yield Example(clean.strip(), "civil_rest", {"toxic": 0.1, **_NO_ATTACK}, group=group, weight=0.6)


def _sworn(item: Example) -> Example:
    # No set of these labels swearing; a text without a swear word that is toxic may swear in a way that no list has.
    if profane(item.text):
        return dataclasses.replace(item, known={**item.known, "obscene": 1.0})
    return item if item.known["toxic"] > 0.5 else dataclasses.replace(item, known={**item.known, "obscene": 0.0})


def examples(data: Path, seed: int, *, own: bool = True) -> Iterator[Example]:
    """Every example of the training data, in a fixed order.

    Args:
        data: the directory with the public sets.
        seed: of the generators.
        own: with hand-written and generated rows.
    """
    for name, convert in PUBLIC.items():
        for row in lines(data / f"{name}.jsonl.gz"):
            if (made := convert(row)) is not None:
                yield _sworn(made) if name.startswith("toxicity/") else made
    for row in lines(data / f"{_CIVIL}.jsonl.gz"):
        yield from map(_sworn, civil(row))
    if own:
        for stem, written in own_rows(data):
            yield example(stem, written)
        for stem, written in generated_rows(data, seed):
            if (made := _generated(stem, written)) is not None:
                yield made


def held_out(item: Example, share: float = 0.04) -> bool:
    """Whether an example is kept from training, by a hash of its group: twins, contexts and attacks stay whole."""
    digest = hashlib.sha256((item.group or item.text).encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32
