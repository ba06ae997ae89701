"""Crosses sentence templates with identity terms, names, emoji and spelling tricks.

Twins are made together: for each identity term a template gives its toxic text and its benign ones, so that the share
of toxic rows is the same for each term in each function and a term alone decides nothing. Which templates a term gets
is a rotation, not a draw, so that templates are used evenly too. A seed fixes the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from training.toxicity_identities import PARTS, Identity, Words, fill, identities, words
from training.toxicity_noise import TRICKS
from training.toxicity_profanity import profane

FINER = ("insult", "threat", "identity_attack", "obscene", "sexual")
SOURCE = "own_generated"
#: Lines of each function that one identity term gets: enough to show it with each, few enough to keep functions even.
LINES_A_TERM = {"pairs": 4, "emoji": 8, "benign": 4, "frames": 4, "adjectives": 25, "things": 4}
#: One twin in so many gets copies with a spelling trick.
TRICK_EVERY = 3
#: One twin in so many gets copies with emoji after it and with emoji for letters.
DECORATE_EVERY = 9
#: Angry and kind alike, after toxic and benign texts alike.
EMOJI_AFTER = (
    "😡",
    "🤬",
    "🤮",
    "👎",
    "😂",
    "💀",
    "❤️",
    "😍",
    "👍",
    "🥰",
    "🔥",
    "😭",
    "🙄",
    "💯",
    "🎉",
    "😊",
    "🤡",
    "👊",
    "🖕",
    "🙏",
)

Texts = list[tuple[int, str]]


def rows(data: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Training rows, the same for the same seed.

    Args:
        data: the training data; not read, these rows come from the parts beside this module alone.
        seed: of the draws.

    Returns:
        Rows with ``text``, ``label``, ``task``, ``labels`` (all finer labels, ``function``, ``twin`` and, where there
        is one, ``identity``), ``source`` and ``lang``. No text comes twice.
    """
    del data
    seen: set[str] = set()
    for made in (_pairs, _emoji, _frames, _adjectives, _things, _benign, _languages):
        rng = Random(f"{seed}:{made.__name__}")  # noqa: S311 - reproducible draws, no secret
        for row in made(rng):
            key = " ".join(row["text"].casefold().split())
            if key not in seen:
                seen.add(key)
                yield row


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PARTS / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def _lines(block: str) -> list[str]:
    return [line.strip() for line in block.splitlines() if line.strip()]


def _rotation(lines: Sequence[str], term: int, count: int) -> list[str]:
    """The lines that the term gets: all are used equally often over the terms."""
    count = min(count, len(lines))
    return [lines[(term * count + place) % len(lines)] for place in range(count)]


def _row(text: str, label: int, function: str, twin: str, finer: Sequence[str], **more: str) -> dict[str, Any]:
    lang = more.pop("lang", "en")
    flags = {name: int(label == 1 and name in finer) for name in FINER} | {
        "obscene": int(profane(more.pop("said", text)))
    }
    return {
        "text": text,
        "label": label,
        "task": "toxicity",
        "labels": {**flags, "function": function, "twin": twin, **more},
        "source": SOURCE,
        "lang": lang,
    }


def _texts(line: str, term: Identity | None, slots: Words, rng: Random) -> Texts:
    toxic, *benign = (part.strip() for part in line.split("||"))
    return [(1, fill(toxic, term, slots, rng)), *((0, fill(part, term, slots, rng)) for part in benign)]


def _twins(texts: Texts, function: str, twin: str, finer: Sequence[str], **more: str) -> Iterator[dict[str, Any]]:
    for label, text in texts:
        yield _row(text, label, function if label else f"{function}_twin", twin, finer, **more)


def _tricked(
    texts: Texts, function: str, twin: str, finer: Sequence[str], rng: Random, **more: str
) -> Iterator[dict[str, Any]]:
    """One toxic text and one of its twins with the same trick."""
    trick = rng.choice(list(TRICKS))
    pair = [texts[0], rng.choice(texts[1:])]
    for label, text in pair:
        name = f"spelling_{trick}" if label else f"spelling_{trick}_twin"
        yield _row(TRICKS[trick](text, rng), label, name, f"{twin}:trick", finer, of=function, said=text, **more)


def _decorated(
    texts: Texts, function: str, twin: str, finer: Sequence[str], rng: Random, **more: str
) -> Iterator[dict[str, Any]]:
    """A toxic text and a twin with the same emoji after them, and with the emoji that look like letters."""
    pair = [texts[0], rng.choice(texts[1:])]
    emoji = rng.choice(EMOJI_AFTER) * rng.randrange(1, 4)
    for label, text in pair:
        name = "emoji_after" if label else "emoji_after_twin"
        yield _row(f"{text} {emoji}", label, name, f"{twin}:after", finer, of=function, **more)
    for label, text in pair:
        name = "emoji_letters" if label else "emoji_letters_twin"
        written = TRICKS["letter_emoji"](text, rng)
        yield _row(written, label, name, f"{twin}:letters", finer, of=function, said=text, **more)


def _crossed(
    file: str, terms: Sequence[Identity], count: int, slots: Words, rng: Random, *, tricks: bool
) -> Iterator[dict[str, Any]]:
    for function, part in _load(file).items():
        lines, finer = _lines(part["lines"]), part["finer"].split()
        rng.shuffle(lines)
        for at, term in enumerate(terms) if part.get("crossed", True) else ():
            for number, line in enumerate(_rotation(lines, at, count)):
                twin = f"{function}:{at}:{number}"
                texts = _texts(line, term, slots, rng)
                yield from _twins(texts, function, twin, finer, identity=term.group)
                if tricks and (at + number) % TRICK_EVERY == 0:
                    yield from _tricked(texts, function, twin, finer, rng, identity=term.group)
                if tricks and (at + number) % DECORATE_EVERY == 1:
                    yield from _decorated(texts, function, twin, finer, rng, identity=term.group)
        if not part.get("crossed", True):
            for number, line in enumerate(lines * 6):
                yield from _twins(_texts(line, None, slots, rng), function, f"{function}:{number}", finer)


def _pairs(rng: Random) -> Iterator[dict[str, Any]]:
    yield from _crossed("identity_pairs", identities(), LINES_A_TERM["pairs"], words(), rng, tricks=True)


def _emoji(rng: Random) -> Iterator[dict[str, Any]]:
    shown = [term for term in identities() if term.emoji]
    yield from _crossed("emoji_pairs", shown, LINES_A_TERM["emoji"], words(), rng, tricks=False)


def _frames(rng: Random) -> Iterator[dict[str, Any]]:
    """Clauses of hate in frames that endorse them and in frames that quote, forbid or deny them."""
    loaded = {name: _lines(block) for name, block in _load("frames").items()}
    slots = words()
    for at, term in enumerate(identities()):
        for number, clause in enumerate(_rotation(loaded["clauses"], at, LINES_A_TERM["frames"])):
            said = fill(clause, term, slots, rng)
            texts = []
            for label, side in ((1, "toxic"), (0, "benign")):
                frames = loaded[side]
                frame = fill(frames[(at * 5 + number * 3) % len(frames)].replace("{x}", "\0"), term, slots, rng)
                texts.append((label, frame.replace("\0", said)))
            yield from _twins(texts, "quoted_hate", f"frames:{at}:{number}", ("identity_attack",), identity=term.group)


def _adjectives(rng: Random) -> Iterator[dict[str, Any]]:
    """The same short sentence with an insulting and with a kind adjective or verb."""
    loaded = _load("adjective_templates")
    templates, verbs = _lines(loaded["templates"]), loaded["verbs"]
    rng.shuffle(templates)
    slots = words()
    kinds = {1: (slots["insulting"], verbs["toxic"]), 0: (slots["kind"], verbs["benign"])}
    for at, term in enumerate(identities()):
        for number, template in enumerate(_rotation(templates, at, LINES_A_TERM["adjectives"])):
            texts = []
            for label, (adjectives, verb) in kinds.items():
                drawn = {**slots, "q": adjectives, "aq": adjectives, "v": verb}
                texts.append((label, fill(template.replace("{aq}", "a {q}"), term, drawn, rng)))
            finer = ("insult", "identity_attack")
            yield from _twins(texts, "adjective", f"adjective:{at}:{number}", finer, identity=term.group)


def _things(rng: Random) -> Iterator[dict[str, Any]]:
    """The same words of hate against people and against things, in words and in emoji."""
    loaded = {name: _lines(block) for name, block in _load("thing_templates").items()}
    things = [tuple(cell.strip() for cell in line.split("|")) for line in loaded["things"]]
    for kind, count in (("templates", LINES_A_TERM["things"]), ("emoji_templates", 2)):
        for at, term in enumerate(identities()):
            if kind == "emoji_templates" and not term.emoji:
                continue
            for number, template in enumerate(_rotation(loaded[kind], at, count)):
                texts = []
                for label, (many, emoji) in ((1, (term.many, term.emoji)), (0, rng.choice(things))):
                    sign = emoji if isinstance(emoji, str) else rng.choice(emoji or ("",))
                    slots = {"x": [many], "X": [many[:1].upper() + many[1:]], "e": [sign]}
                    texts.append((label, fill(template, None, slots, rng)))
                function = "people_or_things" if kind == "templates" else "people_or_things_emoji"
                twin = f"{function}:{at}:{number}"
                yield from _twins(texts, function, twin, ("insult", "identity_attack"), identity=term.group)


def _benign(rng: Random) -> Iterator[dict[str, Any]]:
    slots = words()
    for function, block in _load("identity_benign").items():
        lines = _lines(block)
        rng.shuffle(lines)
        for at, term in enumerate(identities()):
            for number, line in enumerate(_rotation(lines, at, LINES_A_TERM["benign"])):
                twin = f"{function}:{at}:{number}"
                yield _row(fill(line, term, slots, rng), 0, function, twin, (), identity=term.group)


def _languages(rng: Random) -> Iterator[dict[str, Any]]:
    for lang, part in _load("other_languages").items():
        lines: Mapping[int, str] = dict(enumerate(_lines(part["lines"])))
        for at, group in enumerate(part["groups"]):
            for number, line in lines.items():
                texts = _texts(line.replace("{p}", group), None, {}, rng)
                twin = f"languages:{lang}:{at}:{number}"
                finer = ("insult", "identity_attack")
                yield from _twins(texts, "identity_other_languages", twin, finer, lang=lang, identity=f"{lang}:{at}")
