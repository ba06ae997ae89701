import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.grounding_words import lexicon, members, negates, related, stem, words


@pytest.mark.parametrize(
    "forms",
    [
        ["rise", "rose", "rises", "rising", "risen"],
        ["plan", "plans", "planned", "planning"],
        ["company", "companies", "company's"],
        ["make", "made", "makes", "making"],
        ["customize", "customized", "customizes"],
        ["quick", "quickly"],
        ["sell", "sold", "selling"],
    ],
)
def test_the_forms_of_a_word_share_a_stem(forms: list[str]) -> None:
    assert len({stem(form) for form in forms}) == 1


@pytest.mark.parametrize(("one", "other"), [("rise", "fall"), ("less", "let"), ("news", "new"), ("need", "ne")])
def test_different_words_have_different_stems(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_words_are_found_where_they_stand() -> None:
    text = "Mary’s e-mail didn't say 5G."
    found = words(text)
    assert [text[word.start : word.end] for word in found] == ["Mary’s", "e", "mail", "didn't", "say", "5G"]
    assert [word.low for word in found if negates(word)] == ["didn't"]
    assert [word.low for word in found if word.upper] == ["mary's"]


@given(st.text())
def test_any_text_has_words_in_order_inside_it(text: str) -> None:
    end = 0
    for word in words(text):
        assert end <= word.start < word.end <= len(text)
        end = word.end


def test_words_that_share_a_long_beginning_are_related() -> None:
    assert related("custom", "customiz")
    assert related("analys", "analyst")
    assert not related("contract", "contrast")
    assert not related("cat", "cats")


def test_the_lexicon_holds_together() -> None:
    known = lexicon()
    for word, sides in known.sides.items():
        assert len({number for number, _ in sides}) == len(sides), f"{word} is its own opposite"
    assert all(len(own) > 1 for own in members().values())
    assert all(value >= 0 for value in known.numbers.values())
