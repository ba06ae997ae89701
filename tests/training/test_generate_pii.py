import csv
import gzip
import itertools
import json
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from training.generate_pii import (
    CATEGORIES,
    PRESIDIO,
    SHARES,
    fill,
    join,
    kinds,
    merged,
    noisy,
    ours,
    presidio_templates,
    rows,
    typo,
)
from training.pii_values import Values, article

pytest.importorskip("faker", reason="the names come from faker, which only training needs")
DATA = Path(__file__).parents[2] / "training" / "data"
SIZE = 2_000
TOTAL = SIZE + int(SIZE * PRESIDIO)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small directory in the shape of the public sets."""
    root = tmp_path_factory.mktemp("data")
    (root / "pii").mkdir()
    with (root / "pii" / "presidio_companies_and_organizations.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["organization"], ["Norrland Timber AB"], ["Ford 6% Notes due"], ["Velvet Ltd"]])
    templates = [
        "{{person}} of {{organization}}: {{building_number}} {{street_name}}\\n {{secondary_address}}\\n {{city}}",
        "my IBAN is {{iban}}",
        "Ask \\'{{first_name}}\\'",
    ]
    (root / "pii" / "presidio_templates.txt").write_text("\n".join(templates), encoding="utf-8")
    samples: dict[str, list[dict[str, Any]]] = {
        "btc": [
            {
                "text": "@ann and Bo like Norrland",
                "spans": [span(0, 4, "PERSON"), span(9, 11, "PERSON"), span(17, 25, "LOCATION")],
            }
        ],
        "wnut17_train": [{"text": "the Welsh sang", "spans": [span(4, 9, "LOCATION")]}],
        "presidio_generated_large": [
            {
                "text": "Dr. Bo, 4 Elm Rd, Ry",
                "spans": [span(0, 3, "PERSON"), span(8, 16, "STREET_ADDRESS"), span(18, 20, "LOCATION")],
            }
        ],
    }
    for name, found in samples.items():
        with gzip.open(root / "pii" / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)
    return root


@pytest.fixture(scope="module")
def made(data: Path) -> list[dict[str, Any]]:
    return list(rows(data, 7, SIZE))


def span(start: int, end: int, category: str) -> dict[str, Any]:
    return {"start": start, "end": end, "category": category}


def own_rows() -> list[dict[str, Any]]:
    lines = itertools.chain.from_iterable(
        path.read_text(encoding="utf-8").splitlines() for path in sorted(DATA.glob("pii_*.jsonl"))
    )
    return [json.loads(line) for line in lines]


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(data: Path, made: list[dict[str, Any]]) -> None:
    assert list(rows(data, 7, SIZE)) == made
    assert list(rows(data, 8, 50)) != list(rows(data, 7, 50))


def test_spans_are_of_the_four_categories_ordered_trimmed_and_inside(made: list[dict[str, Any]]) -> None:
    for row in [*made, *own_rows()]:
        end = 0
        for found in row["spans"]:
            words = row["text"][found["start"] : found["end"]]
            assert found["category"] in CATEGORIES
            assert words == words.strip() != ""
            assert end <= found["start"] < found["end"] <= len(row["text"])
            end = found["end"]


def test_no_slot_is_left_open(made: list[dict[str, Any]]) -> None:
    slots = ("{full", "{first", "{last", "{city", "{company", "{addr", "{n}", "{noun", "{dept", "{museum")
    assert not [row["text"] for row in made if any(slot in row["text"] for slot in slots)]


def test_every_category_and_texts_without_any_are_there_in_number(made: list[dict[str, Any]]) -> None:
    generated = [row for row in made if row["source"].startswith("pii_")]
    counts = Counter(found["category"] for row in generated for found in row["spans"])
    assert len(generated) == TOTAL
    assert set(counts) == set(CATEGORIES)
    assert min(counts.values()) > SIZE / 25
    assert 0.05 < sum(not row["spans"] for row in generated) / SIZE < 0.3
    assert sum(row["text"].islower() for row in generated) > SIZE / 50


def test_there_are_many_templates_and_all_can_be_filled(data: Path) -> None:
    templates = [line for name in SHARES for lines in kinds(name).values() for line in lines]
    assert len(templates) == len(set(templates)) >= 250
    values = Values(Random(3), ["Velvet Ltd"])
    for template in templates:
        values.start_row()
        assert fill(values, template)


def test_the_public_templates_are_filled_with_values_of_ours_and_others_left_out(data: Path) -> None:
    assert presidio_templates(data) == [
        "{full:a} of {company}: {addr_short}\n {unit}\n {city}",
        "Ask '{first}'",
    ]
    found = [row for row in rows(data, 7, 100) if row["source"] == "pii_presidio_templates"]
    long = next(row for row in found if ": " in row["text"])
    assert {"PERSON", "ORGANIZATION", "ADDRESS", "LOCATION"} == {one["category"] for one in long["spans"]}


def test_a_negative_template_has_no_span(data: Path) -> None:
    values = Values(Random(5), ["Velvet Ltd"])
    for line in itertools.chain.from_iterable(kinds("templates_negative").values()):
        assert not [category for _, category in fill(values, line) if category]


def test_a_person_keeps_the_name_within_a_row() -> None:
    values = Values(Random(1), ["Velvet Ltd"])
    first, again = values.value("first", "a")[0][0], values.value("first", "a")[0][0]
    assert first == again
    values.start_row()
    assert values.people == {}


def test_articles_stay_outside_and_noise_keeps_spans_on_their_words() -> None:
    assert article("the Alps", "LOCATION") == [("the ", None), ("Alps", "LOCATION")]
    draw = Random(2)
    for _ in range(300):
        text, spans = join(noisy(draw, [("Ask ", None), (" Bo Li ", "PERSON"), (".", None)], "form"))
        assert text[spans[0]["start"] : spans[0]["end"]].strip(" ").lower()[0] == "b"
    assert typo(draw, "ab") == "ab"


def test_handles_nationalities_and_bare_titles_of_public_rows_are_no_entities(made: list[dict[str, Any]]) -> None:
    found = {row["source"]: [row["text"][s["start"] : s["end"]] for s in row["spans"]] for row in made[TOTAL:]}
    assert found == {"btc": ["Bo", "Norrland"], "wnut17_train": [], "presidio_generated_large": ["4 Elm Rd, Ry"]}


def test_parts_of_an_address_are_one_span_but_two_places_stay_two() -> None:
    text = "4 Elm Rd, Ry and Ry, Fyn"
    joined = merged(
        text, [span(0, 8, "ADDRESS"), span(10, 12, "LOCATION"), span(17, 19, "LOCATION"), span(21, 24, "LOCATION")]
    )
    assert joined == [span(0, 12, "ADDRESS"), span(17, 19, "LOCATION"), span(21, 24, "LOCATION")]
    assert list(ours("#Ry", [span(0, 3, "LOCATION")], set())) == []


@pytest.mark.skipif(not os.environ.get("LLMGUARD_DATA"), reason="LLMGUARD_DATA names the directory with train and dev")
def test_no_row_equals_one_of_dev() -> None:
    root = Path(os.environ["LLMGUARD_DATA"])
    dev: set[str] = set()
    for path in (root / "dev" / "pii").glob("*.jsonl.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            dev |= {json.loads(line)["text"].casefold() for line in file}
    named = [row for row in [*rows(root / "train", 0, 5_000), *own_rows()] if row["spans"]]
    assert dev
    # presidio's dev set is made of the same sentences, so that one with a single name comes out alike now and then.
    alike = [row for row in named if row["text"].casefold() in dev]
    assert all(row["source"] == "pii_presidio_templates" and len(row["spans"]) == 1 for row in alike)
    assert len(alike) < 10
