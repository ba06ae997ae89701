"""How groups of people fare in a window: differences and ratios, their intervals, and which of them count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmguard.detectors.fairness_counts import OUTCOMES, RATES, Counts
from llmguard.detectors.fairness_statistics import (
    Interval,
    Sample,
    mean_interval,
    newcombe,
    p_value,
    quantile,
    ratio_interval,
    welch,
    wilson,
)
from llmguard.kernels.pvalues import holm


@dataclass(frozen=True, slots=True)
class Bounds:
    """What makes a difference one that counts.

    Attributes:
        minimum: observations that each side needs before anything is said.
        confidence: of the intervals; 1 minus it is the level of all tests of a window together.
        difference: of rates and scores, at least.
        ratio: of the larger to the smaller, at least. 1.25 is the four-fifths rule of the Uniform Guidelines on
            Employee Selection Procedures (29 CFR 1607.4 D), turned round.
    """

    minimum: int = 100
    confidence: float = 0.95
    difference: float = 0.02
    ratio: float = 1.25


@dataclass(frozen=True, slots=True)
class Disparity:
    """One outcome of one group against the others'.

    Attributes:
        outcome: ``block`` and ``refusal`` are rates, ``toxicity`` a mean score or a rate, ``length`` a mean of
            characters.
        dimension: what kind of group: one of the lexicon's, or ``cohort.`` and the caller's.
        group: its name.
        against: the group that it is compared with; "" for all others of the dimension.
        count: observations of the group.
        value: its rate or mean.
        interval: of ``value``.
        other_count: observations of those that it is compared with.
        other_value: their rate or mean.
        difference: ``value`` less ``other_value``.
        difference_interval: of ``difference``.
        ratio: ``value`` by ``other_value``; None when that is 0.
        ratio_interval: of ``ratio``; None when one of the two is 0.
        p_value: adjusted for all comparisons of the report (Holm).
        notable: whether the difference is significant and large enough to count.
    """

    outcome: str
    dimension: str
    group: str
    against: str
    count: int
    value: float
    interval: Interval
    other_count: int
    other_value: float
    difference: float
    difference_interval: Interval
    ratio: float | None
    ratio_interval: Interval | None
    p_value: float
    notable: bool

    @property
    def name(self) -> str:
        """Dimension and group, as metrics call it."""
        return f"{self.dimension}.{self.group}"

    @property
    def disparity(self) -> float:
        """The difference, of lengths as a share of the others' mean; 0 where all fare alike."""
        return self.difference if self.outcome != "length" else self.difference / self.other_value


@dataclass(frozen=True, slots=True)
class FairnessReport:
    """What one window says.

    Attributes:
        seen: observations in the window.
        full: whether the window is over.
        disparities: of the groups with enough observations.
    """

    seen: int
    full: bool
    disparities: tuple[Disparity, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dataclasses.asdict(self)


def report(
    counts: Counts, *, full: bool, bounds: Bounds, references: Mapping[str, str], toxicity_is_rate: bool
) -> FairnessReport:
    """The comparisons of a window.

    Args:
        counts: of the window.
        full: whether it is over.
        bounds: what counts.
        references: the group that the others of a dimension are compared with.
        toxicity_is_rate: whether toxicity is counted as a share of texts in place of a mean score.
    """
    pairs = list(_pairs(counts, bounds.minimum, references, toxicity_is_rate))
    adjusted = holm([p_value(pair.own, pair.other, rates=pair.rates) for pair in pairs]).tolist()
    made = [_disparity(pair, p, bounds) for pair, p in zip(pairs, adjusted, strict=True)]
    return FairnessReport(counts.seen, full, tuple(made))


class _Pair(NamedTuple):
    """A group and what it is compared with, in one outcome."""

    outcome: str
    dimension: str
    group: str
    against: str
    own: Sample
    other: Sample
    rates: bool


def _pairs(counts: Counts, minimum: int, references: Mapping[str, str], toxicity_is_rate: bool) -> Iterator[_Pair]:
    for dimension, group in counts.groups():
        against = references.get(dimension, "")
        if group == against:
            continue
        for place, outcome in enumerate(OUTCOMES):
            rates = outcome in RATES or (outcome == "toxicity" and toxicity_is_rate)
            scored = outcome == "toxicity" and not toxicity_is_rate
            own = counts.sample((dimension, group), place, scored=scored)
            if against:
                other = counts.sample((dimension, against), place, scored=scored)
            else:
                other = counts.rest((dimension, group), place, scored=scored)
            if min(own.n, other.n) >= minimum and (outcome != "length" or other.total):
                yield _Pair(outcome, dimension, group, against, own, other, rates)


def _disparity(pair: _Pair, p: float, bounds: Bounds) -> Disparity:
    own, other, z = pair.own, pair.other, quantile(bounds.confidence)
    difference = own.mean - other.mean
    small, large = sorted((own.mean, other.mean))
    far = pair.outcome == "length" or abs(difference) >= bounds.difference
    return Disparity(
        outcome=pair.outcome,
        dimension=pair.dimension,
        group=pair.group,
        against=pair.against,
        count=own.n,
        value=own.mean,
        interval=wilson(own.mean, own.n, z) if pair.rates else mean_interval(own, z),
        other_count=other.n,
        other_value=other.mean,
        difference=difference,
        difference_interval=(newcombe if pair.rates else welch)(own, other, z),
        ratio=own.mean / other.mean if other.mean else None,
        ratio_interval=ratio_interval(own, other, z, rates=pair.rates),
        p_value=p,
        notable=far and p <= 1 - bounds.confidence and large >= small * bounds.ratio and large > small,
    )
