from __future__ import annotations

import pytest
from directories import said
from hypothesis import given
from hypothesis import strategies as st

from llmguard.errors import ModelLoadError
from llmguard.inference import card_yaml
from llmguard.inference.card import Card, inside

DIGEST = "ab" * 32
FILES = {"model.onnx": DIGEST, "tokenizer.json": DIGEST}
HEAD = said()["heads"][0]


def text(**more: object) -> str:
    return card_yaml.write(said(**{"files": FILES, **more}))


def test_a_card_is_read_and_written_back() -> None:
    card = Card.parse(text(languages=["no", "en"], version="2026-11-21", figures={"parity": [{"mean": 0.5}]}))
    assert card.version == "2026-11-21"
    assert card.languages == ("no", "en")
    assert Card.parse(card.text()) == card
    assert card.head("toxicity").labels == ("toxic", "insult")


def test_words_of_other_yaml_readers_stay_words() -> None:
    assert Card.parse(text().replace("version: '1'", "version: 2026-11-21")).version == "2026-11-21"
    assert Card.parse(text().replace("[toxic, insult]", "[no, on]")).heads[0].labels == ("no", "on")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"kind": "encodr"}, "kind: unknown word 'encodr' (did you mean 'encoder'?)"),
        ({"licens": "MIT"}, "unknown key 'licens' (did you mean 'licence'?)"),
        (
            {"heads": [{**HEAD, "activaton": "none"}]},
            "unknown key 'activaton' in heads[0] (did you mean 'activation'?)",
        ),
        ({"format": 2}, "format: unknown word 2 (known: 1)"),
        ({"graphs": {"fp33": "model.onnx"}}, "graphs.fp33: unknown word 'fp33' (did you mean 'fp32'?)"),
        ({"version": 1.5}, "version: 1.5 must be text: put it in quotes"),
        ({"name": "../x"}, "name: '../x' is no name"),
        ({"heads": []}, "heads: [] must not be empty"),
        ({"heads": [HEAD, HEAD]}, "two heads have the same name"),
        ({"heads": [{**HEAD, "labels": ["a", "a"]}]}, "has a label twice"),
        ({"heads": [{**HEAD, "labels": []}]}, "an embedding has no labels, every other kind has some"),
        ({"heads": [{**HEAD, "kind": "embedding"}]}, "an embedding has no labels"),
        ({"heads": [{**HEAD, "kind": "embedding", "labels": []}]}, "an embedding has no activation"),
        ({"heads": [{**HEAD, "kind": "tokens"}]}, "the first label of tokens is 'O', here it is 'toxic'"),
        ({"heads": [{**HEAD, "kind": "tokens", "labels": ["O", "PER"]}]}, "begins with neither 'B-' nor 'I-'"),
        (
            {"heads": [{**HEAD, "thresholds": {"inptu": {"toxic": 0.5}}}]},
            "unknown stage 'inptu' (did you mean 'input'?)",
        ),
        (
            {"heads": [{**HEAD, "thresholds": {"input": {"toxik": 0.5}}}]},
            "unknown label 'toxik' (did you mean 'toxic'?)",
        ),
        (
            {"heads": [{**HEAD, "thresholds": {"input": {"toxic": 1.5}}}]},
            "thresholds.input.toxic: 1.5 must be at most 1",
        ),
        ({"heads": [{**HEAD, "calibration": {"int9": {}}}]}, "unknown precision 'int9' (did you mean 'int8'?)"),
        ({"heads": [{**HEAD, "calibration": {"int8": {"temperature": {"toxic": 0}}}}]}, "must be more than 0"),
        ({"heads": [{**HEAD, "calibration": {"int8": {"bias": {"toxic": float("nan")}}}}]}, "must be a finite number"),
        ({"tokenizer": {"max_tokens": 32, "overlap": 20, "pad_id": 0}}, "overlap: 20 must be at most half"),
        ({"tokenizer": None}, "an encoder needs the keys 'graphs' and 'tokenizer'"),
        ({"graphs": {}}, "an encoder needs the keys 'graphs' and 'tokenizer'"),
        ({"graphs": {"fp32": "other.onnx"}}, "files: 'other.onnx' has no checksum"),
        ({"files": {"model.onnx": DIGEST}}, "files: 'tokenizer.json' has no checksum"),
        ({"files": {**FILES, "card.yaml": DIGEST}}, "can't hold its own checksum"),
        ({"files": {**FILES, "model.onnx": "12"}}, "must be 64 lower-case hexadecimal digits"),
        ({"files": {**FILES, "../secret": DIGEST}}, "'../secret' is no plain relative path"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(more: dict[str, object], message: str) -> None:
    with pytest.raises(ModelLoadError) as raised:
        Card.parse(text(**more), "dir/card.yaml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("dir/card.yaml")
    assert "\n" not in str(raised.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ModelLoadError, match="the card needs the key 'licence'"):
        Card.parse(text().replace("licence: Apache-2.0\n", ""))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("name: [", "card.yaml:1: not valid YAML"),
        ("a: &x [1]\nb: *x\n", "card.yaml:2: not valid YAML: a card has no aliases"),
        ("a: 1\na: 2\n", "card.yaml:2: not valid YAML: the key 'a' stands twice"),
        ("? [a]\n: 1\n", "a key must be a word"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("- a\n", "a card is a mapping of keys"),
        ("", "a card is a mapping of keys"),
        ("a: \x00\n", "not valid YAML"),
        ("a: " + "[" * 40, "nested deeper than"),
        ("a: " + "b" * (1 << 20), "a card has at most"),
    ],
)
def test_hostile_yaml(written: str, message: str) -> None:
    with pytest.raises(ModelLoadError) as raised:
        Card.parse(written)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/../x", "/etc/passwd", "a//b", "./a", "a/", "a\\b", "C:x", "a\x00b", "a\nb"]
)
def test_a_name_that_leads_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="no plain relative path"):
        inside(name)


@given(st.text())
def test_any_name_is_inside_or_refused(name: str) -> None:
    try:
        parts = inside(name).split("/")
    except ValueError:
        return
    assert ".." not in parts
    assert "" not in parts
    assert "." not in parts


def test_an_unknown_head_names_the_nearest() -> None:
    with pytest.raises(ModelLoadError, match=r"has no head 'toxicty' \(did you mean 'toxicity'\?\)"):
        Card.parse(text()).head("toxicty")


def test_a_threshold_of_the_stage_comes_before_the_default() -> None:
    head = Card.parse(text(heads=[{**HEAD, "thresholds": {"default": {"toxic": 0.5}, "input": {"toxic": 0.7}}}])).heads[
        0
    ]
    assert head.threshold("toxic", "input") == 0.7
    assert head.threshold("toxic", "output") == 0.5
    assert head.threshold("insult", "input") is None
