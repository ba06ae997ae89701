from hypothesis import given
from hypothesis import strategies as st

from training.marks import differing, false, plain, unmarked, unsure


def test_words_that_differ_are_marked() -> None:
    text, wrong, open_ = unmarked(differing("Nora won the cup in 1986.", "Nora won the cup in 1984."))
    assert text == "Nora won the cup in 1986."
    assert [text[start:end] for start, end in wrong] == ["1986"]
    assert open_ == []


def test_a_word_left_out_marks_its_neighbour() -> None:
    text, wrong, _ = unmarked(differing("It is open on Mondays.", "It is not open on Mondays."))
    assert [text[start:end] for start, end in wrong] == ["open"]


def test_of_another_statement_nobody_knows_which_words_are_false() -> None:
    text, wrong, open_ = unmarked(differing("Ships sail.", "The cup was won by Nora in Oslo."))
    assert (wrong, open_) == ([], [(0, len(text))])
    assert unmarked(differing("same", "same"))[1:] == ([], [(0, 4)])


def test_slots_are_words() -> None:
    marked = differing("{who} lost to {other}", "{who} beat {other}")
    assert marked == "{who} " + false("lost") + " " + false("to") + " {other}"


def test_a_mark_that_lost_its_other_half_reaches_to_the_end() -> None:
    assert unmarked("so " + false("and on")[:-1]) == ("so and on", [(3, 9)], [])
    assert unmarked(unsure("so and")[1:] + " on") == ("so and on", [], [(0, 6)])


@given(st.text("ab \n.", max_size=30), st.text("ab \n.", max_size=30))
def test_marks_never_change_the_words(text: str, true: str) -> None:
    marked = differing(text, true)
    assert plain(marked) == unmarked(marked)[0] == text
    places = [place for found in unmarked(marked)[1:] for place in found]
    assert all(0 <= start < end <= len(text) for start, end in places)
