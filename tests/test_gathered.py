"""Many small pieces, kept as one text."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from llmguard.gathered import Gathered


@given(st.lists(st.text(max_size=3), max_size=300), st.integers(0, 300))
def test_it_says_what_was_written(pieces: list[str], place: int) -> None:
    gathered = Gathered()
    for at, piece in enumerate(pieces):
        gathered.write(piece)
        if at == place:
            assert gathered.getvalue() == "".join(pieces[: at + 1])
    assert gathered.getvalue() == "".join(pieces)


def test_the_pieces_themselves_are_not_kept() -> None:
    gathered = Gathered()
    piece = "".join(["pie", "ce"])
    before = sys.getrefcount(piece)
    for _ in range(6_400):
        gathered.write(piece)
    assert sys.getrefcount(piece) == before
