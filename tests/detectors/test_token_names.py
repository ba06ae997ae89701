import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmguard.detectors.token_names import Name, Names

LABELS = ("O", "B-PERSON", "I-PERSON", "B-LOCATION", "I-LOCATION")


def sure(labels: list[str], chance: float = 1.0) -> NDArray[np.float32]:
    rows = np.full((len(labels), len(LABELS)), (1 - chance) / (len(LABELS) - 1), np.float32)
    rows[np.arange(len(labels)), [LABELS.index(label) for label in labels]] = chance
    return rows


def read(content: str, offsets: list[tuple[int, int]], rows: NDArray[np.float32], words: str = "mean") -> list[Name]:
    return list(Names(LABELS, words).read(content, [(np.array(offsets).reshape(-1, 2), rows)]))


drawn = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["", "PERSON", "LOCATION"])), max_size=30)


@given(drawn, st.sampled_from(["first", "mean"]))
def test_labels_of_words_come_back_as_the_names_they_were(drawn: list[tuple[int, str]], words: str) -> None:
    content, offsets, labels, expected = "", [], [], []
    for length, kind in drawn:
        start = len(content)
        offsets += [(start + n, start + n + 1) for n in range(length)]
        labels += [f"B-{kind}" if kind and not n else f"I-{kind}" if kind else "O" for n in range(length)]
        content += "a" * length
        if kind:
            expected.append((kind, start, len(content)))
        content += ", "
    found = read(content, offsets, sure(labels), words)
    assert [(name.kind, name.start, name.end) for name in found] == expected


def test_the_first_token_of_a_word_decides_or_all_of_them() -> None:
    rows = np.concatenate([sure(["B-PERSON"], 0.6), sure(["I-LOCATION", "I-LOCATION"], 0.9)])
    offsets = [(0, 2), (2, 4), (4, 6)]
    assert read("Lisbon", offsets, rows, "first") == [Name("PERSON", pytest.approx(0.7), 0, 6)]
    assert [name.kind for name in read("Lisbon", offsets, rows, "mean")] == ["LOCATION"]


def test_words_of_one_kind_with_only_space_between_are_one_name_where_all_tokens_decide() -> None:
    rows = sure(["B-PERSON", "B-PERSON"])
    assert [(name.start, name.end) for name in read("Ada Byron", [(0, 3), (4, 9)], rows)] == [(0, 9)]
    assert len(read("Ada Byron", [(0, 3), (4, 9)], rows, "first")) == 2
    assert len(read("Ada,Eva.", [(0, 3), (4, 7)], rows)) == 2


def test_of_windows_that_overlap_a_word_is_read_where_more_is_around_it() -> None:
    content = "x Rome y"
    edge = (np.array([(2, 6), (7, 8)]), sure(["O", "O"]))
    middle = (np.array([(0, 1), (2, 6), (7, 8)]), sure(["O", "B-LOCATION", "O"]))
    for windows in ([edge, middle], [middle, edge]):
        assert [name.kind for name in Names(LABELS, "mean").read(content, windows)] == ["LOCATION"]


@pytest.mark.parametrize("words", ["first", "mean"])
def test_nothing_and_special_tokens_are_no_names(words: str) -> None:
    assert read("", [], sure([]), words) == []
    assert read("ab", [(-1, -1), (0, 2), (-1, -1)], sure(["B-PERSON", "O", "B-PERSON"]), words) == []


def test_a_probability_that_was_rounded_to_nothing_is_no_error() -> None:
    offsets = [(0, 2), (2, 4), (4, 6)]
    assert read("abcdef", offsets, sure(["B-PERSON", "O", "O"])) == []
    assert [name.kind for name in read("abcdef", offsets, sure(["B-PERSON", "I-PERSON", "O"]))] == ["PERSON"]
