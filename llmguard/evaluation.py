"""How good detectors are: their findings against labelled texts, in figures.

An example is a text with a label (classification), a text with labelled spans (spans), or a text with
the context that it must keep to (groundedness). ``examples.read`` takes them from a file, ``evaluate``
runs detectors over them. docs/evaluation.md defines the file formats and every figure.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmguard.detectors.occlusion import every_score
from llmguard.errors import ConfigurationError, DetectorError, nearest
from llmguard.examples import Example, Kind, one_kind
from llmguard.figures import Figures, figures, pooled_threshold, span_figures, span_tally
from llmguard.types import Detector, Finding, Role, Text

#: Ranks a text without a finding below every text with one, also one of score 0.
NO_FINDING = -1.0


@dataclass(frozen=True, slots=True)
class Report:
    """What ``evaluate`` found out.

    Attributes:
        kind: of the examples.
        detectors: version by name.
        threshold: findings below it did not count for precision, recall and F1.
        overall: figures of all texts.
        per_category: figures by category, in the file's names.
        per_source: figures by source.
        texts_per_second: in batches, all detectors together.
        p50_ms: median of the milliseconds that one text takes alone, all detectors together.
        p95_ms: likewise, the 95th percentile.
        timed_texts: how many texts the two percentiles are over.
        findings_without_span: left out because the examples are spans.
    """

    kind: Kind
    detectors: Mapping[str, str]
    threshold: float
    overall: Figures
    per_category: Mapping[str, Figures]
    per_source: Mapping[str, Figures]
    texts_per_second: float
    p50_ms: float
    p95_ms: float
    timed_texts: int
    findings_without_span: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, with the overall figures at the top level."""
        values = dataclasses.asdict(self)
        overall: dict[str, Any] = values.pop("overall")
        return overall | values


def evaluate(
    detectors: Sequence[Detector],
    examples: Sequence[Example],
    *,
    categories: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    threshold: float | None = None,
    role: Role = Role.USER,
    batch_size: int = 32,
    timed_texts: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Runs detectors over examples and compares what they find with what should be found.

    Args:
        detectors: their findings are united.
        examples: all of one kind.
        categories: only these count, on both sides, in the file's names; none means all.
        aliases: file category by finding category, or by detector for all its other findings.
        threshold: lowest score of a finding that counts; 0 for spans and 0.5 otherwise if None.
        role: whose texts these are; groundedness gives context and text their own.
        batch_size: texts a call; groundedness takes one text and its context a call.
        timed_texts: how many texts, at most, are looked at once more in calls of their own, to time those.
        progress: called with the texts done so far and all texts, the timed ones included.

    Raises:
        ConfigurationError: an argument is wrong or doesn't fit the others; says what would be right.
        DetectorError: a detector raised, or gave an answer that is none.
    """
    aliases = aliases or {}
    kind = _checked(detectors, examples, categories, aliases, threshold, batch_size, timed_texts)
    if threshold is None:
        threshold = 0.0 if kind is Kind.SPANS else 0.5
    timed = np.linspace(0, len(examples) - 1, min(len(examples), timed_texts)).astype(int).tolist()

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, len(examples) + len(timed))

    size = 1 if kind is Kind.GROUNDEDNESS else batch_size
    united(detectors, examples[:size], role, categories, aliases)  # what a detector builds at first use is not timed
    found: list[list[Finding]] = []
    seconds = 0.0
    for first in range(0, len(examples), size):
        findings, took = united(detectors, examples[first : first + size], role, categories, aliases)
        found += findings
        seconds += took
        tell(len(found))
    alone = []
    for done, index in enumerate(timed, len(examples) + 1):
        alone.append(sum(_ask(detector, examples[index : index + 1], role)[1] for detector in detectors))
        tell(done)
    p50, p95 = np.percentile(alone, [50, 95]) * 1e3
    if kind is Kind.SPANS:
        overall, per_category, per_source = _compare_spans(examples, found, categories, threshold)
    else:
        ranks = ranking(detectors, categories, aliases)
        overall, per_category, per_source = _compare_labels(examples, found, categories, ranks, threshold)
    return Report(
        kind=kind,
        detectors={detector.name: detector.version for detector in detectors},
        threshold=threshold,
        overall=overall,
        per_category=per_category,
        per_source=per_source,
        texts_per_second=len(examples) / max(seconds, 1e-9),
        p50_ms=float(p50),
        p95_ms=float(p95),
        timed_texts=len(timed),
        findings_without_span=sum(f.span is None for fs in found for f in fs) if kind is Kind.SPANS else 0,
    )


def asked_for(examples: Sequence[Example], categories: Collection[str], aliases: Mapping[str, str]) -> frozenset[str]:
    """The detectors' names of the categories that count: a detector may need a model for some of them.

    Args:
        examples: their own categories count when none are given.
        categories: in the file's names; none means all.
        aliases: file category by finding category.
    """
    counted = set(categories) or {category for example in examples for _, _, category in example.spans}
    return frozenset(counted | {found for found, name in aliases.items() if name in counted})


def _checked(
    detectors: Sequence[Detector],
    examples: Sequence[Example],
    categories: Collection[str],
    aliases: Mapping[str, str],
    threshold: float | None,
    batch_size: int,
    timed_texts: int,
) -> Kind:
    if not detectors or not examples:
        raise ConfigurationError("an evaluation needs at least one detector and one example")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigurationError(f"threshold {threshold} is outside [0, 1]")
    for name, number in (("batch size", batch_size), ("number of timed texts", timed_texts)):
        if number < 1:
            raise ConfigurationError(f"{name} {number} is not at least 1")
    labelled = {span[2] for example in examples for span in example.spans}
    check_names(detectors, categories, aliases, labelled.union(*(example.labels for example in examples)))
    try:
        return one_kind(examples)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def check_names(
    detectors: Sequence[Detector], categories: Collection[str], aliases: Mapping[str, str], labelled: Collection[str]
) -> None:
    """Refuse aliases and categories that no detector, nor a label of the file, has."""
    own = {(d.name, category) for d in detectors for category in d.categories}
    known = {word for pair in own for word in pair} | {d.name for d in detectors}
    for key in aliases:
        if key not in known:
            raise ConfigurationError(f"alias {key!r} is no detector or category in use{nearest(key, known)}")
    counted = {aliases.get(category, aliases.get(name, category)) for name, category in own} | set(labelled)
    for category in categories:
        if category not in counted:
            raise ConfigurationError(f"category {category!r} is neither found nor labelled{nearest(category, counted)}")


def ranking(detectors: Sequence[Detector], categories: Collection[str], aliases: Mapping[str, str]) -> frozenset[str]:
    """The categories, in the file's names, whose findings make a text's score; none means all.

    Given ``categories`` do. Otherwise a detector that says which of its own is the ``overall`` one, the others being
    kinds of it or beside it, is taken at its word: swearing at nobody is obscene, and need not be toxic.

    Args:
        detectors: whose findings are united.
        categories: only these count; none means all.
        aliases: file category by finding category, or by detector for all its other findings.
    """
    if categories or not any(getattr(detector, "overall", "") for detector in detectors):
        return frozenset(categories)
    ranks = set()
    for detector in detectors:
        overall = getattr(detector, "overall", "")
        own = [overall] if overall else detector.categories
        ranks |= {aliases.get(category, aliases.get(detector.name, category)) for category in own}
    return frozenset(ranks)


def united(
    detectors: Sequence[Detector],
    batch: Sequence[Example],
    role: Role,
    categories: Collection[str],
    aliases: Mapping[str, str],
) -> tuple[list[list[Finding]], float]:
    """The findings that count of some examples, by all detectors together, and the seconds spent in those.

    Args:
        detectors: their findings are united.
        batch: of one kind; groundedness takes one example a batch.
        role: whose texts these are.
        categories: only these count, in the file's names; none means all.
        aliases: file category by finding category, or by detector.

    Raises:
        DetectorError: a detector raised, or gave an answer that is none.
    """
    found: list[list[Finding]] = [[] for _ in batch]
    seconds = 0.0
    for detector in detectors:
        answers, took = _ask(detector, batch, role)
        seconds += took
        for counted, answer in zip(found, answers, strict=True):
            for finding in answer:
                name = aliases.get(finding.category, aliases.get(detector.name, finding.category))
                if not categories or name in categories:
                    counted.append(Finding(name, finding.score, finding.span))
    return found, seconds


def _ask(detector: Detector, batch: Sequence[Example], role: Role) -> tuple[Sequence[Sequence[Finding]], float]:
    grounded = batch[0].kind is Kind.GROUNDEDNESS
    if grounded:
        texts = [Text(batch[0].context, Role.RETRIEVAL), Text(batch[0].text, Role.ASSISTANT)]
    else:
        texts = [Text(example.text, role) for example in batch]
    started = time.perf_counter()
    try:
        # A detector with scores leaves out the lowest; ranking texts takes them all.
        answers = every_score(detector, texts)
        took = time.perf_counter() - started
        _check(detector.name, texts, answers)
    except DetectorError:
        raise
    except Exception as error:
        raise DetectorError(detector.name, f"raised {type(error).__qualname__}") from error
    return answers[1:] if grounded else answers, took


def _check(name: str, texts: Sequence[Text], answers: Sequence[Sequence[Finding]]) -> None:
    if len(answers) != len(texts):
        raise DetectorError(name, f"gave {len(answers)} answers for {len(texts)} texts")
    for text, answer in zip(texts, answers, strict=True):
        for finding in answer:
            if not 0 <= finding.score <= 1:
                raise DetectorError(name, f"gave the score {finding.score}, outside [0, 1]")
            start, end = finding.span or (0, 0)
            if not 0 <= start <= end <= len(text.content):
                raise DetectorError(name, f"gave the span {finding.span}, outside a text of {len(text.content)}")


_Compared = tuple[Figures, dict[str, Figures], dict[str, Figures]]


def _compare_labels(
    examples: Sequence[Example],
    found: Sequence[Sequence[Finding]],
    categories: Collection[str],
    ranks: frozenset[str],
    threshold: float,
) -> _Compared:
    best: list[dict[str, float]] = []
    for findings in found:
        scores: dict[str, float] = {}
        for finding in findings:
            scores[finding.category] = max(finding.score, scores.get(finding.category, NO_FINDING))
        best.append(scores)
    label = np.array([_label(example, categories) for example in examples], dtype=bool)
    score = np.array([_highest(scores, ranks) for scores in best])
    sources = np.array([example.source for example in examples])
    per_source = {}
    pooled = pooled_threshold(label, score)
    for name in sorted({example.source for example in examples}):
        own = sources == name
        per_source[name] = figures(label[own], score[own], threshold, pooled)
    per_category = {}
    for name in sorted({category for scores in best for category in scores} | set(categories)):
        labels = np.array([_label(example, [name]) for example in examples], dtype=bool)
        own_score = np.array([scores.get(name, NO_FINDING) for scores in best])
        per_category[name] = figures(labels, own_score, threshold)
    return figures(label, score, threshold), per_category, per_source


def _highest(scores: Mapping[str, float], ranks: frozenset[str]) -> float:
    return max((score for category, score in scores.items() if not ranks or category in ranks), default=NO_FINDING)


def _label(example: Example, categories: Collection[str]) -> int:
    known = [example.labels[category] for category in categories if category in example.labels]
    return max(known, default=example.label)


def _compare_spans(
    examples: Sequence[Example], found: Sequence[Sequence[Finding]], categories: Collection[str], threshold: float
) -> _Compared:
    tallies: dict[tuple[str, str], NDArray[np.int64]] = defaultdict(lambda: np.zeros(5, dtype=np.int64))
    for example, findings in zip(examples, found, strict=True):
        gold: dict[str, set[tuple[int, int]]] = defaultdict(set)
        seen: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for start, end, category in example.spans:
            if not categories or category in categories:
                gold[category].add((start, end))
        for finding in findings:
            if finding.span is not None and finding.score >= threshold:
                seen[finding.category].add(finding.span)
        for name in gold.keys() | seen.keys():
            tallies[example.source, name] += span_tally(gold[name], seen[name])
    texts = Counter(example.source for example in examples)

    def total(place: int | None, name: str = "") -> Figures:
        own = [tally for key, tally in tallies.items() if place is None or key[place] == name]
        return span_figures(texts[name] if place == 0 else len(examples), sum(own, np.zeros(5, dtype=np.int64)))

    names = sorted({name for _, name in tallies} | set(categories))
    return total(None), {name: total(1, name) for name in names}, {name: total(0, name) for name in sorted(texts)}
