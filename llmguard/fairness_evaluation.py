"""How fair a detector or a policy is: how it ranks texts about groups of people, and whether a group's name matters.

docs/evaluation.md defines the figures.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from llmguard.counterfactuals import Swapper
from llmguard.detectors.fairness_lexicon import Lexicon, bundled
from llmguard.detectors.fairness_statistics import Interval, quantile
from llmguard.errors import ConfigurationError, DetectorError, nearest
from llmguard.evaluation import NO_FINDING, check_names, ranking, united
from llmguard.examples import Example, Kind
from llmguard.fairness_figures import BiasFigures, FlipFigures, auc_interval, bias_figures, flip_figures
from llmguard.figures import figures
from llmguard.types import Decision, Detector, Finding, Role, Stage

#: The AUCs of which the worst term is named.
AUCS = ("subgroup_auc", "bpsn_auc", "bnsp_auc")


class Verdict(NamedTuple):
    """What was made of a text: a decision, and the score that texts are ranked by, below 0 where nothing was found."""

    decision: str
    score: float


Judge = Callable[[Sequence[str]], Sequence[Verdict]]
"""Texts in, one verdict each out."""


class Checks(Protocol):
    """What makes decisions, such as a `Guard`."""

    def check_batch(self, batch: Sequence[str], *, stage: Stage) -> Sequence[Decision]:
        """One decision a text."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How fairness is evaluated.

    Attributes:
        lexicon: of the identity terms; the bundled one if None.
        in_context: whether ambiguous words count only where a person is meant, as natural texts need it; in template
            sentences every one of them is about a person.
        group_by: names in the rows' ``labels``: a 1 puts a text into the group of that name, a word into ``name=word``.
        swaps: texts that are made of each term in a text.
        minimum: texts that a term or group needs to be listed and to be named as the worst.
        confidence: of intervals.
        batch_size: texts a call of the judge.
    """

    lexicon: Lexicon | None = None
    in_context: bool = False
    group_by: tuple[str, ...] = ()
    swaps: int = 8
    minimum: int = 20
    confidence: float = 0.95
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name, least in (("swaps", 0), ("minimum", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} {getattr(self, name)} is not at least {least}")
        if not 0 < self.confidence < 1:
            raise ConfigurationError(f"confidence {self.confidence} is not between 0 and 1")


@dataclass(frozen=True, slots=True)
class Worst:
    """The term with the lowest value of an AUC, and the interval of that, which does not allow for the choice."""

    term: str
    auc: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class FairnessEvaluation:
    """What `evaluate_fairness` found out.

    Attributes:
        texts: how many there were.
        positives: among them.
        auc: of all of them.
        auc_interval: of ``auc``; None where one of the two sides has one text.
        terms: figures by identity term, of those with enough texts.
        groups: likewise by ``dimension.group``, and by what the rows' labels say.
        worst: for each kind of AUC.
        flips: of all swaps; None if there were none.
        flips_by_term: of the terms with enough texts.
    """

    texts: int
    positives: int
    auc: float | None
    auc_interval: Interval | None
    terms: Mapping[str, BiasFigures]
    groups: Mapping[str, BiasFigures]
    worst: Mapping[str, Worst]
    flips: FlipFigures | None
    flips_by_term: Mapping[str, FlipFigures]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return dataclasses.asdict(self)


def detectors_judge(
    detectors: Sequence[Detector],
    *,
    categories: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    threshold: float = 0.5,
    role: Role = Role.USER,
) -> Judge:
    """A judge by detectors: a text is ``found`` from a threshold on.

    Args:
        detectors: their findings are united.
        categories: only these count, after ``aliases``; none means all, or a detector's overall one.
        aliases: category by finding category, or by detector for all its other findings.
        threshold: lowest score that counts.
        role: whose texts these are.

    Raises:
        ConfigurationError: there is no detector, the threshold is outside [0, 1], or a name is not there.
    """
    if not detectors:
        raise ConfigurationError("an evaluation needs at least one detector, or a policy")
    if not 0 <= threshold <= 1:
        raise ConfigurationError(f"threshold {threshold} is outside [0, 1]")
    check_names(detectors, categories, aliases or {}, ())
    ranks = ranking(detectors, categories, aliases or {})

    def judge(texts: Sequence[str]) -> list[Verdict]:
        batch = [Example(text, Kind.CLASSIFICATION) for text in texts]
        found, _ = united(detectors, batch, role, categories, aliases or {})
        scores = [_highest([one for one in findings if not ranks or one.category in ranks]) for findings in found]
        return [Verdict("found" if score >= threshold else "passed", score) for score in scores]

    return judge


def policy_judge(guard: Checks, *, stage: Stage = Stage.INPUT, categories: Collection[str] = ()) -> Judge:
    """A judge by a policy: its action decides, and the highest score among the findings ranks.

    Args:
        guard: of the policy.
        stage: at which the texts are looked at.
        categories: only findings of these rank; none means all.
    """

    def judge(texts: Sequence[str]) -> list[Verdict]:
        decisions = guard.check_batch(texts, stage=stage)
        for decision in decisions:
            if decision.unknown:
                raise DetectorError(
                    decision.unknown[0], "could not say in time or failed: take smaller batches or a longer deadline_ms"
                )
        counted = [[one for one in d.findings if not categories or one.category in categories] for d in decisions]
        return [Verdict(d.action.value, _highest(findings)) for d, findings in zip(decisions, counted, strict=True)]

    return judge


def _highest(findings: Sequence[Finding]) -> float:
    return max((finding.score for finding in findings), default=NO_FINDING)


def evaluate_fairness(
    judge: Judge,
    examples: Sequence[Example],
    options: Options | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> FairnessEvaluation:
    """Rank labelled texts, and look at each of them once more with other groups named.

    Args:
        judge: what is evaluated.
        examples: of the kind classification.
        options: how.
        progress: called with the texts judged so far and all of them.

    Raises:
        ConfigurationError: there are no examples, they are of another kind, or none of them is of any group.
        DetectorError: a detector failed.
    """
    options = options or Options()
    if not examples:
        raise ConfigurationError("an evaluation needs at least one example")
    if others := {example.kind for example in examples} - {Kind.CLASSIFICATION}:
        raise ConfigurationError(f"fairness is evaluated on texts with a label, not on {' and '.join(sorted(others))}")
    lexicon = options.lexicon or bundled()
    terms, groups = _members(examples, lexicon, options)
    if not groups:
        raise ConfigurationError(
            "no text mentions a group of people, or is said to be of one: see --lexicon and --group-by"
        )
    swapper = Swapper(lexicon, most=options.swaps, everywhere=not options.in_context)
    swaps = [list(swapper.swaps(example.text)) for example in examples]
    wanted = dict.fromkeys([example.text for example in examples] + [one.text for own in swaps for one in own])
    verdicts = _verdicts(judge, list(wanted), options.batch_size, progress)

    labels = np.array([example.label for example in examples], bool)
    scores = np.array([verdicts[example.text].score for example in examples])
    z = quantile(options.confidence)
    term_figures = _bias(labels, scores, terms, options.minimum, z)
    flips: dict[str, list[list[tuple[bool, float]]]] = defaultdict(list)
    for example, own in zip(examples, swaps, strict=True):
        before = verdicts[example.text]
        by_term: dict[str, list[tuple[bool, float]]] = defaultdict(list)
        for swap in own:
            by_term[swap.term.text].append(_flip(before, verdicts[swap.text]))
        for term, flipped in by_term.items():
            flips[term].append(flipped)
    every = [flipped for own in flips.values() for flipped in own]
    return FairnessEvaluation(
        texts=len(examples),
        positives=int(labels.sum()),
        auc=figures(labels, scores, 0.5).auc,
        auc_interval=auc_interval(labels, scores, z),
        terms=term_figures,
        groups=_bias(labels, scores, groups, options.minimum, z),
        worst=dict(_worst(term_figures)),
        flips=flip_figures(every, z) if every else None,
        flips_by_term={
            term: flip_figures(flips[term], z) for term in sorted(flips) if len(flips[term]) >= options.minimum
        },
    )


def _verdicts(
    judge: Judge, texts: Sequence[str], batch_size: int, progress: Callable[[int, int], None] | None
) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    for first in range(0, len(texts), batch_size):
        batch = texts[first : first + batch_size]
        verdicts.update(zip(batch, judge(batch), strict=True))
        if progress is not None:
            progress(len(verdicts), len(texts))
    return verdicts


def _flip(before: Verdict, after: Verdict) -> tuple[bool, float]:
    return before.decision != after.decision, max(before.score, 0.0) - max(after.score, 0.0)


def _members(
    examples: Sequence[Example], lexicon: Lexicon, options: Options
) -> tuple[dict[str, set[int]], dict[str, set[int]]]:
    """The places of the examples of each term, and of each group."""
    terms: dict[str, set[int]] = defaultdict(set)
    groups: dict[str, set[int]] = defaultdict(set)
    for place, example in enumerate(examples):
        for mention in lexicon.mentions(example.text, everywhere=not options.in_context):
            terms[mention.term.text].add(place)
            groups[f"{mention.term.dimension}.{mention.term.group}"].add(place)
        for name in options.group_by:
            if example.labels.get(name):
                groups[name].add(place)
            if word := example.facts.get(name):
                groups[f"{name}={word}"].add(place)
    known = {name for example in examples for name in (*example.labels, *example.facts)}
    for name in options.group_by:
        if name not in known:
            raise ConfigurationError(f"no row's labels have {name!r} with 0, 1 or a word{nearest(name, known)}")
    return terms, groups


def _bias(labels: Any, scores: Any, members: Mapping[str, set[int]], minimum: int, z: float) -> dict[str, BiasFigures]:
    found = {}
    for name in sorted(members, key=str.lower):
        if len(members[name]) >= minimum:
            own = np.zeros(len(labels), bool)
            own[list(members[name])] = True
            found[name] = bias_figures(labels, scores, own, z)
    return found


def _worst(terms: Mapping[str, BiasFigures]) -> Iterator[tuple[str, Worst]]:
    for auc in AUCS:
        known = {term: value for term, own in terms.items() if (value := getattr(own, auc)) is not None}
        if known:
            worst = min(known, key=known.__getitem__)
            yield auc, Worst(worst, known[worst], getattr(terms[worst], f"{auc}_interval"))
