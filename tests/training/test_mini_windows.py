from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.encode import (
    CLS,
    IGNORED,
    MAX_STATEMENT,
    MAX_TOKENS,
    SEP,
    Tokens,
    bio,
    crop,
    pair_windows,
    window,
    windows,
)


def seeded(seed: int) -> Random:
    return Random(seed)


def text(count: int) -> Tokens:
    return Tokens(list(range(1000, 1000 + count)), [(n * 5, n * 5 + 4) for n in range(count)], [0] * count)


@given(st.integers(0, 2000), st.integers(10, 300), st.integers(0, 60))
def test_windows_cover_every_token(count: int, size: int, overlap: int) -> None:
    overlap = min(overlap, (size - 2) // 2)
    cuts = windows(text(count), size, overlap)
    assert {n for start, end in cuts for n in range(start, end)} == set(range(count))
    assert all(end - start <= size - 2 for start, end in cuts)


@given(st.integers(1, 600), st.integers(1, 100))
def test_pair_windows_cover_the_context_and_leave_room_for_the_text(count: int, words: int) -> None:
    claim = text(words)
    parts = pair_windows(text(count), claim, 256, 64)
    assert {token for part in parts for token in part.ids} == set(range(1000, 1000 + count))
    assert all(len(part.ids) + words + 3 <= 256 for part in parts)


@given(st.integers(0, 399), st.integers(1, 20), st.integers(0, 10**6))
def test_a_crop_holds_its_focus(first: int, length: int, seed: int) -> None:
    tokens = text(400)
    last = min(first + length, 399)
    focus = (first * 5, last * 5 + 4)
    start, end = crop(tokens, 128, seeded(seed), focus, positive=True)
    assert start <= first
    assert last < end
    assert end - start == 126


def test_negatives_come_from_every_place() -> None:
    starts = [crop(text(400), 128, seeded(n), None, positive=False)[0] for n in range(300)]
    assert {0, 274} <= set(starts)
    assert len(set(starts)) > 50


def test_types_are_segment_and_case() -> None:
    context, claim = Tokens([7, 8], [(0, 1), (2, 3)], [2, 0]), Tokens([9], [(0, 4)], [3])
    piece = window(claim, 0, 1, context, 2)
    assert piece.ids.tolist() == [CLS, 7, 8, SEP, 9, SEP]
    assert piece.types.tolist() == [0, 4, 0, 0, 7, 1]
    assert piece.offsets == ((-1, -1), (-1, -1), (-1, -1), (-1, -1), (0, 4), (-1, -1))


def test_spans_become_bio_labels_of_tokens() -> None:
    offsets = [(-1, -1), (0, 3), (3, 5), (6, 9), (10, 12), (13, 17), (-1, -1)]
    labels = bio(offsets, [(0, 5, "PERSON"), (6, 9, "PERSON"), (13, 17, "")])
    assert labels == [IGNORED, 1, 2, 1, 0, IGNORED, IGNORED]


@pytest.mark.parametrize("count", [0, 1, 254, 255, 256])
def test_a_text_of_about_a_window(count: int) -> None:
    assert windows(text(count), 256, 64)[0][0] == 0


@given(st.integers(0, 700), st.integers(1, 700))
def test_a_pair_fits_the_window_however_long_the_statement_is(count: int, words: int) -> None:
    claim = text(words)
    for part in pair_windows(text(count), claim):
        piece = window(claim, 0, min(words, MAX_STATEMENT), part, len(part.ids))
        assert len(piece.ids) <= MAX_TOKENS
