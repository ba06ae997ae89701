"""Whether two sets of vectors come from the same source: the maximum mean discrepancy with a Gaussian kernel.

Gretton et al., "A Kernel Two-Sample Test", Journal of Machine Learning Research 13 (2012); equations are theirs.
Products of matrices are NumPy's, which is as fast as any.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmguard.kernels import drift_input
from llmguard.kernels.pvalues import number, whole

#: Vectors that the median heuristic looks at: of half a million distances the median moves no more.
SAMPLED = 1_000
#: Vectors of both sets together up to which a permutation test is possible: the kernel's matrix then takes 800 MB.
LARGEST = 10_000
_BLOCK = 1_024

_N = TypeVar("_N", float, NDArray[np.float64])


class Discrepancy(NamedTuple):
    """What a comparison of two sets of vectors says.

    Attributes:
        squared: the squared discrepancy; an unbiased estimate may be below zero.
        pvalue: the chance of one at least as high if both come from the same source; None where none was asked for.
        bandwidth: of the kernel.
    """

    squared: float
    pvalue: float | None
    bandwidth: float


def mmd(
    first: ArrayLike,
    second: ArrayLike,
    *,
    bandwidth: float | None = None,
    biased: bool = False,
    permutations: int = 0,
    seed: int = 0,
) -> Discrepancy:
    """The squared discrepancy by all pairs of vectors: equation 3, or the biased equation 5.

    Time and, with permutations, memory are quadratic in the vectors. The kernel is ``exp(-d^2 / (2 bandwidth^2))`` of
    the Euclidean distance d.

    Args:
        first: finite [vectors, dimensions]; at least two vectors.
        second: likewise, of as many dimensions.
        bandwidth: in the unit of the vectors; None for the median distance of (at most 1,000 of) all vectors.
        biased: counts each vector's pair with itself too; never below zero.
        permutations: how often the vectors are dealt out anew for the p-value, which can't be below one by one more
            than that; 0 for none.
        seed: of the permutations and of the choice of vectors for the bandwidth.

    Raises:
        TypeError: an argument is of another type.
        ValueError: too few vectors, different dimensions, values that are not finite, a bandwidth of 0 or less, or more
            than 10,000 vectors with permutations.
    """
    x, y = _vectors(first, second)
    rounds = _rounds(permutations)
    if rounds and len(x) + len(y) > LARGEST:
        raise ValueError(
            f"a permutation test takes at most {LARGEST} vectors, not {len(x) + len(y)}: sample, or use mmd_linear"
        )
    random = np.random.default_rng(_seed(seed))
    width = _bandwidth(x, y, bandwidth, random)
    if not rounds:
        within, rest, across = _sum(x, x, width), _sum(y, y, width), _sum(x, y, width)
        return Discrepancy(_estimate(within, rest, across, len(x), len(y), biased=biased), None, width)
    both = np.concatenate((x, y))
    matrix = np.empty((len(both), len(both)))
    for start in range(0, len(both), _BLOCK):
        matrix[start : start + _BLOCK] = _kernel(both[start : start + _BLOCK], both, width)
    np.fill_diagonal(matrix, 1.0)
    squared, dealt = _dealt(matrix, len(x), rounds, random, biased=biased)
    # The observed order counts as one of those dealt, so that the test keeps its level (Phipson and Smyth, 2010).
    above = int(np.count_nonzero(dealt >= squared - 1e-12))
    return Discrepancy(squared, (1 + above) / (1 + rounds), width)


def mmd_linear(first: ArrayLike, second: ArrayLike, *, bandwidth: float | None = None, seed: int = 0) -> Discrepancy:
    """The squared discrepancy by disjoint pairs of vectors, in linear time: section 6, with its normal p-value.

    Far noisier than `mmd` on the same vectors, and meant for many. The vectors must be in no order that matters; of two
    sets of different sizes the rest of the larger is not looked at.

    Args:
        first: finite [vectors, dimensions]; at least four vectors.
        second: likewise, of as many dimensions.
        bandwidth: in the unit of the vectors; None for the median distance of (at most 1,000 of) all vectors.
        seed: of the choice of vectors for the bandwidth.

    Raises:
        TypeError: an argument is of another type.
        ValueError: too few vectors, different dimensions, values that are not finite, or a bandwidth of 0 or less.
    """
    x, y = _vectors(first, second)
    pairs = min(len(x), len(y)) // 2
    if pairs < 2:
        raise ValueError("the linear estimate takes at least four vectors of each")
    width = _bandwidth(x, y, bandwidth, np.random.default_rng(_seed(seed)))
    x1, x2, y1, y2 = x[: 2 * pairs : 2], x[1 : 2 * pairs : 2], y[: 2 * pairs : 2], y[1 : 2 * pairs : 2]
    terms = _along(x1, x2, width) + _along(y1, y2, width) - _along(x1, y2, width) - _along(x2, y1, width)
    squared, deviation = float(terms.mean()), float(terms.std(ddof=1))
    if deviation == 0.0:
        return Discrepancy(squared, 1.0 if squared <= 0.0 else 0.0, width)
    return Discrepancy(squared, 0.5 * math.erfc(squared / deviation * math.sqrt(pairs / 2.0)), width)


def _dealt(
    matrix: NDArray[np.float64], size: int, rounds: int, random: np.random.Generator, *, biased: bool
) -> tuple[float, NDArray[np.float64]]:
    """The estimate of the order given, and those of orders dealt at random, a block of them at a time."""
    total = len(matrix)
    made = []
    for start in range(0, rounds + 1, 256):
        member = np.zeros((min(256, rounds + 1 - start), total))
        for row, line in enumerate(member):
            line[random.permutation(total)[:size] if start + row else slice(size)] = 1.0
        times = member @ matrix
        within = np.einsum("ij,ij->i", times, member)
        across = times.sum(axis=1) - within
        rest = matrix.sum() - within - 2.0 * across
        made.append(_estimate(within, rest, across, size, total - size, biased=biased))
    estimates = np.concatenate(made)
    return float(estimates[0]), estimates[1:]


def _estimate(first: _N, second: _N, across: _N, n: int, m: int, *, biased: bool) -> _N:
    """From the kernel's sums over all pairs, those with itself included, whose kernel is 1."""
    if biased:
        return first / n**2 + second / m**2 - 2.0 * across / (n * m)
    return (first - n) / (n * (n - 1)) + (second - m) / (m * (m - 1)) - 2.0 * across / (n * m)


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    made = _squares(x, y)
    made *= -0.5 / width**2
    return np.exp(made, out=made)


def _squares(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances of all pairs, as |x|^2 + |y|^2 - 2 x y."""
    made = x @ y.T
    made *= -2.0
    made += np.einsum("ij,ij->i", x, x)[:, None]
    made += np.einsum("ij,ij->i", y, y)
    return np.maximum(made, 0.0, out=made)


def _sum(x: NDArray[np.float64], y: NDArray[np.float64], width: float) -> float:
    """The kernel's sum over all pairs, in blocks: memory stays linear. A vector's pair with itself is 1 exactly."""
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        block = _kernel(x[start : start + _BLOCK], y, width)
        if x is y:
            block[np.arange(len(block)), np.arange(start, start + len(block))] = 1.0
        total += float(block.sum())
    return total


def _along(x: NDArray[np.float64], y: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    gap = x - y
    made: NDArray[np.float64] = np.exp(np.einsum("ij,ij->i", gap, gap) * (-0.5 / width**2))
    return made


def _bandwidth(
    x: NDArray[np.float64], y: NDArray[np.float64], bandwidth: float | None, random: np.random.Generator
) -> float:
    if bandwidth is not None:
        width = number("bandwidth", bandwidth)
        if not 1e-100 < width < 1e100:
            raise ValueError(f"a bandwidth is above 1e-100 and below 1e100, not {width}")
        return width
    total = len(x) + len(y)
    chosen = np.arange(total) if total <= SAMPLED else random.choice(total, SAMPLED, replace=False)
    both = np.concatenate((x[chosen[chosen < len(x)]], y[chosen[chosen >= len(x)] - len(x)]))
    apart = _squares(both, both)[np.triu_indices(len(both), 1)]
    # Where most vectors are the same, any width tells the others from them.
    return math.sqrt(float(np.median(apart))) or math.sqrt(float(apart.mean())) or 1.0


def _vectors(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    made = []
    for name, values in (("first", first), ("second", second)):
        array = drift_input.reals(name, values)
        if array.ndim != 2 or array.shape[0] < 2 or not array.shape[1]:
            raise ValueError(f"{name} must be at least two vectors [vectors, dimensions], not of shape {array.shape}")
        if not (np.abs(array) <= 1e100).all():
            raise ValueError(f"{name} holds values that are NaN or of more than 1e100 in size: leave those vectors out")
        made.append(array)
    x, y = made
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"vectors of different dimensions: {x.shape[1]} and {y.shape[1]}")
    # Distances don't change with the origin; about the mean the squares lose no digits to one another.
    origin = x.mean(axis=0)
    return x - origin, y - origin


def _rounds(permutations: int) -> int:
    if permutations == 0 and not isinstance(permutations, bool):
        return 0
    return whole("permutations", permutations)


def _seed(seed: int) -> int:
    return 0 if seed == 0 and not isinstance(seed, bool) else whole("seed", seed)
