import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import pytest

from training.generate_grounding import BEGIN, CONTEXT_WORDS, rows, thinned
from training.grounding_edits import Editor, sentences
from training.grounding_records import SLOT, Record, Writer

DATA = Path(__file__).parents[2] / "training" / "data"
SIZE = 2_000
TEXTS = [
    "The Harbour Museum opened in 1962. It was founded by Ada Lund and has two large halls. In 1990, it came to Oslo.",
    "Ruby Lane is an American rock band from Austin. Their first album was released in 2004. It sold in Germany too.",
    "A kettle is a pot for boiling water. Most kettles are made of steel, but some are made of copper since 1800.",
]


def draw(seed: int) -> Random:
    return Random(seed)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small directory in the shape of the public sets."""
    root = tmp_path_factory.mktemp("data")
    (root / "groundedness").mkdir()
    names = [*BEGIN, "begin_dev_generic", "halueval_qa"]
    for name in names:
        with gzip.open(root / "groundedness" / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for text, answer in zip(TEXTS, ("Ada Lund", "Austin", "water"), strict=True):
                labels = {"question": f"What about {answer}?"}
                row = {"context": text, "text": answer, "label": 0, "labels": labels, "source": name}
                file.write(json.dumps(row) + "\n")
    return root


@pytest.fixture(scope="module")
def made(data: Path) -> list[dict[str, Any]]:
    return list(rows(data, 3, SIZE))


def own_rows() -> list[dict[str, Any]]:
    lines = (DATA / "grounding_own.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(data: Path, made: list[dict[str, Any]]) -> None:
    assert list(rows(data, 3, SIZE)) == made
    assert list(rows(data, 4, SIZE)) != made


def test_rows_have_the_format_and_no_open_slot(made: list[dict[str, Any]]) -> None:
    for row in [*made, *own_rows()]:
        assert set(row) >= {"context", "text", "label", "labels", "source"}
        assert row["label"] in (0, 1)
        assert row["text"].strip()
        assert row["context"].strip()
    for row in made:
        if row["source"].startswith("grounding_"):
            assert not SLOT.search(row["text"] + row["context"])


def test_both_labels_are_alike_in_number_and_length(made: list[dict[str, Any]]) -> None:
    for source in ("grounding_records", "grounding_own_joined"):
        lengths: dict[int, list[int]] = {0: [], 1: []}
        for row in made:
            if row["source"] == source:
                lengths[row["label"]].append(len(row["text"].split()))
        assert len(lengths[0]) == len(lengths[1]) > 50
        assert abs(mean(lengths[0]) - mean(lengths[1])) < 1


def test_a_generated_context_has_at_most_200_words(made: list[dict[str, Any]]) -> None:
    assert max(len(row["context"].split()) for row in made if row["source"] != "grounding_own_joined") <= CONTEXT_WORDS


def test_supported_statements_are_no_edits_and_the_others_say_which(made: list[dict[str, Any]]) -> None:
    for row in made:
        if row["source"] == "grounding_records":
            assert (row["labels"]["edit"] == "none") == (row["label"] == 0)
    kinds = Counter(row["labels"]["edit"].split("_")[0] for row in made if row["label"])
    assert {"opposite", "new", "confuse", "swap", "not", "outside", "added"} <= set(kinds)


def test_a_texts_label_depends_on_the_context() -> None:
    """In edited texts the same words are true of one context and false of the other."""
    editor = Editor(draw(1), ["Ada Lund", "Bo Nilsen", "Oslo", "Austin"])
    for text in TEXTS:
        for sentence in sentences(text):
            found = editor.edit(sentence, text)
            if found:
                assert found[0] != sentence
                assert found[0] not in text


def test_every_fact_of_every_scenario_can_be_said_and_its_states_differ() -> None:
    writer = Writer(draw(2))
    for scenario in writer.scenarios.values():
        record = Record(writer, scenario)
        for index, fact in enumerate(record.facts):
            wordings = [set(state["t"].split("|")) for state in fact]
            assert sum(map(len, wordings)) == len(set.union(*wordings))
            for state in range(len(fact)):
                assert record.said(index, state)
                assert SLOT.findall(fact[state]["s"]) or len(fact) > 1


def test_an_exchanged_value_is_another_value() -> None:
    writer = Writer(draw(4))
    for _ in range(200):
        record = Record(writer, draw(5).choice(list(writer.scenarios.values())))
        name = next(iter(record.types))
        values, _ = record.exchanged(name, [name])
        assert values[name] != record.values[name]


def test_thinning_leaves_as_many_of_each_label_with_as_many_unknown_words() -> None:
    found = [
        {"context": "a b c", "text": text, "label": label, "labels": {}}
        for text, label in [("a b", 0), ("a b", 0), ("a c", 1), ("a x", 1), ("a not", 0)]
    ]
    kept = thinned(draw(1), found)
    assert sorted(row["label"] for row in kept) == [0, 1]
    assert all("x" not in row["text"] for row in kept)


def test_sentences_keep_titles_and_split_lines_of_a_dialogue() -> None:
    assert sentences("Dr. Lund came. He left.\nAnn: hi") == ["Dr. Lund came.", "He left.", "Ann: hi"]


def test_a_paraphrase_leaves_names_and_quotations_alone() -> None:
    editor = Editor(draw(6), [])
    for _ in range(50):
        said = editor.paraphrase('The Large Film Fund began "The movie" in Oslo (1990).')
        assert "Large Film Fund" in said
        assert '"The movie"' in said


@pytest.mark.skipif(not os.environ.get("LLMGUARD_DATA"), reason="LLMGUARD_DATA names the directory with train and dev")
def test_no_row_equals_one_of_dev_and_words_alone_tell_little() -> None:
    root = Path(os.environ["LLMGUARD_DATA"])
    dev: set[tuple[str, str]] = set()
    contexts: set[str] = set()
    for path in (root / "dev" / "groundedness").glob("*.jsonl.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                contexts.add(row["context"])
                dev.add((row["context"], row["text"]))
    found = list(rows(root / "train", 0, 4_000))
    assert dev
    assert dev.isdisjoint({(row["context"], row["text"]) for row in found})
    assert contexts.isdisjoint({row["context"] for row in found})

    def unknown(row: dict[str, Any]) -> float:
        known = set(re.findall(r"\w+", row["context"].lower()))
        words = re.findall(r"\w+", row["text"].lower())
        return sum(word not in known for word in words) / len(words)

    shares: dict[int, list[float]] = {0: [], 1: []}
    for row in found:
        if row["source"] == "grounding_records":
            shares[row["label"]].append(unknown(row))
    assert abs(mean(shares[0]) - mean(shares[1])) < 0.02
