import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.grounding_numbers import Number, equal, numbers
from llmguard.detectors.grounding_words import words


def found(text: str) -> list[Number]:
    return numbers(text, words(text))


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("1.2 million", 1_200_000, ""),
        ("1,200,000", 1_200_000, ""),
        ("$1.8bn", 1_800_000_000, "dollar"),
        ("35%", 35, "percent"),
        ("thirty-five percent", 35, "percent"),
        ("two hundred thousand", 200_000, ""),
        ("twenty-one", 21, ""),
        ("3rd", 3, ""),
        ("third quarter", 3, "quarter"),
        ("Q3", 3, "quarter"),
        ("7:30", 7.5, ""),
        ("7 pm", 7, "pm"),
        ("12 km", 12, "kilometre"),
        ("€20", 20, "euro"),
    ],
)
def test_a_number_is_worth_the_same_whatever_it_looks_like(text: str, value: float, unit: str) -> None:
    (number,) = found(text)
    assert math.isclose(number.value, value)
    assert number.unit == unit


@pytest.mark.parametrize("text", ["one of them", "at first", "a second later", "COVID19", "v2beta", "nothing"])
def test_words_and_codes_are_no_numbers(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("claimed", "told", "same"),
    [
        ("1.2 million", "1,187,000", True),
        ("1.2 million", "1,287,000", False),
        ("20.9", "20.9 million", True),
        ("2020", "2019", False),
        ("5 dollars", "5 percent", False),
        ("5", "5 percent", True),
        ("half", "0.5", False),
    ],
)
def test_equal_numbers(claimed: str, told: str, *, same: bool) -> None:
    one, other = found(claimed), found(told)
    assert bool(one and other and equal(one[0], other[0])) is same


@given(st.text(alphabet="0123456789.,:$% millionQ-\n½٣", max_size=60))
def test_any_text_has_numbers_inside_it(text: str) -> None:
    for number in found(text):
        assert 0 <= number.start < number.end <= len(text)
        assert math.isfinite(number.value)


@given(st.integers(2, 10**12))
def test_thousands_may_be_grouped(value: int) -> None:
    (plain,), (grouped,) = found(str(value)), found(f"{value:,}")
    assert plain.value == grouped.value == value
