"""The figures against slow, obvious twins, and what the reader refuses."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmguard.errors import ConfigurationError, DetectorError
from llmguard.evaluation import evaluate
from llmguard.examples import Example, Kind, read
from llmguard.figures import Figures, figures
from llmguard.types import Finding, Role, Scope, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

# ---------------------------------------------------------------- naive twins


def naive_auc(labels: Sequence[bool], scores: Sequence[float]) -> float:
    pairs = [
        (p, n) for p, a in zip(scores, labels, strict=True) if a for n, b in zip(scores, labels, strict=True) if not b
    ]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


def naive_at(labels: Sequence[bool], scores: Sequence[float], threshold: float) -> tuple[int, int]:
    hits = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
    return sum(hits), len(hits) - sum(hits)


def naive_average_precision(labels: Sequence[bool], scores: Sequence[float]) -> float:
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        tp, fp = naive_at(labels, scores, threshold)
        recall = tp / sum(labels)
        total += (recall - before) * tp / (tp + fp)
        before = recall
    return total


def naive_recall_at_1pct(labels: Sequence[bool], scores: Sequence[float]) -> float:
    best, negatives = 0.0, len(labels) - sum(labels)
    for threshold in set(scores):
        tp, fp = naive_at(labels, scores, threshold)
        if fp <= 0.01 * negatives:
            best = max(best, tp / sum(labels))
    return best


def naive_overlapping(spans: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> int:
    others = list(others)
    return sum(any(set(range(*span)) & set(range(*other)) for other in others) for span in spans)


# ---------------------------------------------------------------- detectors to measure


@dataclass
class Fixed:
    """Finds what it is told to, by a function of the text."""

    found: Callable[[Text], list[Finding]]
    name: str = "fixed"
    version: str = "7"
    scope: Scope = Scope.DOCUMENT
    categories: frozenset[str] = frozenset({"A", "B"})
    inline: bool = True
    calls: list[int] = field(default_factory=list)

    def detect(self, texts: Sequence[Text]) -> Sequence[Sequence[Finding]]:
        self.calls.append(len(texts))
        return [self.found(text) for text in texts]


def words(categories: str = "AB") -> Fixed:
    """Finds `a0.7` as category A with score 0.7, where it stands."""
    shape = re.compile(f"([{categories.lower()}])([01](?:\\.[0-9]+)?)")
    return Fixed(
        lambda text: [Finding(m[1].upper(), float(m[2]), m.span()) for m in shape.finditer(text.content)],
        categories=frozenset(categories),
    )


def labelled(text: str, label: int, source: str = "s", **labels: int) -> Example:
    return Example(text, Kind.CLASSIFICATION, source, label, labels)


def spans(text: str, *found: tuple[int, int, str], source: str = "s") -> Example:
    return Example(text, Kind.SPANS, source, spans=frozenset(found))


# ---------------------------------------------------------------- ranked figures

_scored = st.lists(
    st.tuples(st.booleans(), st.sampled_from([-1.0, 0.0, 0.1, 0.5, 0.50001, 0.9, 1.0])), min_size=1, max_size=300
)


@settings(max_examples=60, deadline=None)
@given(_scored)
def test_figures_equal_their_naive_twins(scored: list[tuple[bool, float]]) -> None:
    labels, scores = [label for label, _ in scored], [score for _, score in scored]
    seen = figures(np.array(labels), np.array(scores), 0.5)
    tp, fp = naive_at(labels, scores, 0.5)
    fn = sum(labels) - tp
    assert (seen.positives, seen.predicted, seen.texts) == (sum(labels), tp + fp, len(labels))
    assert seen.precision == (tp / (tp + fp) if tp + fp else None)
    assert seen.recall == (tp / (tp + fn) if tp + fn else None)
    assert seen.f1 == (2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None)
    if len(set(labels)) == 2:
        assert seen.auc == pytest.approx(naive_auc(labels, scores))
        assert seen.average_precision == pytest.approx(naive_average_precision(labels, scores))
        assert seen.recall_at_1pct_fpr == pytest.approx(naive_recall_at_1pct(labels, scores))
        assert seen.false_positive_rate == fp / (len(labels) - sum(labels))
    else:
        assert (seen.auc, seen.average_precision, seen.recall_at_1pct_fpr) == (None, None, None)


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    labels, scores = random.random(500) < 0.3, np.round(random.random(500), 2)
    seen = figures(labels, scores, 0.5)
    assert seen.auc == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert seen.average_precision == pytest.approx(metrics.average_precision_score(labels, scores))


def test_one_percent_of_the_negatives_may_pass_and_no_more() -> None:
    negatives = [0.9, 0.8] + [0.0] * 98
    labels = np.array([True, True, True] + [False] * 100)
    assert figures(labels, np.array([1.0, 0.85, 0.7, *negatives]), 0.5).recall_at_1pct_fpr == 2 / 3
    assert figures(labels, np.array([0.9, 0.9, 0.8, *negatives]), 0.5).recall_at_1pct_fpr == 2 / 3
    assert figures(labels[:-1], np.array([0.9, 0.9, 0.8, *negatives[:-1]]), 0.5).recall_at_1pct_fpr == 0.0


def test_nothing_found_ranks_below_a_finding_of_score_zero() -> None:
    report = evaluate([words()], [labelled("a0", 1), labelled("clean", 0)], threshold=0.0)
    assert (report.overall.auc, report.overall.precision, report.overall.recall) == (1.0, 1.0, 1.0)


# ---------------------------------------------------------------- classification


def test_a_text_scores_its_highest_finding_of_all_detectors() -> None:
    first, second = words("A"), words("B")
    second.name = "second"
    examples = [labelled("a0.2 b0.9", 1), labelled("a0.6", 1, "t"), labelled("b0.5", 0, "t"), labelled("", 0)]
    report = evaluate([first, second], examples)
    assert report.kind is Kind.CLASSIFICATION
    assert report.detectors == {"fixed": "7", "second": "7"}
    assert report.threshold == 0.5
    assert report.overall == Figures(4, 2, 3, 2 / 3, 1.0, 0.8, 0.5, 1.0, 1.0, 1.0)
    assert {name: (f.texts, f.positives, f.predicted) for name, f in report.per_source.items()} == {
        "s": (2, 1, 1),
        "t": (2, 1, 2),
    }
    assert {name: (f.positives, f.predicted) for name, f in report.per_category.items()} == {"A": (2, 1), "B": (2, 2)}


def test_categories_limit_the_findings_and_pick_the_labels() -> None:
    examples = [labelled("a1 b1", 1, A=0, B=1), labelled("a1", 1, A=1, B=0), labelled("b1", 0)]
    only_a = evaluate([words()], examples, categories=["A"])
    assert (only_a.overall.positives, only_a.overall.predicted, only_a.overall.precision) == (1, 2, 0.5)
    assert set(only_a.per_category) == {"A"}
    both = evaluate([words()], examples, categories=["A", "B"])
    assert (both.overall.positives, both.overall.predicted) == (2, 3)
    assert {name: f.positives for name, f in both.per_category.items()} == {"A": 1, "B": 1}


def test_a_text_is_ranked_by_the_overall_category_of_a_detector_that_has_one() -> None:
    detector = words()
    detector.overall = "A"  # type: ignore[attr-defined]
    examples = [labelled("a0.6 b0.1", 1), labelled("a0.2 b0.9", 0, B=1), labelled("b1", 0)]
    report = evaluate([detector], examples)
    assert (report.overall.auc, report.overall.predicted) == (1.0, 1)
    assert report.per_category["B"].predicted == 2
    assert evaluate([detector], examples, categories=["A", "B"]).overall.auc == 0.0
    other = words("B")
    other.name = "other"
    assert evaluate([detector, other], examples).overall.predicted == 3
    renamed = evaluate([detector], examples, aliases={"A": "BAD"})
    assert renamed.overall.auc == 1.0


def test_an_alias_names_a_category_before_it_names_a_detector() -> None:
    example = spans("a1 b1", (0, 2, "SECRET"), (3, 5, "KEY"))
    assert evaluate([words()], [example]).overall.recall == 0.0
    report = evaluate([words()], [example], aliases={"fixed": "SECRET", "B": "KEY"})
    assert {name: f.f1 for name, f in report.per_category.items()} == {"SECRET": 1.0, "KEY": 1.0}
    limited = evaluate([words()], [example], aliases={"fixed": "SECRET"}, categories=["SECRET"])
    assert (limited.overall.positives, limited.overall.predicted, limited.overall.recall) == (1, 2, 1.0)


def test_files_with_one_class_have_no_ranked_figures() -> None:
    report = evaluate([words()], [labelled("a1", 0), labelled("", 0)])
    figures_ = report.overall
    assert (figures_.auc, figures_.average_precision, figures_.recall_at_1pct_fpr, figures_.recall) == (None,) * 4
    assert (figures_.precision, figures_.f1, figures_.false_positive_rate) == (0.0, 0.0, 0.5)
    assert "NaN" not in json.dumps(report.to_dict())


# ---------------------------------------------------------------- spans


def test_strict_and_overlap_matching() -> None:
    #            0123456789
    examples = [
        spans("a1 a1 a1", (0, 2, "A"), (3, 8, "A")),  # one exact; two findings inside the other
        spans("b1 ..", (3, 5, "B"), source="t"),  # touching nothing
        spans("b1", (0, 2, "A"), source="t"),  # the right place, the wrong category
    ]
    report = evaluate([words()], examples)
    overall = report.overall
    assert report.threshold == 0.0
    assert (overall.texts, overall.positives, overall.predicted) == (3, 4, 5)
    assert (overall.precision, overall.recall, overall.f1) == (1 / 5, 1 / 4, 2 / 9)
    assert (overall.overlap_precision, overall.overlap_recall) == (3 / 5, 2 / 4)
    assert overall.overlap_f1 == pytest.approx(2 * 0.6 * 0.5 / 1.1)
    assert (overall.auc, overall.average_precision, overall.recall_at_1pct_fpr) == (None, None, None)
    assert report.per_category["A"].overlap_precision == 1.0
    assert report.per_category["B"].overlap_f1 == 0.0
    assert report.per_source["t"].texts == 2
    assert report.per_source["t"].f1 == 0.0


def test_adjacent_spans_do_not_overlap() -> None:
    report = evaluate([words()], [spans("a1xx", (2, 4, "A"))])
    assert report.overall.overlap_recall == 0.0
    report = evaluate([words()], [spans("a1xx", (1, 4, "A"))])
    assert (report.overall.overlap_recall, report.overall.recall) == (1.0, 0.0)


def test_the_same_span_found_twice_counts_once_and_the_threshold_counts() -> None:
    twice = Fixed(lambda _: [Finding("A", 0.4, (0, 1)), Finding("A", 0.9, (0, 1)), Finding("A", 0.3, (1, 2))])
    example = spans("xy", (0, 1, "A"))
    assert evaluate([twice], [example]).overall.predicted == 2
    assert evaluate([twice], [example], threshold=0.4).overall.f1 == 1.0


def test_findings_without_a_span_are_told_apart() -> None:
    whole = Fixed(lambda _: [Finding("A"), Finding("B")])
    report = evaluate([whole], [spans("xy"), spans("xy")], categories=["A"])
    assert (report.findings_without_span, report.overall.predicted, report.overall.f1) == (2, 0, None)


_places = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)).map(lambda p: (p[0], p[0] + p[1])), max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(_places, _places), min_size=1, max_size=4))
def test_overlap_counts_equal_their_naive_twin(
    texts: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    content = "x" * 20
    answers = iter(itertools.cycle([[Finding("A", 1.0, place) for place in found] for _, found in texts]))
    report = evaluate(
        [Fixed(lambda _: next(answers))],
        [spans(content, *((start, end, "A") for start, end in gold)) for gold, _ in texts],
        batch_size=len(texts),
    )
    sets = [(set(gold), set(found)) for gold, found in texts]
    predicted, positives = sum(len(found) for _, found in sets), sum(len(gold) for gold, _ in sets)
    assert (report.overall.predicted, report.overall.positives) == (predicted, positives)
    if predicted:
        right = sum(naive_overlapping(found, gold) for gold, found in sets)
        assert report.overall.overlap_precision == right / predicted
    if positives:
        assert report.overall.recall == sum(len(gold & found) for gold, found in sets) / positives
        assert report.overall.overlap_recall == sum(naive_overlapping(gold, found) for gold, found in sets) / positives


def test_a_text_with_a_hundred_thousand_findings() -> None:
    many = [(start, start + 2) for start in range(0, 200_000, 2)]
    found = [Finding("A", 1.0, span) for span in many]
    shifted = spans("x" * 200_002, *((start + 1, end + 1, "A") for start, end in many))
    overall = evaluate([Fixed(lambda _: found)], [shifted]).overall
    assert (overall.f1, overall.overlap_f1, overall.predicted) == (0.0, 1.0, 100_000)


# ---------------------------------------------------------------- groundedness


def test_a_text_is_judged_together_with_its_context() -> None:
    class Missing(Fixed):
        def detect(self, texts: Sequence[Text]) -> Sequence[Sequence[Finding]]:
            assert [text.role for text in texts] == [Role.RETRIEVAL, Role.ASSISTANT]
            context, text = texts
            new = set(text.content.split()) - set(context.content.split())
            return [[Finding("A", 1.0)], [Finding("A", 0.9)] if new else []]

    examples = [
        Example("the sky is blue", Kind.GROUNDEDNESS, "s", 0, context="the sky is blue today"),
        Example("the sky is green", Kind.GROUNDEDNESS, "s", 1, context="the sky is blue today"),
    ]
    report = evaluate([Missing(lambda _: [])], examples, batch_size=32)
    assert (report.overall.precision, report.overall.recall, report.overall.auc) == (1.0, 1.0, 1.0)


# ---------------------------------------------------------------- running


def test_batches_then_single_texts_and_progress_to_the_end() -> None:
    detector, told = words(), []
    examples = [labelled(f"a{i % 2}", i % 2) for i in range(1100)]
    report = evaluate([detector], examples, batch_size=500, progress=lambda done, of: told.append((done, of)))
    assert detector.calls == [500] + [500, 500, 100] + [1] * 1000  # the first one warms up
    assert report.timed_texts == 1000
    assert told[:3] == [(500, 2100), (1000, 2100), (1100, 2100)]
    assert told[-1] == (2100, 2100)
    assert report.texts_per_second > 0
    assert 0 < report.p50_ms <= report.p95_ms


def test_the_role_reaches_the_detector() -> None:
    roles = Fixed(lambda text: [Finding("A")] if text.role is Role.TOOL else [])
    assert evaluate([roles], [labelled("x", 1)], role=Role.TOOL).overall.recall == 1.0
    assert evaluate([roles], [labelled("x", 1)]).overall.recall == 0.0


def test_the_report_has_the_overall_figures_at_the_top() -> None:
    values = evaluate([words()], [labelled("a1", 1, "left"), labelled("", 0, "right")]).to_dict()
    top = {key: values[key] for key in ("precision", "recall", "f1", "auc", "average_precision", "recall_at_1pct_fpr")}
    assert top == dict.fromkeys(top, 1.0)
    assert values["kind"] == "classification"
    assert values["per_source"]["left"]["recall"] == 1.0
    assert values["overlap_f1"] is None
    assert json.loads(json.dumps(values)) == values


def _raises(_: Text) -> list[Finding]:
    raise RuntimeError("the secret text")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda _: [Finding("A", float("nan"))], "score nan"),
        (lambda _: [Finding("A", 1.5)], "score 1.5"),
        (lambda _: [Finding("A", 1.0, (0, 99))], r"span \(0, 99\)"),
        (lambda _: ["not a finding"], "raised AttributeError"),
        (_raises, "raised RuntimeError"),
    ],
)
def test_a_detector_that_gives_no_answer(found: Callable[[Text], list[Finding]], message: str) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        evaluate([Fixed(found)], [labelled("x", 1)])
    assert "secret" not in str(caught.value)


def test_a_detector_that_gives_too_few_answers() -> None:
    class Short(Fixed):
        def detect(self, texts: Sequence[Text]) -> Sequence[Sequence[Finding]]:
            return [[]] * (len(texts) - 1)

    with pytest.raises(DetectorError, match="gave 1 answers for 2 texts"):
        evaluate([Short(lambda _: [])], [labelled("x", 1), labelled("y", 0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "outside"),
        ({"threshold": float("nan")}, "outside"),
        ({"batch_size": 0}, "at least 1"),
        ({"aliases": {"fxied": "A"}}, "did you mean 'fixed'"),
        ({"categories": ["AA"]}, "neither found nor labelled"),
    ],
)
def test_wrong_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        evaluate([words()], [labelled("x", 1)], **options)  # type: ignore[arg-type]


def test_nothing_to_evaluate_and_mixed_kinds() -> None:
    for detectors, examples in (([], [labelled("x", 1)]), ([words()], [])):
        with pytest.raises(ConfigurationError, match="at least one"):
            evaluate(detectors, examples)
    with pytest.raises(ConfigurationError, match="classification and spans"):
        evaluate([words()], [labelled("x", 1), spans("x")])


# ---------------------------------------------------------------- reading


def write(path: Path, *records: object) -> Path:
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_reads_each_kind(tmp_path: Path) -> None:
    path = write(
        tmp_path / "labels.v2.jsonl.gz",
        {"text": "x", "label": 1, "labels": {"insult": 1, "threat": False, "votes": 3, "why": "…"}, "more": []},
        {"text": "", "label": 0, "labels": None, "source": "elsewhere"},
    )
    assert read(path) == [
        Example("x", Kind.CLASSIFICATION, "labels", 1, {"insult": 1, "threat": 0}, facts={"why": "…"}),
        Example("", Kind.CLASSIFICATION, "elsewhere", 0),
    ]
    path = write(tmp_path / "s.jsonl", {"text": "é𝄞x", "spans": [{"start": 1, "end": 3, "category": "A", "id": 4}]})
    assert read(path) == [Example("é𝄞x", Kind.SPANS, "s", spans=frozenset({(1, 3, "A")}))]
    path = write(tmp_path / "g.jsonl", {"context": "c", "text": "x", "label": 1})
    assert read(path) == [Example("x", Kind.GROUNDEDNESS, "g", 1, context="c")]


def test_reads_no_more_than_the_limit_and_skips_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "x", "label": 1}\r\n\n{"text": "y", "label": 0}\nbroken')
    assert [example.text for example in read(path, limit=2)] == ["x", "y"]


def test_lone_surrogates_are_replaced_one_for_one(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "\\ud800a\\ud83d\\ude00", "label": 0}')
    assert read(path)[0].text == "\ufffda😀"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "must be a JSON object"),
        ({"label": 1}, "'text' must be a string"),
        ({"text": 1, "label": 1}, "'text' must be a string"),
        ({"text": "x"}, "neither 'label' nor 'spans'"),
        ({"text": "x", "label": 2}, "'label' must be 0 or 1"),
        ({"text": "x", "label": "1"}, "'label' must be 0 or 1"),
        ({"text": "x", "label": 0.5}, "'label' must be 0 or 1"),
        ({"text": "x", "label": 1, "labels": "insult"}, "'labels' must be an object"),
        ({"text": "x", "label": 1, "source": 3}, "'source' must be a string"),
        ({"text": "x", "label": 1, "context": ["c"]}, "'context' must be a string"),
        ({"text": "x", "spans": None}, "'spans' must be a list"),
        ({"text": "x", "spans": [{"start": 0, "end": 1}]}, "'spans' must be a list"),
        ({"text": "x", "spans": [{"start": 0, "end": 2, "category": "A"}]}, r"\[0, 2\) is empty or outside"),
        ({"text": "x", "spans": [{"start": -1, "end": 1, "category": "A"}]}, "outside"),
        ({"text": "x", "spans": [{"start": 1, "end": 1, "category": "A"}]}, "empty"),
        ({"text": "x", "spans": []}, "classification and spans"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, record: object, message: str) -> None:
    path = write(tmp_path / "x.jsonl.gz", {"text": "fine", "label": 1}, record)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"text": "x", ', "1: not JSON: .* at column 1"),
        (b'{"text": "\xff", "label": 1}', "1: not UTF-8"),
        (b'{"text": "x", "label": ' + b"[" * 100_000, "1: not JSON"),
        (b"", "no example"),
        (b"\n \n", "no example"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=message):
        read(path)


@pytest.mark.parametrize("broken", [b"plain", b"\x1f\x8b\x08", None])
def test_broken_gzip(tmp_path: Path, broken: bytes | None) -> None:
    path = tmp_path / "x.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"text": "x%d", "label": 1}\n' % i for i in range(1000)))
    path.write_bytes(whole[:-20] if broken is None else broken)
    with pytest.raises(ConfigurationError, match="gzip data is broken"):
        read(path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jsonl", tmp_path / "missing.jsonl.gz", tmp_path):
        with pytest.raises(ConfigurationError, match=f"{re.escape(str(path))}: can't be read"):
            read(path)
