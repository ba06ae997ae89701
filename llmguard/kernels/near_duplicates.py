"""Whether two prompts are nearly the same: MinHash signatures and SimHash fingerprints of what a text is made of.

Both are made of the runs of five characters (shingles) of the text as `hashing` folds it: case, accents, width and
white space make no difference. They are the same on every machine and can be kept; no text can be read from them.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from llmguard.errors import MissingExtraError
from llmguard.kernels import hashing
from llmguard.kernels.arguments import check_whole

#: Changes with every change of signatures and fingerprints: those of two schemes can't be compared.
SCHEME = 1
#: Values of a signature at most.
MOST = 4_096


def minhash(text: str, size: int = 128) -> NDArray[np.uint32]:
    """The signature of a text: for each of ``size`` hash functions the least hash of its shingles.

    The chance that one value of two signatures is equal is the share of shingles that the texts have in common
    (Broder, "On the resemblance and containment of documents", 1997).

    Args:
        text: any. One without a character that counts has a signature that is equal to no other text's but those.
        size: values of the signature, 1 to 4,096: a similarity is off by at most 1 / (2 · root of size) in the mean
            square, .044 with 128.

    Raises:
        TypeError: the text is no string, or size no whole number.
        ValueError: size is out of range.
        MissingExtraError: numba is not installed.
    """
    _string(text)
    check_whole("size", size, 1, MOST)
    jit = _compiled()
    factors, addends = _functions(size)
    signature = np.empty(size, np.uint32)
    jit.minhash(hashing.code_points(text), hashing.fold_table(), hashing.block_room(), factors, addends, signature)
    return signature


def similarity(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """The share of shingles that two texts have in common (Jaccard), estimated from their signatures.

    Raises:
        TypeError: one of them is no signature.
        ValueError: they have not the same size.
    """
    for signature in (one, other):
        if not isinstance(signature, np.ndarray) or signature.dtype != np.uint32 or signature.ndim != 1:
            raise TypeError("a signature is an array of uint32 as minhash gives it")
    if len(one) != len(other) or not len(one):
        raise ValueError(f"signatures must have the same size: these have {len(one)} and {len(other)}")
    return float(np.count_nonzero(one == other)) / len(one)


def simhash(text: str) -> int:
    """The fingerprint of a text, 64 bits: few of them differ between texts that are nearly the same.

    The share of bits that differ is the angle between the texts' counts of shingles, by 180 degrees (Charikar,
    "Similarity estimation techniques from rounding algorithms", 2002). 0 for a text without a character.

    Raises:
        TypeError: the text is no string.
        MissingExtraError: numba is not installed.
    """
    _string(text)
    jit = _compiled()
    return int(
        jit.simhash(hashing.code_points(text), hashing.fold_table(), hashing.block_room(), np.empty(64, np.int64))
    )


def distance(one: int, other: int) -> int:
    """How many of the 64 bits of two fingerprints differ.

    Raises:
        TypeError: one of them is no whole number.
        ValueError: one of them has not 64 bits.
    """
    for fingerprint in (one, other):
        if not isinstance(fingerprint, int) or isinstance(fingerprint, bool):
            raise TypeError(f"a fingerprint is a whole number, not {type(fingerprint).__name__}")
        if not 0 <= fingerprint < 1 << 64:
            raise ValueError("a fingerprint has 64 bits")
    return (one ^ other).bit_count()


def _string(text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, not {type(text).__name__}")


@cache
def _functions(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Odd factors and addends of multiply-shift hashing (Dietzfelbinger et al., 1997), the same everywhere."""
    draw = np.random.PCG64(SCHEME).random_raw(2 * MOST).reshape(2, MOST)
    factors, addends = draw[0, :size] | np.uint64(1), draw[1, :size].copy()
    factors.setflags(write=False)
    addends.setflags(write=False)
    return factors, addends


@cache
def _compiled() -> ModuleType:
    try:
        from llmguard.kernels import near_duplicates_jit
    except ImportError as error:
        raise MissingExtraError("signatures of near duplicates", "numba", "kernels") from error
    return near_duplicates_jit
