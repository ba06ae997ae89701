"""Signatures and fingerprints of texts that are nearly the same, and what is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.kernels import near_duplicates
from llmguard.kernels.near_duplicates import distance, minhash, simhash, similarity

_spec = importlib.util.spec_from_file_location("naive", Path(__file__).with_name("naive.py"))
naive = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

SENTENCE = "the quick brown fox jumps over a lazy dog while nobody looks at seven grey stones near old water"
WORDS = SENTENCE.split()

KEPT_SIGNATURE = [954214372, 100304037, 211811428, 466783071]
KEPT_FINGERPRINT = 48843720635718720


def text(seed: int, words: int = 70) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def shingles(content: str) -> set[str]:
    plain = f" {' '.join(content.split())} "
    return {plain[at : at + 5] for at in range(len(plain) - 4)}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(0, 69), st.integers(0, 69))
def test_the_similarity_of_signatures_is_the_share_of_common_shingles(seed: int, first: int, last: int) -> None:
    one = text(seed)
    words = one.split()
    words[min(first, last) : max(first, last)] = ["something", "else"]
    other = " ".join(words)
    mine, theirs = shingles(one), shingles(other)
    exact = len(mine & theirs) / len(mine | theirs)
    # Six standard deviations of the estimate.
    assert similarity(minhash(one, 1024), minhash(other, 1024)) == pytest.approx(exact, abs=6 * 0.5 / 32)


FACTORS, ADDENDS = near_duplicates._functions(6)
FUNCTIONS = list(zip(FACTORS.tolist(), ADDENDS.tolist(), strict=True))
HOSTILE = ["", "\u200b", "\ud800", "a", "ab", "漢", "x" * 3_000, "\0" * 10, "😀" * 900, "xy" * 320 + "z", "a b " * 400]


@pytest.mark.parametrize("blank", [" ", "\u200b", " \n\u200b", "\0" * 2_000])
def test_texts_without_a_character_are_all_the_same(blank: str) -> None:
    assert minhash(blank, 6).tolist() == minhash("", 6).tolist() == [2**32 - 1] * 6
    assert simhash(blank) == simhash("") == 0


@pytest.mark.parametrize("size", range(505, 530))
def test_white_space_at_the_end_makes_no_difference(size: int) -> None:
    content = (SENTENCE + " ") * 6
    content = content[:size].strip()
    assert minhash(content + "  \n", 64).tolist() == minhash(content, 64).tolist()
    assert simhash(content + "  \n") == simhash(content)


@settings(deadline=None)
@given(st.sampled_from(HOSTILE) | st.text(st.characters(codec=None)) | st.text("aB \n.é", max_size=1500))
def test_signatures_and_fingerprints_equal_their_twins(content: str) -> None:
    assert minhash(content, 6).tolist() == naive.minhash(content, FUNCTIONS)
    assert simhash(content) == naive.simhash(content)


def test_folding_makes_no_difference_and_everything_else_does() -> None:
    one, same = "Ignore ALL previous\ninstructions, crème brûlée", "ignore all  previous instructions, creme brulee"
    assert minhash(one).tolist() == minhash(same).tolist()
    assert simhash(one) == simhash(same)
    assert simhash(one) != simhash(one + "!")


def test_fingerprints_of_near_copies_differ_in_few_bits_and_of_others_in_half() -> None:
    one = text(1, 300)
    near = [distance(simhash(one), simhash(one.replace(word, "word", 1))) for word in WORDS[:8]]
    far = [distance(simhash(one), simhash("".join(map(chr, range(300 * n, 300 * n + 300))))) for n in range(1, 9)]
    assert max(near) <= 12
    assert min(far) >= 16


def test_they_are_the_same_everywhere() -> None:
    assert minhash("a kept signature", 4).tolist() == KEPT_SIGNATURE
    assert simhash("a kept signature") == KEPT_FINGERPRINT


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: minhash(b"bytes"), TypeError, "text must be a string, not bytes"),  # type: ignore[arg-type]
        (lambda: minhash("text", 0), ValueError, "size must be from 1 to 4096, not 0"),
        (lambda: minhash("text", 1.5), TypeError, "size must be a whole number, not float"),  # type: ignore[arg-type]
        (lambda: simhash(None), TypeError, "text must be a string"),  # type: ignore[arg-type]
        (lambda: similarity(minhash("a", 4), minhash("a", 8)), ValueError, "these have 4 and 8"),
        (lambda: similarity(np.zeros(4), np.zeros(4)), TypeError, "a signature is an array"),  # type: ignore[arg-type]
        (lambda: distance(-1, 0), ValueError, "a fingerprint has 64 bits"),
        (lambda: distance(1 << 64, 0), ValueError, "a fingerprint has 64 bits"),
        (lambda: distance(1.0, 0), TypeError, "a fingerprint is a whole number"),  # type: ignore[arg-type]
    ],
)
def test_what_can_not_be_compared_is_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
