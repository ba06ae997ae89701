from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.grounding_numbers import equal, numbers
from llmguard.detectors.grounding_signals import NAMES, examined
from llmguard.detectors.grounding_source import Source
from llmguard.detectors.grounding_words import words

WRITTEN = st.sampled_from(
    ["7", "7.0", "7 km", "12", "12 km", "1.2 million", "1,187,000", "0.07", "twelve", "$12", "7%"]
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@given(st.lists(WRITTEN, max_size=8), st.lists(WRITTEN, min_size=1, max_size=8))
def test_a_number_is_told_where_one_stands_that_equals_it(told: list[str], asked: list[str]) -> None:
    passages = [f"They had {one} of them." for one in told]
    source = Source(passages)
    theirs = [number for text in passages for number in numbers(text, words(text))]
    assert len(theirs) == len(told)
    sentence = " and then ".join(asked)
    for number in numbers(sentence, words(sentence)) * 2:
        same = [place for place, other in enumerate(theirs) if equal(number, other)]
        found, rounded = source.told(number)
        assert set(found) <= set(same)
        assert bool(found or rounded) is bool(same)


def test_a_long_sentence_of_names_takes_no_long_time() -> None:
    names = [f"{one}{two}{three}x".capitalize() for one in LETTERS for two in LETTERS for three in LETTERS]
    sentence = " ".join(names * 5)  # in the square of the names this would take an hour
    signals = dict(zip(NAMES, examined(sentence, Source(["The cat sat."])).signals, strict=True))
    assert signals["names_absent"] == 4.0


def test_a_number_said_often_is_compared_once() -> None:
    source = Source([" ".join(map(str, range(1_000, 2_000)))])
    found = examined("7 " * 100_000, source)  # one by one this would take a minute
    assert len(found.doubtful) == 100_000
