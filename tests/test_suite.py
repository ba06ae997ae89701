"""The figures of a directory of sets, and the share of a source at the pool's threshold."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmguard import ConfigurationError, Detector, Finding, Role, Scope, detector
from llmguard.cli.main import app
from llmguard.figures import figures, pooled_threshold
from llmguard.suite import SuiteFigure, run_suite


class Told:
    """A detector that reads its scores from the texts: ``0.7 of what ever``."""

    version, scope, inline = "1", Scope.DOCUMENT, True

    def __init__(self, name: str, *categories: str) -> None:
        self.name = name
        self.categories = frozenset(categories)

    def detect(self, texts: Any) -> list[list[Finding]]:
        spans = {"PERSON": (0, 3), "LOCATION": (0, 3)}
        return [
            [Finding(name, float(text.content[:3]), spans.get(name)) for name in sorted(self.categories)]
            if text.role is not Role.RETRIEVAL
            else []
            for text in texts
        ]


def load(name: str, options: Mapping[str, Any], wanted: Collection[str]) -> Detector:
    assert not options
    return Told(name, *(("PERSON", "LOCATION") if name == "pii" else ("BAD",)))


def put(path: Path, *rows: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def labelled(*rows: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in rows]


def test_each_directory_has_its_figures(tmp_path: Path) -> None:
    put(tmp_path / "toxicity" / "some.jsonl", *labelled(("0.9 a", 1), ("0.1 b", 0), ("0.5 c", 1), ("0.7 d", 0)))
    sikhs = [("0.9 a vile Sikh", 1), ("0.8 a Sikh", 0)] * 10 + [("0.7 a vile Jew", 1), ("0.1 a Jew", 0)] * 10
    put(tmp_path / "toxicity" / "madlibs.jsonl", *labelled(*sikhs))
    put(tmp_path / "injection" / "hard.jsonl", *labelled(("0.6 a", 1), ("0.3 b", 1), ("0.7 c", 0)))
    put(tmp_path / "benign" / "plain.jsonl", *labelled(*[("0.5 x", 0), *[("0.2 x", 0)] * 198]))
    put(tmp_path / "indirect" / "mails.jsonl", *labelled(("0.6 a", 1), ("0.3 b", 0)))
    put(tmp_path / "pii" / "wiki.jsonl", {"text": "0.9 went", "spans": [{"start": 0, "end": 3, "category": "PERSON"}]})
    for name, scores in (("one", (0.9, 0.1)), ("two", (0.1, 0.9))):
        rows = [{"context": "c", "text": f"{score} t", "label": place} for place, score in enumerate(scores)]
        put(tmp_path / "groundedness" / f"{name}.jsonl", *rows)
    put(tmp_path / "other" / "passed_over.jsonl", {})
    found = {(one.figure, one.of): (one.value, one.texts) for one in run_suite(tmp_path, load)}
    pool = "injection recall, 1 % FP of the pool"
    assert found == {
        ("toxicity AUC", "madlibs"): (0.75, 40),
        ("worst BPSN AUC of a term", "madlibs: Sikh"): (0.0, 40),
        ("toxicity AUC", "some"): (0.75, 4),
        # Two of the 200 harmless texts may pass: the threshold is right above the third one's score.
        (pool, "all"): (1.0, 2),
        (pool, "hard"): (1.0, 2),
        ("injection FP there", "hard"): (1.0, 1),
        ("injection FP there", "plain"): (pytest.approx(1 / 199), 199),
        ("injection AUC in tool results", "mails"): (1.0, 2),
        ("PERSON overlap F1", "wiki"): (1.0, 1),
        ("LOCATION overlap F1", "wiki"): (0.0, 1),
        ("groundedness AUC", "one"): (0.0, 2),
        ("groundedness AUC", "two"): (1.0, 2),
        ("groundedness AUC", "mean"): (0.5, 4),
    }


def test_a_directory_without_sets_or_with_sets_of_another_kind_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no labelled texts in any of toxicity"):
        list(run_suite(tmp_path, load))
    for file in ("wiki.en.jsonl", "wiki.de.jsonl"):
        put(tmp_path / "pii" / file, {"text": "x", "spans": []})
    with pytest.raises(ConfigurationError, match="two files named 'wiki' up to the first dot"):
        list(run_suite(tmp_path, load))
    for file in (tmp_path / "pii").iterdir():
        file.unlink()
    put(tmp_path / "pii" / "wrong.jsonl", {"text": "x", "label": 1})
    with pytest.raises(ConfigurationError, match="wrong is of the kind classification, not spans"):
        list(run_suite(tmp_path, load))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), min_size=1, max_size=400))
def test_the_pools_threshold_is_the_one_of_the_recall(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] / 30 for row in rows])
    limit = pooled_threshold(labels, scores)
    if labels.all():
        assert limit is None
        return
    assert limit is not None
    found = figures(labels, scores, 0.5, limit)
    assert (scores[~labels] >= limit).sum() * 100 <= (~labels).sum()
    assert found.recall_at_pooled_1pct_fpr == found.recall_at_1pct_fpr
    assert found.fpr_at_pooled_1pct_fpr is not None
    assert found.fpr_at_pooled_1pct_fpr <= 0.01


@detector("toxicity", categories=["BAD"])
def toxicity(text: str) -> list[Finding]:
    return [Finding("BAD", 0.9)] if "vile" in text else []


def test_the_command_prints_a_table_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "toxicity" / "some.jsonl", *labelled(("vile", 1), ("kind", 0)))
    monkeypatch.setattr("llmguard.cli.eval.load", lambda *_: toxicity)
    run = CliRunner(env={"COLUMNS": "200"})
    table = run.invoke(app, ["eval", "--suite", str(tmp_path)])
    assert table.exit_code == 0, table.stderr
    assert table.stdout.splitlines()[-1].split() == ["toxicity", "AUC", "some", "1.000", "2"]
    said = json.loads(run.invoke(app, ["eval", "--suite", str(tmp_path), "--json"]).stdout)
    assert [SuiteFigure(**one) for one in said["figures"]] == [SuiteFigure("toxicity AUC", "some", 1.0, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--suite", "{}", "--detector", "pii"), "by itself"),
        (("--suite", "{}/none"), "no labelled texts"),
        (("--suite", "{}", "--categories", "PERSON"), "--categories"),
        (("--suite", "{}", "--threshold", "0.5"), "--threshold"),
        (("--suite", "{}", "--swaps", "8"), "--swaps"),
        (("--detector", "pii", "--data", "{}/x", "--group-by", "who"), "does nothing without --fairness"),
        (("--detector", "pii", "--data", "{}/x", "--in-context"), "does nothing without --fairness"),
        (("--detector", "pii"), "--data"),
    ],
)
def test_wrong_use_is_told(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["eval", *(word.format(tmp_path) for word in arguments)])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
