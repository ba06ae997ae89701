"""Rows for the entity head: templates crossed with names, places, organisations and addresses of many cultures.

``rows(data, seed)`` gives the generated rows and the cleaned public ones. A row is
``{"text", "spans": [{"start", "end", "category"}], "source", "lang", "labels"}``; offsets count code points.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.pii_values import Pieces, Values, load, split

Row = dict[str, Any]
CATEGORIES = ("PERSON", "LOCATION", "ORGANIZATION", "ADDRESS")
SLOT = re.compile(r"\{([A-Za-z_]\w*)(?::(\w))?\}")
# Share of each template file. Encyclopedic prose is the hardest and the most frequent in practice.
SHARES = {"templates_encyclopedic": 32, "templates_prose": 24, "templates_everyday": 34, "templates_negative": 10}
# Rows of presidio-research's templates, as a part of the rows of ours.
PRESIDIO = 0.15
# Its slots as ours; a house and its street are one address, as in its own labels.
ITS_SLOTS = {
    "person": "full:a", "name": "full", "name_male": "full", "name_female": "full",
    "first_name": "first", "first_name_male": "first", "first_name_female": "first:b", "first_name_nonbinary": "first",
    "last_name": "last", "last_name_male": "last", "last_name_female": "last",
    "prefix": "title", "prefix_male": "title", "prefix_female": "title",
    "organization": "company", "city": "city", "country": "country", "street_name": "street", "address": "addr",
    "nationality": "nat", "nation_woman": "nat", "nation_plural": "nat", "state_abbr": "i", "year": "year",
    "age": "num", "phone_number": "phone", "email": "email", "building_number": "num",
    "postcode": "bignum", "zipcode": "bignum",
}  # fmt: skip
ITS_SLOT = re.compile(r"\{\{?(\w+)\}?\}")
COHERENT = {"people", "biography", "music", "film", "organisations", "news", "chat", "geography"}
FOREIGN = re.compile(r"[ßąęłśćżźñ¿¡ãõçéèêà]|\b(?:ich|und|nicht|ik|mijn|jobbar|bugün|è|sono|nous|merci|mein)\b")


def rows(data: Path, seed: int, size: int = 30_000) -> Iterator[Row]:
    """Generated rows, then the cleaned public ones.

    Args:
        data: the training data's directory; its list of companies, its templates and its public rows are read.
        seed: of everything random.
        size: how many rows are made of our templates; those of the public templates come in addition.
    """
    draw = random.Random(seed)  # noqa: S311 - sampling data, not secrets
    values = Values(draw, companies(data))
    templates = [(name, kinds(name)) for name in SHARES]
    for _ in range(size):
        name, of_kind = draw.choices(templates, list(SHARES.values()))[0]
        # A kind counts by the root of its size, so that a short list isn't drowned and none is worn out.
        kind = draw.choices(list(of_kind), [len(lines) ** 0.7 for lines in of_kind.values()])[0]
        yield generated(values, of_kind[kind], kind, name.removeprefix("templates_"))
    presidio = presidio_templates(data)
    for _ in range(int(size * PRESIDIO)):
        yield generated(values, presidio, "presidio", "presidio_templates")
    yield from public_rows(data)


def kinds(name: str) -> dict[str, list[str]]:
    """The templates of a file by kind, with their line breaks."""
    return {
        kind: [line.replace("\\n", "\n") for line in text.splitlines() if line.strip()]
        for kind, text in load(f"{name}.yaml").items()
    }


def presidio_templates(data: Path) -> list[str]:
    """The templates of presidio-research (MIT) with slots of ours; those with slots that we can't fill are left out."""
    text = (data / "pii" / "presidio_templates.txt").read_text(encoding="utf-8")
    found = []
    for line in text.splitlines():
        line = line.replace("\\n", "\n").replace("\\,", ",").replace("\\'", "'").replace('\\"', '"')
        line = re.sub(r"\{\{building_number\}\} \{\{street_name\}\}", "{addr_short}", line)
        line = line.replace("{{secondary_address}}", "{unit}")
        slots = [slot for slot in ITS_SLOT.findall(line) if slot not in ("addr_short", "unit")]
        if all(slot in ITS_SLOTS for slot in slots):
            found.append(ITS_SLOT.sub(lambda slot: "{" + ITS_SLOTS.get(slot[1], slot[1]) + "}", line))
    return found


def companies(data: Path) -> list[str]:
    """Plain company names of the public list; securities and notes in it are left out."""
    path = data / "pii" / "presidio_companies_and_organizations.csv"
    with path.open(encoding="utf-8", newline="") as file:
        names = [line[0].strip() for line in csv.reader(file) if line]
    noise = re.compile(r"\d|%|\b(?:due|Fund|Trust|Notes|Warrants?|Units?|Rights|Preferred|Shares|ETF|Acquisition)\b")
    return [name for name in names[1:] if len(name) > 2 and len(name.split()) <= 5 and not noise.search(name)]


def generated(values: Values, templates: list[str], kind: str, file: str) -> Row:
    """One row: a template or a few of a kind about the same people, filled and made noisy."""
    draw = values.draw
    values.start_row()
    count = 1
    if kind in COHERENT and draw.random() < 0.22:
        count = draw.randint(2, 4)
    pieces: Pieces = []
    for number, template in enumerate(draw.sample(templates, count)):
        if number:
            pieces.append((" " if kind != "chat" else "\n", None))
        pieces += fill(values, template)
    text, spans = join(noisy(draw, pieces, kind))
    lang = "other" if FOREIGN.search(text) and kind in ("mail", "everyday") else "en"
    return {"text": text, "spans": spans, "source": f"pii_{file}", "lang": lang, "labels": {"function": kind}}


def fill(values: Values, template: str) -> Pieces:
    """The template's words and the values of its slots as pieces."""
    pieces: Pieces = []
    end = 0
    for slot in SLOT.finditer(template):
        before = template[end : slot.start()]
        value = values.value(slot[1], slot[2] or "")
        if before.lower().endswith("the ") and value[0][0].lower() in ("the ", "the"):
            value = value[1:]
        elif before.lower().endswith("the ") and value[0][0].startswith("The "):
            value = [(value[0][0][4:], value[0][1])]
        pieces += [(before, None), *value]
        end = slot.end()
    return [piece for piece in [*pieces, (template[end:], None)] if piece[0]]


def noisy(draw: random.Random, pieces: Pieces, kind: str) -> Pieces:
    """Change the case, drop final stops and swap letters in some rows; pieces keep their categories."""
    informal = kind in ("chat", "tweets", "notes", "prompts", "address")
    roll = draw.random()
    if roll < (0.25 if informal else 0.06):
        pieces = [(text.lower(), category) for text, category in pieces]
    elif roll > 0.97:
        pieces = [(text.upper(), category) for text, category in pieces]
    elif roll > 0.955:  # only the names lost their capitals
        pieces = [(text.lower() if category else text, category) for text, category in pieces]
    if draw.random() < (0.10 if informal else 0.03):
        pieces = [(typo(draw, text) if draw.random() < 0.5 else text, category) for text, category in pieces]
    if informal and draw.random() < 0.3 and pieces[-1][1] is None:
        pieces = [*pieces[:-1], (pieces[-1][0].rstrip(".!?"), None)]
    if not informal and draw.random() < 0.02:
        pieces = [(re.sub(r"[,.;:]", "", text) if category is None else text, category) for text, category in pieces]
    return [piece for piece in pieces if piece[0]]


def typo(draw: random.Random, text: str) -> str:
    """Swap two neighbouring letters inside a word, or drop or double one."""
    places = [at for at in range(1, len(text) - 2) if text[at - 1 : at + 2].isalpha()]
    if not places:
        return text
    at = draw.choice(places)
    middle = draw.choice([text[at + 1] + text[at], text[at + 1], text[at] * 2 + text[at + 1]])
    return text[:at] + middle + text[at + 2 :]


def join(pieces: Pieces) -> tuple[str, list[Row]]:
    """The text and its spans, without blanks at a span's edges."""
    text, spans = "", []
    for piece, category in pieces:
        if category and piece.strip():
            start = len(text) + len(piece) - len(piece.lstrip())
            spans.append({"start": start, "end": start + len(piece.strip()), "category": category})
        text += piece
    return text, spans


def public_rows(data: Path) -> Iterator[Row]:
    """The public token-labelled sets in our four categories, where their conventions differ made alike."""
    demonyms = {name.lower() for name in split(load("words.yaml")["nat"])}
    for name in ("btc", "wnut17_train", "presidio_generated_large"):
        with gzip.open(data / "pii" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                spans = list(ours(row["text"], row["spans"], demonyms))
                yield {
                    "text": row["text"],
                    "spans": merged(row["text"], spans),
                    "source": name,
                    "lang": "en",
                    "labels": {},
                }


def ours(text: str, spans: list[Row], demonyms: set[str]) -> Iterator[Row]:
    """Spans of our categories; handles, hashtags, nationalities and bare titles are no entities here."""
    for span in spans:
        category = {"STREET_ADDRESS": "ADDRESS"}.get(span["category"], span["category"])
        words = text[span["start"] : span["end"]]
        tagged = (
            words[0] in "@#" or " #" in words or " @" in words or (span["start"] and text[span["start"] - 1] in "@#")
        )
        title = re.fullmatch(r"(?:Mrs?|Ms|Dr|Prof|Sir)\.?", words) is not None
        if category in CATEGORIES and not tagged and not title and words.lower() not in demonyms:
            yield {"start": span["start"], "end": span["end"], "category": category}


def merged(text: str, spans: list[Row]) -> list[Row]:
    """Join the parts of one address: neighbours with only blanks or commas between, one of them an ADDRESS."""
    result: list[Row] = []
    for span in sorted(spans, key=lambda item: int(item["start"])):
        last = result[-1] if result else None
        kinds_ = {span["category"], last["category"]} if last else set()
        near = last is not None and re.fullmatch(r"[\s,.]{0,3}", text[last["end"] : span["start"]]) is not None
        if last and near and "ADDRESS" in kinds_ and kinds_ <= {"ADDRESS", "LOCATION"}:
            last.update(end=span["end"], category="ADDRESS")
        else:
            result.append(span)
    return result
