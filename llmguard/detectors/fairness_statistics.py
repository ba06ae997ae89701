"""Two groups compared: intervals of rates, of means and of what is between them, and tests.

Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927 (a rate);
R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 1998,
method 10 (two rates); D. Katz et al., "Obtaining confidence intervals for the risk ratio in cohort studies", Biometrics
1978 (their ratio); B. L. Welch, "The significance of the difference between two means when the population variances
are unequal", Biometrika 1938 (two means, here of groups large enough for the normal distribution); R. A. Fisher's exact
test where the counts are too small by W. G. Cochran, "Some methods for strengthening the common chi-squared tests",
Biometrics 1954.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

Interval = tuple[float, float]

# Cochran's least expected count of a table of two by two.
_EXPECTED = 5
# Fisher's test adds up the tables that are no likelier than the one seen; equal ones must not fall out by rounding.
_TIE = 1e-7


class Sample(NamedTuple):
    """Values of one group: how many, their sum and the sum of their squares.

    A rate is the mean of zeros and ones.
    """

    n: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        """NaN without values."""
        return self.total / self.n if self.n else math.nan

    @property
    def variance(self) -> float:
        """The unbiased one; NaN with less than two values."""
        if self.n < 2:
            return math.nan
        return max(self.squares - self.total * self.total / self.n, 0.0) / (self.n - 1)


def quantile(confidence: float) -> float:
    """The z of a two-sided interval with this confidence."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(rate: float, n: float, z: float) -> Interval:
    """Wilson's score interval of a rate; (0, 1) where nothing was counted."""
    if not n:
        return 0.0, 1.0
    middle = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


def mean_interval(sample: Sample, z: float) -> Interval:
    """The interval of a mean by its standard error; NaN with less than two values."""
    half = z * math.sqrt(sample.variance / sample.n) if sample.n > 1 else math.nan
    return sample.mean - half, sample.mean + half


def newcombe(one: Sample, other: Sample, z: float) -> Interval:
    """The interval of the difference of two rates, from Wilson's intervals of both."""
    p, q = one.mean, other.mean
    (p_low, p_high), (q_low, q_high) = wilson(p, one.n, z), wilson(q, other.n, z)
    return p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)


def welch(one: Sample, other: Sample, z: float) -> Interval:
    """The interval of the difference of two means, of two values or more each."""
    half = z * math.sqrt(one.variance / one.n + other.variance / other.n)
    apart = one.mean - other.mean
    return apart - half, apart + half


def ratio_interval(one: Sample, other: Sample, z: float, *, rates: bool) -> Interval | None:
    """The interval of the ratio of two means or rates by its logarithm; None unless both are positive."""
    if not (one.total > 0 and other.total > 0):
        return None
    spread = 0.0
    for sample in (one, other):
        variance = sample.mean * (1 - sample.mean) if rates else sample.variance
        spread += variance / (sample.n * sample.mean**2)
    ratio, factor = one.mean / other.mean, math.exp(min(z * math.sqrt(spread), 700.0))
    return ratio / factor, ratio * factor


def p_value(one: Sample, other: Sample, *, rates: bool) -> float:
    """How likely a difference at least this large is between two groups that are alike; two-sided.

    Rates by the normal distribution with the pooled variance, or exactly (Fisher) where a count below 5 is expected;
    means by Welch's statistic.
    """
    if rates:
        hits, n = one.total + other.total, one.n + other.n
        if min(hits, n - hits) * min(one.n, other.n) < _EXPECTED * n:
            return fisher(int(one.total), one.n, int(other.total), other.n)
        variance = hits / n * (1 - hits / n) * (1 / one.n + 1 / other.n)
    else:
        variance = one.variance / one.n + other.variance / other.n
    apart = abs(one.mean - other.mean)
    if variance <= 0:
        return 1.0 if apart == 0 else 0.0
    return math.erfc(apart / math.sqrt(2 * variance))


def fisher(k: int, n: int, other_k: int, other_n: int) -> float:
    """Fisher's exact test, two-sided: the share of tables with the same sums that are no likelier than this one."""
    hits = k + other_k
    total = _choose(n + other_n, hits)

    def log_likelihood(count: int) -> float:
        return _choose(n, count) + _choose(other_n, hits - count) - total

    limit = log_likelihood(k) + _TIE
    tables = map(log_likelihood, range(max(0, hits - other_n), min(n, hits) + 1))
    return min(math.fsum(math.exp(one) for one in tables if one <= limit), 1.0)


def _choose(n: int, k: int) -> float:
    """The logarithm of n over k."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
