import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.placeholder import MAX_PLACEHOLDER_LENGTH, PLACEHOLDER, label, unfinished
from llmguard.vault import Vault


@pytest.mark.parametrize(
    ("category", "written"),
    [
        ("EMAIL_ADDRESS", "EMAIL_ADDRESS"),
        ("prompt-injection", "PROMPT_INJECTION"),
        ("aws.key", "AWS_KEY"),
        ("STEP_1", "STEP1"),
        ("A_1_2", "A12"),
        ("3d secure", "X3D_SECURE"),
        ("", "X"),
        ("ключ", "X"),
        ("<a>", "A"),
        ("A" * 100, "A" * 47),
    ],
)
def test_a_label_is_the_category_in_safe_letters(category: str, written: str) -> None:
    assert label(category) == written


@settings(deadline=None)
@given(st.text(), st.integers(1, 999_999_999))
def test_any_category_gives_a_placeholder_that_is_found_again_and_none_without_a_number(
    category: str, number: int
) -> None:
    placeholder = f"<{label(category)}_{number}>"
    found = PLACEHOLDER.fullmatch(placeholder)
    assert found is not None
    assert found.groups() == (label(category), str(number))
    assert len(placeholder) <= MAX_PLACEHOLDER_LENGTH
    assert PLACEHOLDER.search(f"<{label(category)}>") is None


@pytest.mark.parametrize(
    "text",
    [
        "<EMAIL_ADDRESS>",
        "<EMAIL_ADDRESS_0>",
        "<EMAIL_ADDRESS_01>",
        "<email_address_1>",
        "<_1>",
        "< A_1>",
        "<A_1",
        "A_1>",
        "<A_١>",
        "<A_1234567890>",
        "<" + "A" * 49 + "_1>",
        "<1_1>",
        "<Ä_1>",
    ],
)
def test_what_is_almost_a_placeholder_is_none(text: str) -> None:
    assert PLACEHOLDER.search(text) is None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 0),
        ("plain", 5),
        ("a <", 2),
        ("a <EMAIL", 2),
        ("a <EMAIL_ADDRESS_1", 2),
        ("a <EMAIL_ADDRESS_1>", 19),
        ("a <email", 8),
        ("a < b", 5),
        ("<A_1> <B", 6),
        ("<" + "A" * (MAX_PLACEHOLDER_LENGTH - 2), 0),
        ("<" + "A" * (MAX_PLACEHOLDER_LENGTH - 1), MAX_PLACEHOLDER_LENGTH),
    ],
)
def test_where_a_placeholder_may_be_beginning(text: str, at: int) -> None:
    assert unfinished(text) == at


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<", "A", "_", "1", "0", ">", "<A_1>", "<A_2>", "x", "é"])), st.data())
def test_restoring_a_stream_gives_the_same_as_restoring_the_whole(pieces: list[str], data: st.DataObject) -> None:
    scope = Vault().scoped("c")
    scope.placeholder("A", "one")
    scope.placeholder("A", "<A_1>")
    text = "".join(pieces)
    out, held = "", ""
    for char in text:
        held += char
        if data.draw(st.booleans()):
            cut = unfinished(held)
            out += scope.restore(held[:cut])
            held = held[cut:]
            assert len(held) < MAX_PLACEHOLDER_LENGTH
    assert out + scope.restore(held) == scope.restore(text)
