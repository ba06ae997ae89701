import gzip
import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import pytest

from training.generate_toxicity import FINER, rows
from training.toxicity_identities import Identity, article, fill, identities
from training.toxicity_noise import TRICKS
from training.toxicity_profanity import profane

DATA = Path(__file__).parents[2] / "training" / "data"
FILES = sorted(DATA.glob("toxicity_*.jsonl"))
NOWHERE = Path("does-not-exist")


def plain(text: str) -> str:
    """Casefolded, without punctuation and double spaces; signs and emoji stay."""
    return " ".join(re.sub(r"[^\w\s←-\U0010ffff*]", "", text.casefold()).split())


def rng(seed: int) -> Random:
    return Random(seed)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def generated() -> list[dict[str, Any]]:
    return list(rows(NOWHERE, seed=7))


@pytest.fixture(scope="module")
def written() -> list[dict[str, Any]]:
    return [row for path in FILES for row in read(path)]


def test_the_same_seed_gives_the_same_rows(generated: list[dict[str, Any]]) -> None:
    assert list(rows(NOWHERE, seed=7)) == generated
    assert list(rows(NOWHERE, seed=8)) != generated


@pytest.mark.parametrize("kind", ["generated", "written"])
def test_rows_have_the_format_and_every_finer_label(kind: str, request: pytest.FixtureRequest) -> None:
    for row in request.getfixturevalue(kind):
        assert row["text"].strip() == row["text"] != ""
        assert row["label"] in {0, 1}
        assert row["task"] == "toxicity"
        assert row["labels"]["function"]
        assert {row["labels"][name] for name in FINER} <= {0, 1}
        assert row["source"].startswith("own")
        assert re.fullmatch("[a-z]{2}", row["lang"])


@pytest.mark.parametrize("kind", ["generated", "written"])
def test_a_harmless_row_is_no_insult_threat_or_attack(kind: str, request: pytest.FixtureRequest) -> None:
    for row in request.getfixturevalue(kind):
        if row["label"] == 0:
            assert not any(row["labels"][name] for name in FINER if name != "obscene"), row["text"]


@pytest.mark.parametrize("kind", ["generated", "written"])
def test_no_text_stands_twice(kind: str, request: pytest.FixtureRequest) -> None:
    counts = Counter(" ".join(row["text"].casefold().split()) for row in request.getfixturevalue(kind))
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_slot_is_left_open(generated: list[dict[str, Any]]) -> None:
    assert [row["text"] for row in generated if re.search(r"[{}\0]|\|\|", row["text"])] == []


def test_written_twins_have_opposite_labels() -> None:
    for path in FILES:
        labels = defaultdict(set)
        for row in read(path):
            if row["labels"]["twin"] is not None:
                labels[row["labels"]["twin"]].add(row["label"])
        assert labels, path.name
        assert [twin for twin, found in labels.items() if found != {0, 1}] == []


def test_generated_twins_have_opposite_labels(generated: list[dict[str, Any]]) -> None:
    """But where a text came before already, and functions without a toxic side."""
    one_sided = {"neutral_identity", "positive_identity", "self_description", "reporting_hate", "counter_speech"}
    labels = defaultdict(set)
    for row in generated:
        if row["labels"]["function"] not in one_sided:
            labels[row["labels"]["twin"]].add(row["label"])
    single = [twin for twin, found in labels.items() if found != {0, 1}]
    assert len(single) < len(labels) / 100


def test_an_identity_term_decides_nothing(generated: list[dict[str, Any]]) -> None:
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for row in generated:
        if row["lang"] == "en" and "identity" in row["labels"]:
            counts[row["labels"]["identity"]][row["label"]] += 1
    assert len(counts) >= 60
    shares = {identity: count[1] / count.total() for identity, count in counts.items()}
    assert max(shares.values()) - min(shares.values()) < 0.03


def test_each_function_treats_identities_alike(generated: list[dict[str, Any]]) -> None:
    """Within a pair function the toxic rows of the groups with one term differ in number by spilled duplicates only."""
    terms = Counter(term.group for term in identities())
    counts = Counter(
        (row["labels"]["function"], row["labels"]["identity"])
        for row in generated
        if row["label"] == 1 and row["labels"]["function"] in {"exclusion", "identity_threat", "quoted_hate"}
    )
    assert all(abs(count - 4 * terms[identity]) <= 1 for (_, identity), count in counts.items())


def test_there_are_enough_written_sentences(written: list[dict[str, Any]]) -> None:
    assert len(written) >= 3000
    assert 0.35 < sum(row["label"] for row in written) / len(written) < 0.5
    assert len({row["lang"] for row in written}) >= 12


def test_files_stay_small() -> None:
    assert all(path.stat().st_size < 1_000_000 for path in FILES)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_changes_the_text_and_only_by_its_seed(trick: str) -> None:
    text = "the sleepy caterpillar ate another pancake"
    assert TRICKS[trick](text, rng(3)) == TRICKS[trick](text, rng(3)) != text
    assert TRICKS[trick]("", rng(3)) in {"", "!", "!!!", "?!"}


def test_slots_take_the_article_of_what_fills_them() -> None:
    term = Identity("x", "European", "older woman", "older women")
    assert fill("{A}, {aadj} baker, and {p}.", term, {}, rng(0)) == "An older woman, a European baker, and older women."
    assert fill("a {q} {s}", term, {"q": ["ugly"]}, rng(0)) == "an ugly older woman"
    assert [article(word) for word in ("LGBT person", "Ukrainian", "Arab")] == [
        "an LGBT person",
        "a Ukrainian",
        "an Arab",
    ]
    with pytest.raises(KeyError):
        fill("{nothing}", term, {}, rng(0))


@pytest.mark.parametrize("text", ["what the fuck", "F*ck it", "you b!tch", "dumbass", "bull shit", "qué mierda"])
def test_coarse_words_are_seen(text: str) -> None:
    assert profane(text)


@pytest.mark.parametrize(
    "text", ["an assessment in class", "Er sagt, dass es passt", "qué bicho", "Arsenal", "a scrap", "fickle"]
)
def test_words_that_look_coarse_are_not(text: str) -> None:
    assert not profane(text)


@pytest.mark.skipif("LLMGUARD_DATA" not in os.environ, reason="LLMGUARD_DATA names no data directory")
def test_no_row_stands_in_the_development_data(generated: list[dict[str, Any]], written: list[dict[str, Any]]) -> None:
    held = set()
    for path in (Path(os.environ["LLMGUARD_DATA"]) / "dev").glob("*/*.jsonl.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            held |= {plain(json.loads(line)["text"]) for line in file}
    assert held
    assert [row["text"] for row in generated + written if plain(row["text"]) in held] == []
