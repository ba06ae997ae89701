"""The compiled half of `pvalues`: tails of the Kolmogorov-Smirnov and chi-square distributions.

Each formula is taken from the paper that its docstring names; all are accurate to about 1e-12 of a probability of
any size, save where the docstring says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from llmguard.kernels.drift_kernel import kernel

_f = types.float64
_i = types.int64
_HALF_LOG_TWO_PI = 0.9189385332046727
_TINY = 1e-300
#: Terms of Smirnov's sum that are taken; see `smirnov`.
_TERMS = 4096.0


@kernel(_f(_f))
def stirling_error(n: Any) -> Any:
    """What Stirling's formula lacks to log(n!), for real n > 0.

    Loader, "Fast and Accurate Computation of Binomial Probabilities" (2000).
    """
    if n < 16.0:
        return math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - _HALF_LOG_TWO_PI
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / n


@kernel(_f(_f, _f))
def deviance(x: Any, mean: Any) -> Any:
    """Computes x log(x / mean) + mean - x without cancellation near the mean (Loader, as above)."""
    if abs(x - mean) >= 0.1 * (x + mean):
        return x * math.log(x / mean) + mean - x
    ratio = (x - mean) / (x + mean)
    total = (x - mean) * ratio
    power = 2.0 * x * ratio
    square = ratio * ratio
    odd = 3.0
    while True:
        power *= square
        after = total + power / odd
        if after == total:
            return total
        total = after
        odd += 2.0


@kernel(_f(_f, _f))
def upper_gamma(a: Any, x: Any) -> Any:
    """The regularised upper incomplete gamma function Q(a, x) for a > 0 and x >= 0.

    The power series DLMF 8.11.4 below a + 1, else the continued fraction DLMF 8.9.2 by Lentz's method.
    """
    if x <= 0.0:
        return 1.0
    if x == math.inf:
        return 0.0
    front = math.exp(-deviance(a, x) - stirling_error(a)) / math.sqrt(2.0 * math.pi * a)
    if x < a + 1.0:
        term = 1.0
        total = 1.0
        above = a
        while term > total * 1e-17:
            above += 1.0
            term *= x / above
            total += term
        return max(0.0, 1.0 - front * total)
    b = x + 1.0 - a
    c = 1.0 / _TINY
    d = 1.0 / b
    value = d
    step = 1.0
    while True:
        factor = -step * (step - a)
        b += 2.0
        d = factor * d + b
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = b + factor / c
        c = c if abs(c) > _TINY else _TINY
        change = c * d
        value *= change
        if abs(change - 1.0) < 1e-16:
            return front * a * value
        step += 1.0


@kernel(_f(_f, _f))
def smirnov(n: Any, x: Any) -> Any:
    """P(D+ >= x) for the one-sided statistic of n values: Smirnov's sum (Birnbaum and Tingey, 1951).

    Each term is a binomial probability, taken by Loader's formula. Of more than 4,096 terms every so-many-th is taken:
    the terms are a smooth function of the place that vanishes at both ends with all its derivatives, so the
    sum over a coarser grid is the same to rounding (the Euler-Maclaurin formula has no remainder to speak of).
    """
    step = max(1.0, n / _TERMS)
    total = math.exp(n * math.log1p(-x)) / x
    place = step
    above = stirling_error(n)
    while place < n * (1.0 - x):
        rest = n - place
        mean = place + n * x
        power = above - stirling_error(place) - stirling_error(rest)
        power -= deviance(place, mean) + deviance(rest, n - mean)
        total += math.exp(power) * math.sqrt(n / (2.0 * math.pi * place * rest)) * n / mean
        place += step
    return min(1.0, x * step * total)


@kernel(types.Tuple((types.float64[:, ::1], _i))(types.float64[:, ::1], types.float64[:, ::1], _i))  # type: ignore[no-untyped-call]
def _times(left: Any, right: Any, exponent: Any) -> Any:
    """The product with its scale, a power of two, taken out."""
    size = left.shape[0]
    made = np.zeros((size, size))
    for row in range(size):
        for inner in range(size):
            for column in range(size):
                made[row, column] += left[row, inner] * right[inner, column]
    middle = made[size // 2, size // 2]
    if middle <= 0.0:
        return made, exponent
    power = math.floor(math.log2(middle))
    made *= 2.0**-power
    return made, exponent + power


@kernel(_f(_i, _f))
def durbin_matrix(n: Any, x: Any) -> Any:
    """P(D < x) by the power of a matrix (Marsaglia, Tsang and Wang, "Evaluating Kolmogorov's Distribution", 2003)."""
    k = int(n * x) + 1
    h = k - n * x
    size = 2 * k - 1
    matrix = np.zeros((size, size))
    for row in range(size):
        for column in range(min(size, row + 2)):
            entry = 1.0 - (h ** (row + 1) if column == 0 else 0.0) - (h ** (size - column) if row == size - 1 else 0.0)
            if column == 0 and row == size - 1:
                entry += max(0.0, 2.0 * h - 1.0) ** size
            matrix[row, column] = entry * math.exp(-math.lgamma(row - column + 2.0))
    result = np.eye(size)
    exponent = 0
    scale = 0
    left = n
    while left:
        if left & 1:
            result, exponent = _times(result, matrix, exponent + scale)
        left >>= 1
        if left:
            matrix, scale = _times(matrix, matrix, 2 * scale)
    value = math.log(max(result[k - 1, k - 1], _TINY)) + exponent * math.log(2.0)
    return math.exp(value + math.lgamma(n + 1.0) - n * math.log(n))


@kernel(_f(_f, _f))
def pelz_good(n: Any, x: Any) -> Any:
    """P(D < x) by four terms of its expansion in the root of n.

    Pelz and Good (1976), as in Simard and L'Ecuyer ("Computing the Two-Sided Kolmogorov-Smirnov Distribution", 2011).

    Absolute error below 1e-9 from some thousands of values on.
    """
    z = x * math.sqrt(n)
    z2, z4, z6 = z**2, z**4, z**6
    k0 = k1 = k2 = k3 = 0.0
    for k in range(40):
        u = (math.pi * (k + 0.5)) ** 2
        weight = 2.0 * math.exp(-u / (2.0 * z2))
        k0 += weight
        k1 += weight * (u - z2)
        k2 += weight * (6.0 * z6 + 2.0 * z4 + (2.0 * z4 - 5.0 * z2) * u + (1.0 - 2.0 * z2) * u * u)
        part = (5.0 - 30.0 * z2) * u * u * u + (212.0 * z4 - 60.0 * z2) * u * u
        k3 += weight * (part + (135.0 * z4 - 96.0 * z6) * u - 30.0 * z6 - 90.0 * z4 * z4)
    k2 /= 72.0 * z**7
    k3 /= 6480.0 * z**10
    for k in range(1, 40):
        u = (math.pi * k) ** 2
        weight = 2.0 * math.exp(-u / (2.0 * z2))
        k2 -= weight * u / (36.0 * z**3)
        k3 += weight * (3.0 * u * z2 - u * u) / (216.0 * z6)
    root = math.sqrt(n)
    return math.sqrt(math.pi / 2.0) * (k0 / z + k1 / (6.0 * z4) / root + k2 / n + k3 / (n * root))


@kernel(_f(_i, _f))
def kolmogorov(n: Any, x: Any) -> Any:
    """P(D >= x) for the two-sided statistic of n values against a distribution, as Simard and L'Ecuyer (2011) plan it.

    The ranges are theirs, as SciPy's ``kstwo`` has them, but that Durbin's matrix also stands where they take Pomeranz'
    recursion.
    """
    if n * x <= 0.5:
        return 1.0
    if x >= 1.0:
        return 0.0
    spread = n * x * x
    if x >= 0.5 or spread >= (4.0 if n <= 140 else 2.2):
        return 0.0 if spread > 370.0 else min(1.0, 2.0 * smirnov(float(n), x))
    if n <= 140 or (n <= 100_000 and n * x**1.5 <= 1.4):
        return min(1.0, max(0.0, 1.0 - durbin_matrix(n, x)))
    return min(1.0, max(0.0, 1.0 - pelz_good(float(n), x)))


@kernel(_f(_i, _i))
def equal_sizes(n: Any, gap: Any) -> Any:
    """P(D >= gap / n) for two samples of n values each (Gnedenko and Korolyuk, 1951), its alternating sum nested."""
    result = 0.0
    for k in range(n // gap, 0, -1):
        ratio = 1.0
        for place in range((k - 1) * gap, k * gap):
            ratio *= (n - place) / (n + place + 1.0)
        result = ratio * (1.0 - result)
    return min(1.0, 2.0 * result)


@kernel(_f(_i, _i, _i))
def two_samples(m: Any, n: Any, gap: Any) -> Any:
    """P(D >= gap / (m n)) for two samples of m and n values without ties.

    A random order of m and n values is a random path on a grid; ``now[i]`` is the probability that a path through
    (i, diagonal - i) has left the band in which D stays smaller (Hodges, 1958; Schroeer and Trenkler, 1995). It is
    computed diagonal by diagonal, whose cells don't depend on one another.
    """
    both = m + n
    before = np.ones(m + 3)
    now = np.ones(m + 3)
    # Cells lie one further right than their number, so that the first has a neighbour.
    before[1] = 0.0
    for diagonal in range(1, both + 1):
        low = -((gap - 1 - diagonal * m) // both)
        high = (gap - 1 + diagonal * m) // both
        low = max(low, 0, diagonal - n)
        high = min(high, m, diagonal)
        part = 1.0 / diagonal
        cells = now[low + 1 : high + 2]
        left = before[low : high + 1]
        above = before[low + 1 : high + 2]
        for place in range(cells.size):
            i = np.float64(low + place)
            cells[place] = (i * left[place] + (diagonal - i) * above[place]) * part
        now[low] = 1.0
        now[high + 2] = 1.0
        before, now = now, before
    return min(1.0, before[m + 1])
