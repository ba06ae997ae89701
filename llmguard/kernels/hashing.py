"""Hashed n-grams under a linear layer: a text in, sums of small integer weights out.

Every run of 2 to 5 characters and every word, pair and triple of words of a folded text is hashed to a row of a table
of int8 weights (feature hashing: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009),
and the rows are summed. Sums of integers are exact, so a score is the same on every machine. docs/kernels.md
says what folding does and how a feature is hashed.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import ConfigurationError, MissingExtraError

#: Changes with every change of what a text's features are: weights of another scheme mean nothing.
SCHEME = 1
#: Code points from which a score is summed without the interpreter's lock, about 150 microseconds. Beside a thread that
#: is busy in Python a caller who lets go of the lock waits for it again: a text of 1,200 code points took 1.6 times as
#: long in the mean. Eight threads that do nothing else gain up to 2 times on two cores, but a check does much else.
LONG = 8_192
MIN_BITS, MAX_BITS = 8, 24
#: The length of the table of folded code points, up to the end of General Punctuation.
_FOLDED = 0x2070
_NATIVE = f"utf-32-{sys.byteorder[0]}e"


class Sums(NamedTuple):
    """What the blocks of a text come to.

    Attributes:
        sums: int32 [blocks, outputs], of the weights of a block's features.
        counts: int32 [blocks], how many features a block has.
    """

    sums: NDArray[np.int32]
    counts: NDArray[np.int32]


def score(text: str, weights: NDArray[np.int8]) -> Sums:
    """Sums the weights of a text's features, block by block, in time linear in its length.

    A block is about 512 characters and ends at a space, so that a long text can be looked at in windows.

    Args:
        text: any; lone surrogates count as characters.
        weights: int8 [a power of two, a multiple of four], C-contiguous.

    Raises:
        ConfigurationError: the weights have another shape, type or order.
        MissingExtraError: numba is not installed.
    """
    bits = table_bits(weights)
    jit = _compiled()
    codes = code_points(text)
    points, ids, sums, counts = _room(jit, len(codes), weights.shape[1])
    used = jit.score(codes, fold_table(), bits, weights, points, ids, sums, counts)
    return Sums(sums[:used], counts[:used])


def highest(texts: Sequence[str], weights: NDArray[np.int8], window: int) -> NDArray[np.float32]:
    """For each text the highest window: its sum by the root of its number of features.

    Args:
        texts: any.
        weights: int8 [a power of two, a multiple of four], C-contiguous.
        window: blocks that count as one, at least 1; windows overlap by all of them but one.

    Returns:
        float32 [texts, outputs]; minus infinity for a text without a feature.

    Raises:
        ConfigurationError: the weights have another shape, type or order, or the window is smaller than 1.
        MissingExtraError: numba is not installed.
    """
    bits = table_bits(weights)
    if window < 1:
        raise ConfigurationError(f"a window has at least one block, not {window}")
    jit = _compiled()
    fold = fold_table()
    found = np.empty((len(texts), weights.shape[1]), np.float32)
    for place, text in enumerate(texts):
        codes = code_points(text)
        run = jit.highest if len(codes) < LONG else jit.highest_long
        run(codes, fold, bits, weights, *_room(jit, len(codes), weights.shape[1]), window, found[place])
    return found


def features(text: str, bits: int) -> list[NDArray[np.uint32]]:
    """The numbers of the features of each block of a text: what `score` looks up, for training.

    Args:
        text: any.
        bits: a number is below ``1 << bits``.

    Raises:
        ConfigurationError: bits is out of range.
        MissingExtraError: numba is not installed.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ConfigurationError(f"bits must be from {MIN_BITS} to {MAX_BITS}, not {bits}")
    jit = _compiled()
    codes = code_points(text)
    fold = fold_table()
    points, ids, *_ = _room(jit, 0, 0)
    blocks = []
    position = 0
    while position < len(codes):
        position, size = jit.normalise(codes, position, fold, points)
        made = jit.words(points, size, bits, ids, jit.spell(points, size, bits, ids))
        blocks.append(ids[:made].copy())
    return blocks


def table_bits(weights: NDArray[np.int8]) -> int:
    """The number of bits of a table's row numbers.

    Raises:
        ConfigurationError: it is no table that the kernels can read; says what one is.
    """
    fits = isinstance(weights, np.ndarray) and weights.ndim == 2 and weights.dtype == np.int8
    if not fits or not weights.flags.c_contiguous or not weights.flags.aligned:
        raise ConfigurationError("weights must be a C-contiguous int8 array of two dimensions")
    rows, outputs = weights.shape
    bits = int(rows).bit_length() - 1
    if rows != 1 << bits or not MIN_BITS <= bits <= MAX_BITS or outputs % 4 or not outputs:
        raise ConfigurationError(
            f"weights must have 2^{MIN_BITS} to 2^{MAX_BITS} rows, a power of two, and a multiple of four columns; "
            f"these are {rows} by {outputs}"
        )
    return bits


def code_points(text: str) -> NDArray[np.uint32]:
    """The code points of a text, lone surrogates among them."""
    return np.frombuffer(text.encode(_NATIVE, "surrogatepass"), np.uint32)


class _Room(NamedTuple):
    """What a kernel writes into, made for each call, so that threads share nothing."""

    points: NDArray[np.uint32]
    ids: NDArray[np.uint32]
    sums: NDArray[np.int32]
    counts: NDArray[np.int32]


def _room(jit: ModuleType, length: int, outputs: int) -> _Room:
    size = jit.LONGEST + 2
    blocks = length // jit.BLOCK + 1
    return _Room(
        np.empty(size, np.uint32),
        np.empty(jit.FEATURES * size, np.uint32),
        np.empty((blocks, outputs), np.int32),
        np.empty(blocks, np.int32),
    )


def block_room() -> NDArray[np.uint32]:
    """Room for one normalised block, made for each call, so that threads share nothing."""
    return np.empty(_compiled().LONGEST + 2, np.uint32)


@cache
def _compiled() -> ModuleType:
    try:
        from llmguard.kernels import hashing_jit
    except ImportError as error:
        raise MissingExtraError("hashed n-grams", "numba", "kernels") from error
    return hashing_jit


@cache
def fold_table() -> NDArray[np.uint32]:
    """What each code point below U+2070 becomes: 0 for nothing, or a code point with its class in the upper bits.

    Case and accents go for Latin, Greek and Cyrillic, whose part of Unicode no longer changes; from Hebrew to
    Georgian letters stay as they are, so that a table is the same under every version of Unicode.
    """
    table = np.fromiter((_folded(code) for code in range(_FOLDED)), np.uint32, _FOLDED)
    table.setflags(write=False)
    return table


def _folded(code: int) -> int:
    word = 1 << 24
    if 0x0590 <= code < 0x1E00:
        return code | word
    character = chr(code)
    category = unicodedata.category(character)
    if character.isspace():
        return 0x20
    if category in ("Cc", "Cf", "Cn", "Mn"):
        return 0
    plain = unicodedata.normalize("NFKD", _QUOTES.get(character, character)).casefold()[0]
    if category[0] == "N":
        return ord("0") | word
    if category[0] == "P" or not plain.isalpha():
        return ord("-") if category == "Pd" else ord(plain)
    return ord(plain) | word


_QUOTES = {"‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "‟": '"', "´": "'", "`": "'"}
