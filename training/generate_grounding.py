"""Rows for the grounding head: a context, a statement, and whether the context fails to support it (label 1).

``rows(data, seed)`` gives, in shares: statements from structured records; hand-written statements joined and with
names exchanged; sentences of public texts, paraphrased or with one fact edited; answers of a chat about a public text;
short answers to questions; and the public rows themselves. All but the chat answers and the public rows are
thinned so that length, shared words and negation tell nothing about the label.
"""

from __future__ import annotations

import difflib
import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from training.grounding_edits import NAME, Editor, sentences
from training.grounding_records import Row, Writer
from training.marks import differing, false, plain, unmarked, unsure

BEGIN = ("begin_dev_wow", "begin_dev_tc", "begin_dev_cmu")
# Texts that rows are made from; those of begin_dev_tc are share-alike and give no new rows.
TEXTS = ("begin_dev_wow", "begin_dev_cmu", "halueval_qa")
OWN = Path(__file__).parent / "data" / "grounding_own.jsonl"
CONTEXT_WORDS = 200
# Shares of the kinds of generated rows; of records and edits more are made, since thinning drops about a quarter.
SHARES = {"records": 0.42, "own": 0.14, "edits": 0.26, "answers": 0.18, "questions": 0.06}
NEGATION = re.compile(r"\b(?:not|no|never|nobody|nothing|none|without|cannot)\b|n't\b", re.IGNORECASE)
WORD = re.compile(r"\w+")


def rows(data: Path, seed: int, size: int = 24_000) -> Iterator[Row]:
    """Generated rows of both labels alike, then the public ones.

    Args:
        data: the training data's directory; its ``groundedness`` folder is read.
        seed: of everything random.
        size: about how many rows are generated.
    """
    draw = random.Random(seed)  # noqa: S311 - sampling data, not secrets
    public = {
        name: read(data / "groundedness" / f"{name}.jsonl.gz") for name in (*BEGIN, "begin_dev_generic", "halueval_qa")
    }
    with OWN.open(encoding="utf-8") as file:
        own = [json.loads(line) for line in file]
    contexts = sorted({row["context"] for name in TEXTS for row in public[name]})
    names = sorted({name for text in contexts for name in NAME.findall(text) if len(name) < 30})
    editor, writer = Editor(draw, names), Writer(draw)
    makers: dict[str, Callable[[], list[Row]]] = {
        "records": writer.rows,
        "edits": lambda: edited(editor, draw.choice(contexts)),
        "answers": lambda: answers(editor, contexts),
        "questions": lambda: questions(draw, public["halueval_qa"]),
    }
    by_context: dict[str, list[Row]] = defaultdict(list)
    for row in own:
        by_context[row["context"]].append(row)
    own_groups = list(by_context.values())
    makers["own"] = lambda: joined(draw, draw.choice(own_groups), editor.people)
    for kind, share in SHARES.items():
        made: list[Row] = []
        seen: set[tuple[str, str]] = set()
        tries = 0
        goal = int(share * size * (1.0 if kind in ("answers", "questions") else 1.35))
        while len(made) < goal and tries < goal:
            tries += 1
            new_rows = makers[kind]()
            keys = {(row["context"], row["text"]) for row in new_rows}
            if seen.isdisjoint(keys):
                seen |= keys
                made += new_rows
        yield from made if kind in ("answers", "questions") else thinned(draw, made)
    for name in (*BEGIN, "begin_dev_generic"):
        for row in public[name]:
            yield {**row, "labels": {"edit": "public"}, "lang": "en"}


def read(path: Path) -> list[Row]:
    """Rows of a compressed file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def new(context: str, text: str, label: int, edit: str, source: str) -> Row:
    """A row; ``labels.false`` has the places of false words, ``labels.unsure`` those where nobody knows which."""
    bare, wrong, open_ = unmarked(text)
    labels: dict[str, Any] = {"edit": edit}
    if label:
        labels |= {"false": wrong, "unsure": open_}
    return {"context": context, "text": bare, "label": label, "labels": labels, "source": source, "lang": "en"}


def joined(draw: random.Random, group: list[Row], new_names: list[str]) -> list[Row]:
    """Two hand-written statements about a context as one, supported and not, with a name exchanged throughout."""
    good, bad = ([row for row in group if row["label"] == label] for label in (0, 1))
    if len(good) < 2 or not bad:
        return []
    first = draw.choice(good)
    second, wrong = draw.choice([row for row in good if row is not first]), draw.choice(bad)
    alike = max(good, key=lambda row: difflib.SequenceMatcher(None, row["text"], wrong["text"]).ratio())
    said = differing(wrong["text"], alike["text"])
    if draw.random() < 0.35:
        picks = [(first["text"], 0, "none"), (said, 1, wrong["labels"]["edit"])]
    else:
        order = draw.choice([1, -1])
        picks = [
            (" ".join([first["text"], second["text"]][::order]), 0, "none"),
            (" ".join([first["text"], said][::order]), 1, wrong["labels"]["edit"]),
        ]
    context = first["context"]
    speakers = re.findall(r"\b([A-Z][a-z]{2,})(?=:)", context)
    people = [name for name in speakers if speakers.count(name) > 1]
    swaps = {name: draw.choice(new_names) for name in sorted(set(people)) if draw.random() < 0.7}

    def renamed(text: str) -> str:
        for old, name in swaps.items():
            text = re.sub(rf"\b{old}\b", name, text)
        return text

    if len(set(swaps.values())) < len(swaps) or any(name in context for name in swaps.values()):
        swaps = {}
    return [new(renamed(context), renamed(text), label, edit, "grounding_own_joined") for text, label, edit in picks]


def passage(editor: Editor, context: str) -> tuple[list[str], list[str]] | None:
    """Sentences of at most 200 words in a row, and those of them that can be a statement."""
    parts = sentences(context)
    start = editor.draw.randrange(len(parts))
    chosen: list[str] = []
    for part in parts[start:]:
        if sum(len(piece.split()) for piece in [*chosen, part]) > CONTEXT_WORDS:
            break
        chosen.append(part)
    usable = [part for part in chosen if 5 <= len(part.split()) <= 32 and part[-1] in ".!" and part.count('"') % 2 == 0]
    return (chosen, usable) if usable else None


def edited(editor: Editor, context: str) -> list[Row]:
    """Statements from one or two sentences of a text, with and without an edit, about the text and an edited text.

    What is true of the one text is false of the other, so the statement alone can't tell its label.
    """
    found = passage(editor, context)
    if not found:
        return []
    chosen, usable = found
    picked = editor.draw.sample(usable, min(len(usable), editor.draw.choice([1, 1, 2])))
    at = editor.draw.randrange(len(picked))
    text = " ".join(chosen)
    wrong = editor.edit(picked[at], text)
    if wrong is None:
        return []
    new_text = " ".join(wrong[0] if part == picked[at] else part for part in chosen)
    old, other = differing(picked[at], wrong[0]), differing(wrong[0], picked[at])
    result = []
    for about, part, label in ((text, old, 0), (text, other, 1), (new_text, other, 0), (new_text, old, 1)):
        said = editor.paraphrase(part)
        if plain(said) == said:
            continue  # the edit was in what a paraphrase leaves out
        whole = " ".join(said if place == at else editor.paraphrase(one) for place, one in enumerate(picked))
        result.append(new(about, whole, label, wrong[1] if label else "none", "grounding_edits"))
    return result


def answers(editor: Editor, contexts: list[str]) -> list[Row]:
    """A chat's answers about a text: told by it, told by another text, told by none, or told and something added."""
    draw = editor.draw
    found = passage(editor, draw.choice(contexts))
    if not found:
        return []
    chosen, usable = found
    # Half of the contexts are one sentence, as where a chat is given the sentence that it should use.
    sentence = draw.choice(usable)
    context = sentence if draw.random() < 0.5 else " ".join(chosen)
    if draw.random() < 0.3:
        context = context.lower()
    good = clause(draw, editor.paraphrase(sentence))
    roll = draw.random()
    names = NAME.findall(sentence)
    matter = draw.choice(names) if names and draw.random() < 0.7 else draw.choice(["it", "this", "that one"])
    if roll < 0.35:
        bad, edit = unsure(editor.foreign(matter)), "outside"
    elif roll < 0.6:
        other = draw.choice(contexts)
        parts = [part for part in sentences(other) if 4 <= len(part.split()) <= 30]
        bad, edit = clause(draw, draw.choice(parts or [other])), "other_text"
        if names:
            bad = NAME.sub(lambda _: matter if matter in names else names[0], bad, count=1)
        bad = unsure(bad)
    elif roll < 0.85:
        start = clause(draw, editor.paraphrase(sentence)).rstrip(".")
        bad, edit = f"{start}. {unsure(editor.foreign(matter))}", "added"
        second = draw.choice(usable)
        if second != sentence:  # as long a reply, all of it told
            context = " ".join(chosen)
            good = f"{good.rstrip('.')}. {clause(draw, editor.paraphrase(second))}"
    else:
        made = falsified(editor, sentence, context)
        if made is None:
            return []
        context, good, bad, edit = made
    return [
        new(context, editor.chatty(good), 0, "none", "grounding_answers"),
        new(context, editor.chatty(bad), 1, edit, "grounding_answers"),
    ]


def falsified(editor: Editor, sentence: str, context: str) -> tuple[str, str, str, str] | None:
    """A context, a true and a false answer about a sentence of it, and the kind of the edit; None where none fits."""
    draw = editor.draw
    wrong = editor.edit(sentence, context)
    if wrong is None or sentence not in context:
        return None
    good = clause(draw, editor.paraphrase(differing(sentence, wrong[0])))
    bad = clause(draw, editor.paraphrase(differing(wrong[0], sentence)))
    if plain(good) == good or plain(bad) == bad:
        return None  # the edit was in what a paraphrase leaves out
    if draw.random() < 0.5:  # the edit into the context: what was said is false then, and the edit true
        context, good, bad = context.replace(sentence, wrong[0]), bad, good
    return context, good, bad, wrong[1]


def clause(draw: random.Random, sentence: str) -> str:
    """The sentence, or at times its beginning up to a comma: what a chat repeats of it."""
    parts = re.split(r"(?<=\w), (?=(?:and|but|which|who|while|with|starring|including|although)\b)", sentence)
    return sentence if len(parts) == 1 or draw.random() < 0.5 or len(parts[0].split()) < 5 else f"{parts[0]}."


def questions(draw: random.Random, qa: list[Row]) -> list[Row]:
    """A question with its short answer, and with another question's answer of the same form."""
    rights = [row for row in qa if row["label"] == 0]
    row = draw.choice(rights)

    def form(text: str) -> tuple[bool, bool, int]:
        return text[0].isupper(), any(sign.isdigit() for sign in text), min(len(text.split()), 4)

    answer = row["text"]
    inside = [name for name in NAME.findall(row["context"]) if name not in answer and answer not in name]
    inside = [name for name in inside if form(name) == form(answer)]
    others = [other["text"] for other in rights if form(other["text"]) == form(answer) and other["text"] != answer]
    wrong = draw.choice(inside) if inside and draw.random() < 0.6 else draw.choice(others) if others else None
    if wrong is None:
        return []
    question = re.sub(r"\s+", " ", row["labels"]["question"]).strip()
    return [
        new(row["context"], f"{question} {answer}", 0, "none", "grounding_questions"),
        new(row["context"], f"{question} {false(wrong)}", 1, "answer", "grounding_questions"),
    ]


def thinned(draw: random.Random, made: list[Row]) -> list[Row]:
    """Rows thinned until both labels are alike in words, words and numbers that the context lacks, and negation."""
    bins: dict[tuple[Any, ...], tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for row in made:
        known = {word.lower() for word in WORD.findall(row["context"])}
        words = [word.lower() for word in WORD.findall(row["text"])]
        lacks = sum(word not in known for word in words)
        numbers = min(sum(word[0].isdigit() and word not in known for word in words), 3)
        key = (
            len(words) // 4,
            numbers,
            lacks if lacks < 8 else lacks // 3 + 6,
            NEGATION.search(row["text"]) is not None,
        )
        bins[key][row["label"]].append(row)
    kept: list[Row] = []
    for good, bad in bins.values():
        count = min(len(good), len(bad))
        kept += draw.sample(good, count) + draw.sample(bad, count)
    draw.shuffle(kept)
    return kept
