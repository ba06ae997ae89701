"""How good detectors are: their findings against labelled texts, in figures.

An example is a text with a label (classification), a text with labelled spans (spans), or a text with
the context that it must keep to (groundedness). ``read`` takes them from a file, ``evaluate`` runs
detectors over them. docs/evaluation.md defines the file formats and every figure.
"""

from __future__ import annotations

import dataclasses
import enum
import gzip
import json
import re
import time
import zlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmguard.errors import ConfigurationError, DetectorError, nearest
from llmguard.types import Detector, Finding, Role, Text

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

_NO_FINDING = -1.0  # ranks a text without a finding below every text with one, also one of score 0
_TIMED_TEXTS = 1000
_SURROGATES = re.compile("[\ud800-\udfff]")

_Span = tuple[int, int, str]


class Kind(enum.StrEnum):
    """What an example says about its text."""

    CLASSIFICATION = "classification"
    SPANS = "spans"
    GROUNDEDNESS = "groundedness"


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text.

    Attributes:
        text: what detectors look at; hidden from ``repr``.
        kind: which of the fields below count.
        source: where it comes from; figures are given for each source.
        label: 1 when the text should be found, for classification and groundedness.
        labels: 0 or 1 by category, for those that the file knows.
        spans: (start, end, category) in half-open code points, for spans.
        context: what the text must keep to, for groundedness; hidden from ``repr``.
    """

    text: str = field(repr=False)
    kind: Kind
    source: str = ""
    label: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    spans: frozenset[_Span] = frozenset()
    context: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one set of texts; None where a figure is not defined.

    ``positives`` and ``predicted`` count texts, or spans where the examples are spans; precision,
    recall and F1 are then those of strict matching.
    """

    texts: int
    positives: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    false_positive_rate: float | None = None
    auc: float | None = None
    average_precision: float | None = None
    recall_at_1pct_fpr: float | None = None
    overlap_precision: float | None = None
    overlap_recall: float | None = None
    overlap_f1: float | None = None


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


def read(path: str | os.PathLike[str], *, limit: int | None = None) -> list[Example]:
    """The examples of a file with one JSON object a line, packed if its name ends in ``.gz``.

    Args:
        path: the file.
        limit: read no more than this many examples.

    Raises:
        ConfigurationError: the file is missing, broken, empty or mixes kinds; names file and line.
    """
    path = Path(path)
    packed = path.suffix == ".gz"
    examples: list[Example] = []
    number = 0
    try:
        with gzip.open(path) if packed else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if len(examples) == limit:
                    break
                if line.strip():
                    try:
                        examples.append(_example(line, path.name.partition(".")[0]))
                        _one_kind(examples[:1] + examples[-1:])
                    except ValueError as error:
                        raise ConfigurationError(str(error), source=str(path), line=number) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ConfigurationError("the gzip data is broken after this line", source=str(path), line=number) from None
    except OSError as error:
        raise ConfigurationError(f"can't be read: {error.strerror}", source=str(path)) from None
    if not examples:
        raise ConfigurationError("there is no example in this file", source=str(path))
    return examples


def _example(line: bytes, source: str) -> Example:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON that can be read: nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - a broken line, not a wrong argument
    text, source = _string(record, "text"), _string(record, "source", source)
    if "spans" in record:
        return Example(text, Kind.SPANS, source, spans=_spans(record["spans"], len(text)))
    if "label" not in record:
        raise ValueError("has neither 'label' nor 'spans'")
    if not _is_label(record["label"]):
        raise ValueError("'label' must be 0 or 1")
    if "context" in record:
        return Example(text, Kind.GROUNDEDNESS, source, record["label"], context=_string(record, "context"))
    labels = record.get("labels") or {}
    if not isinstance(labels, dict):
        raise ValueError("'labels' must be an object of 0 or 1 by category")  # noqa: TRY004 - likewise
    # Files keep other facts about the text in there as well; only 0 and 1 can be labels.
    known = {category: int(value) for category, value in labels.items() if _is_label(value)}
    return Example(text, Kind.CLASSIFICATION, source, int(record["label"]), known)


def _string(record: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = record.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be a string")  # noqa: TRY004 - a broken line, not a wrong argument
    # JSON can spell lone surrogates and detectors must not get any; one for one, so offsets stay.
    return _SURROGATES.sub("�", value)


def _is_label(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _spans(spans: object, length: int) -> frozenset[_Span]:
    found = set()
    for span in spans if isinstance(spans, list) else [None]:
        match span:
            case {"start": int(start), "end": int(end), "category": str(category)}:
                if not 0 <= start < end <= length:
                    raise ValueError(f"span [{start}, {end}) is empty or outside the text of {length} code points")
                found.add((start, end, category))
            case _:
                raise ValueError("'spans' must be a list of objects with 'start', 'end' and 'category'")
    return frozenset(found)


def _one_kind(examples: Iterable[Example]) -> Kind:
    kinds = list(dict.fromkeys(example.kind for example in examples))
    if len(kinds) != 1:
        raise ValueError(f"examples of one kind can be evaluated together, not {' and '.join(kinds)}")
    return kinds[0]


def evaluate(
    detectors: Sequence[Detector],
    examples: Sequence[Example],
    *,
    categories: Collection[str] = (),
    aliases: Mapping[str, str] | None = None,
    threshold: float | None = None,
    role: Role = Role.USER,
    batch_size: int = 32,
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
        progress: called with the texts done so far and all texts, the timed ones included.

    Raises:
        ConfigurationError: an argument is wrong or doesn't fit the others; says what would be right.
        DetectorError: a detector raised, or gave an answer that is none.
    """
    aliases = aliases or {}
    kind = _checked(detectors, examples, categories, aliases, threshold, batch_size)
    if threshold is None:
        threshold = 0.0 if kind is Kind.SPANS else 0.5
    timed = np.linspace(0, len(examples) - 1, min(len(examples), _TIMED_TEXTS)).astype(int).tolist()

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, len(examples) + len(timed))

    size = 1 if kind is Kind.GROUNDEDNESS else batch_size
    _united(detectors, examples[:size], role, categories, aliases)  # what a detector builds at first use is not timed
    found: list[list[Finding]] = []
    seconds = 0.0
    for first in range(0, len(examples), size):
        united, took = _united(detectors, examples[first : first + size], role, categories, aliases)
        found += united
        seconds += took
        tell(len(found))
    alone = []
    for done, index in enumerate(timed, len(examples) + 1):
        alone.append(sum(_ask(detector, examples[index : index + 1], role)[1] for detector in detectors))
        tell(done)
    p50, p95 = np.percentile(alone, [50, 95]) * 1e3
    compare = _compare_spans if kind is Kind.SPANS else _compare_labels
    overall, per_category, per_source = compare(examples, found, categories, threshold)
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


def _checked(
    detectors: Sequence[Detector],
    examples: Sequence[Example],
    categories: Collection[str],
    aliases: Mapping[str, str],
    threshold: float | None,
    batch_size: int,
) -> Kind:
    if not detectors or not examples:
        raise ConfigurationError("an evaluation needs at least one detector and one example")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigurationError(f"threshold {threshold} is outside [0, 1]")
    if batch_size < 1:
        raise ConfigurationError(f"batch size {batch_size} is not at least 1")
    own = {(d.name, category) for d in detectors for category in d.categories}
    for key in aliases:
        known = {word for pair in own for word in pair} | {d.name for d in detectors}
        if key not in known:
            raise ConfigurationError(f"alias {key!r} is no detector or category in use{nearest(key, known)}")
    counted = {aliases.get(category, aliases.get(name, category)) for name, category in own}
    counted.update(span[2] for example in examples for span in example.spans)
    counted.update(name for example in examples for name in example.labels)
    for category in categories:
        if category not in counted:
            raise ConfigurationError(f"category {category!r} is neither found nor labelled{nearest(category, counted)}")
    try:
        return _one_kind(examples)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _united(
    detectors: Sequence[Detector],
    batch: Sequence[Example],
    role: Role,
    categories: Collection[str],
    aliases: Mapping[str, str],
) -> tuple[list[list[Finding]], float]:
    united: list[list[Finding]] = [[] for _ in batch]
    seconds = 0.0
    for detector in detectors:
        answers, took = _ask(detector, batch, role)
        seconds += took
        for counted, answer in zip(united, answers, strict=True):
            for finding in answer:
                name = aliases.get(finding.category, aliases.get(detector.name, finding.category))
                if not categories or name in categories:
                    counted.append(Finding(name, finding.score, finding.span))
    return united, seconds


def _ask(detector: Detector, batch: Sequence[Example], role: Role) -> tuple[Sequence[Sequence[Finding]], float]:
    grounded = batch[0].kind is Kind.GROUNDEDNESS
    if grounded:
        texts = [Text(batch[0].context, Role.RETRIEVAL), Text(batch[0].text, Role.ASSISTANT)]
    else:
        texts = [Text(example.text, role) for example in batch]
    started = time.perf_counter()
    try:
        answers = detector.detect(texts)
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
    examples: Sequence[Example], found: Sequence[Sequence[Finding]], categories: Collection[str], threshold: float
) -> _Compared:
    best: list[dict[str, float]] = []
    for findings in found:
        scores: dict[str, float] = {}
        for finding in findings:
            scores[finding.category] = max(finding.score, scores.get(finding.category, _NO_FINDING))
        best.append(scores)
    label = np.array([_label(example, categories) for example in examples], dtype=bool)
    score = np.array([max(scores.values(), default=_NO_FINDING) for scores in best])
    sources = np.array([example.source for example in examples])
    per_source = {}
    for name in sorted({example.source for example in examples}):
        own = sources == name
        per_source[name] = figures(label[own], score[own], threshold)
    per_category = {}
    for name in sorted({category for scores in best for category in scores} | set(categories)):
        labels = np.array([_label(example, [name]) for example in examples], dtype=bool)
        own_score = np.array([scores.get(name, _NO_FINDING) for scores in best])
        per_category[name] = figures(labels, own_score, threshold)
    return figures(label, score, threshold), per_category, per_source


def _label(example: Example, categories: Collection[str]) -> int:
    known = [example.labels[category] for category in categories if category in example.labels]
    return max(known, default=example.label)


def figures(labels: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> Figures:
    """The figures of texts that should (label 1) or should not be found.

    AUC by the rank formula of Mann and Whitney with ties counted half; average precision as the sum
    of the steps in recall times the precision there, ties taken as one step; recall at 1 % false
    positives over all thresholds that let at most 1 % of the negatives through.

    Args:
        labels: shape (n,).
        scores: shape (n,), in [0, 1], or below 0 for texts in which nothing was found.
        threshold: a text counts as found from this score on.
    """
    positives, negatives = int(labels.sum()), int((~labels).sum())
    hit = scores >= threshold
    tp, predicted = int((hit & labels).sum()), int(hit.sum())
    auc = average_precision = recall_at_1pct_fpr = None
    if positives and negatives:
        values, group = np.unique(-scores, return_inverse=True)  # negated: from the highest score down
        tps = np.bincount(group, weights=labels, minlength=len(values)).cumsum()
        fps = np.bincount(group, weights=~labels, minlength=len(values)).cumsum()
        steps = np.diff(tps, prepend=0)
        auc = float((np.diff(fps, prepend=0) * (tps - steps / 2)).sum() / (positives * negatives))
        average_precision = float((steps * tps / (tps + fps)).sum() / positives)
        recall_at_1pct_fpr = float(tps[fps * 100 <= negatives].max(initial=0) / positives)
    return Figures(
        texts=len(labels),
        positives=positives,
        predicted=predicted,
        precision=_ratio(tp, predicted),
        recall=_ratio(tp, positives),
        f1=_ratio(2 * tp, predicted + positives),
        false_positive_rate=_ratio(predicted - tp, negatives),
        auc=auc,
        average_precision=average_precision,
        recall_at_1pct_fpr=recall_at_1pct_fpr,
    )


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


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
            tallies[example.source, name] += _tally(gold[name], seen[name])
    texts = Counter(example.source for example in examples)

    def total(place: int | None, name: str = "") -> Figures:
        own = [tally for key, tally in tallies.items() if place is None or key[place] == name]
        return _span_figures(texts[name] if place == 0 else len(examples), sum(own, np.zeros(5, dtype=np.int64)))

    names = sorted({name for _, name in tallies} | set(categories))
    return total(None), {name: total(1, name) for name in names}, {name: total(0, name) for name in sorted(texts)}


def _tally(gold: set[tuple[int, int]], seen: set[tuple[int, int]]) -> NDArray[np.int64]:
    return np.array([len(gold & seen), len(seen), len(gold), _overlapping(seen, gold), _overlapping(gold, seen)])


def _overlapping(spans: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> int:
    """How many of ``spans`` overlap one of ``others``: more of those start before its end than end before its start."""
    starts, ends = sorted(start for start, _ in others), sorted(end for _, end in others)
    return sum(bisect_left(starts, end) > bisect_right(ends, start) for start, end in spans)


def _span_figures(texts: int, tally: NDArray[np.int64]) -> Figures:
    tp, seen, gold, seen_right, gold_found = (int(count) for count in tally)
    # The harmonic mean of seen_right / seen and gold_found / gold, without dividing by nothing.
    overlap_f1 = _ratio(2 * seen_right * gold_found, seen_right * gold + gold_found * seen)
    return Figures(
        texts=texts,
        positives=gold,
        predicted=seen,
        precision=_ratio(tp, seen),
        recall=_ratio(tp, gold),
        f1=_ratio(2 * tp, seen + gold),
        overlap_precision=_ratio(seen_right, seen),
        overlap_recall=_ratio(gold_found, gold),
        overlap_f1=0.0 if overlap_f1 is None and seen + gold else overlap_f1,
    )
