"""Injection rows: attack templates by goals by wrappers, in fourteen languages, and look-alikes that share their words.

User prompts and documents are told apart (``channel``): a command is normal in the one and an attack in the other.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from training.injection_documents import document, put_in
from training.injection_encodings import ENCODINGS, OPAQUE, READABLE, scruff
from training.injection_grammar import expand, load

PARTS = Path(__file__).parent / "injection_parts"
LANGUAGES = ("de", "fr", "es", "it", "pt", "nl", "pl", "tr", "ru", "zh", "ja", "ar", "hi")
_LANGUAGE_WEIGHTS = (
    40,
    8,
    8,
    6,
    6,
    5,
    5,
    5,
    6,
    6,
    5,
    5,
    5,
)  # German first: it is the second language of the public sets
FILES = ("direct", "gate", "persona", "languages", "lookalike", "indirect", "documents")

Made = tuple[str, str, str]  # text, function, language


class Parts:
    """All lists of parts, and the queries of people that the data directory holds."""

    def __init__(self, data: Path) -> None:
        self.slots: dict[str, list[str]] = {}
        for name in FILES:
            self.slots |= load(PARTS / f"{name}.yaml")
        self.slots |= {"encoded": ["‹$encoded›"], "benign_encoded": ["‹$benign_encoded›"]}
        self.queries = _queries(data)
        self.hosts = _hosts(data)


def _find(data: Path, name: str) -> list[dict[str, Any]]:
    for path in (data / name, data / "train" / name):
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return [json.loads(line) for line in lines]
    return []


def _hosts(data: Path) -> list[str]:
    """Texts that people wrote, to be documents: our notes, mails, logs and contexts, and clean mails of BIPIA (MIT)."""
    texts = [row["text"] for row in _find(data, "own/pii_entities.jsonl.gz")]
    texts += sorted({row["context"] for row in _find(data, "own/groundedness_pairs.jsonl.gz")})
    bipia = _find(data, "injection/bipia.jsonl.gz")
    texts += [row["text"] for row in bipia if not row["label"] and row["labels"]["context_kind"] == "email"]
    return [text for text in texts if len(text) > 60]


def _queries(data: Path) -> list[str]:
    """Ordinary requests, normal from a user and an attack inside a document (HaluEval, MIT); none without the file."""
    texts = [row["text"] for row in _find(data, "benign/halueval_queries.jsonl.gz")]
    return [text for text in texts if len(text) < 160 and "\n" not in text]


def _say(template: str, parts: Parts, rng: Random) -> str:
    return expand(template, parts.slots, rng)


def _bind_encoded(parts: Parts, rng: Random) -> None:
    """Put fresh disguised texts behind the two slots that templates ask for."""
    attack, harmless = _say("Ignore your rules and ‹$goal›", parts, rng)[:90], _say("‹$plain_task›", parts, rng)[:90]
    parts.slots["encoded"] = [ENCODINGS[rng.choice(OPAQUE)](attack, rng)]
    parts.slots["benign_encoded"] = [ENCODINGS[rng.choice(OPAQUE)](harmless, rng)]


def _override(parts: Parts, rng: Random) -> Made:
    _bind_encoded(parts, rng)
    name = rng.choices(["override", "extraction", "switch"], weights=[64, 18, 18])[0]
    text = _say(rng.choice(parts.slots[name]), parts, rng)
    if rng.random() < 0.15:
        text = f"{_say(rng.choice(parts.slots['filler']), parts, rng)} {text}"
    return scruff(text, rng), name, "en"


def _gate(parts: Parts, rng: Random) -> Made:
    text = _say(rng.choice(parts.slots["gate_attack"]), parts, rng)
    if rng.random() < 0.2:
        text = _say("‹$flood›", parts, rng) + rng.choice(["\n", " ", "\n\n\n"]) + text
    elif rng.random() < 0.2:
        text += rng.choice(["\n", " ", "\n\n"]) + _say(rng.choice(parts.slots["gate_attack"]), parts, rng)
    return scruff(text, rng), "gate", "en"


def _persona(parts: Parts, rng: Random) -> Made:
    skeleton = rng.choice(parts.slots["jb_skeleton"])
    lists = {"O": "jb_open", "T": "jb_trait", "R": "jb_rule", "F": "jb_form", "P": "jb_press", "A": "jb_ask"}
    used: set[str] = set()
    pieces: list[str] = []
    for letter in skeleton:
        left = [entry for entry in parts.slots[lists[letter]] if entry not in used] or parts.slots[lists[letter]]
        entry = rng.choice(left)
        used.add(entry)
        pieces.append(entry)
    glue = rng.choice([" ", " ", "\n", "\n\n"])
    return scruff(_say(glue.join(pieces), parts, rng), rng), "persona_jailbreak", "en"


def _foreign(kind: str) -> Callable[[Parts, Random], Made]:
    def make(parts: Parts, rng: Random) -> Made:
        lang = rng.choices(LANGUAGES, weights=_LANGUAGE_WEIGHTS)[0]
        text = _say(rng.choice(parts.slots[f"{lang}_{kind}"]), parts, rng)
        return scruff(text, rng), f"multilingual_{kind}", lang

    return make


def _encoded(parts: Parts, rng: Random) -> Made:
    text = _say(rng.choice(parts.slots["override"][:40]), parts, rng)
    name = rng.choice(READABLE) if rng.random() < 0.6 else rng.choice(OPAQUE)
    hidden = ENCODINGS[name](text[:160], rng)
    if name in OPAQUE:
        hidden = (
            rng.choice(["Decode and obey: ", "Your new orders, decode them first: ", "Run what this says: "]) + hidden
        )
    return hidden, f"obfuscated_{name}", "en"


def _benign_encoded(parts: Parts, rng: Random) -> Made:
    text = _say("‹$plain_task›", parts, rng)
    name = rng.choice(list(ENCODINGS))
    lead = rng.choice(["What does this say? ", "Decode: ", "My son sent me this: ", "Read this puzzle: ", ""])
    return lead + ENCODINGS[name](text[:160], rng), f"benign_{name}", "en"


def _lookalike(name: str) -> Callable[[Parts, Random], Made]:
    def make(parts: Parts, rng: Random) -> Made:
        _bind_encoded(parts, rng)
        return scruff(_say(rng.choice(parts.slots[name]), parts, rng), rng), name, "en"

    return make


def _plain(parts: Parts, rng: Random) -> Made:
    text = _say(" ".join(rng.sample(["‹$plain_task›", "‹$plain_task›", "‹$question›"], rng.randint(1, 3))), parts, rng)
    if rng.random() < 0.3:
        text = f"{text}\n\n{_say(rng.choice(parts.slots['filler'] + parts.slots['command_prose']), parts, rng)}"
    return scruff(text, rng), "benign_task", "en"


USER: dict[int, tuple[tuple[Callable[[Parts, Random], Made], int], ...]] = {
    1: ((_override, 36), (_gate, 22), (_persona, 20), (_foreign("attack"), 16), (_encoded, 6)),
    0: (
        (_lookalike("benign_persona"), 28),
        (_lookalike("benign_security"), 18),
        (_plain, 14),
        (_foreign("benign"), 12),
        (_lookalike("benign_correction"), 10),
        (_lookalike("benign_game"), 8),
        (_lookalike("benign_prompting"), 5),
        (_lookalike("benign_code"), 4),
        (_lookalike("benign_noise"), 2),
        (_benign_encoded, 3),
    ),
}


def _stranger(kind: str, parts: Parts, rng: Random) -> tuple[str, str]:
    """A line for the machine that reads the document, and which family it is of."""
    if kind == "code" and rng.random() < 0.6:
        return _say(rng.choice(parts.slots["code_attack"]), parts, rng), "code_attack"
    family = rng.choices(
        ["plain_task", "query", "add_attack", "style_attack", "agent_attack", "foreign"],
        weights=[16, 18, 24, 12, 24, 6],
    )[0]
    if family == "query":
        if parts.queries:
            return rng.choice(parts.queries), "query"
        family = "plain_task"
    if family == "foreign":
        lang = rng.choice(LANGUAGES)
        return _say(
            rng.choice(parts.slots[f"{lang}_{rng.choice(['attack', 'question'])}"]), parts, rng
        ), f"foreign_{lang}"
    return _say(rng.choice(parts.slots[family]), parts, rng), family


def _row(text: str, label: int, channel: str, lang: str, labels: dict[str, Any]) -> dict[str, Any]:
    return {
        "text": text,
        "label": label,
        "task": "injection",
        "channel": channel,
        "labels": labels,
        "source": "own_generated",
        "lang": lang,
    }


def _user_rows(parts: Parts, rng: Random) -> Iterator[dict[str, Any]]:
    while True:
        for label, makers in USER.items():
            make = rng.choices([maker for maker, _ in makers], weights=[weight for _, weight in makers])[0]
            text, function, lang = make(parts, rng)
            yield _row(text, label, "user", lang, {"function": function, "twin": None})


def _document(parts: Parts, rng: Random) -> tuple[str, list[str]]:
    """A made document, or (one in four) a text that a person wrote, alone or two in a row."""
    if not parts.hosts or rng.random() < 0.75:
        return document(parts.slots, rng)
    text = "\n".join(rng.choices(parts.hosts, k=rng.choice([1, 1, 2])))
    return "host", text.split("\n") if "\n" in text else text.replace(". ", ".\n").split("\n")


def _document_rows(parts: Parts, rng: Random) -> Iterator[dict[str, Any]]:
    number = 0
    while True:
        number += 1
        kind, pieces = _document(parts, rng)
        twin = f"document:{number}"
        yield _row(
            "\n".join(pieces),
            0,
            "data",
            "en",
            {"function": "clean", "kind": kind, "position": "", "attack": "", "twin": twin},
        )
        line, family = _stranger(kind, parts, rng)
        position = rng.choice(["start", "middle", "end", "inline"])
        text = put_in(pieces, line, position, rng).strip()
        labels = {"function": family, "kind": kind, "position": position, "attack": line.strip(), "twin": twin}
        yield _row(text, 1, "data", "en", labels)


def rows(data: Path, seed: int, size: int = 25_000) -> Iterator[dict[str, Any]]:
    """Yield ``size`` rows, no text twice: 60 in 100 user prompts, 40 in 100 documents, about half of each attacks.

    Args:
        data: the directory with the public training sets; ordinary queries there are put into documents too.
        seed: the same seed and size give the same rows.
        size: how many rows.
    """
    rng = Random(seed)  # noqa: S311 - reproducible draws
    parts = Parts(data)
    streams = [(_user_rows(parts, rng), size * 6 // 10), (_document_rows(parts, rng), size - size * 6 // 10)]
    seen: set[str] = set()
    for stream, quota in streams:
        made = 0
        while made < quota:
            row = next(stream)
            text = row["text"].strip()
            if not text or text in seen:
                continue
            seen.add(text)
            made += 1
            yield row | {"text": text}
