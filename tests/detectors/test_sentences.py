import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmguard.detectors.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("One", ["One"]),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("First line\n\nSecond line", ["First line", "Second line"]),
        ("Dr. Wu met J. Smith, e.g. at 3.5 km.", ["Dr. Wu met J. Smith, e.g. at 3.5 km."]),
        ("john.smith@example.com wrote. Yes", ["john.smith@example.com wrote.", "Yes"]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("Wait... what?", ["Wait...", "what?"]),
        ("  padded.  Both.  ", ["padded.", "Both."]),
    ],
)
def test_where_sentences_end(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@pytest.mark.parametrize("run", ["!", ".", "?!", '."', "。”", "\n", "a. "])
def test_a_long_run_of_marks_takes_no_long_time(run: str) -> None:
    text = run * (1_000_000 // len(run))  # in quadratic time this would take hours
    assert sentences(text + "x")


@given(st.text(alphabet="ab.! \n\t\"'。é", max_size=200))
def test_nothing_but_white_space_lies_between_them(text: str) -> None:
    last = 0
    for start, end in sentences(text):
        assert last <= start < end
        assert not text[last:start].strip()
        assert text[start:end] == text[start:end].strip()
        last = end
    assert not text[last:].strip()
