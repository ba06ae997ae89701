import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberMatcher

from llmguard.detectors.pii_numbers import RegionNumbers
from llmguard.detectors.pii_phone import PhoneScan
from llmguard.detectors.pii_tables import BLOCKS, worth_a_look

REGIONS = ("US", "GB", "DE", "BR")


def ask(piece: str, region: str) -> list[tuple[int, int]]:
    return [(match.start, match.end) for match in PhoneNumberMatcher(piece, region, leniency=1)]


SCAN = PhoneScan(REGIONS, ask, whole=False)
NUMBERS = RegionNumbers(REGIONS)


@st.composite
def rows(draw: st.DrawFn) -> str:
    """A long row of digits with a phone number or none in it, as a table has it."""
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    width = draw(st.sampled_from([(1, 1), (1, 3), (4, 4), (3, 7), (1, 22)]))
    gaps = draw(
        st.sampled_from([[" "], [". "], [" .", " "], ["-"], ["  ", "     "], [" - ", " "], ["/"], ["["], [") "]])
    )
    blocks = ["".join(rng.choices("0123456789", k=rng.randint(*width))) for _ in range(draw(st.integers(20, 90)))]
    for number in draw(
        st.lists(st.sampled_from(["212 555 0187", "0170 1234567", "020 7946 0958", "911", "0111"]), max_size=2)
    ):
        blocks.insert(rng.randrange(len(blocks)), number)
    row = "".join(block + rng.choice(gaps) for block in blocks)
    return (
        draw(st.sampled_from(["", "x ", "(", "no. "]))
        + row
        + draw(st.sampled_from(["", "#", "1#", "x12", ".", "\n", " é"]))
    )


@settings(max_examples=150)
@given(rows())
def test_a_row_of_digits_holds_the_numbers_that_the_matcher_sees(row: str) -> None:
    expected = {span for region in REGIONS for span in ask(row, region)}
    assert set(SCAN.spans(row, row.encode("ascii", "replace").replace(b"?", b"_"))) == expected


def test_a_row_of_single_digits_has_no_place_worth_a_look_but_its_end() -> None:
    assert NUMBERS.lines is not None
    row = b"1 " * (BLOCKS * 10)
    assert worth_a_look(row, 4, NUMBERS.lines) == [BLOCKS * 2 * 8 - 1, BLOCKS * 2 * 9 - 1]


def test_a_place_that_holds_a_number_is_worth_a_look() -> None:
    assert NUMBERS.lines is not None
    row = b"1 " * (BLOCKS * 3) + b"2125550187 " + b"1 " * (BLOCKS * 6)
    assert (worth_a_look(row, 4, NUMBERS.lines) or [])[0] == BLOCKS * 2 * 3 - 1


@pytest.mark.parametrize("row", [b"1/" * 60, b"(1 " * 60, b"1 -1" * 60, b"1 " * 20, b"1" * 300])
def test_rows_with_other_parts_are_not_judged(row: bytes) -> None:
    assert NUMBERS.lines is not None
    assert worth_a_look(row, 4, NUMBERS.lines) is None
