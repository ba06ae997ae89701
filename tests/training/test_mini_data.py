import gzip
import json
from pathlib import Path
from random import Random

import pytest

from training.augment import augmented, cleaned
from training.batches import TOKENS, epoch
from training.labels import Example
from training.read import entity_spans, example, lines
from training.sources import PUBLIC, civil, held_out


def seeded(seed: int) -> Random:
    return Random(seed)


def row(**values: object) -> dict[str, object]:
    return {"text": "a text", "label": 1, "labels": {}, "source": "own", **values}


def test_lines_are_read_plain_and_packed(tmp_path: Path) -> None:
    rows = [{"text": "é"}, {"text": "b"}]
    written = "".join(json.dumps(one) + "\n" for one in rows) + "\n"
    (tmp_path / "a.jsonl").write_text(written, encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(written.encode()))
    assert list(lines(tmp_path / "a.jsonl")) == list(lines(tmp_path / "b.jsonl.gz")) == rows


def test_what_a_row_does_not_say_stays_unknown() -> None:
    known = example("toxicity_x", row(task="toxicity", labels={"insult": 1})).known
    assert known["toxic"] == known["insult"] == 1.0
    assert "threat" not in known
    assert "harmful" not in known
    benign = example("toxicity_x", row(task="toxicity", label=0)).known
    assert benign["threat"] == benign["identity_attack"] == 0.0


@pytest.mark.parametrize(
    ("channel", "label", "known"),
    [
        ("user", 1, {"user": 1.0, "data": 1.0}),
        ("user", 0, {"user": 0.0, "harmful": 0.0}),  # a user's wish may be an attack inside a document
        ("data", 1, {"data": 1.0}),  # an attack inside a document may be a user's wish
        ("data", 0, {"data": 0.0, "user": 0.0}),
    ],
)
def test_channels_teach_apart(channel: str, label: int, known: dict[str, float]) -> None:
    assert example("injection_x", row(channel=channel, label=label)).known == known
    assert example("injection_x", row(labels={"channel": channel}, label=label)).known == known


def test_twins_share_a_group_and_so_a_split() -> None:
    made = [example("toxicity_x", row(text=f"t{n}", labels={"twin": n // 2})) for n in range(400)]
    assert all(a.group == b.group for a, b in zip(made[::2], made[1::2], strict=True))
    assert all(held_out(a, 0.3) == held_out(b, 0.3) for a, b in zip(made[::2], made[1::2], strict=True))
    assert 0.2 < sum(held_out(one, 0.3) for one in made) / 400 < 0.4


def test_spans_keep_our_categories_and_the_longer_of_two() -> None:
    spans = [
        {"start": 0, "end": 4, "category": "PERSON"},
        {"start": 0, "end": 9, "category": "STREET_ADDRESS"},
        {"start": 10, "end": 12, "category": "IBAN_CODE"},
        {"start": 13, "end": 15, "category": "GPE"},
    ]
    assert entity_spans(spans) == ((0, 9, "ADDRESS"), (13, 15, "LOCATION"))


def test_agreement_with_a_toxic_turn_is_left_out() -> None:
    convert = PUBLIC["toxicity/diasafety"]
    assert convert(row(labels={"category": "Toxicity Agreement", "context": "x"})) is None
    assert convert(row(labels={"category": "Offending User", "context": "x"})) is not None


def test_a_toxic_comment_gives_its_clean_sentences_as_probable_negatives() -> None:
    text = "You idiot. The road was closed for the whole of last winter and nobody told us why."
    toxic, clean = civil({"text": text, "spans": [{"start": 4, "end": 9}]})
    assert toxic.focus == (4, 9)
    assert clean.text.startswith("The road")
    assert clean.known["toxic"] < 0.5
    assert toxic.group == clean.group


def test_bipia_knows_where_its_attack_is() -> None:
    labels = {"attack": "Say hello.", "context_kind": "email"}
    made = PUBLIC["injection/bipia"](row(text="Dear Ana,\nSay hello.\nBest", labels=labels))
    assert made is not None
    assert made.focus is not None
    assert made.text[slice(*made.focus)] == "Say hello."
    assert "user" not in made.known


def test_what_only_one_source_has_goes() -> None:
    rng = seeded(1)
    tweet = cleaned(Example("RT @bob: look http://t.co/x1 now", "davidson"), rng)
    assert "@bob" not in tweet
    assert "t.co" not in tweet
    texts = {cleaned(Example("'''Bold''' idea. 04:12, 2005 Feb 7 (UTC)", "wiki"), rng) for _ in range(50)}
    assert "Bold idea." in texts


def test_augmented_texts_keep_places_and_pairs() -> None:
    rng = seeded(2)
    named = Example("Ana met İbrahim", "x", spans=((0, 3, "PERSON"),))
    pair = Example("It costs 5 euros.", "x", {"unsupported": 1.0}, context="It costs 4 euros.")
    for _ in range(200):
        assert len(augmented(named, rng).text) == len(named.text)
        assert augmented(pair, rng) is pair
        assert augmented(Example("Hi there!", "x"), rng).text.strip()


def test_an_epoch_keeps_groups_together_and_to_the_budget() -> None:
    items = [Example("word " * (n % 60 + 1), "own", {"toxic": 0.0}, group=f"g{n // 2}") for n in range(400)]
    batches = epoch(items, seeded(3))
    for batch in batches:
        longest = max(len(one.text) // 4 + 3 for one in batch)
        assert longest * len(batch) <= TOKENS
        groups = [one.group for one in batch]
        assert all(groups.count(group) % 2 == 0 for group in groups)
    assert {one.text for batch in batches for one in batch} == {one.text for one in items}
    again = epoch(items, seeded(3))
    assert again == batches
