from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.detectors.pii_nlp import STOP_WORDS, Surroundings, engine, lemma


def presidios_words(text: str, place: int) -> set[str]:
    from presidio_analyzer.context_aware_enhancers import LemmaContextAwareEnhancer

    artifacts = engine(["en"]).process_text(text, "en")
    return set(LemmaContextAwareEnhancer()._extract_surrounding_words(artifacts, "", place))


@pytest.mark.parametrize(("word", "expected"), [("Cards", "cards"), ("Companies", "company"), ("ties", "ties")])
def test_lemmas(word: str, expected: str) -> None:
    assert lemma(word) == expected


def test_the_engine_gives_tokens_lemmas_and_keywords() -> None:
    made = engine(["en"])
    artifacts = made.process_text("My cards: 12-34.", "en")
    assert artifacts.tokens == ["My", "cards", ":", "12", "-", "34", "."]
    assert artifacts.tokens_indices == [0, 3, 8, 10, 12, 13, 15]
    assert artifacts.keywords == ["cards", "12", "34"]
    assert made.is_loaded()
    assert made.get_supported_languages() == ["en"]
    assert made.get_supported_entities() == []
    assert [text for text, _ in made.process_batch(["a", "b"], "en")] == ["a", "b"]


words = st.lists(
    st.sampled_from(
        ["card", "the", "companies", "of", "12", "-", "::", " ", "  ", "\n", "\u00e9t\u00e9", "x" * 120, "my "]
    ),
    min_size=1,
    max_size=60,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(words, st.data())
def test_the_words_around_a_place_are_those_that_presidio_looks_at(text: str, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4))
    around = Surroundings(text, places)
    for source, place in enumerate(places):
        for word in ["card", "company", "12", "x", "the", "zebra"]:
            wanted = any(word in found for found in presidios_words(text, place))
            assert around.support(place, source * 10 + len(word), [word]) == wanted, (place, word)


def test_stop_words_are_no_context_words() -> None:
    from presidio_analyzer import RecognizerRegistry

    registry = RecognizerRegistry()
    from llmguard.detectors.pii_recognizers import build

    registry.recognizers = build(["en"], ["all"], (), {})
    context = {word.lower() for recognizer in registry.recognizers for word in recognizer.context or ()}
    assert not STOP_WORDS & context
